"""Look-ups by key go by their own index: on a new, never analysed database, where the planner knows nothing, and on one
with a million events, where it knows much.

A plan is cached. One that reads all of a tenant's events for one key is harmless while the log is short, and ruins the
service when it is long.
"""

import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from tests.integration import large_database

from decisiongraph_service.runtime import server
from decisiongraph_service.storage import (
    context_graph,
    database,
    event_log,
    log_replay,
    migrations,
    precedent_documents,
    precedent_index,
    projection_digests,
    projection_state,
    replay_jobs,
    trace_summary,
)

_STATEMENTS = {
    "log view": (
        event_log._LOG_VIEW,
        {"events_idempotency_key", "events_event_id", "events_trace_position", "log_heads_pkey"},
    ),
    "event by id": (event_log._EVENT_BY_ID, {"events_event_id"}),
    "trace events": (event_log._TRACE_EVENTS, {"events_trace_position"}),
    "newest of trace": (event_log._NEWEST_OF_TRACE, {"events_trace_position"}),
    "events after": (event_log._EVENTS_AFTER, {"events_pkey"}),
    "rows after": (event_log._ROWS_AFTER, {"events_pkey"}),
    "events in window": (event_log._EVENTS_IN_WINDOW, {"events_pkey"}),
    "events of trace in window": (event_log._EVENTS_OF_TRACE_IN_WINDOW, {"events_trace_position"}),
    "recorded at": (event_log._RECORDED_AT, {"events_pkey"}),
    "replay after": (log_replay._AFTER, {"events_pkey"}),
    "newest of traces": (log_replay._NEWEST_OF_TRACES, {"events_trace_position"}),
    "read back": (log_replay._READ_BACK, {"events_trace_position"}),
    "live summary": (trace_summary._ROW, {"trace_summaries_pkey"}),
    "newest traces": (trace_summary._NEWEST[1], {"trace_summaries_started"}),
    "newest open traces": (trace_summary._NEWEST_OPEN[1], {"trace_summaries_open"}),
    "newest traces of an entity": (trace_summary._NEWEST_OF_ENTITY[1], {"trace_summaries_started_of_entity"}),
    "step of the newest traces": (trace_summary._NEWEST[0], {"trace_summaries_started"}),
    "step of open traces": (trace_summary._NEWEST_OPEN[0], {"trace_summaries_open"}),
    "step of the traces of an entity": (trace_summary._NEWEST_OF_ENTITY[0], {"trace_summaries_started_of_entity"}),
    "lengths of traces": (event_log._LENGTHS, {"events_trace_position"}),
    "events of a trace by type": (log_replay._OF_TRACE, {"events_trace_position"}),
    "summaries in order": (trace_summary._ROWS, {"trace_summaries_pkey"}),
    "nodes": (context_graph._NODES, {"graph_nodes_pkey"}),
    "evaluations in order": (precedent_index._EVALUATIONS, {"policy_evaluations_pkey"}),
    "finished traces": (precedent_index._FINISHED, {"trace_summaries_finished"}),
    "finished traces of an entity": (precedent_index._OF_ENTITY, {"trace_summaries_of_entity"}),
    "precedents of a policy": (precedent_index._OF_POLICY, {"precedents_of_policy", "trace_summaries_pkey"}),
    "edges touching": (context_graph._EDGES_TOUCHING, {"graph_edges_from", "graph_edges_to_by_id"}),
    "ranked precedents": (
        precedent_documents._RANKED,
        {"precedent_postings_pkey", "precedent_documents_pkey", "trace_summaries_pkey", "precedents_pkey"},
    ),
    "documents in order": (precedent_documents._ROWS, {"precedent_documents_pkey"}),
    "head and live generations": (
        projection_state._HEAD_AND_LIVE,
        {"log_heads_pkey", "projection_generations_live"},
    ),
    "outgoing edges": (context_graph._OUTGOING, {"graph_edges_from"}),
    "incoming edges": (context_graph._INCOMING, {"graph_edges_to"}),
    "nodes by key": (context_graph._NODES_BY_KEY, {"graph_nodes_pkey"}),
    "job by id": (replay_jobs._BY_ID, {"replay_jobs_job_id"}),
    "newest jobs": (replay_jobs._NEWEST, {"replay_jobs_pkey"}),
    "traces": (projection_state._TRACES, {"projection_generations_live", "events_pkey"}),
    "digests": (projection_digests._FETCH, {"projection_digests_pkey"}),
}

_WHOLE_GENERATIONS = {"summaries in order", "nodes", "evaluations in order", "documents in order"}
"""They read all rows of a generation: any index that begins with it does; what is known of the rows decides."""


@contextlib.asynccontextmanager
async def migrated_database(database_url: str, name: str) -> AsyncIterator[str]:
    owner = await asyncpg.connect(database_url)
    await owner.execute(f"CREATE DATABASE {name}")
    url = database_url.rpartition("/")[0] + f"/{name}"
    await migrations.upgrade(url, server.migrations_folder())
    yield url
    await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await owner.close()


