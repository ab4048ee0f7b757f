"""Look-ups by key go by their own index even where the planner knows nothing: on a new, never analysed database.

A plan is cached. One that reads all of a tenant's events for one key is harmless while the log is short, and ruins the
service when it is long.
"""

import re
from collections.abc import AsyncIterator

import asyncpg
import pytest

from decisiongraph_service.runtime import server
from decisiongraph_service.storage import database, event_log, migrations

_INDEXES = ("events_pkey", "events_event_id", "events_trace_position", "events_idempotency_key")

_STATEMENTS = {
    "log view": (event_log._LOG_VIEW, {"events_idempotency_key", "events_event_id", "events_trace_position"}),
    "event by id": (event_log._EVENT_BY_ID, {"events_event_id"}),
    "trace events": (event_log._TRACE_EVENTS, {"events_trace_position"}),
    "newest of trace": (event_log._NEWEST_OF_TRACE, {"events_trace_position"}),
    "events after": (event_log._EVENTS_AFTER, {"events_pkey"}),
    "rows after": (event_log._ROWS_AFTER, {"events_pkey"}),
    "events in window": (event_log._EVENTS_IN_WINDOW, {"events_pkey"}),
    "events of trace in window": (event_log._EVENTS_OF_TRACE_IN_WINDOW, {"events_trace_position"}),
}


@pytest.fixture(scope="module")
async def new_database(database_url: str) -> AsyncIterator[str]:
    """A database as it is on its first day: migrated, empty, never analysed."""
    owner = await asyncpg.connect(database_url)
    await owner.execute("CREATE DATABASE first_day")
    url = database_url.rpartition("/")[0] + "/first_day"
    await migrations.upgrade(url, server.migrations_folder())
    yield url
    await owner.execute("DROP DATABASE first_day WITH (FORCE)")
    await owner.close()


@pytest.mark.parametrize("name", _STATEMENTS)
async def test_a_cached_plan_uses_the_index_of_its_key(new_database: str, name: str) -> None:
    statement, expected = _STATEMENTS[name]
    connection = await asyncpg.connect(new_database, server_settings=database._PLANNER)
    try:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE looked_at AS {statement}")
        parameters = ", ".join("NULL" for _ in set(re.findall(r"\$[0-9]+", statement)))
        lines = await connection.fetch(f"EXPLAIN EXECUTE looked_at ({parameters})")
    finally:
        await connection.close()
    plan = "\n".join(line[0] for line in lines)
    used = {index for index in _INDEXES if f" {index} on events" in plan}
    assert used == expected, plan
    assert "Seq Scan on events" not in plan, plan
