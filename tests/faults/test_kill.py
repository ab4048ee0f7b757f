"""Workers and Postgres are killed with SIGKILL under load; what was acknowledged is there, once, where it should be.

One run with all the faults, and then a test for each thing that must be true afterwards.
"""

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.protobuf import json_format
from tests import samples
from tests.calling import Service, wait_until_serving
from tests.own_ports import own_port, own_ports_in_a_row

from decisiongraph.v1 import ingestion_service_pb2, ingestion_service_pb2_grpc
from decisiongraph_service.access import keys, tenancy
from decisiongraph_service.domain import vocabulary
from decisiongraph_service.domain.events import StoredEvent
from decisiongraph_service.domain.log_check import Damage
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries import log_audit
from decisiongraph_service.runtime import children, server
from decisiongraph_service.runtime.embedded_postgres import EmbeddedPostgres
from decisiongraph_service.storage import event_log, migrations, projection_state
from decisiongraph_service.storage.database import Database

_TENANTS = [TenantId(f"killed-{n}") for n in range(3)]
_WRITERS = 8
_CHANNEL = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 300))


@dataclass
class Stack:
    """What is killed: Postgres, a server of two workers, and a second server on the same database."""

    folder: Path
    postgres: EmbeddedPostgres
    database_side: children.Children
    servers: children.Children
    service: Service
    addresses: Sequence[str]
    supervisor: int

    async def kill_worker(self, index: int) -> None:
        async with asyncio.timeout(10):
            while len(workers := psutil.Process(self.supervisor).children()) <= index:  # noqa: ASYNC110 - its supervisor
                await asyncio.sleep(0.05)
        sorted(workers, key=lambda process: process.create_time())[index].kill()

    async def kill_postgres_and_start_it_again(self) -> None:
        os.kill(int((self.postgres.data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        await self.database_side.wait_for_end()
        await self.database_side.stop()
        await asyncio.to_thread(self.postgres.prepare)
        await self.database_side.start(self.postgres.child())
        await self.database_side.during(self.postgres.wait_ready(30))


@dataclass
class Sent:
    """What the writers sent, and what they were told."""

    acknowledged: dict[tuple[TenantId, str], tuple[int, str]] = field(default_factory=dict)
    """Position and event id by key."""
    given_up: list[tuple[TenantId, list[str]]] = field(default_factory=list)
    """The keys of batches whose answer never came, and that were not sent again."""
    failures: Counter[str] = field(default_factory=Counter)
    contradictions: list[str] = field(default_factory=list)

    def told(self, tenant_id: TenantId, event: dict[str, Any], receipt: Any) -> None:
        answer = (int(receipt.log_seq), str(receipt.event_id))
        before = self.acknowledged.setdefault((tenant_id, event["idempotency_key"]), answer)
        if before != answer:
            self.contradictions.append(f"{event['idempotency_key']}: first {before}, then {answer}")


@dataclass
class Aftermath:
    """The state after everything was up again and every writer had its last answer."""

    sent: Sent
    logs: dict[TenantId, list[StoredEvent]]
    damages: dict[TenantId, list[Damage]]
    database: Database
    retried: list[tuple[tuple[TenantId, str], tuple[int, str], bool]]


def _folder() -> Path:
    """One that the account of Postgres can enter."""
    folder = Path(tempfile.mkdtemp(prefix="decisiongraph-test-"))
    folder.chmod(0o755)
    return folder


@contextlib.asynccontextmanager
async def _running() -> AsyncIterator[Stack]:
    folder = _folder()
    database_side = children.Children(folder / "logs", folder / "database.json")
    servers = children.Children(folder / "logs", folder / "servers.json")
    postgres = EmbeddedPostgres(folder / "postgres", durable=True)
    try:
        await postgres.start(database_side)
        await migrations.upgrade(postgres.dsn, server.migrations_folder())
        first = own_ports_in_a_row(3)
        second = own_port()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DG_")},
            "DG_DATABASE_URL": postgres.dsn,
            "DG_DATA_DIR": str(folder),
            "DG_SHUTDOWN_GRACE_SECONDS": "1",
        }
        key = keys.load_or_create(folder / "token-key.pem")
        command = (sys.executable, "-m", "decisiongraph_service.cli.main", "serve")
        supervisor = await servers.start(
            children.ChildSpec("workers", (*command, "--workers", "2"), env={**environment, "DG_GRPC_PORT": str(first)})
        )
        await servers.start(children.ChildSpec("second", command, env={**environment, "DG_GRPC_PORT": str(second)}))
        addresses = [f"127.0.0.1:{port}" for port in (first, first + 1, first + 2, second)]
        for address in addresses:
            await servers.during(wait_until_serving(address))
        service = Service("", addresses[0], key, folder, servers)
        yield Stack(folder, postgres, database_side, servers, service, addresses, supervisor)
    finally:
        await servers.stop()
        await database_side.stop()
        shutil.rmtree(folder, ignore_errors=True)


class Writer:
    """Appends event after event of traces of its own, at one address, until it is told to stop."""

    def __init__(self, number: int, stack: Stack, sent: Sent) -> None:
        self._name = f"w{number}"
        self._tenant_id = _TENANTS[number % len(_TENANTS)]
        self._gives_up = number % 4 == 3
        self._address = stack.addresses[number % len(stack.addresses)]
        self._token = stack.service.token(tenant_ids=_TENANTS, roles=["writer"])
        self._sent = sent
        self._traces = itertools.count()
        self._stub: Any = None

    async def run(self, stop: asyncio.Event) -> None:
        async with grpc.aio.insecure_channel(self._address, options=_CHANNEL) as channel:
            self._stub = ingestion_service_pb2_grpc.IngestionServiceStub(channel)
            while not stop.is_set():
                trace_id = f"{self._name}-{next(self._traces)}"
                events = samples.json_trace(13, trace_id=trace_id)
                for one in events[:5]:
                    if not await self._send_until_told([one]):
                        break
                else:
                    await self._send_until_told(events[5:])

    async def _send_until_told(self, events: list[dict[str, Any]]) -> bool:
        """Send one event, or several as a batch; again after each failure, unless this writer gives up."""
        while True:
            try:
                for event, receipt in zip(events, await self._send(events), strict=True):
                    self._sent.told(self._tenant_id, event, receipt)
            except grpc.aio.AioRpcError as error:
                self._sent.failures[error.code().name] += 1
                if self._gives_up:
                    self._sent.given_up.append((self._tenant_id, [event["idempotency_key"] for event in events]))
                    return False
                await asyncio.sleep(0.05)
            else:
                return True

    async def _send(self, events: list[dict[str, Any]]) -> Sequence[Any]:
        call = {
            "metadata": (("authorization", f"Bearer {self._token}"), ("x-tenant-id", self._tenant_id)),
            "timeout": 5,
        }
        if len(events) == 1:
            request = json_format.ParseDict({"event": events[0]}, ingestion_service_pb2.AppendEventRequest())
            return [(await self._stub.AppendEvent(request, **call)).event]
        batch = json_format.ParseDict({"events": events}, ingestion_service_pb2.AppendEventsRequest())
        return list((await self._stub.AppendEvents(batch, **call)).receipts)


async def _faults(stack: Stack) -> None:
    for index in (0, 1, 0):
        await asyncio.sleep(1.5)
        await stack.kill_worker(index)
    await asyncio.sleep(1.5)
    await stack.kill_postgres_and_start_it_again()
    await asyncio.sleep(2.5)


async def _write_through_faults(stack: Stack, sent: Sent) -> None:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for number in range(_WRITERS):
            group.create_task(Writer(number, stack, sent).run(stop))
        await _faults(stack)
        stop.set()


async def _retry_some(stack: Stack, sent: Sent) -> list[tuple[tuple[TenantId, str], tuple[int, str], bool]]:
    """Send some events again, the newest before the last fault among them; with what came back, and `reused`."""
    token = stack.service.token(tenant_ids=_TENANTS, roles=["writer"])
    found = []
    async with grpc.aio.insecure_channel(stack.addresses[3]) as channel:
        stub: Any = ingestion_service_pb2_grpc.IngestionServiceStub(channel)
        for scope in list(sent.acknowledged)[:: max(1, len(sent.acknowledged) // 100)]:
            tenant_id, key = scope
            trace_id, position = key.rsplit("/", 1)
            event = samples.json_trace(int(position) + 1, trace_id=trace_id)[-1]
            answer = await stub.AppendEvent(
                json_format.ParseDict({"event": event}, ingestion_service_pb2.AppendEventRequest()),
                metadata=(("authorization", f"Bearer {token}"), ("x-tenant-id", tenant_id)),
            )
            found.append((scope, (int(answer.event.log_seq), str(answer.event.event_id)), bool(answer.reused)))
    return found


@pytest.fixture(scope="module")
async def aftermath() -> AsyncIterator[Aftermath]:
    async with _running() as stack:
        database = await Database.open(stack.postgres.dsn, pool_size=2)
        for tenant_id in _TENANTS:
            await tenancy.create_tenant(database, tenant_id, clock=server.clock_micros)
        sent = Sent()
        try:
            async with asyncio.timeout(60):
                await _write_through_faults(stack, sent)
        except TimeoutError:
            said = [line for name in ("workers", "second") for line in stack.servers.last_lines(name)]
            raise AssertionError("\n".join(["the writers got no end", repr(sent.failures), *said])) from None
        await database.close()
        database = await Database.open(stack.postgres.dsn, pool_size=2)
        logs, damages = {}, {}
        for tenant_id in _TENANTS:
            damages[tenant_id] = await log_audit.check_log(database, tenant_id)
            async with database.tenant_snapshot(tenant_id) as snapshot:
                logs[tenant_id] = list(await event_log.fetch_events_after(snapshot, 0, limit=1_000_000))
        yield Aftermath(sent, logs, damages, database, await _retry_some(stack, sent))
        await database.close()


async def test_the_faults_were_felt_and_writing_went_on(aftermath: Aftermath) -> None:
    assert sum(aftermath.sent.failures.values()) > _WRITERS
    assert set(aftermath.sent.failures) <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}, "a fault looked like something else"
    assert aftermath.sent.given_up
    assert len(aftermath.sent.acknowledged) > 500


async def test_every_acknowledged_event_is_where_it_was_said_to_be(aftermath: Aftermath) -> None:
    for (tenant_id, key), (log_seq, event_id) in aftermath.sent.acknowledged.items():
        stored = aftermath.logs[tenant_id][log_seq - 1]
        assert (stored.idempotency_key, stored.event_id) == (key, event_id)


async def test_every_event_is_there_once(aftermath: Aftermath) -> None:
    for tenant_id, log in aftermath.logs.items():
        twice = [key for key, count in Counter(event.idempotency_key for event in log).items() if count > 1]
        assert twice == [], tenant_id


async def test_positions_are_complete_and_nothing_is_damaged(aftermath: Aftermath) -> None:
    for tenant_id, log in aftermath.logs.items():
        assert [event.log_seq for event in log] == list(range(1, len(log) + 1))
        assert aftermath.damages[tenant_id] == []


async def test_nothing_is_stored_that_was_neither_acknowledged_nor_given_up(aftermath: Aftermath) -> None:
    given_up = {(tenant_id, key) for tenant_id, batch in aftermath.sent.given_up for key in batch}
    for tenant_id, log in aftermath.logs.items():
        for event in log:
            scope = (tenant_id, event.idempotency_key)
            assert scope in aftermath.sent.acknowledged or scope in given_up


async def test_a_batch_without_an_answer_is_there_whole_or_not_at_all(aftermath: Aftermath) -> None:
    for tenant_id, batch in aftermath.sent.given_up:
        stored = {event.idempotency_key for event in aftermath.logs[tenant_id]}
        assert stored.issuperset(batch) or stored.isdisjoint(batch), batch


async def test_a_retry_never_got_another_answer(aftermath: Aftermath) -> None:
    assert aftermath.sent.contradictions == []


async def test_a_retry_after_everything_is_reused(aftermath: Aftermath) -> None:
    assert len(aftermath.retried) >= 100
    for scope, answer, reused in aftermath.retried:
        assert reused, scope
        assert answer == aftermath.sent.acknowledged[scope]


async def test_projections_catch_up(aftermath: Aftermath) -> None:
    async def behind() -> bool:
        for tenant_id, log in aftermath.logs.items():
            async with aftermath.database.tenant_statements(tenant_id) as statements:
                _, live = await projection_state.fetch_head_and_live(statements)
            if live[vocabulary.TRACE_SUMMARY].log_seq < len(log):
                return True
        return False

    async with asyncio.timeout(10):
        while await behind():  # noqa: ASYNC110 - the projectors are in other processes
            await asyncio.sleep(0.1)
