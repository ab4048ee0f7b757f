"""How many rows a call reads, as Postgres counts them.

A backend tells what it has counted ten seconds after its last statement at the latest, so each case waits that long.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    import asyncpg

CALLS: Final = 20
_TOLD_SECONDS: Final = 11.0
_COUNTERS: Final = """
    SELECT coalesce(sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)), 0)::bigint AS table_rows,
           (SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_user_indexes)::bigint AS index_entries
    FROM pg_stat_user_tables
"""


@dataclass(frozen=True, slots=True)
class RowsRead:
    """What was read of all tables."""

    table_rows: float
    """Rows fetched from tables, by scans of the table or by way of an index."""
    index_entries: float
    """Entries that scans of indexes returned."""

    def since(self, before: Self, others: Self) -> Self:
        """What was added to `before`, without what `others` have added in that time."""
        return type(self)(
            max(0.0, self.table_rows - before.table_rows - others.table_rows),
            max(0.0, self.index_entries - before.index_entries - others.index_entries),
        )

    def times(self, factor: float) -> Self:
        """So many times as much."""
        return type(self)(self.table_rows * factor, self.index_entries * factor)


class RowCounter:
    """Counts what calls read; nobody else may call the service meanwhile."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self._idle_per_second = RowsRead(0, 0)

    async def look_at_idle(self) -> RowsRead:
        """Find out, and from then on leave out, what the service reads in a second when nobody calls it."""
        await asyncio.sleep(_TOLD_SECONDS)
        before, began = await self._counters(), time.perf_counter()
        await asyncio.sleep(_TOLD_SECONDS)
        per_second = 1 / (time.perf_counter() - began)
        self._idle_per_second = (await self._counters()).since(before, RowsRead(0, 0)).times(per_second)
        return self._idle_per_second

    async def per_call(self, call: Callable[[int], object]) -> RowsRead:
        """What one of `CALLS` calls reads on average."""
        before, began = await self._counters(), time.perf_counter()
        for number in range(CALLS):
            call(number)
        await asyncio.sleep(_TOLD_SECONDS)
        idle = self._idle_per_second.times(time.perf_counter() - began)
        return (await self._counters()).since(before, idle).times(1 / CALLS)

    async def _counters(self) -> RowsRead:
        row = await self._connection.fetchrow(_COUNTERS)
        if row is None:
            raise RuntimeError("Postgres tells no counters")
        return RowsRead(row["table_rows"], row["index_entries"])
