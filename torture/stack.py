"""What is tortured: a durable Postgres, two servers behind a proxy each, and Envoy in front of both.

Whatever ends is started again after half a second, as a supervisor of services would.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final

import asyncpg
import grpc
import psutil

from decisiongraph_service.access import keys, tenancy, tokens
from decisiongraph_service.access.keys import SigningKey
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.runtime import children, envoy, gate, ports, server
from decisiongraph_service.runtime.assets import asset
from decisiongraph_service.runtime.embedded_postgres import EmbeddedPostgres
from decisiongraph_service.runtime.settings import Settings
from decisiongraph_service.storage import migrations
from decisiongraph_service.storage.database import Database
from torture import disk
from torture.history import History
from torture.proxy import Proxy
from torture.server import CLOCK_VARIABLE, SEQUENCE, SEQUENCE_SQL

TENANTS: Final = tuple(TenantId(f"tortured-{letter}") for letter in "abc")
SERVERS: Final = ("server-1", "server-2")

_PAUSE_SECONDS: Final = 0.5
_START_SECONDS: Final = 60.0


class StackFailed(Exception):
    """Something does not start; says what its last lines are."""


@dataclass
class Supervised:
    """A process that is started again when it ends, and can be stopped for a while."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    process: asyncio.subprocess.Process | None = None
    held: asyncio.Event = field(default_factory=asyncio.Event)
    """Set: start it again when it ends."""
    starts: int = 0

    async def run(self) -> None:
        """Keep it running until this task is cancelled."""
        self.held.set()
        with self.log.open("ab") as output:
            try:
                while True:
                    await self.held.wait()
                    self.starts += 1
                    self.process = await asyncio.create_subprocess_exec(
                        *self.command, env=dict(self.environment), stdout=output, stderr=output
                    )
                    await self.process.wait()
                    await asyncio.sleep(_PAUSE_SECONDS)
            finally:
                self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send a signal to it, if it runs."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


@dataclass
class Stack:
    """Everything that runs."""

    folder: Path
    postgres: EmbeddedPostgres
    database_side: children.Children
    proxies: Mapping[str, Proxy]
    """By server."""
    processes: Mapping[str, Supervised]
    """The servers and Envoy."""
    key: SigningKey
    rest: str
    grpc: str
    """Of Envoy, which hands gRPC on."""
    servers: Mapping[str, str]
    """`host:port` of each."""
    history: History = field(default_factory=History)

    def token(self, roles: Sequence[str]) -> str:
        """A token for all tenants."""
        return tokens.issue(
            self.key,
            issuer="decisiongraph-development",
            audience="decisiongraph",
            account_id="torturer",
            tenant_ids=TENANTS,
            roles=roles,
            permissions=tokens.PERMISSIONS if "admin" in roles else (),
            now=int(time.time()) - 12 * 3600,
            lifetime_seconds=48 * 3600,
        )

    @property
    def postmaster(self) -> int:
        """The process id of Postgres."""
        return int((self.postgres.data / "postmaster.pid").read_text().split()[0])

    async def restart_postgres(self, number: signal.Signals) -> None:
        """End Postgres by a signal, and start it again."""
        os.kill(self.postmaster, number)
        await self.database_side.wait_for_end()
        await self.database_side.stop()
        # Waits for what a killed one left at work.
        await asyncio.to_thread(self.postgres.prepare)
        await self.database_side.start(self.postgres.child())
        await self.database_side.during(self.postgres.wait_ready(_START_SECONDS))

    async def lose_data_and_restore(self, backup: Path) -> None:
        """Kill Postgres, and start it on a base backup and the WAL that was written since then."""
        os.kill(self.postmaster, signal.SIGKILL)
        await self.database_side.wait_for_end()
        await self.database_side.stop()
        await asyncio.to_thread(self.postgres.prepare)
        await asyncio.to_thread(disk.put_back, backup, self.postgres)
        await self.database_side.start(self.postgres.child())
        await self.database_side.during(self.postgres.wait_ready(_START_SECONDS))

    async def revive_postgres(self, *, until_ready: bool = False) -> None:
        """Start Postgres again if it has ended; `until_ready`: until it takes connections."""
        while True:
            try:
                await self.database_side.during(
                    self.postgres.wait_ready(_START_SECONDS) if until_ready else asyncio.sleep(0)
                )
            except children.ChildEndedError:
                await self.database_side.stop()
                await asyncio.sleep(_PAUSE_SECONDS)
                await self.database_side.start(self.postgres.child())
            else:
                return

    def pause_postgres(self, *, stopped: bool) -> None:
        """SIGSTOP or SIGCONT for Postgres and all its processes."""
        number = signal.SIGSTOP if stopped else signal.SIGCONT
        parent = psutil.Process(self.postmaster)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


def _environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DG_")}
    return {**kept, **variables}


