"""Rows of the trace summary projection (docs/reference/PROJECTION_AND_REPLAY_SEMANTICS.md, trace summary)."""

from collections.abc import Sequence
from typing import Final

from decisiongraph_service.domain.trace_summary import TraceSummaryRow
from decisiongraph_service.storage.database import TenantTransaction

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

_ROW: Final = f"""
    SELECT {_COLUMN_LIST}
    FROM trace_summaries
    WHERE tenant_id = $1 AND trace_id = $2
"""

_ROWS: Final = f"""
    SELECT {_COLUMN_LIST}
    FROM trace_summaries
    WHERE tenant_id = $1 AND trace_id = ANY ($2::text[])
"""

_WRITE: Final = f"""
    INSERT INTO trace_summaries (tenant_id, {_COLUMN_LIST})
    SELECT $1, row.*
    FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
                $10::text[], $11::integer[], $12::bigint[]) AS row
    ON CONFLICT (tenant_id, trace_id) DO UPDATE
    SET outcome = EXCLUDED.outcome,
        finished_at = EXCLUDED.finished_at,
        event_count = EXCLUDED.event_count,
        last_log_seq = EXCLUDED.last_log_seq
"""


async def fetch(transaction: TenantTransaction, trace_id: str) -> TraceSummaryRow | None:
    """The row of one trace."""
    row = await transaction.fetch_row(_ROW, trace_id)
    return None if row is None else TraceSummaryRow(**dict(row))


async def fetch_many(transaction: TenantTransaction, trace_ids: Sequence[str]) -> dict[str, TraceSummaryRow]:
    """The rows of these traces, as far as there are any."""
    if not trace_ids:
        return {}
    return {row["trace_id"]: TraceSummaryRow(**dict(row)) for row in await transaction.fetch(_ROWS, trace_ids)}


async def write_many(transaction: TenantTransaction, rows: Sequence[TraceSummaryRow]) -> None:
    """Insert the rows of started traces, and update those of finished ones."""
    if rows:
        columns = ([getattr(row, column) for row in rows] for column in _COLUMNS)
        await transaction.execute(_WRITE, *columns)
