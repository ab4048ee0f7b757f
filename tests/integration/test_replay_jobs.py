"""Replay jobs: one per projection at a time, given up without a trace, and gone on with after any interruption.

Runners are killed between two steps by an exception that nothing in the service catches.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from tests.logs import Connection
from tests.replaying import ACT, POWERS, Projections, tenant_with, trace, until_removed

from decisiongraph_service.domain import errors, vocabulary
from decisiongraph_service.domain.replay import ReplayJob
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.projection import passes
from decisiongraph_service.projection.rebuild import JobLost, ReplayWork
from decisiongraph_service.projection.replay_runner import _Progress
from decisiongraph_service.runtime import server
from decisiongraph_service.storage import projection_failures, projection_state, replay_jobs
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database

TABLES = ("graph_nodes", "graph_edges", "trace_summaries", "policy_evaluations", "precedents")
EVENTS = 12
"""Of three traces: three batches of four."""


class Killed(BaseException):
    """Stands for the end of the process: no handler for errors catches it."""


@pytest.fixture
async def owner(own_database_url: str) -> AsyncIterator[Connection]:
    opened = await asyncpg.connect(own_database_url)
    yield opened
    # A job that is left behind must not occupy the runners of the next test.
    await opened.execute("UPDATE replay_jobs SET status = 'cancelled' WHERE status IN ('queued', 'running')")
    await opened.close()


@pytest.fixture
async def projections(own_database: Database, own_database_url: str, owner: Connection) -> AsyncIterator[Projections]:
    made = Projections(own_database, CommitSignal(own_database_url), batch_events=4)
    yield made
    await made.stop()


class Gate:
    """Holds a function at its n-th call until it is opened, and notes the second argument of every call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, *, at: int) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        self.seen: list[Any] = []
        self._call: Callable[..., Awaitable[Any]] = getattr(module, name)
        self._at = at
        monkeypatch.setattr(module, name, self._held)

    async def _held(self, *arguments: Any, **named: Any) -> Any:
        self.seen.append(arguments[1])
        if len(self.seen) >= self._at:
            self.reached.set()
            await self.opened.wait()
        return await self._call(*arguments, **named)

    async def until_reached(self) -> None:
        await asyncio.wait_for(self.reached.wait(), 10)


async def get(projections: Projections, tenant_id: TenantId, job: ReplayJob) -> ReplayJob:
    return await projections.replays().get(tenant_id, job.job_id, POWERS)


async def generations(owner: Connection, tenant_id: TenantId) -> dict[tuple[str, int], str]:
    """The state of each generation that is known."""
    query = "SELECT projection, generation, state FROM projection_generations WHERE tenant_id = $1"
    return {(name, generation): state for name, generation, state in await owner.fetch(query, tenant_id)}


async def count_rows(owner: Connection, tenant_id: TenantId) -> dict[tuple[str, int], int]:
    """The rows of every generation, known or not, by table."""
    found: dict[tuple[str, int], int] = {}
    for table in TABLES:
        statement = f"SELECT generation, count(*) FROM {table} WHERE tenant_id = $1 GROUP BY generation"  # noqa: S608
        found |= {(table, generation): count for generation, count in await owner.fetch(statement, tenant_id)}
    return found


async def silence(owner: Connection, job: ReplayJob) -> None:
    """Let the job look as if its runner had said nothing for six seconds."""
    query = "UPDATE replay_jobs SET alive_at = clock_timestamp() - interval '6 seconds' WHERE job_id = $1"
    await owner.execute(query, job.job_id)


async def claimed(projections: Projections, tenant_id: TenantId, mode: str, runner_id: str) -> ReplayWork:
    """A job in the hands of a runner that the test steps."""
    job = await projections.start_job(tenant_id, mode)
    async with projections.database.tenant_statements(tenant_id) as statements:
        ours = await replay_jobs.claim(statements, job.job_id, runner_id, now_micros=server.clock_micros())
    assert ours is not None
    return ReplayWork(projections.database, tenant_id, ours, runner_id, server.clock_micros, _Progress(ours), 4)


@pytest.mark.parametrize("mode", ["rebuild", "catch_up"])
@pytest.mark.parametrize(("projection", "factor"), [("all", 3), ("trace_summary", 1)])
async def test_a_job_is_queued_then_runs_then_is_completed(
    projections: Projections, monkeypatch: pytest.MonkeyPatch, mode: str, projection: str, factor: int
) -> None:
    tenant_id = await tenant_with(projections, 3, projected=False)
    job = await projections.start_job(tenant_id, mode, projection)
    assert (job.status, job.started_at_micros, job.finished_at_micros) == ("queued", None, None)
    gate = Gate(monkeypatch, passes, "write", at=2)
    projections.start_runner()
    await gate.until_reached()
    running = await get(projections, tenant_id, job)
    assert (running.status, running.finished_at_micros) == ("running", None)
    gate.opened.set()
    ended = await projections.ended(tenant_id, job.job_id)
    assert (ended.status, ended.error_code, ended.error_message) == ("completed", None, None)
    assert (ended.last_log_seq, ended.processed_events, ended.total_events) == (EVENTS, *[EVENTS * factor] * 2)
    assert ended.requested_at_micros <= (ended.started_at_micros or 0) <= (ended.finished_at_micros or 0)
    assert ended.started_at_micros == running.started_at_micros


