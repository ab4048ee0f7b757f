"""Envoy's part in traces: a span of each call, the parent of the server's, sent to the same collector."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from decisiongraph_service.runtime import upstream_tls
from decisiongraph_service.runtime.config_template import at, listener, manager
from decisiongraph_service.runtime.settings import Settings

_CLUSTER: Final = "collector"
_SERVICE: Final = "decisiongraph-envoy"
_SAMPLERS: Final = "type.googleapis.com/envoy.extensions.tracers.opentelemetry.samplers.v3"
_SECONDS: Final = 5
_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class EdgeSpans:
    """Where Envoy's spans go, and how many there are."""

    endpoint: str
    """Base URL of a collector that takes OTLP over HTTP."""
    sample_ratio: float
    """Share of calls that are traced, from 0 to 1, unless the caller's `traceparent` decides."""
    authorities: Path | None = None
    """PEM file of the authorities that the collector is verified with; None: those of the system."""


def of_servers(settings: Settings) -> EdgeSpans | None:
    """Spans beside those of servers with these settings; None: they have none either.

    The collector is verified with the authorities in the file that SSL_CERT_FILE names, or those of the system.
    """
    if settings.otlp_endpoint is None:
        return None
    return EdgeSpans(settings.otlp_endpoint, settings.otlp_sample_ratio, upstream_tls.authorities_of_environment())


def fill(config: Any, spans: EdgeSpans) -> None:
    """Write the tracer and the way to its collector into Envoy's configuration.

    Raises:
        EnvoyConfigError: the configuration lacks a part that is to be filled in.
        ValueError: the endpoint is no URL that Envoy can send to.
    """
    parts = _parts(spans.endpoint)
    at(config, "static_resources", "clusters").append(_cluster(parts, spans.authorities))
    manager(listener(config, "public"))["tracing"] = {
        # Paths hold ids, and queries what people search for: neither is to leave with a span.
        "max_path_tag_length": 0,
        "operation": "%REQ(:METHOD)%",
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                "service_name": _SERVICE,
                "http_service": {
                    "http_uri": {
                        "uri": f"{spans.endpoint.rstrip('/')}/v1/traces",
                        "cluster": _CLUSTER,
                        "timeout": f"{_SECONDS}s",
                    }
                },
                "sampler": _sampler(spans.sample_ratio),
            },
        },
    }


def _sampler(ratio: float) -> dict[str, Any]:
    """That of the servers: the caller decides, or else the ratio, and for the servers what is decided here."""
    by_ratio = {
        "name": "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based",
        "typed_config": {
            "@type": f"{_SAMPLERS}.TraceIdRatioBasedSamplerConfig",
            "sampling_percentage": {"numerator": round(ratio * _MILLION), "denominator": "MILLION"},
        },
    }
    return {
        "name": "envoy.tracers.opentelemetry.samplers.parent_based",
        "typed_config": {"@type": f"{_SAMPLERS}.ParentBasedSamplerConfig", "wrapped_sampler": by_ratio},
    }


def _cluster(parts: SplitResult, authorities: Path | None) -> dict[str, Any]:
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    made: dict[str, Any] = {
        "name": _CLUSTER,
        "type": "LOGICAL_DNS",
        "dns_lookup_family": "ALL",
        "connect_timeout": f"{_SECONDS}s",
        # Envoy does not wait for a collector to be there; spans that it does not take are dropped.
        "wait_for_warm_on_init": False,
        "circuit_breakers": {
            "thresholds": [{"max_connections": 4, "max_pending_requests": 16, "max_requests": 16, "max_retries": 1}]
        },
        "load_assignment": {
            "cluster_name": _CLUSTER,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}]}
            ],
        },
    }
    if parts.scheme == "https":
        made["transport_socket"] = upstream_tls.transport_socket(host, authorities, alpn=["http/1.1"])
    return made


def _parts(endpoint: str) -> SplitResult:
    wanted = "DG_OTLP_ENDPOINT must be like http://127.0.0.1:4318"
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        # Without the reason: it may quote a part of the address, password included.
        raise ValueError(wanted) from None
    if not usable or parts.query or parts.fragment:
        raise ValueError(wanted)
    if "@" in parts.netloc:
        raise ValueError(f"{wanted}, without a name and password, which would stand in Envoy's configuration")
    return parts
