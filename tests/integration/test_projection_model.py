"""Random logs: the rows and digests of every projection are those of a plain model, followed, rebuilt and verified."""

import itertools
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.log_models import LOGS, Model, Rows, Sent, checked
from tests.replaying import Projections

from decisiongraph_service.domain import vocabulary
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import context_graph, precedent_index, projection_state, trace_summary
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database


@pytest.fixture
async def projections(own_database: Database, own_database_url: str) -> AsyncIterator[Projections]:
    made = Projections(own_database, CommitSignal(own_database_url))
    yield made
    await made.stop()


async def live_rows(database: Database, tenant_id: TenantId) -> Rows:
    async with database.tenant_snapshot(tenant_id) as snapshot:
        live = {one.projection: one.generation for one in await projection_state.fetch_live(snapshot)}
        graph, summary, precedent = (live[name] for name in ("context_graph", "trace_summary", "precedent_index"))
        edges = [
            {**row._asdict(), "edge_id": row.edge_id, "attrs": {}}
            async for row, _ in context_graph.iterate_edges(snapshot, graph)
        ]
        nodes = [
            {**row._asdict(), "node_type": row.node_type, "attrs": {}}
            async for row, _ in context_graph.iterate_nodes(snapshot, graph)
        ]
        summaries = [
            {name: getattr(row, name) for name in row.__slots__}
            async for row in trace_summary.iterate(snapshot, summary)
        ]
        precedents = [row._asdict() async for row, _ in precedent_index.iterate_precedents(snapshot, precedent)]
        evaluations = [
            {**row._asdict(), "index_id": row.index_id}
            async for row in precedent_index.iterate_evaluations(snapshot, precedent)
        ]
    for row in itertools.chain(edges, evaluations):
        del row["event_id"]
    names = ("edges", "nodes", "summaries", "precedents", "evaluations")
    return dict(zip(names, (edges, nodes, summaries, precedents, evaluations), strict=True))


async def assert_as_modelled(projections: Projections, tenant_id: TenantId, log: Sequence[Sent]) -> None:
    model = Model(log)
    assert await live_rows(projections.database, tenant_id) == model.rows()
    assert await projections.digests(tenant_id) == model.digests()


TURNS: Final = st.lists(
    st.tuples(st.integers(1, 12), st.sampled_from([1, 2, 3, 5, 500]), st.sampled_from([None, *vocabulary.PROJECTIONS])),
    min_size=1,
    max_size=3,
)


@given(log=LOGS, turns=TURNS, rebuild_size=st.sampled_from([1, 3, 500]))
@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_followed_and_rebuilt_projections_are_those_of_the_model(
    projections: Projections, log: list[Sent], turns: list[tuple[int, int, str | None]], rebuild_size: int
) -> None:
    tenant_id = await projections.make_tenant(f"model-{uuid.uuid4().hex}")
    events = [checked(sent, log_seq) for log_seq, sent in enumerate(log, start=1)]
    projections.batch_events = rebuild_size
    runner = projections.start_runner()
    done = 0
    for length, size, ahead in itertools.cycle(turns):
        await projections.append(tenant_id, events[done : done + length])
        if ahead is not None:
            # The projector then finds the projections at different positions.
            job = await projections.run_job(tenant_id, "catch_up", ahead, until_log_seq=done + (length + 1) // 2)
            assert (job.status, job.error_message) == ("completed", None)
        projections.batch_events = size
        await projections.projector().catch_up(tenant_id)
        done = min(done + length, len(log))
        await assert_as_modelled(projections, tenant_id, log[:done])
        if done == len(log):
            break
    for mode in ("verify", "rebuild"):
        job = await projections.run_job(tenant_id, mode)
        assert (job.status, job.error_message) == ("completed", None)
        assert {(one.matches, one.first_difference) for one in job.verify_results} <= {(True, None)}
        assert len(job.verify_results) == (3 if mode == "verify" else 0)
        await assert_as_modelled(projections, tenant_id, log)
    await runner.stop()
