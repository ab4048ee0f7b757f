"""Measures how many bytes of WAL an event makes, in the log and in all projections, by the way it is appended.

`python -m bench.footprint` starts a Postgres and the service of its own, appends events in each way, waits for the
projections, and tells the growth of WAL, tables and indexes per event. Each way begins behind a checkpoint, whose full
images of pages it pays for, as all do that come after one. Needs Go for the load program. What it printed is in
docs/operations/scaling.md; bench.disk tells how the bytes on disk are made up.
"""

import argparse
import asyncio
import uuid
from typing import Final

from rich.console import Console

from bench import load_program, machine, stack
from bench.load_program import Group
from bench.stack import Stack

_PLACE: Final = "SELECT pg_current_wal_insert_lsn()"
_GROWN: Final = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1::pg_lsn)::bigint"
_TABLES: Final = """
    SELECT sum(pg_total_relation_size(oid))::bigint
    FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""
_SECONDS: Final = 2.0


async def _measure_one(running: Stack, title: str, group: Group, events: int, console: Console) -> None:
    await running.settle()
    await running.connection.execute("CHECKPOINT", timeout=600)
    head = await running.total_head()
    place, tables = await running.connection.fetchval(_PLACE), await running.connection.fetchval(_TABLES)
    appended = 0
    while appended < events:
        await load_program.run([group], run_id=uuid.uuid4().hex[:8], seconds=_SECONDS, warmup_seconds=0)
        appended = await running.total_head() - head
    await running.settle()
    wal = int(await running.connection.fetchval(_GROWN, place))
    grown = int(await running.connection.fetchval(_TABLES)) - tables
    console.print(f"{title:<32} {appended:>8,} events {wal / appended:>8,.0f} WAL {grown / appended:>8,.0f} tables")


async def _measure(events: int, console: Console) -> None:
    await load_program.build()
    async with stack.running() as running:
        console.print(f"load of the machine before: {machine.load_average()}; bytes per event:")
        for title, callers, batch in (
            ("AppendEvent, 1 caller", 1, 1),
            ("AppendEvent, 64 callers", 64, 1),
            ("AppendEvents of 100, 4 callers", 4, 100),
        ):
            method = "AppendEvents" if batch > 1 else "AppendEvent"
            headers = await running.tenants(1)
            group = Group("unary", running.service, callers, headers, method=method, events_per_call=batch)
            await _measure_one(running, title, group, events, console)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.footprint", description="Measure how many bytes of WAL an event makes."
    )
    parser.add_argument("--events", type=int, default=20_000, help="at least so many for each way (default: 20000)")
    arguments = parser.parse_args()
    asyncio.run(_measure(arguments.events, Console(highlight=False, markup=False, width=160)))


if __name__ == "__main__":
    main()
