"""What is filled into the committed configuration of Envoy, by a sample that has its structure."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from decisiongraph_service.runtime import envoy
from decisiongraph_service.runtime.config_template import EnvoyConfigError
from decisiongraph_service.runtime.edge_spans import EdgeSpans
from decisiongraph_service.runtime.gate import Gate

SAMPLE = """
admin:
  address:
    socket_address: {address: 127.0.0.1, port_value: 9901}
static_resources:
  listeners:
    - name: public
      address:
        socket_address: {address: 127.0.0.1, port_value: 8080}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                access_log: [&shared {name: shared}, *shared]
                http_filters:
                  - name: envoy.filters.http.lua
                    typed_config:
                      default_source_code: {filename: envoy/http_status.lua}
                  - name: envoy.filters.http.jwt_authn
                    typed_config:
                      providers:
                        decisiongraph: {issuer: us, audiences: [ours], clock_skew_seconds: 5, remote_jwks: {}}
                      rules: [{match: {path: /open}}, {match: {prefix: /}, requires: {provider_name: decisiongraph}}]
                  - &transcoder
                    name: envoy.filters.http.grpc_json_transcoder
                    typed_config:
                      proto_descriptor: generated/decisiongraph.binpb
                      services: [decisiongraph.v1.QueryService]
                  - name: envoy.filters.http.router
    - name: keys
      address:
        socket_address: {address: 127.0.0.1, port_value: 9902}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                http_filters: [*transcoder]
  clusters:
    - name: keys
      load_assignment:
        endpoints:
          - lb_endpoints:
              - endpoint:
                  address:
                    socket_address: {address: 127.0.0.1, port_value: 9902}
    - name: decisiongraph
      connect_timeout: 1s
      load_assignment:
        cluster_name: decisiongraph
        endpoints:
          - lb_endpoints:
              - endpoint:
                  address:
                    socket_address: {address: 127.0.0.1, port_value: 50051}
"""


def render(folder: Path, text: str = SAMPLE, **changes: Any) -> dict[str, Any]:
    template = folder / "envoy.yaml"
    template.write_text(text)
    values = {
        "rest_host": "127.0.0.2",
        "rest_port": 8181,
        "grpc_addresses": [("127.0.0.3", 6001), ("127.0.0.4", 6002)],
        "admin_port": 9999,
        "gate": Gate("issuer", "audience", 9998),
        "descriptor_set": folder / "set.binpb",
        "lua_script": folder / "script.lua",
        **changes,
    }
    rendered = yaml.safe_load(envoy.render_config(template, **values))
    assert isinstance(rendered, dict)
    return rendered


def test_only_addresses_ports_paths_and_the_issuer_are_replaced(tmp_path: Path) -> None:
    expected = copy.deepcopy(yaml.safe_load(SAMPLE))
    listener, keys = expected["static_resources"]["listeners"]
    listener["address"]["socket_address"] = {"address": "127.0.0.2", "port_value": 8181}
    lua, gate, transcoder, _ = listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    lua["typed_config"]["default_source_code"]["filename"] = str(tmp_path / "script.lua")
    transcoder["typed_config"]["proto_descriptor"] = str(tmp_path / "set.binpb")
    gate["typed_config"]["providers"]["decisiongraph"] |= {"issuer": "issuer", "audiences": ["audience"]}
    keys["address"]["socket_address"]["port_value"] = 9998
    asked = expected["static_resources"]["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]
    asked["endpoint"]["address"]["socket_address"]["port_value"] = 9998
    expected["static_resources"]["clusters"][1]["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}
        for host, port in (("127.0.0.3", 6001), ("127.0.0.4", 6002))
    ]
    expected["admin"]["address"]["socket_address"]["port_value"] = 9999
    assert render(tmp_path) == expected


def test_paths_do_not_depend_on_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rendered = render(tmp_path, descriptor_set=Path("set.binpb"))
    manager = rendered["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
    transcoder = manager["typed_config"]["http_filters"][2]
    assert transcoder["typed_config"]["proto_descriptor"] == str(tmp_path.resolve() / "set.binpb")


@pytest.mark.parametrize(
    ("part", "replacement", "complaint"),
    [
        ("  listeners:", "  moved:", r"static_resources\.listeners is missing"),
        ("grpc_json_transcoder", "elsewhere", r"nothing is named envoy\.filters\.http\.grpc_json_transcoder"),
        ("filename:", "inline_string:", "filename is missing"),
        ("proto_descriptor:", "proto_descriptor_bin:", "proto_descriptor is missing"),
        ("- name: decisiongraph", "- name: renamed", "nothing is named decisiongraph"),
        ("lb_endpoints:", "moved:", "lb_endpoints is missing"),
        ("admin:", "moved:", "admin is missing"),
        ("name: keys", "name: renamed", "nothing is named keys"),
        ("jwt_authn", "elsewhere", r"nothing is named envoy\.filters\.http\.jwt_authn"),
        ("issuer: us", "issued_by: us", "issuer is missing"),
        ("remote_jwks:", "keys:", "remote_jwks is missing"),
    ],
)
def test_a_template_of_another_shape_is_refused(tmp_path: Path, part: str, replacement: str, complaint: str) -> None:
    with pytest.raises(EnvoyConfigError, match=rf"envoy\.yaml: .*{complaint}"):
        render(tmp_path, SAMPLE.replace(part, replacement))


def test_the_collector_gets_spans_at_the_ratio_of_the_servers(tmp_path: Path) -> None:
    rendered = render(tmp_path, spans=EdgeSpans("http://collector.internal/otlp/", 0.125))
    collector = rendered["static_resources"]["clusters"][-1]
    address = collector["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
    assert address == {"socket_address": {"address": "collector.internal", "port_value": 80}}
    manager = rendered["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    tracer = manager["tracing"]["provider"]["typed_config"]
    assert tracer["http_service"]["http_uri"]["uri"] == "http://collector.internal/otlp/v1/traces"
    assert tracer["http_service"]["http_uri"]["cluster"] == collector["name"]
    by_ratio = tracer["sampler"]["typed_config"]["wrapped_sampler"]["typed_config"]
    assert by_ratio["sampling_percentage"] == {"numerator": 125_000, "denominator": "MILLION"}
    keys = rendered["static_resources"]["listeners"][1]["filter_chains"][0]["filters"][0]["typed_config"]
    assert "tracing" not in keys


@pytest.mark.parametrize(
    "endpoint",
    [
        "collector:4318",
        "grpc://collector",
        "http://",
        "http://a:x",
        "http://a:hush/@b",
        "http://a:0",
        "http://[a",
        "http://a/?b",
        "http://a#b",
    ],
)
def test_an_address_that_spans_cannot_go_to_is_refused(tmp_path: Path, endpoint: str) -> None:
    with pytest.raises(ValueError, match="DG_OTLP_ENDPOINT must be like http") as refused:
        render(tmp_path, spans=EdgeSpans(endpoint, 1))
    assert "hush" not in str(refused.value)


def test_a_password_of_the_collector_is_not_written_down(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without a name and password") as refused:
        render(tmp_path, spans=EdgeSpans("http://me:hush@collector", 1))
    assert "hush" not in str(refused.value)


def test_at_least_one_server_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        render(tmp_path, grpc_addresses=[])


def test_the_command_line_runs_the_installed_binary_without_hot_restart(tmp_path: Path) -> None:
    command = envoy.command(tmp_path / "envoy.yaml", concurrency=1)
    assert Path(command[0]).is_file()
    assert "--disable-hot-restart" in command
    assert command[command.index("--concurrency") + 1] == "1"
    assert command[command.index("--log-level") + 1] == "warning"