@pytest.mark.parametrize("mode", ["rebuild", "catch_up", "verify"])
async def test_a_job_on_an_empty_log_completes(projections: Projections, mode: str) -> None:
    tenant_id = await tenant_with(projections, 0)
    projections.start_runner()
    job = await projections.run_job(tenant_id, mode)
    assert (job.status, job.processed_events, job.last_log_seq) == ("completed", 0, 0)
    assert [result.matches for result in job.verify_results] == ([True] * 3 if mode == "verify" else [])


@pytest.mark.parametrize(("until", "reached"), [(0, 0), (6, 6), (EVENTS, EVENTS), (99, EVENTS)])
async def test_a_catch_up_stops_where_it_was_told_to(projections: Projections, until: int, reached: int) -> None:
    tenant_id = await tenant_with(projections, 3, projected=False)
    projections.start_runner()
    job = await projections.run_job(tenant_id, "catch_up", until_log_seq=until)
    assert (job.status, job.processed_events, job.last_log_seq) == ("completed", 3 * reached, reached)
    async with projections.database.tenant_statements(tenant_id) as statements:
        assert {live.log_seq for live in await projection_state.fetch_live(statements)} == {reached}


@pytest.mark.parametrize(("first", "second"), [("all", "all"), ("all", "context_graph"), ("precedent_index", "all")])
async def test_a_second_job_for_a_projection_is_refused_until_the_first_has_ended(
    projections: Projections, first: str, second: str
) -> None:
    tenant_id = await tenant_with(projections, 1)
    job = await projections.start_job(tenant_id, "rebuild", first)
    with pytest.raises(errors.ReplayConflict, match=job.job_id) as refused:
        await projections.start_job(tenant_id, "verify", second)
    assert refused.value.job_id == job.job_id
    projections.start_runner()
    await projections.ended(tenant_id, job.job_id)
    assert (await projections.run_job(tenant_id, "verify", second)).status == "completed"


async def test_jobs_for_different_projections_or_tenants_go_beside_each_other(projections: Projections) -> None:
    for tenant_id in [await tenant_with(projections, 1) for _ in range(2)]:
        for projection in vocabulary.PROJECTIONS:
            assert (await projections.start_job(tenant_id, "rebuild", projection)).status == "queued"


@pytest.mark.parametrize("targets", [("all", "all"), ("all", "trace_summary"), ("trace_summary", "trace_summary")])
async def test_of_two_starts_at_the_same_moment_one_wins(projections: Projections, targets: tuple[str, str]) -> None:
    tenant_id = await tenant_with(projections, 1)
    for _ in range(5):
        answers = await asyncio.gather(
            *(projections.start_job(tenant_id, "rebuild", target) for target in targets), return_exceptions=True
        )
        [won] = [answer for answer in answers if isinstance(answer, ReplayJob)]
        [lost] = [answer for answer in answers if isinstance(answer, errors.ReplayConflict)]
        assert lost.job_id == won.job_id
        await projections.replays().cancel(tenant_id, won.job_id, ACT, POWERS)


