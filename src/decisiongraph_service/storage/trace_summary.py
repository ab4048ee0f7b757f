"""Rows of the trace summary projection (docs/reference/PROJECTION_AND_REPLAY_SEMANTICS.md, trace summary)."""

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from decisiongraph_service.domain.trace_summary import TraceSummaryRow
from decisiongraph_service.domain.words import words
from decisiongraph_service.storage.database import TenantTransaction

TABLES: Final = ("trace_summaries",)

_FIRST_COLUMNS: Final = (
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
_COLUMN_LIST: Final = ", ".join((*_FIRST_COLUMNS, "started_log_seq", "started_instant", "finished_instant"))

# The primary key.
_ROW: Final = f"""
    SELECT {_COLUMN_LIST}
    FROM trace_summaries
    WHERE tenant_id = $1 AND generation = $2 AND trace_id >= $3 AND trace_id <= $3
    ORDER BY trace_summaries.trace_id
    LIMIT 1
"""

# A range of the primary key, in its order.
_ROWS: Final = f"""
    SELECT {_COLUMN_LIST}
    FROM trace_summaries
    WHERE tenant_id = $1 AND generation = $2
    ORDER BY trace_id
"""

# How far a step along the index that is named below goes: so many rows are looked at.
_REACHED: Final = """
    SELECT started_log_seq
    FROM trace_summaries
    WHERE tenant_id = $1 AND generation = $2 AND started_log_seq < $3 %s
    ORDER BY trace_summaries.started_log_seq DESC
    OFFSET $4
    LIMIT 1
"""

# The step itself; the filters only drop some of its rows. A statement of its own, because a bound that is worked out
# inside of one is no bound of the index where row-level security is on.
_STEP: Final = f"""
    SELECT {_COLUMN_LIST}
    FROM trace_summaries
    WHERE tenant_id = $1 AND generation = $2 AND started_log_seq < $3 AND started_log_seq >= $4 %s
      AND ($6::text IS NULL OR workflow = $6)
      AND ($7::text IS NULL OR outcome = $7)
      AND ($8::boolean IS NULL OR (outcome IS NOT NULL) = $8)
      AND ($9::text IS NULL OR primary_entity_type = $9)
      AND ($10::text IS NULL OR primary_entity_id = $10)
      AND ($11::timestamptz IS NULL OR started_instant > $11)
      AND ($12::timestamptz IS NULL OR started_instant <= $12)
      AND ($13::timestamptz IS NULL OR finished_instant > $13)
      AND ($14::timestamptz IS NULL OR finished_instant <= $14)
      AND title_words @> $15::text[]
    ORDER BY trace_summaries.started_log_seq DESC
    LIMIT $5
"""

# trace_summaries_started
_NEWEST: Final = (_REACHED % "", _STEP % "")

# trace_summaries_open
_NEWEST_OPEN: Final = (_REACHED % "AND outcome IS NULL", _STEP % "AND outcome IS NULL")

# trace_summaries_started_of_entity
_NEWEST_OF_ENTITY: Final = (_REACHED % "AND entity_key = $5", _STEP % "AND entity_key = $16")


@dataclass(frozen=True, slots=True)
class SummaryFilter:
    """Which traces are wanted. Lower bounds are exclusive, upper bounds inclusive; None: no filter."""

    workflow: str | None = None
    outcome: str | None = None
    finished: bool | None = None
    primary_entity_type: str | None = None
    primary_entity_id: str | None = None
    """Only together with the type."""
    since_started_micros: int | None = None
    until_started_micros: int | None = None
    since_finished_micros: int | None = None
    until_finished_micros: int | None = None
    title_words: Sequence[str] = ()
    """The title has all of them."""

    @property
    def is_narrow(self) -> bool:
        """Whether it leaves out anything."""
        return self != SummaryFilter()


@dataclass(frozen=True, slots=True)
class ListStep:
    """What one step along a list found."""

    found: Sequence[TraceSummaryRow]
    reached: int
    """Every trace that started after this position, and after it alone, was looked at."""
    at_the_end: bool
    """Nothing is left to look at."""


async def fetch(transaction: TenantTransaction, generation: int, trace_id: str) -> TraceSummaryRow | None:
    """The row of one trace in a generation."""
    row = await transaction.fetch_row(_ROW, generation, trace_id)
    return None if row is None else TraceSummaryRow(*row)


def entity_key(entity_type: str, entity_id: str) -> bytes:
    """What the traces of an entity are found by: payload texts may be longer than an index takes."""
    return hashlib.sha256(f"{entity_type}\x1f{entity_id}".encode()).digest()[:16]


def columns(tenant_id: str, generation: int, rows: Iterable[TraceSummaryRow]) -> list[tuple[object, ...]]:
    """Rows of `trace_summaries`, in the order of its columns."""
    return [
        (
            tenant_id,
            *(getattr(row, name) for name in _FIRST_COLUMNS),
            generation,
            row.started_log_seq,
            row.started_micros,
            row.finished_micros,
            words(row.title),
            entity_key(row.primary_entity_type, row.primary_entity_id),
        )
        for row in rows
    ]


async def fetch_newest(
    transaction: TenantTransaction,
    generation: int,
    wanted: SummaryFilter,
    *,
    before: int,
    limit: int,
    look_at: int | None,
) -> ListStep:
    """Traces that started before a log position, newest first: at most `limit` of the next `look_at`, or of all."""
    statements = _NEWEST
    key: tuple[bytes, ...] = ()
    if wanted.primary_entity_type is not None and wanted.primary_entity_id is not None:
        statements, key = _NEWEST_OF_ENTITY, (entity_key(wanted.primary_entity_type, wanted.primary_entity_id),)
    elif wanted.finished is False:
        statements = _NEWEST_OPEN
    reached = 0
    if look_at is not None:
        reached = await transaction.fetch_value(statements[0], generation, before, look_at - 1, *key) or 0
    rows = await transaction.fetch(
        statements[1],
        generation,
        before,
        reached,
        limit,
        wanted.workflow,
        wanted.outcome,
        wanted.finished,
        wanted.primary_entity_type,
        wanted.primary_entity_id,
        wanted.since_started_micros,
        wanted.until_started_micros,
        wanted.since_finished_micros,
        wanted.until_finished_micros,
        list(wanted.title_words),
        *key,
    )
    found = [TraceSummaryRow(*row) for row in rows]
    if len(found) == limit:
        # Others of the step may match as well.
        return ListStep(found, found[-1].started_log_seq, at_the_end=False)
    return ListStep(found, reached, at_the_end=reached == 0)


async def iterate(transaction: TenantTransaction, generation: int) -> AsyncIterator[TraceSummaryRow]:
    """The rows of a generation by `trace_id`."""
    async for row in transaction.iterate(_ROWS, generation):
        yield TraceSummaryRow(*row)
