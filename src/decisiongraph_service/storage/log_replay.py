"""Reading the log to apply it to projections: only what they look at, and what came before a pass."""

from collections.abc import Sequence
from typing import Final

from decisiongraph_service.domain import precedent_search
from decisiongraph_service.domain.events import ProjectedEvent
from decisiongraph_service.domain.projection_pass import Before, Needed
from decisiongraph_service.storage.database import TenantTransaction

_COLUMNS: Final = """
    log_seq, event_id, trace_id, trace_seq, event_type, occurred_at, actor_type, actor_id, payload, payload_hash
"""

# A range of the primary key.
_AFTER: Final = f"""
    SELECT {_COLUMNS}
    FROM events
    WHERE tenant_id = $1 AND log_seq > $2 AND log_seq <= $3
    ORDER BY log_seq
    LIMIT $4
"""

# A look-up in the unique key (tenant_id, trace_id, trace_seq) for each trace; positions in the log rise with it.
_NEWEST_OF_TRACES: Final = """
    SELECT newest.trace_id, newest.trace_seq
    FROM unnest($2::text[]) AS candidate (trace_id)
    CROSS JOIN LATERAL (
        SELECT trace_id, trace_seq
        FROM events
        WHERE tenant_id = $1 AND trace_id = candidate.trace_id AND log_seq <= $3
        ORDER BY trace_seq DESC
        LIMIT 1
    ) AS newest
"""

# A range of the unique key (tenant_id, trace_id, trace_seq) for each trace.
_READ_BACK: Final = f"""
    SELECT earlier.*
    FROM unnest($2::text[]) AS candidate (trace_id)
    CROSS JOIN LATERAL (
        SELECT {_COLUMNS}
        FROM events
        WHERE tenant_id = $1 AND trace_id = candidate.trace_id AND log_seq <= $3 AND event_type = ANY ($4::text[])
        ORDER BY trace_seq
    ) AS earlier
"""

# A range of the unique key (tenant_id, trace_id, trace_seq).
_OF_TRACE: Final = f"""
    SELECT {_COLUMNS}
    FROM events
    WHERE tenant_id = $1 AND trace_id = $2 AND trace_seq > $3 AND log_seq <= $4 AND event_type = ANY ($5::text[])
    ORDER BY trace_seq
    LIMIT $6
"""


async def fetch_after(
    transaction: TenantTransaction, log_seq: int, *, until_log_seq: int, limit: int
) -> list[ProjectedEvent]:
    """Events with `log_seq` < position <= `until_log_seq`, ascending, at most `limit`."""
    rows = await transaction.fetch(_AFTER, log_seq, until_log_seq, limit)
    return [ProjectedEvent(*row) for row in rows]


async def fetch_before(transaction: TenantTransaction, needed: Needed, log_seq: int) -> Before:
    """What the log held of these traces up to and including a position."""
    counts: dict[str, int] = {}
    read_back: dict[str, list[ProjectedEvent]] = {}
    if needed.traces:
        for row in await transaction.fetch(_NEWEST_OF_TRACES, sorted(needed.traces), log_seq):
            counts[row["trace_id"]] = row["trace_seq"] + 1
    if needed.finished:
        types = list(precedent_search.READ_TYPES)
        for row in await transaction.fetch(_READ_BACK, sorted(needed.finished), log_seq, types):
            event = ProjectedEvent(*row)
            read_back.setdefault(event.trace_id, []).append(event)
    return Before(counts, read_back)


async def fetch_of_trace(
    transaction: TenantTransaction,
    trace_id: str,
    event_types: Sequence[str],
    *,
    since_trace_seq: int,
    until_log_seq: int,
    limit: int,
) -> list[ProjectedEvent]:
    """Events of a trace of these types with a greater `trace_seq`, ascending, up to a log position, at most `limit`."""
    rows = await transaction.fetch(_OF_TRACE, trace_id, since_trace_seq, until_log_seq, list(event_types), limit)
    return [ProjectedEvent(*row) for row in rows]
