"""Many callers at once, in one process and in two: every answer is that of some order in which they came one by one."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from typing import TypeAlias

import pytest
from tests import samples

from decisiongraph_service.domain.append_batch import BatchPlan, LogView, Placed, Refusal, TraceTail
from decisiongraph_service.domain.events import CheckedEvent, StoredEvent
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.ingestion import group_commit
from decisiongraph_service.ingestion.group_commit import GroupCommitter
from decisiongraph_service.queries import log_audit
from decisiongraph_service.runtime import server
from decisiongraph_service.storage import event_log
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database

Result: TypeAlias = list[Placed] | Refusal


@pytest.fixture
async def committers(database_url: str) -> AsyncIterator[list[GroupCommitter]]:
    """Two, each with connections of its own, as in two processes."""
    databases = [await Database.open(database_url, pool_size=4) for _ in range(2)]
    signal = CommitSignal(database_url)
    yield [GroupCommitter(each, signal, clock=server.clock_micros, parallel_commits=2) for each in databases]
    for each in databases:
        await each.close()


@pytest.fixture
def committer(committers: list[GroupCommitter]) -> GroupCommitter:
    return committers[0]


async def read_log(database: Database, tenant_id: TenantId) -> list[StoredEvent]:
    """The whole log, after it was found whole."""
    assert await log_audit.check_log(database, tenant_id) == []
    async with database.tenant_snapshot(tenant_id) as snapshot:
        log = await event_log.fetch_events_after(snapshot, 0, limit=100_000)
    assert [event.log_seq for event in log] == list(range(1, len(log) + 1))
    return log


def tally(results: Iterable[Result]) -> Counter[str]:
    """How many submissions of one event were stored, reused, or refused for which reason."""
    names: Counter[str] = Counter()
    for result in results:
        if isinstance(result, Refusal):
            names[result.error.reason] += 1
        else:
            names["reused" if result[0].reused else "stored"] += 1
    return names


def placed(result: Result) -> list[Placed]:
    assert not isinstance(result, Refusal), result
    return result


async def on_both(
    committers: Sequence[GroupCommitter], tenant_id: TenantId, submissions: Iterable[Sequence[CheckedEvent]]
) -> list[Result]:
    """Submit all at once, taking turns between the two."""
    waiting: list[Awaitable[Result]] = [
        committers[index % 2].submit(tenant_id, submission) for index, submission in enumerate(submissions)
    ]
    return list(await asyncio.gather(*waiting))


def expect_serial(
    log: Sequence[StoredEvent], submissions: Sequence[Sequence[CheckedEvent]], results: list[Result]
) -> None:
    """Each answer is that of an append to the log as it stood at some moment, and each event was once new."""
    views = [view_of(log[:length]) for length in range(len(log) + 1)]
    for submission, result in zip(submissions, results, strict=True):
        new = [] if isinstance(result, Refusal) else [one.stored.log_seq for one in result if not one.reused]
        moments = views if not new else [views[new[0] - 1]]
        assert any(told(place(submission, view)) == told(result) for view in moments), (submission, result)
    new = [one.stored.log_seq for result in results if isinstance(result, list) for one in result if not one.reused]
    assert sorted(new) == list(range(1, len(log) + 1))


def place(submission: Sequence[CheckedEvent], view: LogView) -> Result:
    """What unit tests compare with a plain model of the rules."""
    return BatchPlan("", view, recorded_at_micros=0).place(submission)


def told(result: Result) -> object:
    """What the caller learns: where each event is, or which one was refused, and why."""
    if isinstance(result, Refusal):
        return (result.index, result.error.reason, result.error.metadata)
    return [(p.stored.trace_id, p.stored.trace_seq, p.stored.log_seq, p.stored.tags, p.reused) for p in result]


def view_of(log: Sequence[StoredEvent]) -> LogView:
    return LogView(
        head=len(log),
        stored_by_key={(old.source.producer_id, old.idempotency_key): old for old in log},
        traces={old.trace_id: TraceTail(old.trace_seq + 1, finished=old.event_type == "TraceFinished") for old in log},
        taken_event_ids=frozenset(old.event_id for old in log),
    )


async def test_of_64_writers_that_race_for_a_position_one_wins(
    committer: GroupCommitter, database: Database, tenant_id: TenantId
) -> None:
    await committer.submit(tenant_id, [samples.start("t")])
    for position in range(1, 6):
        results = await asyncio.gather(
            *(
                committer.submit(tenant_id, [samples.checked(key=f"{position}/{w}", trace_seq=position)])
                for w in range(64)
            )
        )
        assert tally(results) == {"stored": 1, "EVENT_SEQUENCE_INVALID": 63}
        expected = {r.error.metadata["expected_trace_seq"] for r in results if isinstance(r, Refusal)}
        assert expected == {str(position + 1)}
    assert [event.trace_seq for event in await read_log(database, tenant_id)] == list(range(6))


async def test_64_writers_on_one_trace_without_positions_are_all_stored_in_their_own_order(
    committer: GroupCommitter, database: Database, tenant_id: TenantId
) -> None:
    await committer.submit(tenant_id, [samples.start("t")])

    async def write(writer: int) -> list[int]:
        return [
            placed(await committer.submit(tenant_id, [samples.checked(key=f"{writer}/{n}")]))[0].stored.trace_seq
            for n in range(8)
        ]

    positions = await asyncio.gather(*(write(writer) for writer in range(64)))
    assert all(own == sorted(own) for own in positions)
    assert sorted(p for own in positions for p in own) == list(range(1, 64 * 8 + 1))
    assert len(await read_log(database, tenant_id)) == 64 * 8 + 1


async def test_64_writers_on_traces_of_their_own_do_not_disturb_each_other(
    committers: list[GroupCommitter], database: Database, tenant_id: TenantId
) -> None:
    async def write(writer: int) -> None:
        trace_id = f"t{writer}"
        await committers[writer % 2].submit(tenant_id, [samples.start(trace_id)])
        for position in range(1, 8):
            event = samples.checked(key=f"{writer}/{position}", trace_id=trace_id, trace_seq=position)
            result = placed(await committers[writer % 2].submit(tenant_id, [event]))
            assert result[0].stored.trace_seq == position

    await asyncio.gather(*(write(writer) for writer in range(64)))
    log = await read_log(database, tenant_id)
    assert Counter(event.trace_id for event in log) == {f"t{writer}": 8 for writer in range(64)}


async def test_of_many_callers_with_one_key_one_is_stored_and_the_others_reuse_it(
    committers: list[GroupCommitter], database: Database, tenant_id: TenantId
) -> None:
    for number in range(10):
        results = await on_both(committers, tenant_id, [[samples.start(f"t{number}")]] * 40)
        assert tally(results) == {"stored": 1, "reused": 39}
        assert len({placed(result)[0].stored for result in results}) == 1
    assert len(await read_log(database, tenant_id)) == 10


async def test_of_two_different_events_with_one_key_the_second_is_a_conflict(
    committers: list[GroupCommitter], database: Database, tenant_id: TenantId
) -> None:
    for number in range(10):
        submissions = [
            [samples.checked("TraceStarted", key=f"k{number}", trace_id=f"t{number}", tags=(f"v{n % 2}",))]
            for n in range(20)
        ]
        results = await on_both(committers, tenant_id, submissions)
        assert tally(results) == {"stored": 1, "reused": 9, "IDEMPOTENCY_CONFLICT": 10}
    assert len(await read_log(database, tenant_id)) == 10


async def test_two_processes_that_race_for_an_event_id_store_one(
    committers: list[GroupCommitter], database: Database, tenant_id: TenantId
) -> None:
    for number in range(20):
        submissions = [
            [samples.checked("TraceStarted", key=f"{number}/{n}", trace_id=f"{number}/{n}", event_id=f"e{number}")]
            for n in range(4)
        ]
        results = await on_both(committers, tenant_id, submissions)
        assert tally(results) == {"stored": 1, "EVENT_ID_CONFLICT": 3}
    assert len(await read_log(database, tenant_id)) == 20


async def test_two_processes_that_race_for_a_position_store_one(
    committers: list[GroupCommitter], database: Database, tenant_id: TenantId
) -> None:
    await committers[0].submit(tenant_id, [samples.start("t")])
    for position in range(1, 21):
        submissions = [[samples.checked(key=f"{position}/{n}", trace_seq=position)] for n in range(4)]
        results = await on_both(committers, tenant_id, submissions)
        assert tally(results) == {"stored": 1, "EVENT_SEQUENCE_INVALID": 3}
    assert len(await read_log(database, tenant_id)) == 21


async def test_nothing_slips_in_behind_a_finish_of_another_process(
    committers: list[GroupCommitter], database: Database, tenant_id: TenantId
) -> None:
    for number in range(20):
        trace_id = f"t{number}"
        await committers[0].submit(tenant_id, [samples.start(trace_id)])
        finishes = [[samples.checked("TraceFinished", key=f"{trace_id}/f{n}", trace_id=trace_id)] for n in range(2)]
        late = [[samples.checked(key=f"{trace_id}/{n}", trace_id=trace_id)] for n in range(6)]
        results = await on_both(committers, tenant_id, [*late[:3], *finishes, *late[3:]])
        log = await read_log(database, tenant_id)
        trace = [event.event_type for event in log if event.trace_id == trace_id]
        assert trace[-1] == "TraceFinished"
        assert trace.count("TraceFinished") == 1
        assert tally(results) == {"stored": len(trace) - 1, "TRACE_FINISHED": 9 - len(trace)}


@pytest.mark.parametrize("seed", range(4))
async def test_a_wild_mixture_from_two_processes_equals_some_serial_order(
    committers: list[GroupCommitter], database: Database, tenant_id: TenantId, seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311 - reproducible

    def wild() -> CheckedEvent:
        kind = dice.choice(["TraceStarted", *["PrecedentCited"] * 6, "TraceFinished"])
        return samples.checked(
            kind,
            key=f"k{dice.randrange(60)}",
            trace_id=f"t{dice.randrange(6)}",
            trace_seq=dice.choice([None, None, dice.randrange(8)]),
            event_id=dice.choice([None, None, f"e{dice.randrange(20)}"]),
            tags=dice.choice([("a",), ("b",)]),
        )

    submissions = [[wild() for _ in range(dice.choice([1, 1, 1, 2, 4]))] for _ in range(300)]
    starts = [[samples.start(f"t{n}")] for n in range(6)]
    results: list[Result] = await on_both(committers, tenant_id, starts)
    for begin in range(0, len(submissions), 50):
        results += await on_both(committers, tenant_id, submissions[begin : begin + 50])
    log = await read_log(database, tenant_id)
    expect_serial(log, [*starts, *submissions], results)
    assert len(log) > 20


async def test_the_refusal_of_one_caller_does_not_touch_its_neighbours(
    committer: GroupCommitter, database: Database, tenant_id: TenantId
) -> None:
    await committer.submit(tenant_id, [samples.start("t")])
    good = [[samples.checked(key=f"good{n}")] for n in range(20)]
    bad = [[samples.checked(key=f"bad{n}", trace_seq=900)] for n in range(20)]
    results = await asyncio.gather(
        *(committer.submit(tenant_id, one) for pair in zip(good, bad, strict=True) for one in pair)
    )
    assert tally(results[0::2]) == {"stored": 20}
    assert tally(results[1::2]) == {"EVENT_SEQUENCE_INVALID": 20}
    log = await read_log(database, tenant_id)
    assert [event.idempotency_key for event in log] == ["t/start", *(f"good{n}" for n in range(20))]


async def test_batches_that_race_for_one_event_are_stored_whole_or_not_at_all(
    committers: list[GroupCommitter], database: Database, tenant_id: TenantId
) -> None:
    def batch(number: int, caller: int) -> list[CheckedEvent]:
        trace_id = f"t{number}/{caller}"
        return [
            samples.start(trace_id),
            samples.checked(key=f"{trace_id}/1", trace_id=trace_id),
            samples.checked(key=f"{trace_id}/2", trace_id=trace_id, event_id=f"wanted{number}"),
            samples.checked("TraceFinished", key=f"{trace_id}/3", trace_id=trace_id),
        ]

    for number in range(10):
        results = await on_both(committers, tenant_id, [batch(number, caller) for caller in range(8)])
        refusals = [result for result in results if isinstance(result, Refusal)]
        assert [(r.index, r.error.reason) for r in refusals] == [(2, "EVENT_ID_CONFLICT")] * 7
    lengths = Counter(event.trace_id for event in await read_log(database, tenant_id))
    assert sorted(lengths.values()) == [4] * 10


async def test_callers_that_were_answered_together_are_committed_together_again(
    database: Database, database_url: str, tenant_id: TenantId
) -> None:
    commits = 0

    def clock() -> int:
        """Read once for each commit."""
        nonlocal commits
        commits += 1
        return server.clock_micros()

    committer = GroupCommitter(database, CommitSignal(database_url), clock=clock, parallel_commits=2)

    async def call(caller: int) -> None:
        for n in range(10):
            await committer.submit(tenant_id, [samples.start(f"{caller}/{n}")])
            await asyncio.sleep(0.0002 * caller)  # they come back one after the other

    await asyncio.gather(*(call(caller) for caller in range(16)))
    assert len(await read_log(database, tenant_id)) == 160
    assert commits < 30, f"160 appends of 16 callers took {commits} commits"


async def test_a_single_caller_never_waits_for_others(
    committer: GroupCommitter, tenant_id: TenantId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "_GATHER_STEP_SECONDS", 60)
    async with asyncio.timeout(30):
        for n in range(5):
            await committer.submit(tenant_id, [samples.start(f"alone/{n}")])
