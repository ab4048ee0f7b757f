"""The log: heads, the state that an append needs, insert, and reads.

Positions of a tenant are 1..N without gaps because only `lock_head` hands out the next one, and the row stays locked to
the commit (docs/reference/APPEND_SEMANTICS.md section 5).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from decisiongraph_service.domain import append_rules, event_digest, vocabulary
from decisiongraph_service.domain.append_batch import LogView, NewRow, TraceTail
from decisiongraph_service.domain.events import Actor, CheckedEvent, Source, StoredEvent
from decisiongraph_service.domain.log_check import LogRow
from decisiongraph_service.storage.database import TenantTransaction

_COLUMNS: Final = """
    tenant_id, log_seq, event_id, trace_id, trace_seq, event_type, occurred_at, producer_id, source_system,
    source_subsystem, actor_type, actor_id, idempotency_key, payload, payload_hash, correlation_id, causation_event_id,
    schema_version, tags, recorded_at
"""

_LOCK_HEAD: Final = """
    SELECT log_seq
    FROM log_heads
    WHERE tenant_id = $1
    FOR UPDATE
"""

_HEAD: Final = """
    SELECT log_seq
    FROM log_heads
    WHERE tenant_id = $1
"""

# A range of one value, in order: see _LOG_VIEW.
_RECORDED_AT: Final = """
    SELECT recorded_at
    FROM events
    WHERE tenant_id = $1 AND log_seq >= $2 AND log_seq <= $2
    ORDER BY log_seq
    LIMIT 1
"""

# Look-ups by the three unique keys; the statement sees one state of the log, and its one row carries what was found.
#
# Each look-up asks for a range of one value and for its order. To the planner every index that begins with the tenant
# looks alike while it has no statistics, and a cached plan that reads all of a tenant's events for one key would stay;
# the order is what only the right index gives.
_LOG_VIEW: Final = """
    SELECT head.log_seq AS head,
           ARRAY(
               SELECT found.event
               FROM unnest($2::text[], $3::text[]) AS candidate (producer_id, idempotency_key)
               CROSS JOIN LATERAL (
                   SELECT events AS event
                   FROM events
                   WHERE tenant_id = $1
                     AND producer_id = candidate.producer_id
                     AND idempotency_key >= candidate.idempotency_key
                     AND idempotency_key <= candidate.idempotency_key
                   ORDER BY events.idempotency_key
                   LIMIT 1
               ) AS found
           ) AS stored,
           ARRAY(
               SELECT found.event_id
               FROM unnest($5::text[]) AS candidate (event_id)
               CROSS JOIN LATERAL (
                   SELECT event_id
                   FROM events
                   WHERE tenant_id = $1 AND event_id >= candidate.event_id AND event_id <= candidate.event_id
                   ORDER BY events.event_id
                   LIMIT 1
               ) AS found
           ) AS taken_event_ids,
           tails.trace_ids,
           tails.newest_trace_seqs,
           tails.newest_event_types
    FROM log_heads AS head
    LEFT JOIN LATERAL (
        SELECT array_agg(newest.trace_id) AS trace_ids,
               array_agg(newest.trace_seq) AS newest_trace_seqs,
               array_agg(newest.event_type) AS newest_event_types
        FROM unnest($4::text[]) AS candidate (trace_id)
        CROSS JOIN LATERAL (
            SELECT trace_id, trace_seq, event_type
            FROM events
            WHERE tenant_id = $1 AND trace_id = candidate.trace_id
            ORDER BY trace_seq DESC
            LIMIT 1
        ) AS newest
    ) AS tails ON true
    WHERE head.tenant_id = $1
"""

# See the migration that creates it: locks the head, and writes only if it is the expected one.
_APPEND: Final = "SELECT append_events($1, $2, $3)"

# A range of one value, in order: see _LOG_VIEW.
_EVENT_BY_ID: Final = f"""
    SELECT {_COLUMNS}
    FROM events
    WHERE tenant_id = $1 AND event_id >= $2 AND event_id <= $2
    ORDER BY events.event_id
    LIMIT 1
"""

# A range of the primary key, cut by the window; the filters only drop rows of it.
_EVENTS_IN_WINDOW: Final = f"""
    SELECT {_COLUMNS}
    FROM events
    WHERE tenant_id = $1 AND log_seq > $2 AND log_seq <= $3
      AND ($5::text IS NULL OR event_type = $5)
      AND ($6::text IS NULL OR producer_id = $6)
      AND ($7::text IS NULL OR actor_type = $7)
      AND ($8::text IS NULL OR actor_id = $8)
      AND ($9::text IS NULL OR $9 = ANY (tags))
      AND ($10::text IS NULL OR correlation_id = $10)
      AND ($11::timestamptz IS NULL OR occurred_instant > $11)
      AND ($12::timestamptz IS NULL OR occurred_instant <= $12)
      AND ($13::text[] IS NULL OR event_type = ANY ($13))
    ORDER BY log_seq
    LIMIT $4
