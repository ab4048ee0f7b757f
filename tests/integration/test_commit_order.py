"""The interleaving that loses events where a sequence numbers them cannot happen here.

T1 gets its number, T2 gets the next one and commits, a projector reads up to T2, and then T1 commits: its event lies
behind the projector for ever. The first test shows that a sequence behaves like this, the others that the log does not.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TypeAlias

import asyncpg
import pytest
from tests import samples

from decisiongraph_service.domain.append_batch import BatchPlan, Placed, Refusal
from decisiongraph_service.domain.events import CheckedEvent
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.ingestion.group_commit import GroupCommitter
from decisiongraph_service.queries import log_audit
from decisiongraph_service.runtime import server
from decisiongraph_service.storage import event_log
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database, TenantTransaction

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_BLOCKED = """
    SELECT count(*)
    FROM pg_stat_activity
    WHERE application_name = 'decisiongraph' AND cardinality(pg_blocking_pids(pid)) > 0
"""


class Follower:
    """Reads what lies after its position, as a projector does, and remembers what it saw."""

    def __init__(self) -> None:
        self.position = 0
        self.seen: list[str] = []

    def take(self, rows: list[tuple[int, str]]) -> None:
        for position, key in rows:
            self.position = position
            self.seen.append(key)


@pytest.fixture
async def connections(database_url: str) -> AsyncIterator[list[Connection]]:
    """Three, as the owner of the database."""
    opened = [await asyncpg.connect(database_url) for _ in range(3)]
    yield opened
    for each in opened:
        await each.close()


@pytest.fixture
async def committer(database_url: str) -> AsyncIterator[GroupCommitter]:
    database = await Database.open(database_url, pool_size=3)
    yield GroupCommitter(database, CommitSignal(database_url), clock=server.clock_micros, parallel_commits=2)
    await database.close()


async def follow(database: Database, tenant_id: TenantId, follower: Follower) -> None:
    async with database.tenant_snapshot(tenant_id) as snapshot:
        events = await event_log.fetch_events_after(snapshot, follower.position, limit=1_000)
        head = await event_log.fetch_head(snapshot)
    follower.take([(event.log_seq, event.idempotency_key) for event in events])
    assert follower.position == head, "what is visible ends where the head says"
    assert len(follower.seen) == head, "what is visible is a complete prefix"


async def insert(transaction: TenantTransaction, events: list[CheckedEvent]) -> None:
    """Everything of an append but its commit."""
    view = await event_log.fetch_log_view(transaction, events)
    assert view is not None
    plan = BatchPlan(transaction.tenant_id, view, recorded_at_micros=1)
    assert isinstance(plan.place(events), list)
    assert await event_log.append(transaction, plan.rows, expected_head=view.head)


async def until_blocked(connection: Connection, *, waiting: int) -> None:
    """Return when so many connections of the service wait for a lock."""
    async with asyncio.timeout(10):
        # What is waited for is in another process.
        while await connection.fetchval(_BLOCKED) < waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_log_that_is_numbered_by_a_sequence_loses_an_event(connections: list[Connection]) -> None:
    t1, t2, reader = connections
    await t1.execute("DROP TABLE IF EXISTS numbered_by_sequence")
    await t1.execute("CREATE TABLE numbered_by_sequence (log_seq bigserial PRIMARY KEY, key text NOT NULL)")
    follower = Follower()

    async def follow_it() -> None:
        rows = await reader.fetch(
            "SELECT log_seq, key FROM numbered_by_sequence WHERE log_seq > $1 ORDER BY log_seq", follower.position
        )
        follower.take([(row["log_seq"], row["key"]) for row in rows])

    first = t1.transaction()
    await first.start()
    await t1.execute("INSERT INTO numbered_by_sequence (key) VALUES ('T1')")
    await t2.execute("INSERT INTO numbered_by_sequence (key) VALUES ('T2')")
    await follow_it()
    await first.commit()
    await follow_it()
    assert await reader.fetchval("SELECT count(*) FROM numbered_by_sequence") == 2
    assert follower.seen == ["T2"], "the event of T1 should have been lost: this test cannot fail any more"
    await t1.execute("DROP TABLE numbered_by_sequence")


async def test_a_second_append_waits_for_the_first_and_goes_behind_it(
    connections: list[Connection], committer: GroupCommitter, database: Database, tenant_id: TenantId
) -> None:
    follower = Follower()
    async with database.tenant_transaction(tenant_id) as t1:
        await insert(t1, [samples.start("T1")])
        t2 = asyncio.create_task(committer.submit(tenant_id, [samples.start("T2")]))
        await until_blocked(connections[2], waiting=1)
        await follow(database, tenant_id, follower)
        assert follower.seen == []
        assert not t2.done()
    result = await t2
    assert isinstance(result, list)
    assert result[0].stored.log_seq == 2
    await follow(database, tenant_id, follower)
    assert follower.seen == ["T1/start", "T2/start"]


async def test_a_second_append_decides_again_over_what_the_first_has_committed(
    connections: list[Connection], committer: GroupCommitter, database: Database, tenant_id: TenantId
) -> None:
    async with database.tenant_transaction(tenant_id) as t1:
        await insert(t1, [samples.start("t"), samples.checked("TraceFinished", key="finish")])
        late = asyncio.create_task(committer.submit(tenant_id, [samples.start("t"), samples.checked(key="late")]))
        again = asyncio.create_task(committer.submit(tenant_id, [samples.start("t")]))
        await until_blocked(connections[2], waiting=1)
    refusal = await late
    assert isinstance(refusal, Refusal)
    assert (refusal.index, refusal.error.reason) == (1, "TRACE_FINISHED")
    reused = await again
    assert isinstance(reused, list)
    assert reused[0].reused
    assert await log_audit.check_log(database, tenant_id) == []


async def test_a_first_append_that_is_rolled_back_leaves_no_gap(
    connections: list[Connection], committer: GroupCommitter, database: Database, tenant_id: TenantId
) -> None:
    follower = Follower()
    waiting: list[asyncio.Task[list[Placed] | Refusal]] = []
    with contextlib.suppress(ZeroDivisionError):
        async with database.tenant_transaction(tenant_id) as t1:
            await insert(t1, [samples.start("T1")])
            waiting.append(asyncio.create_task(committer.submit(tenant_id, [samples.start("T2")])))
            await until_blocked(connections[2], waiting=1)
            raise ZeroDivisionError
    result = await waiting[0]
    assert isinstance(result, list)
    assert result[0].stored.log_seq == 1
    await follow(database, tenant_id, follower)
    assert follower.seen == ["T2/start"]


async def test_an_append_that_was_decided_for_an_older_head_writes_nothing(
    committer: GroupCommitter, database: Database, tenant_id: TenantId
) -> None:
    async with database.tenant_statements(tenant_id) as statements:
        view = await event_log.fetch_log_view(statements, [samples.start("old")])
        assert view is not None
        plan = BatchPlan(tenant_id, view, recorded_at_micros=1)
        plan.place([samples.start("old")])
        await committer.submit(tenant_id, [samples.start("new")])
        assert not await event_log.append(statements, plan.rows, expected_head=view.head)
    follower = Follower()
    await follow(database, tenant_id, follower)
    assert follower.seen == ["new/start"]


async def test_a_follower_sees_a_complete_prefix_at_every_moment(
    database_url: str, committer: GroupCommitter, database: Database, tenant_id: TenantId
) -> None:
    other = await Database.open(database_url, pool_size=3)
    second = GroupCommitter(other, CommitSignal(database_url), clock=server.clock_micros, parallel_commits=2)
    follower = Follower()

    async def write(writer: int) -> None:
        for n in range(25):
            await (committer, second)[writer % 2].submit(tenant_id, [samples.start(f"{writer}/{n}")])

    async with asyncio.TaskGroup() as writers:
        for writer in range(8):
            writers.create_task(write(writer))
        async with asyncio.timeout(20):
            while len(follower.seen) < 200:
                await follow(database, tenant_id, follower)
    assert len(set(follower.seen)) == 200
    await other.close()
