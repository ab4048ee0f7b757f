"""kill -9 of workers and of Postgres under load: what was acknowledged is there, once, and nothing is half there."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from tests.calling import Service, wait_until_serving
from tests.traces import event_of_trace, message

from decisiongraph.v1 import (
    ingestion_service_pb2,
    ingestion_service_pb2_grpc,
    query_service_pb2,
    query_service_pb2_grpc,
)
from decisiongraph_service.access import keys, tenancy
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries import log_audit
from decisiongraph_service.runtime import children, embedded_postgres, ports, server
from decisiongraph_service.storage import event_log, migrations
from decisiongraph_service.storage.database import Database

_TENANTS = 3
_WRITERS = 8
_RETRYABLE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
}


@dataclass
class Stack:
    """A durable Postgres and two workers, all of which can be killed."""

    postgres: embedded_postgres.EmbeddedPostgres
    postgres_processes: children.Children
    server_processes: children.Children
    service: Service
    addresses: list[str]
    folder: Path

    def kill_worker(self) -> None:
        """kill -9 of one of the workers."""
        workers = [
            process
            for process in psutil.process_iter(["environ"])
            if (process.info["environ"] or {}).get("DG_GRPC_OWN_PORT")
            and (process.info["environ"] or {}).get("DG_DATA_DIR") == str(self.folder)
        ]
        random.choice(workers).kill()  # noqa: S311 - which one does not matter

    async def kill_postgres(self) -> None:
        """kill -9 of Postgres and all its backends, then a start on the same data."""
        pid = int((self.postgres.data / "postmaster.pid").read_text().split()[0])
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                os.kill(process.pid, signal.SIGKILL)
        await asyncio.to_thread(psutil.wait_procs, family, 10)
        await self.postgres_processes.stop()
        await asyncio.to_thread((self.postgres.data / "postmaster.pid").unlink, missing_ok=True)
        await self.postgres_processes.start(self.postgres.child())
        await self.postgres.wait_ready(30)


def _folder() -> Path:
    """A folder that the account of Postgres may enter."""
    folder = Path(tempfile.mkdtemp(prefix="decisiongraph-kill-"))
    folder.chmod(0o755)
    return folder


def _free_ports_in_a_row(count: int) -> int:
    while True:
        first = ports.free_port()
        with contextlib.suppress(ports.PortError):
            for port in range(first, first + count):
                ports.require_free("127.0.0.1", port)
            return first


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    folder = _folder()
    postgres = embedded_postgres.EmbeddedPostgres(folder / "postgres")
    postgres_processes = children.Children(folder / "logs", folder / "postgres.json")
    server_processes = children.Children(folder / "logs", folder / "server.json")
    try:
        await postgres.start(postgres_processes)
        await migrations.upgrade(postgres.dsn, server.migrations_folder())
        port = _free_ports_in_a_row(3)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DG_")},
            "DG_DATABASE_URL": postgres.dsn,
            "DG_DATA_DIR": str(folder),
            "DG_GRPC_PORT": str(port),
            "DG_SHUTDOWN_GRACE_SECONDS": "1",
        }
        serve = (sys.executable, "-m", "decisiongraph_service.cli.main", "serve", "--workers", "2")
        await server_processes.start(children.ChildSpec("server", serve, env=environment))
        addresses = [f"127.0.0.1:{port + 1}", f"127.0.0.1:{port + 2}"]
        await asyncio.gather(*map(wait_until_serving, addresses))
        key = keys.load_or_create(folder / "token-key.pem")
        service = Service("", f"127.0.0.1:{port}", key, folder, server_processes)
        yield Stack(postgres, postgres_processes, server_processes, service, addresses, folder)
    finally:
        await server_processes.stop()
        await postgres_processes.stop()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Writer:
    """Appends traces event by event, sends each again until it is answered, and remembers the answers."""

    name: str
    tenant_id: str
    token: str
    addresses: list[str]
    acknowledged: dict[str, int] = field(default_factory=dict)
    """Log position by idempotency key."""
    retried: int = 0

    async def write_until(self, stop: asyncio.Event) -> None:
        async with contextlib.AsyncExitStack() as stack:
            channels = [await stack.enter_async_context(grpc.aio.insecure_channel(a)) for a in self.addresses]
            stubs = [ingestion_service_pb2_grpc.IngestionServiceStub(channel) for channel in channels]
            for trace in range(10_000):
                for position in range(6):
                    if stop.is_set():
                        return
                    event = event_of_trace(f"{self.name}-{trace}", position, last=position == 5)
                    await self._append_until_answered(stubs, event)

    async def _append_until_answered(self, stubs: list[Any], event: dict[str, Any]) -> None:
        request = ingestion_service_pb2.AppendEventRequest(event=message(event))
        for attempt in range(400):
            try:
                answer = await stubs[attempt % len(stubs)].AppendEvent(
                    request, metadata=(("authorization", f"Bearer {self.token}"),), timeout=5
                )
            except grpc.aio.AioRpcError as error:
                if error.code() not in _RETRYABLE:
                    raise
                self.retried += 1
                await asyncio.sleep(0.1)
                continue
            self.acknowledged[event["idempotency_key"]] = answer.event.log_seq
            return
        raise AssertionError(f"{event['idempotency_key']} was never answered")


async def test_what_was_acknowledged_survives_killed_workers_and_a_killed_database(stack: Stack) -> None:
    database = await Database.open(stack.postgres.dsn, pool_size=2)
    tenant_ids = [TenantId(f"tenant-{number}") for number in range(_TENANTS)]
    for tenant_id in tenant_ids:
        await tenancy.create_tenant(database, tenant_id, clock=server.clock_micros)
    await database.close()
    writers = [
        Writer(
            f"writer-{number}",
            tenant_ids[number % _TENANTS],
            stack.service.token(tenant_ids=[tenant_ids[number % _TENANTS]], roles=["writer"]),
            stack.addresses[number % 2 :] + stack.addresses[: number % 2],
        )
        for number in range(_WRITERS)
    ]
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for writer in writers:
            group.create_task(writer.write_until(stop))
        await asyncio.sleep(2)
        stack.kill_worker()
        await asyncio.sleep(3)
        await stack.kill_postgres()
        await asyncio.sleep(3)
        stack.kill_worker()
        await asyncio.sleep(4)
        stop.set()
    assert sum(writer.retried for writer in writers) > 0, "nothing was killed while somebody wrote"

    database = await Database.open(stack.postgres.dsn, pool_size=2)
    try:
        for tenant_id in tenant_ids:
            assert await log_audit.check_log(database, tenant_id) == []
            async with database.tenant_snapshot(tenant_id) as snapshot:
                head = await event_log.fetch_head(snapshot)
                stored = await event_log.fetch_events_after(snapshot, 0, limit=head + 1)
            positions = {event.idempotency_key: event.log_seq for event in stored}
            assert len(positions) == len(stored) == head, "an event is stored twice, or a position is missing"
            acknowledged = {k: v for w in writers if w.tenant_id == tenant_id for k, v in w.acknowledged.items()}
            # Every event was sent until it was answered, so the log holds these and no others.
            assert positions == acknowledged
            assert len(acknowledged) > 20, "too little was written to mean anything"
    finally:
        await database.close()
    await _expect_fresh_answers(stack, writers[0])


async def _expect_fresh_answers(stack: Stack, writer: Writer) -> None:
    """The projections caught up, whichever process followed the log before."""
    token = stack.service.token(tenant_ids=[writer.tenant_id], roles=["reader"])
    await asyncio.gather(*map(wait_until_serving, stack.addresses))
    for address in stack.addresses:
        async with grpc.aio.insecure_channel(address) as channel:
            trace = await query_service_pb2_grpc.QueryServiceStub(channel).GetTrace(
                query_service_pb2.GetTraceRequest(trace_id=f"{writer.name}-0"),
                metadata=(("authorization", f"Bearer {token}"),),
                timeout=15,
            )
        assert trace.summary.status == "finished"
        assert trace.position.log_seq == trace.position.head_log_seq
