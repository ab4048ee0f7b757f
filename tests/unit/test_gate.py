"""The gate in the committed configuration is what the contract and the servers say, and takes other issuers in."""

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from google.api import annotations_pb2

from decisiongraph_service.access import key_ring, tokens
from decisiongraph_service.access.issuers import IssuerSettings
from decisiongraph_service.rpc import contract
from decisiongraph_service.runtime import config_template, gate, upstream_tls
from decisiongraph_service.runtime.assets import asset
from decisiongraph_service.runtime.gate import Gate
from decisiongraph_service.runtime.settings import Settings

_HEALTH: Final = {"prefix": "/grpc.health.v1.Health/"}
_OTHER: Final = {"name": "corp", "issuer": "https://corp", "audience": "ours", "algorithms": ("RS256",)}


def committed() -> Any:
    return yaml.safe_load(asset("envoy/envoy.yaml").read_text())


def filled(*others: IssuerSettings, authorities: Path | None = None) -> Any:
    config = committed()
    gate.fill(config, Gate("us", "ours", 9999, others, authorities))
    return config


def settings_of(config: Any) -> Any:
    return config_template.http_filter(config_template.listener(config, "public"), "envoy.filters.http.jwt_authn")


def other(**changes: Any) -> IssuerSettings:
    return IssuerSettings.model_validate({**_OTHER, **changes})


def public_matches() -> list[dict[str, Any]]:
    """What the contract lets be called without a token."""
    matches: list[dict[str, Any]] = []
    rules = contract.authorization_rules()
    for path, method in contract.methods():
        if not rules[path].public:
            continue
        options: Any = method.GetOptions()
        route = options.Extensions[annotations_pb2.http]
        for binding in (route, *route.additional_bindings):
            verb = binding.WhichOneof("pattern")
            if verb is not None:
                matches.append({**_path(getattr(binding, verb)), "headers": [_method(verb)]})
        matches.append({"path": path})
    return matches


def _path(route: str) -> dict[str, Any]:
    parts = re.split(r"\{\w+\}", route)
    return {"path": route} if len(parts) == 1 else {"safe_regex": {"regex": "[^/]+".join(map(re.escape, parts))}}


def _method(verb: str) -> dict[str, Any]:
    return {"name": ":method", "string_match": {"exact": verb.upper()}}


def test_the_open_paths_are_those_that_the_contract_declares_public() -> None:
    *opened, last = settings_of(committed())["rules"]
    assert [rule for rule in opened if set(rule) != {"match"}] == []
    assert sorted(map(str, (rule["match"] for rule in opened))) == sorted(map(str, [*public_matches(), _HEALTH]))
    assert last == {"match": {"prefix": "/"}, "requires": {"provider_name": "decisiongraph"}}


def test_the_transcoder_serves_every_service_of_the_contract() -> None:
    for name in ("public", "keys"):
        transcoder = config_template.http_filter(
            config_template.listener(committed(), name), "envoy.filters.http.grpc_json_transcoder"
        )
        assert transcoder["services"] == [service.full_name for service in contract.SERVICES]


def test_the_gate_stands_before_whatever_costs_something() -> None:
    public = config_template.listener(committed(), "public")
    names = [one["name"].rpartition(".")[2] for one in config_template.manager(public)["http_filters"]]
    assert names == ["lua", "jwt_authn", "buffer", "grpc_json_transcoder", "router"]


def test_the_gate_is_as_strict_as_the_server_and_hands_on_nothing_but_the_token() -> None:
    (provider,) = settings_of(committed())["providers"].values()
    keys = provider.pop("remote_jwks")
    assert provider == {
        "issuer": Settings.model_fields["token_issuer"].default,
        "audiences": [Settings.model_fields["token_audience"].default],
        "require_expiration": True,
        "clock_skew_seconds": tokens._LEEWAY_SECONDS,
        "forward": True,
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "jwt_cache_config": {"jwt_cache_size": 1024},
    }
    assert keys["http_uri"]["cluster"] == "keys"


def test_a_key_is_known_at_the_gate_before_it_signs() -> None:
    keys = settings_of(committed())["providers"]["decisiongraph"]["remote_jwks"]
    # Every server has noticed the key; then the gate asks one of them.
    seconds = [int(text.removesuffix("s")) for text in (keys["cache_duration"], keys["http_uri"]["timeout"])]
    known_after = key_ring.POLL_SECONDS + sum(seconds)
    assert known_after < Settings.model_fields["token_key_grace_seconds"].default / 2


