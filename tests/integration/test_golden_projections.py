"""Both golden scenarios reach every digest and row: followed, caught up, rebuilt and verified, in any batches."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from tests import golden_files
from tests.replaying import Projections

from decisiongraph_service.domain import event_checks, secret_guard
from decisiongraph_service.domain.context_graph import EdgeRow, NodeRow
from decisiongraph_service.domain.events import Actor, CheckedEvent, Event, Source
from decisiongraph_service.domain.limits import EventLimits
from decisiongraph_service.storage import context_graph, precedent_index, projection_state, trace_summary
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database

SIZES = (1, 7, 1000)


def checked_events(scenario: dict[str, Any]) -> list[CheckedEvent]:
    guard = secret_guard.guard_for("precise")
    return [event_checks.check_event(event_of(event), guard, EventLimits()) for event in scenario["events"]]


def event_of(event: dict[str, Any]) -> Event:
    source, actor = event["source"], event["actor"]
    return Event(
        event_id=event.get("event_id"),
        trace_id=event["trace_id"],
        trace_seq=event.get("trace_seq"),
        event_type=event["event_type"],
        occurred_at=event["occurred_at"],
        source=Source(source["producer_id"], source["system"], source.get("subsystem")),
        actor=Actor(actor["actor_type"], actor["actor_id"]),
        idempotency_key=event["idempotency_key"],
        payload=event["payload"],
        correlation_id=event.get("correlation_id"),
        causation_event_id=event.get("causation_event_id"),
        schema_version=event.get("schema_version", 1),
        tags=tuple(event.get("tags", ())),
    )


def expected_digests(scenario: dict[str, Any]) -> list[tuple[int, dict[str, str]]]:
    """By position, ascending, the end included."""
    expected = scenario["expected"]
    at = {int(position): digests for position, digests in expected.get("digests_at", {}).items()}
    at[len(scenario["events"])] = expected["digests"]
    return sorted(at.items())


@pytest.fixture
async def projections(own_database: Database, own_database_url: str) -> AsyncIterator[Projections]:
    made = Projections(own_database, CommitSignal(own_database_url))
    yield made
    await made.stop()


@pytest.mark.parametrize("name", golden_files.SCENARIOS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", ["follow", "catch_up", "rebuild", "verify"])
async def test_every_digest_is_reached(projections: Projections, name: str, size: int, way: str) -> None:
    scenario = golden_files.SCENARIOS[name]
    events = checked_events(scenario)
    projections.batch_events = size
    projections.start_runner()
    tenant_id = await projections.make_tenant(f"{name}-{size}-{way}".replace("_", "-"))
    done = 0
    for position, expected in expected_digests(scenario):
        await projections.append(tenant_id, events[done:position])
        done = position
        if way in ("follow", "verify"):
            await projections.projector().catch_up(tenant_id)
        if way != "follow":
            job = await projections.run_job(tenant_id, way)
            assert (job.status, job.error_message) == ("completed", None)
            assert {(r.matches, r.log_seq, r.first_difference) for r in job.verify_results} <= {(True, position, None)}
            assert len(job.verify_results) == (3 if way == "verify" else 0)
            for result in job.verify_results:
                assert result.expected_digest == result.live_digest == expected[result.projection]
        assert await projections.digests(tenant_id) == expected, f"{way} in batches of {size} at {position}"


@pytest.mark.parametrize("name", golden_files.SCENARIOS)
async def test_every_row_is_the_expected_one(projections: Projections, name: str) -> None:
    scenario = golden_files.SCENARIOS[name]
    tenant_id = await projections.make_tenant(f"{name}-rows")
    await projections.append(tenant_id, checked_events(scenario))
    await projections.projector().catch_up(tenant_id)
    expected = scenario["expected"]
    async with projections.database.tenant_snapshot(tenant_id) as snapshot:
        live = {one.projection: one.generation for one in await projection_state.fetch_live(snapshot)}
        edges = [edge_dict(row) async for row, _ in context_graph.iterate_edges(snapshot, live["context_graph"])]
        nodes = [node_dict(row) async for row, _ in context_graph.iterate_nodes(snapshot, live["context_graph"])]
        summaries = [row async for row in trace_summary.iterate(snapshot, live["trace_summary"])]
        precedents = [
            row._asdict() async for row, _ in precedent_index.iterate_precedents(snapshot, live["precedent_index"])
        ]
    assert edges == by(expected["edges"], "edge_id")
    assert nodes == by(expected["nodes"], "node_id")
    assert precedents == by(expected["precedent_rows"], "source_event_id")
    wanted = by(expected["trace_summaries"], "trace_id")
    assert [
        {key: getattr(row, key) for key in expectation} for row, expectation in zip(summaries, wanted, strict=True)
    ] == wanted


def by(rows: Sequence[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: str(row[key]))


def edge_dict(row: EdgeRow) -> dict[str, Any]:
    columns = row._asdict()
    del columns["event_id"]
    return {**columns, "edge_id": row.edge_id, "attrs": {}}


def node_dict(row: NodeRow) -> dict[str, Any]:
    return {**row._asdict(), "node_type": row.node_type, "attrs": {}}