async def until_waiting(owner: Connection, count: int) -> None:
    """Return when so many connections wait for a lock in this database."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(10):
        # Only the database knows.
        while await owner.fetchval(query) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_what_is_asked_for_at_the_moment_of_a_switch_finds_the_new_rows(
    projections: Projections, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id = await tenant_with(projections, 3)
    gate = Gate(monkeypatch, projection_failures, "resolve", at=len(vocabulary.PROJECTIONS))
    projections.start_runner()
    await projections.start_job(tenant_id, vocabulary.REBUILD)
    await gate.until_reached()  # all are switched, and not committed
    retry = asyncio.create_task(projections.replays().retry(tenant_id, vocabulary.TRACE_SUMMARY, ACT))
    start = asyncio.create_task(projections.start_job(tenant_id, vocabulary.VERIFY))
    await until_waiting(owner, 2)
    gate.opened.set()
    await retry
    # The rebuild has not ended yet, or just has.
    [answer] = await asyncio.gather(start, return_exceptions=True)
    assert isinstance(answer, ReplayJob | errors.ReplayConflict), answer


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("mode", ["rebuild", "verify"])
async def test_a_cancelled_job_leaves_nothing_but_the_live_rows(
    projections: Projections, owner: Connection, monkeypatch: pytest.MonkeyPatch, mode: str, running: bool
) -> None:
    tenant_id = await tenant_with(projections, 3)
    before = await generations(owner, tenant_id), await count_rows(owner, tenant_id)
    digests = await projections.digests(tenant_id)
    job = await projections.start_job(tenant_id, mode)
    gate = Gate(monkeypatch, passes, "write", at=3)
    if running:
        projections.start_runner()
        await gate.until_reached()
        filled = {table for table, generation in await count_rows(owner, tenant_id) if generation > 1}
        assert filled == set(TABLES), "the job has not filled anything that could stay behind"
    cancelled = await projections.replays().cancel(tenant_id, job.job_id, ACT, POWERS)
    assert (cancelled.status, cancelled.finished_at_micros is None) == ("cancelled", False)
    assert "building" not in (await generations(owner, tenant_id)).values()
    gate.opened.set()
    if not running:
        projections.start_runner()
    await until_removed(owner, tenant_id)
    assert (await generations(owner, tenant_id), await count_rows(owner, tenant_id)) == before
    assert await projections.digests(tenant_id) == digests
    assert (await get(projections, tenant_id, job)).status == "cancelled", "the end is final"


async def test_cancelling_what_is_not_active_here_is_not_found(projections: Projections) -> None:
    tenant_id, other = await tenant_with(projections, 1), await tenant_with(projections, 1)
    active = await projections.start_job(other, "rebuild")
    cancelled = await projections.start_job(tenant_id, "rebuild")
    await projections.replays().cancel(tenant_id, cancelled.job_id, ACT, POWERS)
    projections.start_runner()
    completed = await projections.run_job(tenant_id, "rebuild")
    await projections.ended(other, active.job_id)
    waiting = await projections.start_job(other, "catch_up", "trace_summary")
    for job_id in (cancelled.job_id, completed.job_id, waiting.job_id, "job-unknown"):
        with pytest.raises(errors.NotFound):
            await projections.replays().cancel(tenant_id, job_id, ACT, POWERS)
    assert (await get(projections, tenant_id, completed)).status == "completed"
    assert (await projections.ended(other, waiting.job_id)).status == "completed"


async def test_a_job_is_taken_over_from_a_silent_runner_where_it_was(
    projections: Projections, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id = await tenant_with(projections, 3)
    await owner.execute("UPDATE trace_summaries SET title = 'damaged' WHERE tenant_id = $1", tenant_id)
    expected = await projections.digests(await tenant_with(projections, 3))
    dead = await claimed(projections, tenant_id, "rebuild", "dead")
    await dead._apply(await dead._prepare(), await dead._read(0, EVENTS))
    reads = Gate(monkeypatch, passes, "read", at=99)
    await owner.execute("UPDATE replay_jobs SET alive_at = clock_timestamp() WHERE job_id = $1", dead.job.job_id)
    projections.start_runner()
    await asyncio.sleep(0.3)
    assert reads.seen == [], "it was alive a moment ago"
    await silence(owner, dead.job)
    ended = await projections.ended(tenant_id, dead.job.job_id)
    assert (ended.status, ended.processed_events) == ("completed", 3 * EVENTS)
    assert reads.seen[0] == 4, "it did not go on from the committed position"
    assert await projections.digests(tenant_id) == expected
    await until_removed(owner, tenant_id)


@pytest.mark.parametrize("mode", ["rebuild", "catch_up", "verify"])
async def test_a_stopped_runner_leaves_its_job_to_another_one(
    projections: Projections, owner: Connection, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    tenant_id = await tenant_with(projections, 3, projected=mode == "verify")
    job = await projections.start_job(tenant_id, mode)
    gate = Gate(monkeypatch, passes, "write", at=2)
    runner = projections.start_runner()
    await gate.until_reached()
    await runner.stop()
    assert (await get(projections, tenant_id, job)).status == "running"
    assert await owner.fetchval("SELECT runner_id FROM replay_jobs WHERE job_id = $1", job.job_id) is None
    gate.opened.set()
    projections.start_runner()
    async with asyncio.timeout(replay_jobs.RUNNER_LOST_SECONDS - 2):  # at once: nobody has to find the runner silent
        ended = await projections.ended(tenant_id, job.job_id)
    assert (ended.status, ended.last_log_seq) == ("completed", EVENTS)
    assert ended.processed_events == 3 * EVENTS, "what the first runner applied counts as well"
    assert await projections.digests(tenant_id) == await projections.digests(await tenant_with(projections, 3))


async def test_a_verification_whose_projections_were_filled_unequally_is_taken_over(
    projections: Projections, owner: Connection
) -> None:
    tenant_id = await tenant_with(projections, 1)
    dead = await claimed(projections, tenant_id, "verify", "dead")
    targets = await dead._prepare()
    await dead._fill(targets, until_log_seq=4)
    # The live rows move on; the first projection is filled up to where they are, then the process dies.
    await projections.append(tenant_id, trace(1))
    await projections.projector().catch_up(tenant_id)
    await dead._fill([projection_state.Generation(targets[0].projection, targets[0].generation, 4)], until_log_seq=8)
    await projections.append(tenant_id, trace(2))
    await projections.projector().catch_up(tenant_id)
    await silence(owner, dead.job)
    projections.start_runner()
    async with asyncio.timeout(4):
        ended = await projections.ended(tenant_id, dead.job.job_id)
    assert [(result.matches, result.log_seq) for result in ended.verify_results] == [(True, EVENTS)] * 3


@pytest.mark.parametrize("how", ["taken over", "cancelled"])
async def test_a_runner_that_lost_its_job_changes_nothing_any_more(
    projections: Projections, owner: Connection, how: str
) -> None:
    tenant_id = await tenant_with(projections, 3)
    lost = await claimed(projections, tenant_id, "rebuild", "lost")
    targets = await lost._prepare()
    batch = await lost._read(0, EVENTS)
    await lost._apply(targets, batch)
    following = await lost._read(batch.end, EVENTS)
    if how == "taken over":
        await owner.execute("UPDATE replay_jobs SET runner_id = 'other' WHERE job_id = $1", lost.job.job_id)
    else:
        await projections.replays().cancel(tenant_id, lost.job.job_id, ACT, POWERS)
        with pytest.raises(JobLost):
            await lost._apply([projection_state.Generation(t.projection, t.generation, 4) for t in targets], following)
    before = await generations(owner, tenant_id), await count_rows(owner, tenant_id)
    for step in (lost._prepare, lost._switch, lost.rebuild, lost.verify):
        with pytest.raises(JobLost):
            await step()
    async with projections.database.tenant_statements(tenant_id) as statements:
        assert not await replay_jobs.touch(statements, lost.job.job_id, "lost")
        assert not await replay_jobs.finish(statements, lost.job.job_id, "lost", status="failed", now_micros=1)
    assert (await generations(owner, tenant_id), await count_rows(owner, tenant_id)) == before


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int) -> asyncio.Event:
    """Let the process die when it is about to take its `step`-th step. The event is set when it has."""
    died, steps = asyncio.Event(), itertools.count(1)

    def deadly(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def wrapped(*arguments: Any, **named: Any) -> Any:
            if next(steps) == step:
                died.set()
            if died.is_set():
                raise Killed
            return await call(*arguments, **named)

        return wrapped

    steps_of = {passes: ["read", "write"], projection_state: ["begin_building", "switch"], replay_jobs: ["finish"]}
    for module, names in steps_of.items():
        for name in names:
            monkeypatch.setattr(module, name, deadly(getattr(module, name)))
    return died


@pytest.mark.parametrize("mode", ["rebuild", "catch_up", "verify"])
async def test_a_kill_between_any_two_steps_changes_nothing_in_the_result(
    projections: Projections, owner: Connection, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    expected = await projections.digests(await tenant_with(projections, 3))
    tenants = []
    for step in itertools.count(1):
        tenants.append(tenant_id := await tenant_with(projections, 3, projected=mode != "catch_up"))
        if mode == "rebuild":  # the digests tell whether it really was rebuilt
            await owner.execute("UPDATE trace_summaries SET title = 'damaged' WHERE tenant_id = $1", tenant_id)
        job = await projections.start_job(tenant_id, mode)
        with monkeypatch.context() as patch:
            died = kill_at(patch, step)
            runner = projections.start_runner()
            ending = asyncio.create_task(projections.ended(tenant_id, job.job_id))
            dying = asyncio.create_task(died.wait())
            await asyncio.wait([ending, dying], return_when=asyncio.FIRST_COMPLETED)
            while runner._running:  # noqa: ASYNC110 - the job's task has still to see that its work is dead
                await asyncio.sleep(0.005)
            await runner.stop()
            dying.cancel()
        if died.is_set():
            await silence(owner, job)
            runner = projections.start_runner()
        ended = await ending
        await runner.stop()
        assert (ended.status, ended.last_log_seq) == ("completed", EVENTS), f"killed at step {step}"
        assert [result.matches for result in ended.verify_results] == ([True] * 3 if mode == "verify" else [])
        assert await projections.digests(tenant_id) == expected, f"killed at step {step}"
        assert "building" not in (await generations(owner, tenant_id)).values(), f"killed at step {step}"
        if not died.is_set():
            break
    assert len(tenants) > 10, "the job has fewer steps than it must have"
    projections.start_runner()
    for tenant_id in tenants:
        await until_removed(owner, tenant_id)
        assert len({generation for _, generation in await count_rows(owner, tenant_id)}) == 1