@contextlib.asynccontextmanager
async def running(*, planted: str | None = None, small_disk: bool = False) -> AsyncIterator[Stack]:
    """Start everything in a temporary folder; it goes with the block.

    Args:
        planted: A bug of the servers.
        small_disk: Give the database a file system of its own, which can be filled.
    """
    folder = Path(tempfile.mkdtemp(prefix="decisiongraph-torture-"))
    await asyncio.to_thread(folder.chmod, 0o755)  # the account of Postgres must enter it
    try:
        with disk.small(folder / "postgres") if small_disk else contextlib.nullcontext():
            async with _running_in(folder, planted) as stack:
                yield stack
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def _running_in(folder: Path, planted: str | None) -> AsyncIterator[Stack]:
    database_side = children.Children(folder / "logs", folder / "database.json")
    postgres = EmbeddedPostgres(folder / "postgres", durable=True)
    tasks: list[asyncio.Task[None]] = []
    proxies: dict[str, Proxy] = {}
    try:
        await postgres.start(database_side)
        await migrations.upgrade(postgres.dsn, server.migrations_folder())
        database = await Database.open(postgres.dsn, pool_size=1)
        for tenant_id in TENANTS:
            await tenancy.create_tenant(database, tenant_id, clock=server.clock_micros)
        await database.close()
        if planted == SEQUENCE:
            await _run(postgres.dsn, SEQUENCE_SQL)
        for name in SERVERS:
            proxies[name] = Proxy(_port_of(postgres.dsn))
            await proxies[name].start()
        key = keys.load_or_create(folder / "token-key.pem")
        processes, stack = _stack(folder, postgres, database_side, proxies, key, planted)
        tasks = [asyncio.create_task(one.run(), name=one.name) for one in processes]
        try:
            async with asyncio.timeout(_START_SECONDS):
                await _ready(stack)
        except TimeoutError as error:
            raise StackFailed(_said(processes)) from error
        yield stack
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for proxy in proxies.values():
            await proxy.stop()
        await database_side.stop()


def _stack(
    folder: Path,
    postgres: EmbeddedPostgres,
    database_side: children.Children,
    proxies: Mapping[str, Proxy],
    key: SigningKey,
    planted: str | None,
) -> tuple[list[Supervised], Stack]:
    chosen: list[int] = []
    while len(chosen) < 5:
        chosen.append(ports.free_port(besides=chosen))
    grpc_ports = dict(zip(SERVERS, chosen[:2], strict=True))
    rest_port, admin_port, keys_port = chosen[2:]
    logs = folder / "logs"
    processes = [
        Supervised(
            name,
            (sys.executable, "-m", "torture.server", *(("--planted", planted) if planted else ()), "serve"),
            _environment(
                DG_DATABASE_URL=postgres.dsn.replace(f":{_port_of(postgres.dsn)}/", f":{proxies[name].port}/"),
                DG_DATA_DIR=str(folder / name),
                DG_TOKEN_KEY_FILE=str(folder / "token-key.pem"),
                DG_GRPC_PORT=str(port),
                DG_SHUTDOWN_GRACE_SECONDS="2",
                DG_DRAIN_SECONDS="3",
                DG_DATABASE_POOL_SIZE="6",
                DG_HEARTBEAT_SECONDS="1",
                **{CLOCK_VARIABLE: str(folder / "clock")},
            ),
            logs / f"{name}.log",
        )
        for name, port in grpc_ports.items()
    ]
    config = folder / "envoy.yaml"
    config.write_text(render_envoy(rest_port, list(grpc_ports.values()), admin_port, keys_port))
    command = envoy.command(config, concurrency=1)
    processes.append(Supervised("envoy", command, _environment(), logs / "envoy.log"))
    stack = Stack(
        folder,
        postgres,
        database_side,
        proxies,
        {one.name: one for one in processes},
        key,
        f"http://127.0.0.1:{rest_port}",
        f"127.0.0.1:{rest_port}",
        {name: f"127.0.0.1:{port}" for name, port in grpc_ports.items()},
    )
    return processes, stack


def render_envoy(rest_port: int, grpc_ports: Sequence[int], admin_port: int, keys_port: int) -> str:
    """The committed configuration with these ports."""
    return envoy.render_config(
        asset("envoy/envoy.yaml"),
        rest_host="127.0.0.1",
        rest_port=rest_port,
        grpc_addresses=[("127.0.0.1", port) for port in grpc_ports],
        admin_port=admin_port,
        gate=gate.of_servers(Settings(), keys_port=keys_port),
        descriptor_set=asset("generated/decisiongraph.binpb"),
        lua_script=asset("envoy/http_status.lua"),
    )


async def _run(dsn: str, statements: Sequence[str]) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def _port_of(dsn: str) -> int:
    return int(dsn.rpartition(":")[2].partition("/")[0])


def _said(processes: Sequence[Supervised]) -> str:
    """The last lines of all."""
    return "\n".join(
        f"{one.name}: {line}" for one in processes for line in one.log.read_text(errors="replace").splitlines()[-5:]
    )


async def _ready(stack: Stack) -> None:
    for address in stack.servers.values():
        async with grpc.aio.insecure_channel(address) as channel:
            await channel.channel_ready()
    host, _, port = stack.grpc.partition(":")
    while await envoy.http_status(host, int(port), "/api/readyz") != HTTPStatus.OK:  # noqa: ASYNC110 - a process
        await asyncio.sleep(0.1)