def test_the_listener_for_keys_is_on_loopback_only() -> None:
    config = filled()
    for address in (
        config_template.listener(config, "keys")["address"]["socket_address"],
        config_template.cluster(config, "keys")["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"][
            "address"
        ]["socket_address"],
    ):
        assert address == {"address": "127.0.0.1", "port_value": 9999}


def test_each_other_issuer_gets_a_provider_of_its_own() -> None:
    by_file = other(name="decisiongraph", jwks_file="/etc/keys.json")
    by_address = other(issuer="https://login", audience="theirs", jwks_url="https://login.example.com/a?b=c")
    config = filled(by_file, by_address)
    own, first, second = settings_of(config)["providers"].items()
    assert (own[0], own[1]["issuer"], own[1]["audiences"]) == ("decisiongraph", "us", ["ours"])
    assert (first[0], first[1]["issuer"], first[1]["audiences"]) == ("issuer-decisiongraph", "https://corp", ["ours"])
    assert (second[0], second[1]["issuer"], second[1]["audiences"]) == ("issuer-corp", "https://login", ["theirs"])
    assert first[1]["local_jwks"] == {"filename": "/etc/keys.json"}
    assert second[1]["remote_jwks"]["http_uri"] == {
        "uri": "https://login.example.com/a?b=c",
        "cluster": "issuer-corp",
        "timeout": "5s",
    }
    named = {"issuer", "audiences", "remote_jwks", "local_jwks"}
    for _, provider in (first, second):
        assert len(named & set(provider)) == 3, "one source of keys"
        kept = {name: value for name, value in provider.items() if name not in named}
        assert kept == {name: value for name, value in own[1].items() if name not in named}
    requirements = settings_of(config)["rules"][-1]["requires"]["requires_any"]["requirements"]
    assert requirements == [{"provider_name": name} for name, _ in (own, first, second)]


@pytest.mark.parametrize(
    ("address", "host", "port", "names"),
    [
        ("https://login.example.com/keys", "login.example.com", 443, {"san_type": "DNS"}),
        ("https://login.example.com:8443/keys", "login.example.com", 8443, {"san_type": "DNS"}),
        ("https://10.0.0.1/keys", "10.0.0.1", 443, {"san_type": "IP_ADDRESS"}),
        ("https://[::1]:1/keys", "::1", 1, {"san_type": "IP_ADDRESS"}),
    ],
)
@pytest.mark.parametrize("authorities", [None, Path("/etc/ca.pem")])
def test_the_address_of_keys_must_show_a_certificate_for_its_host(
    address: str, host: str, port: int, names: dict[str, str], authorities: Path | None
) -> None:
    config = filled(other(jwks_url=address), authorities=authorities)
    cluster = config_template.cluster(config, "issuer-corp")
    endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    assert endpoint["address"]["socket_address"] == {"address": host, "port_value": port}
    tls = cluster["transport_socket"]["typed_config"]
    assert tls.get("sni") == (host if names == {"san_type": "DNS"} else None)
    trusted = upstream_tls.authorities_of_system() if authorities is None else authorities
    assert tls["common_tls_context"]["validation_context"] == {
        "trusted_ca": {"filename": str(trusted)},
        "match_typed_subject_alt_names": [{**names, "matcher": {"exact": host}}],
    }


def test_keys_on_this_machine_need_no_tls() -> None:
    cluster = config_template.cluster(filled(other(jwks_url="http://127.0.0.1:8081/keys")), "issuer-corp")
    assert "transport_socket" not in cluster


def test_the_gate_is_that_of_the_servers_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/ca.pem")
    issuers = tmp_path / "issuers.json"
    issuers.write_text(
        '[{"name": "a", "issuer": "i", "audience": "x", "jwks_url": "https://i", "algorithms": ["ES256"]}]'
    )
    made = gate.of_servers(Settings(token_issuer="us", token_audience="ours", external_issuers=issuers), keys_port=9)
    assert (made.issuer, made.audience, made.keys_port, made.authorities) == ("us", "ours", 9, Path("/etc/ca.pem"))
    assert [one.issuer for one in made.others] == ["i"]
    with pytest.raises(ValueError, match=r"this service, is 'i' already"):
        gate.of_servers(Settings(token_issuer="i", external_issuers=issuers), keys_port=9)
