"""Measures how many bytes of disk an event takes, in the log and in the projections.

`python -m bench.disk` starts a Postgres and the service of its own, makes the log that queries are measured on
(docs/benchmarks/QUERIES.md), lets the projections follow, and prints the size of every table with its indexes. What it
printed is in docs/benchmarks/PROJECTIONS.md.
"""

import argparse
import asyncio
from typing import Final

from rich.console import Console

from bench import queries, query_log, stack
from bench.stack import Stack

_SIZES: Final = """
    SELECT relname AS name, pg_table_size(oid) AS rows, pg_indexes_size(oid) AS indexes
    FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
    ORDER BY pg_total_relation_size(oid) DESC
"""
_PAYLOADS: Final = "SELECT sum(octet_length(payload)) FROM events"


async def _measure(events: int, console: Console) -> None:
    async with stack.running() as running:
        empty = await _sizes(running)
        tenant_id, _ = await running.tenant()
        shape = query_log.Shape.of(events)
        await queries.make_log(running, tenant_id, shape, console.print)
        payloads = await running.connection.fetchval(_PAYLOADS)
        console.print(
            f"{shape.events:,} events, {payloads / shape.events:,.0f} bytes of payload each; bytes per event:"
        )
        sizes = await _sizes(running)
        for name, (rows, indexes) in sizes.items():
            grown = rows + indexes - sum(empty[name])
            if grown > shape.events:
                console.print(f"{name:<24} {rows / shape.events:>8,.0f} rows {indexes / shape.events:>8,.0f} indexes")
        total = sum(map(sum, sizes.values())) - sum(map(sum, empty.values()))
        console.print(f"{'all':<24} {total / shape.events:>8,.0f}")


async def _sizes(running: Stack) -> dict[str, tuple[int, int]]:
    """Bytes of the rows and of the indexes of every table, the largest first."""
    return {row["name"]: (row["rows"], row["indexes"]) for row in await running.connection.fetch(_SIZES)}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.disk", description="Measure how many bytes of disk an event takes."
    )
    parser.add_argument("--events", type=int, default=100_000, help="length of the log (default: 100000)")
    arguments = parser.parse_args()
    asyncio.run(_measure(arguments.events, Console(highlight=False, markup=False)))


if __name__ == "__main__":
    main()
