"""What waits for its commit: bounded, fair between tenants, taken back by its caller, exact when the database fails.

Commits are held up with a lock on the tenant's head, as a long append of another process would.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

import asyncpg
import pytest
from tests import samples
from tests.logs import Connection, held_up, stored_keys

from decisiongraph_service.access import tenancy
from decisiongraph_service.domain import errors
from decisiongraph_service.domain.append_batch import Placed, Refusal
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.ingestion.group_commit import GroupCommitter, QueueLimits
from decisiongraph_service.runtime import server
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database

Make: TypeAlias = Callable[..., GroupCommitter]

_BLOCKED = "SELECT pid FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))"


@pytest.fixture
async def make(database_url: str) -> AsyncIterator[Make]:
    """Makes committers of this test, with connections of their own and a clock that counts the batches."""
    database = await Database.open(database_url, pool_size=4)
    batches = itertools.count(1)

    def made(*, parallel_commits: int = 2, **limits: int) -> GroupCommitter:
        return GroupCommitter(
            database,
            CommitSignal(database_url),
            clock=lambda: next(batches),
            parallel_commits=parallel_commits,
            limits=QueueLimits(**limits),
        )

    yield made
    await database.close()


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    """The owner of the database, who locks and terminates."""
    opened = await asyncpg.connect(database_url)
    yield opened
    await opened.close()


async def blocked_by(connection: Connection) -> int:
    """The connection that waits for this one, once there is one."""
    async with asyncio.timeout(10):
        # What is waited for is in another process.
        while (pid := await connection.fetchval(_BLOCKED, connection.get_server_pid())) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return int(pid)


def one(result: list[Placed] | Refusal) -> Placed:
    assert not isinstance(result, Refusal), result
    return result[0]


async def test_what_waits_behind_a_commit_is_committed_together(
    make: Make, connection: Connection, tenant_id: TenantId
) -> None:
    committer = make()
    async with held_up(connection, tenant_id):
        first = committer.enqueue(tenant_id, [samples.start("t")])
        await blocked_by(connection)
        waiting = [committer.enqueue(tenant_id, [samples.checked(key=f"k{n}")]) for n in range(50)]
    await first
    assert len({one(await answer).stored.recorded_at_micros for answer in waiting}) == 1, "more than one batch"


async def test_a_batch_ends_at_its_limit_of_events(make: Make, database: Database, tenant_id: TenantId) -> None:
    committer = make(batch_events=10)
    waiting = [committer.enqueue(tenant_id, [samples.start(f"t{n}")]) for n in range(95)]
    batches = [one(await answer).stored.recorded_at_micros for answer in waiting]
    assert [batches.count(batch) for batch in sorted(set(batches))] == [10] * 9 + [5]


async def test_a_submission_above_the_limit_of_a_batch_is_committed_alone(
    make: Make, database: Database, tenant_id: TenantId
) -> None:
    committer = make(batch_events=10, waiting_events=20)
    submission = [samples.start(f"t{n}") for n in range(50)]
    result = await committer.submit(tenant_id, submission)
    assert isinstance(result, list)
    assert [placed.stored.log_seq for placed in result] == list(range(1, 51))


@pytest.mark.parametrize("limits", [{"waiting_events": 10}, {"waiting_bytes": 10 * 35}], ids=["events", "bytes"])
async def test_more_than_may_wait_is_refused_at_once_and_later_taken(
    make: Make, database: Database, tenant_id: TenantId, limits: dict[str, int]
) -> None:
    assert len(samples.checked(key="k0").canonical_payload) == 35
    committer = make(**limits)
    await committer.submit(tenant_id, [samples.start("t")])
    waiting = [committer.enqueue(tenant_id, [samples.checked(key=f"k{n}")]) for n in range(10)]
    with pytest.raises(errors.RateLimited) as refused:
        committer.enqueue(tenant_id, [samples.checked(key="k10")])
    assert refused.value.subject == f"tenant:{tenant_id}"
    await asyncio.gather(*waiting)
    await committer.submit(tenant_id, [samples.checked(key="k11")])
    assert await stored_keys(database, tenant_id) == ["t/start", *(f"k{n}" for n in range(10)), "k11"]


async def test_the_full_queue_of_one_tenant_does_not_close_that_of_another(
    make: Make, database: Database, tenant_id: TenantId
) -> None:
    committer = make(waiting_events=5)
    other = TenantId(f"{tenant_id}-other")
    await tenancy.create_tenant(database, other, clock=server.clock_micros)
    waiting = [committer.enqueue(tenant_id, [samples.start(f"t{n}")]) for n in range(5)]
    with pytest.raises(errors.RateLimited):
        committer.enqueue(tenant_id, [samples.start("t6")])
    assert one(await committer.submit(other, [samples.start("t6")])).stored.log_seq == 1
    await asyncio.gather(*waiting)


async def test_bytes_that_wait_are_bounded_over_all_tenants(
    make: Make, database: Database, tenant_id: TenantId
) -> None:
    committer = make(all_waiting_bytes=5 * len(samples.start("t").canonical_payload) - 1)
    other = TenantId(f"{tenant_id}-other")
    await tenancy.create_tenant(database, other, clock=server.clock_micros)
    waiting = [committer.enqueue(tenant_id, [samples.start(f"t{n}")]) for n in range(5)]
    with pytest.raises(errors.RateLimited) as refused:
        committer.enqueue(other, [samples.start("t")])
    assert refused.value.subject == "the server"
    await asyncio.gather(*waiting)
    assert one(await committer.submit(other, [samples.start("t")])).stored.log_seq == 1


async def test_room_that_cancelled_callers_had_is_free_again(
    make: Make, connection: Connection, tenant_id: TenantId
) -> None:
    committer = make(waiting_events=5, all_waiting_bytes=2_000)
    for round_number in range(10):
        async with held_up(connection, tenant_id):
            first = committer.enqueue(tenant_id, [samples.start(f"t{round_number}")])
            await blocked_by(connection)
            for n in range(5):
                committer.enqueue(tenant_id, [samples.checked(key=f"{round_number}/{n}")]).cancel()
        await first
    await committer.drain()
    assert committer._waiting_bytes == 0


async def test_a_caller_that_goes_while_it_waits_takes_its_event_back(
    make: Make, connection: Connection, database: Database, tenant_id: TenantId
) -> None:
    committer = make()
    async with held_up(connection, tenant_id):
        first = asyncio.create_task(committer.submit(tenant_id, [samples.start("t")]))
        await blocked_by(connection)
        gone = asyncio.create_task(committer.submit(tenant_id, [samples.checked(key="gone")]))
        stays = asyncio.create_task(committer.submit(tenant_id, [samples.checked(key="stays")]))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
    await asyncio.gather(first, stays)
    assert await stored_keys(database, tenant_id) == ["t/start", "stays"]


async def test_a_caller_that_goes_while_it_is_committed_finds_its_event_reused(
    make: Make, connection: Connection, database: Database, tenant_id: TenantId
) -> None:
    committer = make()
    async with held_up(connection, tenant_id):
        gone = asyncio.create_task(committer.submit(tenant_id, [samples.start("t")]))
        await blocked_by(connection)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
    await committer.drain()
    assert await stored_keys(database, tenant_id) == ["t/start"]
    assert one(await committer.submit(tenant_id, [samples.start("t")])).reused


async def test_a_database_that_fails_in_the_middle_is_said_and_the_retry_is_exact(
    make: Make, connection: Connection, database: Database, tenant_id: TenantId
) -> None:
    committer = make()
    batch = [samples.start("t"), *(samples.checked(key=f"k{n}") for n in range(1, 5))]
    for _ in range(3):
        async with held_up(connection, tenant_id):
            alone = asyncio.create_task(committer.submit(tenant_id, [batch[0]]))
            together = asyncio.create_task(committer.submit(tenant_id, batch))
            await connection.execute("SELECT pg_terminate_backend($1)", await blocked_by(connection))
            for task in (alone, together):
                with pytest.raises(errors.StorageUnavailable):
                    await task
        assert await stored_keys(database, tenant_id) == []
    assert not one(await committer.submit(tenant_id, batch)).reused
    assert one(await committer.submit(tenant_id, batch)).reused
    assert await stored_keys(database, tenant_id) == ["t/start", "k1", "k2", "k3", "k4"]


async def test_connections_that_break_under_load_lose_and_double_nothing(
    make: Make, connection: Connection, database: Database, tenant_id: TenantId
) -> None:
    committer = make(batch_events=5)
    await committer.submit(tenant_id, [samples.start("t")])
    acknowledged: dict[str, int] = {}
    interrupted: set[str] = set()

    async def write(writer: int) -> None:
        for n in itertools.count():
            key = f"{writer}/{n}"
            while key not in acknowledged:
                try:
                    placed = one(await committer.submit(tenant_id, [samples.checked(key=key)]))
                    acknowledged[key] = placed.stored.log_seq
                except errors.StorageUnavailable:
                    interrupted.add(key)
            if len(interrupted) >= 20 and n >= 10:
                return

    async def interrupt() -> None:
        while True:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'decisiongraph' "
                "AND query LIKE '%append_events%' AND pid <> pg_backend_pid()"
            )
            await asyncio.sleep(0.005)

    interrupting = asyncio.create_task(interrupt())
    async with asyncio.timeout(20):
        await asyncio.gather(*(write(writer) for writer in range(10)))
    interrupting.cancel()
    keys = await stored_keys(database, tenant_id)
    assert {key: keys.index(key) + 1 for key in acknowledged} == acknowledged
    assert sorted(keys) == sorted(["t/start", *acknowledged])


async def test_a_tenant_that_does_not_exist_fails_its_own_callers_only(make: Make, tenant_id: TenantId) -> None:
    committer = make()
    nobody = committer.enqueue(TenantId("nobody"), [samples.start("t")])
    somebody = committer.enqueue(tenant_id, [samples.start("t")])
    with pytest.raises(errors.NotFound):
        await nobody
    assert one(await somebody).stored.log_seq == 1


async def test_a_flooding_tenant_delays_a_quiet_one_by_no_more_than_two_batches(
    make: Make, database: Database, tenant_id: TenantId
) -> None:
    committer = make(parallel_commits=1, batch_events=50)
    quiet = TenantId(f"{tenant_id}-quiet")
    await tenancy.create_tenant(database, quiet, clock=server.clock_micros)
    flood = [committer.enqueue(tenant_id, [samples.start(f"t{n}")]) for n in range(3_000)]
    await flood[0]
    delays = []
    for n in range(10):
        before = sum(answer.done() for answer in flood) // 50
        placed = one(await committer.submit(quiet, [samples.start(f"q{n}")]))
        # The clock gives each batch the next number; those of the quiet tenant itself are taken off.
        delays.append(placed.stored.recorded_at_micros - n - 1 - before)
    assert not flood[-1].done(), "the flood was over before the test was"
    assert max(delays) <= 2
    await asyncio.gather(*flood)