@pytest.fixture(scope="module")
async def new_database(database_url: str) -> AsyncIterator[str]:
    """A database as it is on its first day: migrated, empty, never analysed."""
    async with migrated_database(database_url, "first_day") as url:
        yield url


@pytest.fixture(scope="module")
async def filled_database(database_url: str) -> AsyncIterator[str]:
    """A database as it is after a million events."""
    async with migrated_database(database_url, "millionth_event") as url:
        await large_database.fill(url)
        yield url


async def assert_uses_its_indexes(url: str, name: str) -> None:
    statement, expected = _STATEMENTS[name]
    # As the servers work: row-level security takes part in the plans.
    settings = {"role": database.RUNTIME_ROLE, "dg.tenant_id": "large", **database._PLANNER}
    connection = await asyncpg.connect(url, server_settings=settings)
    try:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE looked_at AS {statement}")
        parameters = ", ".join("NULL" for _ in set(re.findall(r"\$[0-9]+", statement)))
        lines = await connection.fetch(f"EXPLAIN EXECUTE looked_at ({parameters})")
    finally:
        await connection.close()
    plan = "\n".join(line[0] for line in lines)
    used = set(re.findall(r"using (\w+) on|Bitmap Index Scan on (\w+)", plan))
    assert {name for names in used for name in names if name} == expected, plan
    assert "Seq Scan" not in plan, plan


@pytest.mark.parametrize("name", _STATEMENTS)
async def test_a_cached_plan_uses_the_index_of_its_key(new_database: str, name: str) -> None:
    await assert_uses_its_indexes(new_database, name)


@pytest.mark.parametrize("name", [name for name in _STATEMENTS if name not in _WHOLE_GENERATIONS])
async def test_so_does_one_that_is_made_after_a_million_events(filled_database: str, name: str) -> None:
    await assert_uses_its_indexes(filled_database, name)


_EVERYTHING = 2**63 - 1
_READS: dict[str, tuple[str, tuple[object, ...], int]] = {
    "a step through the newest traces": (
        trace_summary._NEWEST[1],
        (1, _EVERYTHING, 480_001, 100, "no such workflow", *[None] * 8, []),
        2_000,
    ),
    "where that step ends": (trace_summary._NEWEST[0], (1, _EVERYTHING, 1_999), 2_000),
    "the traces of an entity": (
        trace_summary._NEWEST_OF_ENTITY[1],
        (1, _EVERYTHING, 0, 100, *[None] * 9, [], trace_summary.entity_key("order", "order-7")),
        110,
    ),
    "edges of the hub": (
        context_graph._EDGES_TOUCHING,
        (1, [], _EVERYTHING, [], 501, [context_graph.incoming_key("trace_involves_entity", "entity:hub")], 3_000_000),
        520,
    ),
    "a page of the hub's edges": (
        context_graph._INCOMING,
        (1, context_graph.node_key("entity:hub"), 250_000, 101),
        101,
    ),
    "precedents of a policy": (
        precedent_index._OF_POLICY,
        (1, _EVERYTHING, 101, *[None] * 4, 1, precedent_index.policy_key("policy-7"), "policy-7", None),
        310,
    ),
    "finished traces of an entity": (
        precedent_index._OF_ENTITY,
        (1, _EVERYTHING, 101, None, None, "order", "order-7", trace_summary.entity_key("order", "order-7")),
        110,
    ),
    "ranked precedents": (
        precedent_documents._RANKED,
        (
            1,
            1,
            _EVERYTHING,
            200,
            [],
            [7, 4_007, 40_007],
            [1, 2, 3],
            "",
            _EVERYTHING,
            _EVERYTHING,
            101,
            None,
            None,
            3_000_000,
        ),
        2_000,
    ),
    "lengths of traces": (event_log._LENGTHS, ([f"trace-{n}" for n in range(100)], _EVERYTHING), 100),
}
"""A statement, its arguments behind the tenant, and the most rows that it may take from tables and indexes."""


def _rows_read(plan: dict[str, Any]) -> int:
    """The rows that all scans below take, those that a filter drops included."""
    own = 0
    if "Relation Name" in plan:
        looked_at = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
        own = round(looked_at * plan["Actual Loops"])
    return own + sum(map(_rows_read, plan.get("Plans", [])))


@pytest.mark.parametrize("name", _READS)
async def test_after_a_million_events_no_answer_walks_further_than_it_should(filled_database: str, name: str) -> None:
    statement, arguments, most = _READS[name]
    settings = {"role": database.RUNTIME_ROLE, "dg.tenant_id": "large", **database._PLANNER}
    connection = await asyncpg.connect(filled_database, server_settings=settings)
    try:
        explained = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", "large", *arguments)
    finally:
        await connection.close()
    plan = json.loads(explained)[0]["Plan"]
    assert 0 < _rows_read(plan) <= most, explained