"""

# The unique key (tenant_id, trace_id, trace_seq): a trace's log positions rise with its trace positions.
_EVENTS_OF_TRACE_IN_WINDOW: Final = _EVENTS_IN_WINDOW.replace(
    "WHERE tenant_id = $1", "WHERE tenant_id = $1 AND trace_id = $14"
).replace("ORDER BY log_seq", "ORDER BY trace_seq")

# A range of the primary key.
_ROWS_AFTER: Final = f"""
    SELECT {_COLUMNS}, occurred_instant, digest
    FROM events
    WHERE tenant_id = $1 AND log_seq > $2
    ORDER BY log_seq
    LIMIT $3
"""

# A range of the primary key.
_EVENTS_AFTER: Final = f"""
    SELECT {_COLUMNS}
    FROM events
    WHERE tenant_id = $1 AND log_seq > $2
    ORDER BY log_seq
    LIMIT $3
"""

# A range of the unique key (tenant_id, trace_id, trace_seq). A trace's log positions rise with its trace positions, so
# the bound on log_seq cuts a suffix.
_TRACE_EVENTS: Final = f"""
    SELECT {_COLUMNS}
    FROM events
    WHERE tenant_id = $1 AND trace_id = $2 AND trace_seq > $3 AND log_seq <= $4
    ORDER BY trace_seq
    LIMIT $5
"""

_LENGTHS: Final = """
    SELECT newest.trace_id, newest.trace_seq, newest.log_seq
    FROM unnest($2::text[]) AS wanted (trace_id)
    CROSS JOIN LATERAL (
        SELECT trace_id, trace_seq, log_seq
        FROM events
        WHERE tenant_id = $1 AND trace_id = wanted.trace_id AND log_seq <= $3
        ORDER BY trace_seq DESC
        LIMIT 1
    ) AS newest
"""

_NEWEST_OF_TRACE: Final = f"""
    SELECT {_COLUMNS}
    FROM events
    WHERE tenant_id = $1 AND trace_id = $2 AND log_seq <= $3
    ORDER BY trace_seq DESC
    LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted; everything that is given must match."""

    trace_id: str | None = None
    event_type: str | None = None
    event_types: tuple[str, ...] = ()
    """Any of these; empty: all."""
    producer_id: str | None = None
    actor_type: str | None = None
    actor_id: str | None = None
    tag: str | None = None
    correlation_id: str | None = None
    since_occurred_micros: int | None = None
    """Exclusive."""
    until_occurred_micros: int | None = None
    """Inclusive."""

    @property
    def is_narrow(self) -> bool:
        """Whether it may drop most events of a log and no index leads to the others."""
        return self.trace_id is None and self != EventFilter()


async def lock_head(transaction: TenantTransaction) -> int | None:
    """Lock the tenant's head to the end of the transaction and return it; None if the tenant has no log."""
    row = await transaction.fetch_row(_LOCK_HEAD)
    return None if row is None else int(row["log_seq"])


async def fetch_head(transaction: TenantTransaction) -> int:
    """The position of the tenant's newest event, 0 if there is none."""
    row = await transaction.fetch_row(_HEAD)
    return 0 if row is None else int(row["log_seq"])


async def fetch_recorded_at(transaction: TenantTransaction, log_seq: int) -> int | None:
    """When the event at a position was stored, in microseconds since 1970-01-01T00:00:00Z; None if there is none."""
    row = await transaction.fetch_row(_RECORDED_AT, log_seq)
    return None if row is None else int(row["recorded_at"])


async def fetch_log_view(transaction: TenantTransaction, candidates: Sequence[CheckedEvent]) -> LogView | None:
    """What the append rules need to know of the log for these candidates; None if the tenant has no log."""
    row = await transaction.fetch_row(
        _LOG_VIEW,
        [checked.event.source.producer_id for checked in candidates],
        [checked.event.idempotency_key for checked in candidates],
        list({checked.event.trace_id for checked in candidates}),
        [append_rules.event_id_of(checked, transaction.tenant_id) for checked in candidates],
    )
    if row is None:
        return None
    stored = [_stored_event(found) for found in row["stored"]]
    tails = zip(row["trace_ids"] or (), row["newest_trace_seqs"] or (), row["newest_event_types"] or (), strict=True)
    return LogView(
        head=row["head"],
        stored_by_key={(event.source.producer_id, event.idempotency_key): event for event in stored},
        traces={
            trace_id: TraceTail(trace_seq + 1, finished=event_type == vocabulary.TRACE_FINISHED)
            for trace_id, trace_seq, event_type in tails
        },
        taken_event_ids=frozenset(row["taken_event_ids"]),
    )


async def append(transaction: TenantTransaction, rows: Sequence[NewRow], *, expected_head: int) -> bool:
    """Write rows at the positions after `expected_head` and move the head behind them, in one transaction.

    Returns:
        False if the head is another one: somebody else appended, and nothing was written.
    """
    head = await transaction.fetch_value(_APPEND, expected_head, [_row(row) for row in rows])
    return bool(head == expected_head)


