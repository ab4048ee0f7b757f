"""What is measured: the service as it is run, on a durable Postgres, and the empty server beside it."""

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from decisiongraph_service.access import keys, tenancy, tokens
from decisiongraph_service.access.keys import SigningKey
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.runtime import children, embedded_postgres, envoy, ports, server
from decisiongraph_service.runtime.assets import asset
from decisiongraph_service.runtime.gate import Gate
from decisiongraph_service.storage import migrations
from decisiongraph_service.storage.database import Database

_SETTLE_SECONDS = 120.0
_ISSUER = "decisiongraph-development"
_AUDIENCE = "decisiongraph"
_HEADS = "SELECT coalesce(sum(log_seq), 0)::bigint FROM log_heads"
_EVENTS = "SELECT count(*) FROM events"
# A tenant that no projection has seen yet has no position.
_BEHIND = """
    SELECT count(*)
    FROM log_heads AS head
    WHERE head.log_seq > coalesce(
        (SELECT min(log_seq) FROM projection_generations WHERE tenant_id = head.tenant_id AND state = 'live'), 0
    )
"""


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Seconds of processor time that each part has used."""

    server: float
    empty: float
    postgres: float
    envoys: float
    bench: float
    """This program and the load programs that it ran."""
    machine: float
    """All of the machine, whoever used it."""


@dataclass(frozen=True)
class Stack:
    """A running service and an empty server, each also behind an Envoy of its own."""

    service: str
    empty: str
    rest: str
    empty_rest: str
    dsn: str
    """Of the database, as its owner."""
    connection: "asyncpg.Connection[asyncpg.Record]"
    key: SigningKey
    database: Database
    server_pid: int
    empty_pid: int
    postgres_pid: int
    envoy_pids: Sequence[int]
    environment: Mapping[str, str]
    """Of the server."""
    others: Sequence[str] = ()
    """Addresses of further servers on the same database, whose processor time is not counted."""

    async def tenants(self, count: int) -> list[dict[str, str]]:
        """Headers for each of so many new tenants."""
        return [(await self.tenant())[1] for _ in range(count)]

    async def tenant(self) -> tuple[TenantId, dict[str, str]]:
        """A new tenant, and headers that may do everything in it."""
        tenant_id = TenantId(f"bench-{uuid.uuid4().hex[:12]}")
        await tenancy.create_tenant(self.database, tenant_id, clock=server.clock_micros)
        return tenant_id, {"authorization": f"Bearer {self._token(tenant_id)}"}

    async def total_head(self) -> int:
        """The sum of all tenants' positions."""
        return int(await self.connection.fetchval(_HEADS))

    async def count_events(self) -> int:
        """How many events the logs hold."""
        return int(await self.connection.fetchval(_EVENTS))

    async def settle(self) -> None:
        """Wait until the projections have caught up, so that no run pays for the one before.

        Raises:
            TimeoutError: they do not.
        """
        async with asyncio.timeout(_SETTLE_SECONDS):
            while await self.connection.fetchval(_BEHIND):  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.05)

    def cpu_times(self) -> CpuTimes:
        """What was used until now."""
        machine = psutil.cpu_times()
        return CpuTimes(
            server=_used(self.server_pid),
            empty=_used(self.empty_pid),
            postgres=_used(self.postgres_pid),
            envoys=sum(map(_used, self.envoy_pids)),
            bench=_own(),
            machine=sum(machine) - machine.idle - machine.iowait,
        )

    def server_memory(self) -> int:
        """Bytes of memory that the server holds."""
        return int(psutil.Process(self.server_pid).memory_info().rss)

    def _token(self, tenant_id: TenantId) -> str:
        return tokens.issue(
            self.key,
            issuer=_ISSUER,
            audience=_AUDIENCE,
            account_id="bench",
            tenant_ids=[tenant_id],
            roles=tokens.ROLES,
            permissions=tokens.PERMISSIONS,
            now=int(time.time()),
            lifetime_seconds=24 * 3600,
        )


def _own() -> float:
    # Not the children that still run: those are counted by themselves.
    times = psutil.Process().cpu_times()
    return times.user + times.system + times.children_user + times.children_system


def _used(pid: int) -> float:
    """Seconds of a process and its children, those that have ended included."""
    process = psutil.Process(pid)
    own = process.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            total += times.user + times.system
    return total


