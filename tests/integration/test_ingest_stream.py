"""A stream of events while commits are held up: bounded, patient, and taken back when its caller goes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator

import asyncpg
import pytest
from tests import samples
from tests.logs import Connection, held_up, stored_keys

from decisiongraph_service.access import tenancy
from decisiongraph_service.domain import secret_guard
from decisiongraph_service.domain.limits import EventLimits
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.ingestion import ingest_stream
from decisiongraph_service.ingestion.append import Appender, Checkable
from decisiongraph_service.ingestion.fair_share import FairShare
from decisiongraph_service.ingestion.group_commit import GroupCommitter, QueueLimits
from decisiongraph_service.ingestion.ingest_stream import Acknowledgement
from decisiongraph_service.runtime import server
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database

_BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))"


class Producer:
    """Sends a trace of so many events, and knows how many were taken."""

    def __init__(self, length: int) -> None:
        self._length = length
        self.taken = 0

    async def events(self) -> AsyncIterator[Checkable]:
        for n in range(self._length):
            self.taken += 1
            yield samples.event("PrecedentCited" if n else "TraceStarted", key=f"k{n}"), ()


@pytest.fixture
async def committer(database_url: str) -> AsyncIterator[GroupCommitter]:
    database = await Database.open(database_url, pool_size=2)
    yield GroupCommitter(
        database,
        CommitSignal(database_url),
        clock=server.clock_micros,
        parallel_commits=1,
        limits=QueueLimits(waiting_events=20),
    )
    await database.close()


@pytest.fixture
def appender(committer: GroupCommitter) -> Appender:
    share = FairShare(clock=time.monotonic)
    return Appender(committer, share, guard=secret_guard.guard_for("precise"), limits=EventLimits())


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    opened = await asyncpg.connect(database_url)
    yield opened
    await opened.close()


async def until_blocked(connection: Connection) -> None:
    async with asyncio.timeout(10):
        # What is waited for is in another process.
        while not await connection.fetchval(_BLOCKED, connection.get_server_pid()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def settled(producer: Producer) -> int:
    """How many events are taken when no more are taken."""
    before = -1
    while producer.taken != before:
        before = producer.taken
        await asyncio.sleep(0.1)
    return before


async def drop(stream: AsyncGenerator[Acknowledgement, None], waiting: asyncio.Task[Acknowledgement]) -> None:
    """What the server does when a caller goes."""
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    await stream.aclose()


async def test_events_wait_for_room_and_are_all_stored_in_order(
    appender: Appender, database: Database, tenant_id: TenantId
) -> None:
    producer = Producer(500)
    answers = [answer async for answer in ingest_stream.ingest(appender, tenant_id, producer.events())]
    assert [answer.index for answer in answers] == list(range(500))
    assert await stored_keys(database, tenant_id) == [f"k{n}" for n in range(500)]


async def test_no_more_is_taken_than_may_be_on_its_way(
    connection: Connection,
    appender: Appender,
    database: Database,
    tenant_id: TenantId,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ingest_stream, "ON_THEIR_WAY", 7)
    producer = Producer(100)
    stream = ingest_stream.ingest(appender, tenant_id, producer.events())
    async with held_up(connection, tenant_id):
        first = asyncio.create_task(anext(stream))
        await until_blocked(connection)
        assert await settled(producer) <= 7 + 1
    await first
    assert len([answer async for answer in stream]) == 99
    assert len(await stored_keys(database, tenant_id)) == 100


async def test_an_unread_acknowledgement_holds_the_producer_back(
    appender: Appender, tenant_id: TenantId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_stream, "ON_THEIR_WAY", 7)
    producer = Producer(100)
    stream = ingest_stream.ingest(appender, tenant_id, producer.events())
    await anext(stream)
    assert await settled(producer) <= 7 + 2
    await stream.aclose()


async def test_what_waits_is_taken_back_when_the_caller_goes(
    connection: Connection, committer: GroupCommitter, appender: Appender, database: Database, tenant_id: TenantId
) -> None:
    producer = Producer(100)
    stream = ingest_stream.ingest(appender, tenant_id, producer.events())
    async with held_up(connection, tenant_id):
        first = asyncio.create_task(anext(stream))
        await until_blocked(connection)
        # A full queue is being committed, and another one waits behind it.
        assert await settled(producer) >= 40
        await drop(stream, first)
    await committer.drain()
    assert await stored_keys(database, tenant_id) == [f"k{n}" for n in range(20)], "what was being committed, no more"


async def test_what_waits_is_taken_back_when_the_caller_goes_before_the_first_acknowledgement(
    connection: Connection, committer: GroupCommitter, appender: Appender, database: Database, tenant_id: TenantId
) -> None:
    producer = Producer(10)

    async def events_and_silence() -> AsyncIterator[Checkable]:
        async for event in producer.events():
            yield event
        await asyncio.Event().wait()

    other = TenantId(f"{tenant_id}-other")
    await tenancy.create_tenant(database, other, clock=server.clock_micros)
    async with held_up(connection, other):
        # The only turn to commit is taken, so what is queued waits.
        blocking = asyncio.create_task(appender.append(other, samples.event("TraceStarted", key="k")))
        await until_blocked(connection)
        stream = ingest_stream.ingest(appender, tenant_id, events_and_silence())
        first = asyncio.create_task(anext(stream))
        while producer.taken < 10:  # noqa: ASYNC110 - one turn of the loop at a time
            await asyncio.sleep(0)
        # All are queued, and nobody has fetched the first of them.
        await drop(stream, first)
    await blocking
    await committer.drain()
    assert await stored_keys(database, tenant_id) == []


async def test_what_waits_is_taken_back_when_the_caller_goes_between_two_acknowledgements(
    connection: Connection, committer: GroupCommitter, appender: Appender, database: Database, tenant_id: TenantId
) -> None:
    producer = Producer(100)
    stream = ingest_stream.ingest(appender, tenant_id, producer.events())
    await anext(stream)
    async with held_up(connection, tenant_id):
        await settled(producer)
        already = len(await stored_keys(database, tenant_id))
        await stream.aclose()
    await committer.drain()
    # One batch may have been decided and waiting for the lock.
    assert len(await stored_keys(database, tenant_id)) <= already + 20


async def test_a_producer_that_breaks_ends_the_stream_after_what_it_sent(
    appender: Appender, database: Database, tenant_id: TenantId
) -> None:
    async def broken() -> AsyncIterator[Checkable]:
        async for event in Producer(5).events():
            yield event
        raise ConnectionResetError

    stream = ingest_stream.ingest(appender, tenant_id, broken())
    assert [(await anext(stream)).index for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ConnectionResetError):
        await anext(stream)
    assert len(await stored_keys(database, tenant_id)) == 5
