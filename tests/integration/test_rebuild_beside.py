"""Rebuilding beside the live rows: readers notice nothing, damaged rows are found and repaired, damaged events named.

Rows and events are damaged by the owner of the database; no server could.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest
from tests.logs import Connection
from tests.replaying import ACT, Projections, tenant_with, trace, until_removed

from decisiongraph_service.domain import vocabulary
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries.freshness import Freshness, FreshnessWait
from decisiongraph_service.queries.paging import PageTokens
from decisiongraph_service.queries.traces import TraceQueries
from decisiongraph_service.storage import context_graph, projection_failures, projection_state, trace_summary
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database
from decisiongraph_service.storage.projection_failures import ProjectionFailure

TABLES = ("graph_nodes", "graph_edges", "trace_summaries", "policy_evaluations", "precedents")
LENGTH = 4
"""Events of a trace: the first three emit an edge each."""


@pytest.fixture
async def owner(own_database_url: str) -> AsyncIterator[Connection]:
    opened = await asyncpg.connect(own_database_url)
    yield opened
    # A job that a failed test leaves behind must not occupy the runners of the next one.
    await opened.execute("UPDATE replay_jobs SET status = 'cancelled' WHERE status IN ('queued', 'running')")
    await opened.close()


@pytest.fixture
async def projections(own_database: Database, own_database_url: str, owner: Connection) -> AsyncIterator[Projections]:
    made = Projections(own_database, CommitSignal(own_database_url), batch_events=5)
    yield made
    await made.stop()


async def all_rows(owner: Connection, tenant_id: TenantId) -> list[str]:
    """Every column of every row in the five tables but the generation, whichever it is of."""
    found: list[str] = []
    for table in TABLES:
        statement = f"SELECT '{table} ' || (to_jsonb(t) - 'generation')::text FROM {table} AS t WHERE tenant_id = $1"  # noqa: S608
        found += [row[0] for row in await owner.fetch(statement, tenant_id)]
    return sorted(found)


async def generations(owner: Connection, tenant_id: TenantId) -> set[tuple[str, int, str, int]]:
    rows = await owner.fetch(
        "SELECT projection, generation, state, log_seq FROM projection_generations WHERE tenant_id = $1", tenant_id
    )
    return {(row["projection"], row["generation"], row["state"], row["log_seq"]) for row in rows}


async def failures(database: Database, tenant_id: TenantId, *, resolved: bool = False) -> list[ProjectionFailure]:
    async with database.tenant_statements(tenant_id) as statements:
        return await projection_failures.fetch_newest(
            statements, projection="", include_resolved=resolved, before=(2**63 - 1, ""), limit=100
        )


async def positions(database: Database, tenant_id: TenantId) -> set[int]:
    async with database.tenant_statements(tenant_id) as statements:
        return {live.log_seq for live in await projection_state.fetch_live(statements)}


async def until_at(database: Database, tenant_id: TenantId, log_seq: int) -> None:
    async with asyncio.timeout(15):
        while await positions(database, tenant_id) != {log_seq}:  # noqa: ASYNC110 - the projector is another task
            await asyncio.sleep(0.02)


class Beside:
    """A writer and readers of one tenant, at work until they are told to stop."""

    def __init__(self, projections: Projections, tenant_id: TenantId, written: int) -> None:
        self.written = written
        """Traces that are acknowledged."""
        self.reads = 0
        self.stop = asyncio.Event()
        self._projections = projections
        self._database = projections.database
        self._tenant_id = tenant_id
        wait = FreshnessWait(projections.database, projections.signal, wait_seconds=2)
        self._queries = TraceQueries(projections.database, PageTokens(b"k" * 32), wait)

    async def write(self) -> None:
        while not self.stop.is_set():
            await self._projections.append(self._tenant_id, trace(self.written))
            self.written += 1
            await asyncio.sleep(0.01)

    async def read_traces(self, choose: Callable[[], int]) -> None:
        """Get a trace again and again: it is whole, and no answer is older than the one before it."""
        last = 0
        while not self.stop.is_set():
            number = choose()
            found = await self._queries.get_trace(
                self._tenant_id, f"t{number}", as_of_log_seq=None, freshness_wanted=Freshness()
            )
            assert (found.summary.outcome, found.summary.last_log_seq) == ("success", LENGTH * (number + 1))
            assert [event.event_id for event in found.timeline.events] == [f"t{number}-{n}" for n in range(LENGTH)]
            assert found.position.log_seq >= last, "the position went back"
            last = found.position.log_seq
            self.reads += 1

    async def read_rows(self) -> None:
        """Read all rows in a snapshot: they are those of the position, no fewer and no more."""
        last = 0
        while not self.stop.is_set():
            async with self._database.tenant_snapshot(self._tenant_id) as snapshot:
                live = {one.projection: one for one in await projection_state.fetch_live(snapshot)}
                graph, summaries = live[vocabulary.CONTEXT_GRAPH], live[vocabulary.TRACE_SUMMARY]
                edges = [edge.log_seq async for edge, _ in context_graph.iterate_edges(snapshot, graph.generation)]
                nodes = {node.node_id async for node, _ in context_graph.iterate_nodes(snapshot, graph.generation)}
                traces = {row.trace_id async for row in trace_summary.iterate(snapshot, summaries.generation)}
            assert sorted(edges) == [n for n in range(1, graph.log_seq + 1) if n % LENGTH]
            assert {node for node in nodes if node.startswith("trace:t")} == {
                f"trace:t{n}" for n in range(-(-graph.log_seq // LENGTH))
            }
            assert traces == {f"t{n}" for n in range(-(-summaries.log_seq // LENGTH))}
            assert graph.log_seq >= last, "the position went back"
            last = graph.log_seq
            self.reads += 1


async def test_rebuilds_under_appends_are_invisible(projections: Projections, owner: Connection) -> None:
    projections.batch_events = 50
    tenant_id = await tenant_with(projections, 30)
    projections.signal.start()
    projector = projections.projector()
    projector.start()
    projections.start_runner()
    beside = Beside(projections, tenant_id, 30)
    try:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(beside.write())
            group.create_task(beside.read_traces(lambda: 0))
            group.create_task(beside.read_traces(lambda: beside.written - 1))
            group.create_task(beside.read_rows())
            for number in range(20):
                reads, written = beside.reads, beside.written
                job = await projections.run_job(tenant_id, "rebuild")
                assert (job.status, job.error_message) == ("completed", None), f"rebuild {number}"
                assert (beside.reads > reads, beside.written > written) == (True, True), "nothing went on beside it"
            beside.stop.set()
        await until_at(projections.database, tenant_id, LENGTH * beside.written)
    finally:
        await projector.stop()
        await projections.signal.stop()
    seen = await projections.digests(tenant_id)
    assert (await projections.run_job(tenant_id, "rebuild")).status == "completed"
    assert await projections.digests(tenant_id) == seen
    assert seen == await projections.digests(await tenant_with(projections, beside.written))
    await until_removed(owner, tenant_id)
    assert len(await all_rows(owner, tenant_id)) == 4 + beside.written * (1 + 3 + 1 + 1 + 1)


DAMAGED_ROWS = {
    "an edge leads elsewhere": (
        "UPDATE graph_edges SET from_node_id = 'trace:x' WHERE tenant_id = $1 AND log_seq = 6",
        ("context_graph", "trace_evaluated_policy:trace:t1:policy:p:1:t1-1"),
    ),
    "an edge is found from elsewhere": (
        "UPDATE graph_edges SET from_node_key = '\\x00' WHERE tenant_id = $1 AND log_seq = 6",
        ("context_graph", "trace_evaluated_policy:trace:t1:policy:p:1:t1-1"),
    ),
    "a node is gone": (
        "DELETE FROM graph_nodes WHERE tenant_id = $1 AND node_id = 'policy:p:1'",
        ("context_graph", "policy:p:1"),
    ),
    "a node is too much": (
        """
        INSERT INTO graph_nodes SELECT $1, generation, '\\x00', 'actor:0', 't0', 1, '' FROM graph_nodes
        WHERE tenant_id = $1 AND node_id = 'policy:p:1'
        """,
        ("context_graph", "actor:0"),
    ),
    "an outcome is another": (
        "UPDATE trace_summaries SET outcome = 'failure' WHERE tenant_id = $1 AND trace_id = 't1'",
        ("trace_summary", "t1"),
    ),
    "a system, outside the digest": (
        "UPDATE trace_summaries SET primary_entity_system = 'x' WHERE tenant_id = $1 AND trace_id = 't2'",
        ("trace_summary", "t2"),
    ),
    "a precedent is another": (
        "UPDATE precedents SET policy_version = '2' WHERE tenant_id = $1 AND trace_id IN ('t1', 't2')",
        ("precedent_index", "t1-1"),
    ),
    "a policy evaluation, outside the digest": (
        "UPDATE policy_evaluations SET policy_version = '2' WHERE tenant_id = $1 AND log_seq = 10",
        ("precedent_index", "10"),
    ),
    "a policy evaluation is gone": (
        "DELETE FROM policy_evaluations WHERE tenant_id = $1 AND log_seq = 6",
        ("precedent_index", "6"),
    ),
}


@pytest.mark.parametrize(("damage", "found"), DAMAGED_ROWS.values(), ids=DAMAGED_ROWS)
async def test_a_damaged_row_is_found_by_verify_and_repaired_by_rebuild(
    projections: Projections, owner: Connection, damage: str, found: tuple[str, str]
) -> None:
    tenant_id = await tenant_with(projections, 3)
    sound, digests = await all_rows(owner, tenant_id), await projections.digests(tenant_id)
    await owner.execute(damage, tenant_id)
    damaged, states = await all_rows(owner, tenant_id), await generations(owner, tenant_id)
    assert damaged != sound
    damaged_digests = await projections.digests(tenant_id)
    combined, _ = digests.pop("full_projection"), damaged_digests.pop("full_projection")
    projections.start_runner()
    job = await projections.run_job(tenant_id, "verify")
    assert job.status == "completed"
    assert [(r.projection, r.first_difference) for r in job.verify_results if not r.matches] == [found]
    assert {r.projection: r.live_digest for r in job.verify_results} == damaged_digests
    assert {r.projection: r.expected_digest for r in job.verify_results} == digests
    await until_removed(owner, tenant_id)
    assert (await all_rows(owner, tenant_id), await generations(owner, tenant_id)) == (damaged, states)
    assert (await projections.run_job(tenant_id, "rebuild", found[0])).status == "completed"
    await until_removed(owner, tenant_id)
    assert await all_rows(owner, tenant_id) == sound
    assert await projections.digests(tenant_id) == {**digests, "full_projection": combined}
    again = await projections.run_job(tenant_id, "verify")
    assert [(r.matches, r.first_difference) for r in again.verify_results] == [(True, None)] * 3


DAMAGED_EVENTS = {
    "payload": (
        "UPDATE events SET payload = '{}' WHERE tenant_id = $1 AND log_seq = 6",
        ("conflict", "event 't1-1' at log position 6"),
    ),
    "shape": (
        """
        UPDATE events SET payload = '{}', payload_hash = 'sha256:' || encode(sha256('{}'), 'hex')
        WHERE tenant_id = $1 AND log_seq = 5
        """,
        ("conflict", "event 't1-0' at log position 5"),
    ),
    "gap": (
        "DELETE FROM events WHERE tenant_id = $1 AND log_seq = 6",
        ("event_sequence_invalid", "event 't1-2' at log position 7"),
    ),
    "gap at the begin": (
        "DELETE FROM events WHERE tenant_id = $1 AND log_seq = 1",
        ("event_sequence_invalid", "event 't0-1' at log position 2"),
    ),
}


@pytest.mark.parametrize("mode", ["rebuild", "verify"])
@pytest.mark.parametrize(("damage", "told"), DAMAGED_EVENTS.values(), ids=DAMAGED_EVENTS)
async def test_a_damaged_event_makes_a_job_fail_that_names_it(
    projections: Projections, owner: Connection, mode: str, damage: str, told: tuple[str, str]
) -> None:
    tenant_id = await tenant_with(projections, 3)
    rows, states = await all_rows(owner, tenant_id), await generations(owner, tenant_id)
    await owner.execute(damage, tenant_id)
    projections.start_runner()
    async with asyncio.timeout(4):
        job = await projections.run_job(tenant_id, mode)
    assert (job.status, job.error_code) == ("failed", told[0])
    assert told[1] in (job.error_message or "")
    await until_removed(owner, tenant_id)
    assert (await all_rows(owner, tenant_id), await generations(owner, tenant_id)) == (rows, states)


async def test_a_log_that_lost_its_last_event_is_not_taken_for_a_shorter_one(
    projections: Projections, owner: Connection
) -> None:
    tenant_id = await tenant_with(projections, 3)
    rows = await all_rows(owner, tenant_id)
    await owner.execute("DELETE FROM events WHERE tenant_id = $1 AND log_seq = 12", tenant_id)
    projections.start_runner()
    found = await projections.run_job(tenant_id, "verify")
    assert (found.status, [result.matches for result in found.verify_results]) != ("completed", [True] * 3)
    async with asyncio.timeout(4):
        job = await projections.run_job(tenant_id, "rebuild")
    assert (job.status, job.error_code) == ("failed", "event_sequence_invalid")
    await until_removed(owner, tenant_id)
    assert await all_rows(owner, tenant_id) == rows


async def break_and_keep(owner: Connection, tenant_id: TenantId, damage: str) -> None:
    """Damage an event, with a copy of the log at hand to restore it from."""
    await owner.execute("CREATE TEMPORARY TABLE kept (LIKE events)")
    await owner.execute("INSERT INTO kept SELECT * FROM events WHERE tenant_id = $1", tenant_id)
    await owner.execute(damage, tenant_id)


async def restore(owner: Connection, tenant_id: TenantId) -> None:
    async with owner.transaction():
        await owner.execute("DELETE FROM events WHERE tenant_id = $1", tenant_id)
        await owner.execute("INSERT INTO events SELECT * FROM kept")


@pytest.mark.parametrize("damage", ["payload", "gap", "shape"])
async def test_a_damaged_event_stops_its_tenant_until_it_is_restored_and_a_retry_is_asked_for(
    projections: Projections, owner: Connection, damage: str
) -> None:
    database, replays = projections.database, projections.replays()
    sound, broken = await tenant_with(projections, 1), await tenant_with(projections, 1)
    await projections.append(broken, [*trace(1), *trace(2)])
    statement, (category, event) = DAMAGED_EVENTS[damage]
    await break_and_keep(owner, broken, statement)
    projector = projections.projector()
    projector.start()
    try:
        await projections.append(sound, trace(1))
        await until_at(database, sound, 8)
        for retries in range(3):
            async with asyncio.timeout(10):
                while [one.retry_count for one in await failures(database, broken)] != [retries] * 3:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            found = await failures(database, broken)
            assert {one.projection for one in found} == set(vocabulary.PROJECTIONS)
            assert {(one.category, one.recoverable) for one in found} == {(category, False)}
            assert all(event in one.message and repr(one.event_id) in event for one in found)
            assert all(event.endswith(f" {one.log_seq}") for one in found)
            if retries == 2:
                await restore(owner, broken)
            for projection in vocabulary.PROJECTIONS:
                await replays.retry(broken, projection, ACT)
        await until_at(database, broken, 12)
    finally:
        await projector.stop()
    assert await failures(database, broken) == []
    resolved = await failures(database, broken, resolved=True)
    assert [(one.retry_count, one.resolved_at_micros is None) for one in resolved] == [(2, False)] * 3
    assert await projections.digests(broken) == await projections.digests(await tenant_with(projections, 3))


async def test_a_rebuild_past_a_restored_event_resolves_its_failure(
    projections: Projections, owner: Connection
) -> None:
    tenant_id = await tenant_with(projections, 1)
    await projections.append(tenant_id, [*trace(1), *trace(2)])
    await break_and_keep(owner, tenant_id, DAMAGED_EVENTS["payload"][0])
    await projections.projector().catch_up(tenant_id)
    assert len(await failures(projections.database, tenant_id)) == 3
    await restore(owner, tenant_id)
    projections.start_runner()
    assert (await projections.run_job(tenant_id, "rebuild")).status == "completed"
    assert await failures(projections.database, tenant_id) == []
    await projections.append(tenant_id, trace(3))
    await projections.projector().catch_up(tenant_id)
    assert await positions(projections.database, tenant_id) == {16}, "it still waits for a retry"