@contextlib.asynccontextmanager
async def running(*, servers: int = 1, **variables: str) -> AsyncIterator[Stack]:
    """A stack of its own on free ports and in temporary folders, which goes with the block.

    `variables` are settings of its servers.
    """
    folder = Path(tempfile.mkdtemp(prefix="decisiongraph-bench-"))
    started = children.Children(folder / "logs", folder / "children.json")
    try:
        async with embedded_postgres.temporary_postgres(durable=True) as postgres:
            await migrations.upgrade(postgres.dsn, server.migrations_folder())
            database = await Database.open(postgres.dsn, pool_size=2)
            connection = await asyncpg.connect(postgres.dsn)
            try:
                yield await _start(
                    started, folder, postgres.dsn, database, connection, servers=servers, variables=variables
                )
            finally:
                await started.stop()
                await connection.close()
                await database.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _start(
    started: children.Children,
    folder: Path,
    dsn: str,
    database: Database,
    connection: "asyncpg.Connection[asyncpg.Record]",
    *,
    servers: int,
    variables: Mapping[str, str],
) -> Stack:
    key = keys.load_or_create(folder / "token-key.pem")
    chosen: list[int] = []
    while len(chosen) < 5 + servers:
        chosen.append(ports.free_port(besides=chosen))
    service_port, empty_port, rest_port, empty_rest_port, *admin_ports = chosen[:6]
    other_ports = chosen[6:]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DG_")},
        "DG_DATABASE_URL": dsn,
        "DG_DATA_DIR": str(folder),
        "DG_GRPC_PORT": str(service_port),
        "DG_SHUTDOWN_GRACE_SECONDS": "1",
        # One account does everything here.
        **{f"DG_LIMIT_{name}": "off" for name in ("READ", "WRITE", "ADMIN", "PUBLIC", "EVENTS", "BYTES")},
        **variables,
    }
    server_pid = await _start_python(started, "server", ["decisiongraph_service.cli.main", "serve"], environment)
    for number, port in enumerate(other_ports, start=2):
        await _start_python(
            started,
            f"server-{number}",
            ["decisiongraph_service.cli.main", "serve"],
            {**environment, "DG_GRPC_PORT": str(port)},
        )
    empty_pid = await _start_python(
        started, "empty-server", ["bench.empty_server", str(empty_port), str(folder / "token-key.pem")], environment
    )
    envoys = [
        await _start_envoy(started, folder, name, rest, target, admin)
        for name, rest, target, admin in (
            ("envoy", rest_port, service_port, admin_ports[0]),
            ("empty-envoy", empty_rest_port, empty_port, admin_ports[1]),
        )
    ]
    for port in (service_port, empty_port, *other_ports):
        await started.during(_wait_until_serving(f"127.0.0.1:{port}"))
    for port in admin_ports:
        await started.during(envoy.wait_ready(port, timeout_seconds=20))
    backend = await connection.fetchval("SELECT pg_backend_pid()")
    return Stack(
        service=f"127.0.0.1:{service_port}",
        empty=f"127.0.0.1:{empty_port}",
        rest=f"http://127.0.0.1:{rest_port}/api/v1/events",
        empty_rest=f"http://127.0.0.1:{empty_rest_port}/api/v1/events",
        dsn=dsn,
        connection=connection,
        key=key,
        database=database,
        server_pid=server_pid,
        empty_pid=empty_pid,
        postgres_pid=psutil.Process(backend).ppid(),
        envoy_pids=envoys,
        environment=environment,
        others=[f"127.0.0.1:{port}" for port in other_ports],
    )


@contextlib.asynccontextmanager
async def with_other_server(running: Stack, **variables: str) -> AsyncIterator[Stack]:
    """The same stack as seen by callers of a further server with other settings, which stops with the block."""
    port = ports.free_port()
    environment = {**running.environment, "DG_GRPC_PORT": str(port), **variables}
    folder = Path(tempfile.mkdtemp(prefix="decisiongraph-bench-"))
    started = children.Children(folder / "logs", folder / "children.json")
    try:
        pid = await _start_python(started, "server", ["decisiongraph_service.cli.main", "serve"], environment)
        address = f"127.0.0.1:{port}"
        await started.during(_wait_until_serving(address))
        yield replace(running, service=address, server_pid=pid, environment=environment)
    finally:
        await started.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def _start_python(
    started: children.Children, name: str, module: Sequence[str], environment: Mapping[str, str]
) -> int:
    return await started.start(children.ChildSpec(name, (sys.executable, "-m", *module), env=environment))


async def _start_envoy(
    started: children.Children, folder: Path, name: str, rest_port: int, grpc_port: int, admin_port: int
) -> int:
    config = folder / f"{name}.yaml"
    config.write_text(
        envoy.render_config(
            asset("envoy/envoy.yaml"),
            rest_host="127.0.0.1",
            rest_port=rest_port,
            grpc_addresses=[("127.0.0.1", grpc_port)],
            admin_port=admin_port,
            gate=Gate(_ISSUER, _AUDIENCE, ports.free_port(besides=(rest_port, grpc_port, admin_port))),
            descriptor_set=asset("generated/decisiongraph.binpb"),
            lua_script=asset("envoy/http_status.lua"),
        )
    )
    return await started.start(children.ChildSpec(name, envoy.command(config, concurrency=1)))


async def _wait_until_serving(address: str) -> None:
    async with asyncio.timeout(60), grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            await asyncio.sleep(0.1)