def _row(row: NewRow) -> tuple[object, ...]:
    """The columns of `events` in the order of the table."""
    stored = row.stored
    return (
        stored.tenant_id,
        stored.log_seq,
        stored.event_id,
        stored.trace_id,
        stored.trace_seq,
        stored.event_type,
        stored.occurred_at,
        row.occurred_at_micros,
        stored.source.producer_id,
        stored.source.system,
        stored.source.subsystem,
        stored.actor.actor_type,
        stored.actor.actor_id,
        stored.idempotency_key,
        stored.canonical_payload,
        stored.payload_hash,
        stored.correlation_id,
        stored.causation_event_id,
        stored.schema_version,
        stored.tags,
        stored.recorded_at_micros,
        event_digest.digest(stored, row.occurred_at_micros),
    )


async def fetch_event(transaction: TenantTransaction, event_id: str) -> StoredEvent | None:
    """The event with this id."""
    row = await transaction.fetch_row(_EVENT_BY_ID, event_id)
    return None if row is None else _stored_event(row)


async def fetch_events_in_window(
    transaction: TenantTransaction, after: int, until: int, matching: EventFilter, *, limit: int
) -> list[StoredEvent]:
    """Matching events with `after` < `log_seq` <= `until`, ascending, at most `limit`."""
    arguments: list[object] = [
        after,
        until,
        limit,
        matching.event_type,
        matching.producer_id,
        matching.actor_type,
        matching.actor_id,
        matching.tag,
        matching.correlation_id,
        matching.since_occurred_micros,
        matching.until_occurred_micros,
        list(matching.event_types) or None,
    ]
    if matching.trace_id is None:
        rows = await transaction.fetch(_EVENTS_IN_WINDOW, *arguments)
    else:
        rows = await transaction.fetch(_EVENTS_OF_TRACE_IN_WINDOW, *arguments, matching.trace_id)
    return [_stored_event(row) for row in rows]


async def fetch_rows_after(transaction: TenantTransaction, log_seq: int, *, limit: int) -> list[LogRow]:
    """Rows after a log position with every column, for checking them."""
    rows = await transaction.fetch(_ROWS_AFTER, log_seq, limit)
    return [LogRow(_stored_event(row), row["occurred_instant"], row["digest"]) for row in rows]


async def fetch_events_after(transaction: TenantTransaction, log_seq: int, *, limit: int) -> list[StoredEvent]:
    """Events after a log position, ascending, at most `limit`."""
    rows = await transaction.fetch(_EVENTS_AFTER, log_seq, limit)
    return [_stored_event(row) for row in rows]


async def fetch_trace_events(
    transaction: TenantTransaction, trace_id: str, *, since_trace_seq: int, until_log_seq: int, limit: int
) -> Sequence[StoredEvent]:
    """Events of a trace with a greater `trace_seq`, ascending, up to and including a log position, at most `limit`."""
    rows = await transaction.fetch(_TRACE_EVENTS, trace_id, since_trace_seq, until_log_seq, limit)
    return [_stored_event(row) for row in rows]


async def fetch_lengths(
    transaction: TenantTransaction, trace_ids: Sequence[str], *, until_log_seq: int
) -> dict[str, tuple[int, int]]:
    """By trace the number of its events up to a log position, and the position of the newest of them."""
    rows = await transaction.fetch(_LENGTHS, list(trace_ids), until_log_seq)
    return {row["trace_id"]: (row["trace_seq"] + 1, row["log_seq"]) for row in rows}


async def fetch_newest_of_trace(
    transaction: TenantTransaction, trace_id: str, *, until_log_seq: int
) -> StoredEvent | None:
    """The newest event of a trace up to and including a log position; None if the trace has none there."""
    row = await transaction.fetch_row(_NEWEST_OF_TRACE, trace_id, until_log_seq)
    return None if row is None else _stored_event(row)


def _stored_event(row: asyncpg.Record) -> StoredEvent:
    return StoredEvent(
        tenant_id=row["tenant_id"],
        log_seq=row["log_seq"],
        event_id=row["event_id"],
        trace_id=row["trace_id"],
        trace_seq=row["trace_seq"],
        event_type=row["event_type"],
        occurred_at=row["occurred_at"],
        source=Source(row["producer_id"], row["source_system"], row["source_subsystem"]),
        actor=Actor(row["actor_type"], row["actor_id"]),
        idempotency_key=row["idempotency_key"],
        canonical_payload=row["payload"],
        payload_hash=row["payload_hash"],
        correlation_id=row["correlation_id"],
        causation_event_id=row["causation_event_id"],
        schema_version=row["schema_version"],
        tags=tuple(row["tags"]),
        recorded_at_micros=row["recorded_at"],
    )
