"""Rows of the trace summary projection (docs/reference/PROJECTION_AND_REPLAY_SEMANTICS.md, trace summary)."""

from collections.abc import AsyncIterator, Iterable
from typing import Final

from decisiongraph_service.domain.trace_summary import TraceSummaryRow
from decisiongraph_service.storage.database import TenantTransaction

TABLES: Final = ("trace_summaries",)

_COLUMNS: Final = (
    "trace_id",
    "workflow",
    "title",
    "primary_entity_type",
    "primary_entity_id",
    "primary_entity_system",
    "outcome",
    "started_at",
    "finished_at",
    "event_count",
    "last_log_seq",
)
_COLUMN_LIST: Final = ", ".join(_COLUMNS)

# The live generation by its unique index, then the primary key.
_ROW: Final = f"""
    SELECT {_COLUMN_LIST}
    FROM trace_summaries
    WHERE tenant_id = $1
      AND generation = (
          SELECT generation
          FROM projection_generations
          WHERE tenant_id = $1 AND projection = 'trace_summary' AND state = 'live'
      )
      AND trace_id = $2
"""

# A range of the primary key, in its order.
_ROWS: Final = f"""
    SELECT {_COLUMN_LIST}
    FROM trace_summaries
    WHERE tenant_id = $1 AND generation = $2
    ORDER BY trace_id
"""


async def fetch(transaction: TenantTransaction, trace_id: str) -> TraceSummaryRow | None:
    """The live row of one trace."""
    row = await transaction.fetch_row(_ROW, trace_id)
    return None if row is None else TraceSummaryRow(*row)


def columns(tenant_id: str, generation: int, rows: Iterable[TraceSummaryRow]) -> list[tuple[object, ...]]:
    """Rows of `trace_summaries`, in the order of its columns."""
    return [(tenant_id, *(getattr(row, column) for column in _COLUMNS), generation) for row in rows]


async def iterate(transaction: TenantTransaction, generation: int) -> AsyncIterator[TraceSummaryRow]:
    """The rows of a generation by `trace_id`."""
    async for row in transaction.iterate(_ROWS, generation):
        yield TraceSummaryRow(*row)
