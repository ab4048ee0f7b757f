"""The ceiling of a rebuild: the same rows into tables with the same keys, and nothing else."""

import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

_TABLES: Final = (
    "graph_nodes",
    "graph_edges",
    "trace_summaries",
    "policy_evaluations",
    "precedents",
    "precedent_documents",
    "precedent_postings",
)
_POSITION: Final = {
    "trace_summaries": "last_log_seq",
    "precedent_documents": "finished_log_seq",
    "precedent_postings": "until_log_seq",
}

Rows = dict[str, list[list[tuple[Any, ...]]]]
"""By table: rows of each batch."""


async def fetch(
    connection: "asyncpg.Connection[asyncpg.Record]", tenant_id: str, generation: int, batch_events: int
) -> Rows:
    """The rows of a generation, in batches of as many events as a rebuild takes at once."""
    found: Rows = {}
    for table in _TABLES:
        position = _POSITION.get(table, "log_seq")
        batches: list[list[tuple[Any, ...]]] = []
        async with connection.transaction():
            async for row in connection.cursor(
                f"SELECT * FROM {table} WHERE tenant_id = $1 AND generation = $2 ORDER BY {position}",  # noqa: S608 - constants
                tenant_id,
                generation,
                prefetch=5000,
            ):
                number = (row[position] - 1) // batch_events
                while len(batches) <= number:
                    batches.append([])
                batches[number].append(tuple(row))
        found[table] = batches
    return found


async def insert(connection: "asyncpg.Connection[asyncpg.Record]", rows: Rows) -> float:
    """Insert the rows into empty copies of the tables, one transaction a batch; returns the seconds."""
    for table in _TABLES:
        await connection.execute(f"CREATE TABLE bare_{table} (LIKE {table} INCLUDING ALL)")
    statements = {
        table: f"INSERT INTO bare_{table} SELECT * FROM unnest($1::{table}[])"  # noqa: S608 - constants
        for table in _TABLES
    }
    began = time.perf_counter()
    for number in range(max(len(batches) for batches in rows.values())):
        async with connection.transaction():
            for table, batches in rows.items():
                batch: Sequence[tuple[Any, ...]] = batches[number] if number < len(batches) else ()
                if batch:
                    await connection.execute(statements[table], batch)
    seconds = time.perf_counter() - began
    for table in _TABLES:
        await connection.execute(f"DROP TABLE bare_{table}")
    return seconds
