"""Measures what an event costs in bytes and in processor time, projections included, by the way it is appended.

`python -m bench.footprint` starts a Postgres and the service of its own, appends events in each way, waits for the
projections, and tells per event the growth of WAL, tables and indexes, and the processor time of each part. Each way
begins behind a checkpoint, whose full images of pages it pays for, as all do that come after one. Needs Go for the
load program. What it printed is in docs/operations/scaling.md and docs/benchmarks/API_BASELINE.md; bench.disk tells how
the bytes on disk are made up.
"""

import argparse
import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Cost:
    """What an event costs by one way in, its projections included."""

    events: int
    wal_bytes: float
    table_bytes: float
    """Tables and indexes."""
    server_us: float
    """Processor time of the server."""
    postgres_us: float
    envoy_us: float

    def line(self, title: str) -> str:
        """What was found, for reading."""
        return (
            f"{title:<32} {self.events:>8,} events {self.wal_bytes:>7,.0f} WAL {self.table_bytes:>7,.0f} tables "
            f"{self.server_us:>7,.0f} us server {self.postgres_us:>7,.0f} us Postgres {self.envoy_us:>5,.0f} us Envoy"
        )


async def _measure_one(running: Stack, group: Group, events: int) -> Cost:
    await running.settle()
    await running.connection.execute("CHECKPOINT", timeout=600)
    head, before = await running.total_head(), running.cpu_times()
    place, tables = await running.connection.fetchval(_PLACE), await running.connection.fetchval(_TABLES)
    appended = 0
    while appended < events:
        await load_program.run([group], run_id=uuid.uuid4().hex[:8], seconds=_SECONDS, warmup_seconds=0)
        appended = await running.total_head() - head
    await running.settle()
    after = running.cpu_times()
    wal = int(await running.connection.fetchval(_GROWN, place))
    grown = int(await running.connection.fetchval(_TABLES)) - tables
    return Cost(
        appended,
        wal / appended,
        grown / appended,
        server_us=(after.server - before.server) / appended * 1e6,
        postgres_us=(after.postgres - before.postgres) / appended * 1e6,
        envoy_us=(after.envoys - before.envoys) / appended * 1e6,
    )


async def measure(running: Stack, events: int, note: Callable[[str], None]) -> dict[str, Cost]:
    """At least so many events by each way in.

    Raises:
        LoadFailed: a call was not answered with OK.
    """
    found = {}
    for title, group in {
        "AppendEvent, 1 caller": Group("unary", running.service, 1, await running.tenants(1)),
        "AppendEvent, 64 callers": Group("unary", running.service, 64, await running.tenants(1)),
        "AppendEvent by REST, 64 callers": Group("rest", running.rest, 64, await running.tenants(1)),
        "AppendEvents of 100, 4 callers": Group(
            "unary", running.service, 4, await running.tenants(1), "AppendEvents", events_per_call=100
        ),
    }.items():
        found[title] = await _measure_one(running, group, events)
        note(found[title].line(title))
    return found


async def _bench(events: int, console: Console) -> None:
    await load_program.build()
    async with stack.running() as running:
        console.print(f"load of the machine before: {machine.load_average()}; bytes and microseconds per event:")
        await measure(running, events, console.print)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.footprint", description="Measure what an event costs in bytes and in processor time."
    )
    parser.add_argument("--events", type=int, default=20_000, help="at least so many for each way (default: 20000)")
    arguments = parser.parse_args()
    asyncio.run(_bench(arguments.events, Console(highlight=False, markup=False, width=180)))


if __name__ == "__main__":
    main()
