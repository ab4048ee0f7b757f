"""The gate: Envoy lets in whoever has a token that it can verify, with the keys of the same issuers as the servers.

The servers verify every token again, whatever passed the gate.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlsplit

from decisiongraph_service.runtime import upstream_tls
from decisiongraph_service.runtime.config_template import at, cluster, http_filter, listener, put
from decisiongraph_service.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from decisiongraph_service.access.issuers import IssuerSettings

_OWN: Final = "decisiongraph"
_KEYS: Final = "keys"
_FETCH_SECONDS: Final = 5
_CACHED_SECONDS: Final = 60
"""Keys at an address are fetched five seconds before that."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Whose tokens are let in."""

    issuer: str
    """`iss` of the servers' own tokens."""
    audience: str
    """`aud` of them."""
    keys_port: int
    """A port of loopback alone, where Envoy asks itself for the servers' keys."""
    others: "Sequence[IssuerSettings]" = ()
    """Other issuers; the path of a `jwks_file` is absolute."""
    authorities: Path | None = None
    """PEM file of the authorities that a `jwks_url` is verified with; None: those of the system."""


def of_servers(settings: Settings, *, keys_port: int) -> Gate:
    """The gate in front of servers with these settings.

    Other issuers' addresses are verified as the servers do it: with the authorities in the file that SSL_CERT_FILE
    names, or those of the system.

    Raises:
        ValueError: the file of the other issuers is missing or not as it should be.
    """
    # Slow to import, and seldom needed.
    from decisiongraph_service.access import issuers

    others = []
    if settings.external_issuers is not None:
        others = issuers.load(settings.external_issuers, own_issuer=settings.token_issuer)
    return Gate(
        settings.token_issuer,
        settings.token_audience,
        keys_port,
        [other.settings for other in others],
        upstream_tls.authorities_of_environment(),
    )


def fill(config: Any, gate: Gate) -> None:
    """Write the gate into Envoy's configuration.

    Raises:
        EnvoyConfigError: the configuration lacks a part that is to be filled in.
    """
    put(at(listener(config, _KEYS), "address", "socket_address"), "port_value", gate.keys_port)
    endpoint = at(cluster(config, _KEYS), "load_assignment", "endpoints", 0, "lb_endpoints", 0, "endpoint")
    put(at(endpoint, "address", "socket_address"), "port_value", gate.keys_port)

    settings = http_filter(listener(config, "public"), "envoy.filters.http.jwt_authn")
    providers, protected = at(settings, "providers"), at(settings, "rules", -1)
    own = at(providers, _OWN)
    put(own, "issuer", gate.issuer)
    put(own, "audiences", [gate.audience])
    at(own, "remote_jwks")
    for other in gate.others:
        providers[_name(other)] = _provider(own, other)
        if other.jwks_url is not None:
            at(config, "static_resources", "clusters").append(_cluster(other, other.jwks_url, gate.authorities))
    if gate.others:
        names = (_OWN, *map(_name, gate.others))
        put(protected, "requires", {"requires_any": {"requirements": [{"provider_name": name} for name in names]}})


def _name(other: "IssuerSettings") -> str:
    # Never that of the servers' own issuer, whatever the other is called.
    return f"issuer-{other.name}"


def _provider(own: dict[str, Any], other: "IssuerSettings") -> dict[str, Any]:
    provider = copy.deepcopy(own) | {"issuer": other.issuer, "audiences": [other.audience]}
    del provider["remote_jwks"]
    if other.jwks_url is None:
        return provider | {"local_jwks": {"filename": str(other.jwks_file)}}
    return provider | {
        "remote_jwks": {
            "http_uri": {"uri": other.jwks_url, "cluster": _name(other), "timeout": f"{_FETCH_SECONDS}s"},
            "cache_duration": f"{_CACHED_SECONDS}s",
            "async_fetch": {"fast_listener": True, "failed_refetch_duration": "10s"},
        }
    }


def _cluster(other: "IssuerSettings", url: str, authorities: Path | None) -> dict[str, Any]:
    parts = urlsplit(url)
    name, host = _name(other), parts.hostname or ""
    address = {"socket_address": {"address": host, "port_value": _port(parts)}}
    made: dict[str, Any] = {
        "name": name,
        "type": "LOGICAL_DNS",
        # Both kinds of addresses: the one that answers is taken.
        "dns_lookup_family": "ALL",
        "connect_timeout": f"{_FETCH_SECONDS}s",
        # While no keys are known each token of this issuer asks for them; more are refused with 503.
        "circuit_breakers": {
            "thresholds": [{"max_connections": 4, "max_pending_requests": 16, "max_requests": 16, "max_retries": 1}]
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    if parts.scheme == "https":
        made["transport_socket"] = upstream_tls.transport_socket(host, authorities, alpn=["http/1.1"])
    return made


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)
