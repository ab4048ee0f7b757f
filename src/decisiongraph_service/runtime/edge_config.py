"""The configuration of an Envoy that stands alone: files for one folder, with TLS on either side of it.

Certificates are named in files of their own, which Envoy reads anew when the folder of the certificates changes.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from decisiongraph_service.runtime import envoy, upstream_tls
from decisiongraph_service.runtime.assets import asset
from decisiongraph_service.runtime.config_template import at, cluster, listener, manager
from decisiongraph_service.runtime.edge_spans import EdgeSpans
from decisiongraph_service.runtime.gate import Gate

CONFIG: Final = "envoy.yaml"
ASSETS: Final = ("generated/decisiongraph.binpb", "envoy/http_status.lua")
"""What Envoy reads beside its configuration."""
_LISTENER_SECRET: Final = "listener-certificate"  # noqa: S105 - a name
_CLIENT_SECRET: Final = "client-certificate"  # noqa: S105 - a name


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate chain and its key, PEM files in one folder."""

    cert_file: Path
    key_file: Path


@dataclass(frozen=True, slots=True)
class EdgeTls:
    """Where there is TLS."""

    listener: Certificate | None = None
    """What callers are shown; None: they call without TLS."""
    server_ca_file: Path | None = None
    """The authority of the servers' certificates; None: servers are called without TLS."""
    client: Certificate | None = None
    """What servers are shown; only together with `server_ca_file`."""


def render(
    folder: Path,
    *,
    listen: tuple[str, int],
    servers: Sequence[tuple[str, int]],
    admin_port: int,
    gate: Gate,
    tls: EdgeTls,
    spans: EdgeSpans | None = None,
    with_assets: bool = False,
) -> dict[str, str]:
    """The texts of the files by name, for `folder`.

    `with_assets`: Envoy finds what it reads beside its configuration in `folder` too (`copy_assets`), so that it needs
    nothing else; otherwise in this installation.

    Raises:
        EnvoyConfigError: the committed configuration lacks a part that is to be filled in.
        ValueError: there is no server, the collector's address is not as it should be, or there is a client certificate
            without the servers' authority.
    """
    if tls.client is not None and tls.server_ca_file is None:
        raise ValueError("a client certificate is shown to servers over TLS; name their authority as well")
    descriptor_set, lua_script = (folder / Path(name).name if with_assets else asset(name) for name in ASSETS)
    text = envoy.render_config(
        asset("envoy/envoy.yaml"),
        rest_host=listen[0],
        rest_port=listen[1],
        grpc_addresses=servers,
        admin_port=admin_port,
        gate=gate,
        descriptor_set=descriptor_set,
        lua_script=lua_script,
        spans=spans,
    )
    # Envoy reads certificates from files only if it has a name.
    config = {"node": {"id": "decisiongraph", "cluster": "decisiongraph"}, **yaml.safe_load(text)}
    files: dict[str, str] = {}
    if tls.listener is not None:
        files |= _secret(_LISTENER_SECRET, tls.listener)
        public = listener(config, "public")
        at(public, "filter_chains", 0)["transport_socket"] = _downstream(folder)
        at(manager(public), "route_config")["response_headers_to_add"] = [
            {"header": {"key": "strict-transport-security", "value": "max-age=31536000; includeSubDomains"}}
        ]
    if tls.server_ca_file is not None:
        if tls.client is not None:
            files |= _secret(_CLIENT_SECRET, tls.client)
        shown = None if tls.client is None else _from_file(folder, _CLIENT_SECRET)
        cluster(config, "decisiongraph")["transport_socket"] = upstream_tls.transport_socket(
            servers[0][0], tls.server_ca_file, alpn=["h2"], shown=shown
        )
    files[CONFIG] = yaml.safe_dump(config, sort_keys=False, width=10_000, allow_unicode=True)
    return files


def copy_assets(folder: Path) -> None:
    """Put what Envoy reads beside its configuration into `folder`."""
    for name in ASSETS:
        shutil.copyfile(asset(name), folder / Path(name).name)


def _secret(name: str, certificate: Certificate) -> dict[str, str]:
    # Not what links lead to: where secrets are mounted, they lead into a folder that is replaced with the certificate.
    secret = {
        "@type": f"{upstream_tls.TYPES}.Secret",
        "name": name,
        "tls_certificate": {
            "certificate_chain": {"filename": str(certificate.cert_file.absolute())},
            "private_key": {"filename": str(certificate.key_file.absolute())},
            "watched_directory": {"path": str(certificate.cert_file.absolute().parent)},
        },
    }
    return {f"{name}.yaml": yaml.safe_dump({"resources": [secret]}, sort_keys=False)}


def _from_file(folder: Path, name: str) -> dict[str, Any]:
    path = folder.resolve() / f"{name}.yaml"
    return {
        "name": name,
        "sds_config": {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"},
    }


def _downstream(folder: Path) -> dict[str, Any]:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{upstream_tls.TYPES}.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "tls_certificate_sds_secret_configs": [_from_file(folder, _LISTENER_SECRET)],
            },
        },
    }
