"""The steps of `decisiongraph run` from nothing to ready. Whoever calls them stops what they started.

What is slow to import is imported where it is used, or while the server starts: it would double the time of a start.
"""

import asyncio
import importlib
import json
import os
import sys
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from pydantic import SecretStr

from decisiongraph_service.cli import database_url
from decisiongraph_service.cli.run_screen import Screen, welcome
from decisiongraph_service.domain import errors
from decisiongraph_service.runtime import children, edge_spans, embedded_postgres, envoy, gate, ports, workers
from decisiongraph_service.runtime.assets import asset
from decisiongraph_service.runtime.config_template import EnvoyConfigError
from decisiongraph_service.runtime.settings import Settings

if TYPE_CHECKING:
    import grpc

    from decisiongraph_service.cli.run import Files

_SERVER_SECONDS: Final = 30.0
_ENVOY_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.1
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


class RunError(Exception):
    """The run cannot go on; the message says why and what to do."""

    def __init__(self, message: str, last_lines: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.last_lines = last_lines


class Run:
    """The steps from nothing to ready."""

    def __init__(
        self, settings: Settings, folder: Path, screen: Screen, among: children.Children, files: "Files"
    ) -> None:
        self._folder = folder
        self._screen = screen
        self._among = among
        self._files = files
        self._began = time.monotonic()
        self._settings = settings.model_copy(update={"data_dir": folder})
        self._admin_port = 0
        self._keys_port = 0

    async def work(self) -> NoReturn:
        """Start everything, then wait until a child ends by itself.

        Raises:
            ChildEndedError: one did.
            RunError: something cannot be started.
        """
        try:
            await self._stop_leftovers()
            self._choose_ports()
            url = await self._database()
            await self._migrate(url)
            await self._start_server(url)
            await self._start_envoy()
            tokens = await self._prepare_demo(url)
        except children.ChildEndedError:
            raise
        except children.ChildError as error:
            raise RunError(str(error)) from error
        self._announce(tokens)
        raise children.ChildEndedError(await self._among.wait_for_end())

    async def _stop_leftovers(self) -> None:
        for name in await asyncio.to_thread(children.stop_leftovers, self._folder / "children.json"):
            self._screen.say(f"stopped {name}, left by a run that was killed")

    def _choose_ports(self) -> None:
        chosen: dict[str, int] = {}
        for name in ("rest", "grpc"):
            host, port = getattr(self._settings, f"{name}_host").strip("[]"), getattr(self._settings, f"{name}_port")
            variable = f"DG_{name.upper()}_PORT"
            if port in chosen.values():
                raise RunError(f"DG_REST_PORT and {variable} are both {port}; set one of them to another port")
            try:
                if port != 0:
                    ports.require_free(host, port)
            except ports.PortError as error:
                raise RunError(f"{error}; set {variable} to another port (0 takes a free one)") from error
            chosen[f"{name}_port"] = port or ports.free_port(host, besides=tuple(chosen.values()))
        self._settings = self._settings.model_copy(update=chosen)
        of_workers = workers.own_ports(self._settings) if self._settings.workers > 1 else []
        for port in of_workers:
            try:
                ports.require_free(self._settings.grpc_host.strip("[]"), port)
            except ports.PortError as error:
                raise RunError(
                    f"{error}; each worker needs one port after DG_GRPC_PORT: set that to another"
                ) from error
        taken = (*chosen.values(), *of_workers)
        self._admin_port = ports.free_port(besides=taken)
        self._keys_port = ports.free_port(besides=(*taken, self._admin_port))

    async def _database(self) -> str:
        if self._settings.database_url is not None:
            url = self._settings.database_url.get_secret_value()
            async with self._screen.step("connecting to the database"):
                await _require_reachable(url)
            return url
        postgres = embedded_postgres.EmbeddedPostgres(self._folder / "postgres", note=self._screen.say)
        async with self._screen.step("starting Postgres"):
            try:
                await postgres.start(self._among)
            except (embedded_postgres.EmbeddedPostgresError, TimeoutError) as error:
                raise RunError(str(error)) from error
        children.write_private(self._files.database, postgres.dsn)
        return postgres.dsn

    async def _migrate(self, url: str) -> None:
        async with self._screen.step("migrating the database"):
            from decisiongraph_service.storage import migrations

            try:
                await self._among.during(migrations.upgrade(url, asset("migrations")))
            except errors.DecisionGraphError as error:
                raise RunError(error.message) from error

    async def _start_server(self, url: str) -> None:
        settings = self._settings = self._settings.model_copy(update={"database_url": SecretStr(url)})
        server = children.ChildSpec(
            name="server",
            argv=(sys.executable, "-m", "decisiongraph_service.cli.main", "serve"),
            env={
                **os.environ,
                **settings.as_environment(),
                # Nobody else would here.
                "DG_PROJECTOR_ENABLED": "true",
                # So that its last lines are there when it is killed.
                "PYTHONUNBUFFERED": "1",
            },
            grace_seconds=settings.shutdown_grace_seconds + 5,
        )
        async with self._screen.step("starting the server"):
            await self._among.start(server)
            await self._among.during(asyncio.to_thread(importlib.import_module, "decisiongraph_service.runtime.demo"))
            await self._ready("server", _wait_serving(self._grpc_address, _SERVER_SECONDS))

    async def _start_envoy(self) -> None:
        settings, config = self._settings, self._folder / "envoy.yaml"
        server_ports = workers.own_ports(settings) if settings.workers > 1 else [settings.grpc_port]
        try:
            text = envoy.render_config(
                asset("envoy/envoy.yaml"),
                rest_host=settings.rest_host,
                rest_port=settings.rest_port,
                grpc_addresses=[(_reachable(settings.grpc_host), port) for port in server_ports],
                admin_port=self._admin_port,
                gate=gate.of_servers(settings, keys_port=self._keys_port),
                descriptor_set=asset("generated/decisiongraph.binpb"),
                lua_script=asset("envoy/http_status.lua"),
                spans=edge_spans.of_servers(settings),
            )
            command = envoy.command(config)
        except (EnvoyConfigError, FileNotFoundError, ValueError) as error:
            raise RunError(str(error)) from error
        children.write_private(config, text)
        async with self._screen.step("starting Envoy"):
            await self._among.start(children.ChildSpec("envoy", command))
            await self._ready("envoy", envoy.wait_ready(self._admin_port, timeout_seconds=_ENVOY_SECONDS))
            host, port = _reachable(settings.rest_host), settings.rest_port
            await self._ready("server", envoy.wait_for_ok(host, port, "/api/readyz", timeout_seconds=_SERVER_SECONDS))

    async def _ready(self, name: str, wait: Coroutine[Any, Any, None]) -> None:
        try:
            await self._among.during(wait)
        except TimeoutError as error:
            raise RunError(f"{error}; the last lines of {name}:", self._among.last_lines(name)) from error

    async def _prepare_demo(self, url: str) -> dict[str, str]:
        import grpc

        from decisiongraph_service.runtime import demo

        async with self._screen.step(f"preparing tenant {demo.TENANT}"):
            try:
                return await self._among.during(demo.prepare(self._settings, url, self._grpc_address))
            except errors.DecisionGraphError as error:
                raise RunError(f"tenant {demo.TENANT} cannot be prepared: {error.message}") from error
            except grpc.aio.AioRpcError as error:
                raise RunError(
                    f"the demo decision cannot be recorded: {error.code().name}: {error.details()}; the server's "
                    "last lines:",
                    self._among.last_lines("server"),
                ) from error

    def _announce(self, tokens: Mapping[str, str]) -> None:
        from decisiongraph_service.runtime import demo

        rest = f"http://{_address(self._settings.rest_host, self._settings.rest_port)}"
        service = {"rest": rest, "grpc": self._grpc_address, "tenant": str(demo.TENANT), "tokens": dict(tokens)}
        children.write_private(self._files.service, json.dumps(service, indent=2) + "\n")
        self._screen.say(f"{'ready':<32}{time.monotonic() - self._began:6.1f} s\n")
        self._screen.say(welcome(rest, self._grpc_address, demo.TENANT, demo.TRACE, tokens))

    @property
    def _grpc_address(self) -> str:
        return _address(self._settings.grpc_host, self._settings.grpc_port)


def _reachable(host: str) -> str:
    """Where a server that listens on `host` is reached from this machine."""
    return _EVERYWHERE.get(host.strip("[]"), host.strip("[]"))


def _address(host: str, port: int) -> str:
    reachable = _reachable(host)
    return f"[{reachable}]:{port}" if ":" in reachable else f"{reachable}:{port}"


async def _require_reachable(url: str) -> None:
    try:
        await database_url.require_reachable(url)
    except database_url.Unreachable as error:
        raise RunError(str(error)) from error


async def _wait_serving(address: str, timeout_seconds: float) -> None:
    """Wait until the server reports SERVING.

    Raises:
        TimeoutError: it does not within `timeout_seconds`.
    """
    import grpc

    options = [
        # A proxy of the environment is not for a server on this machine.
        ("grpc.enable_http_proxy", 0),
        # By default the library waits longer and longer, and finds a server that starts slowly long after it serves.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
    ]
    try:
        async with asyncio.timeout(timeout_seconds), grpc.aio.insecure_channel(address, options=options) as channel:
            while True:
                if await _serves(channel):
                    return
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise TimeoutError(f"the server does not report SERVING after {timeout_seconds:.0f} s") from None


async def _serves(channel: "grpc.aio.Channel") -> bool:
    import grpc
    from grpc_health.v1 import health_pb2

    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    try:
        answer = await check(health_pb2.HealthCheckRequest(service=""), timeout=1)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
