"""Events that a projection could not apply, and whether it waits for somebody to ask for a retry."""

from dataclasses import dataclass
from typing import Final

from decisiongraph_service.domain import errors
from decisiongraph_service.storage.database import TenantTransaction

_RECORD: Final = """
    INSERT INTO projection_failures AS known
        (tenant_id, projection, log_seq, trace_id, event_id, category, message, recoverable, failed_at)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9
    FROM projection_generations AS live
    WHERE live.tenant_id = $1 AND live.projection = $2 AND live.state = 'live' AND live.log_seq < $3
    ON CONFLICT (tenant_id, projection, log_seq) DO UPDATE
    SET retry_count = known.retry_count + 1,
        blocks = true,
        category = EXCLUDED.category,
        message = EXCLUDED.message,
        recoverable = EXCLUDED.recoverable,
        resolved_at = NULL
    WHERE NOT known.blocks
"""

# The index of open failures.
_UNBLOCK: Final = """
    UPDATE projection_failures
    SET blocks = false
    WHERE tenant_id = $1 AND projection = $2 AND resolved_at IS NULL
"""

# The index of open failures. Batches do the same; see the migration that creates apply_projections.
_RESOLVE: Final = """
    UPDATE projection_failures AS failure
    SET resolved_at = $3, blocks = false
    FROM projection_generations AS live
    WHERE live.tenant_id = $1 AND live.projection = $2 AND live.state = 'live'
      AND failure.tenant_id = $1 AND failure.projection = $2
      AND failure.resolved_at IS NULL AND failure.log_seq <= live.log_seq
"""

# A range of the primary key of each projection; failures are few.
_NEWEST: Final = """
    SELECT projection, log_seq, trace_id, event_id, category, message, recoverable, retry_count, failed_at, resolved_at
    FROM projection_failures
    WHERE tenant_id = $1
      AND ($2 = '' OR projection = $2)
      AND ($3 OR resolved_at IS NULL)
      AND (log_seq, projection) < ($4, $5)
    ORDER BY log_seq DESC, projection DESC
    LIMIT $6
"""

# The index of open failures.
_COUNT_OPEN: Final = """
    SELECT projection, count(*) AS failures
    FROM projection_failures
    WHERE tenant_id = $1 AND resolved_at IS NULL
    GROUP BY projection
"""


@dataclass(frozen=True, slots=True)
class ProjectionFailure:
    """An event that could not be applied. Instants are microseconds since 1970-01-01T00:00:00Z."""

    projection: str
    log_seq: int
    trace_id: str
    event_id: str
    category: str
    message: str
    recoverable: bool
    retry_count: int
    failed_at_micros: int
    resolved_at_micros: int | None


async def record(
    transaction: TenantTransaction,
    projection: str,
    error: errors.DecisionGraphError,
    *,
    log_seq: int,
    trace_id: str,
    event_id: str,
    now_micros: int,
) -> None:
    """Stop a projection before this event, until somebody asks for a retry; not if it has passed it meanwhile."""
    recoverable = isinstance(error, errors.StorageUnavailable)
    await transaction.execute(
        _RECORD, projection, log_seq, trace_id, event_id, error.category, error.message, recoverable, now_micros
    )


async def unblock(transaction: TenantTransaction, projection: str) -> None:
    """Let the projection try again."""
    await transaction.execute(_UNBLOCK, projection)


async def resolve(transaction: TenantTransaction, projection: str, *, now_micros: int) -> None:
    """Close the failures that the live rows have passed."""
    await transaction.execute(_RESOLVE, projection, now_micros)


async def fetch_newest(
    transaction: TenantTransaction,
    *,
    projection: str,
    include_resolved: bool,
    before: tuple[int, str],
    limit: int,
) -> list[ProjectionFailure]:
    """Failures by descending (`log_seq`, `projection`), those before `before`; an empty text is no filter."""
    rows = await transaction.fetch(_NEWEST, projection, include_resolved, *before, limit)
    return [ProjectionFailure(*row) for row in rows]


async def count_open(transaction: TenantTransaction) -> dict[str, int]:
    """Open failures of each projection that has some."""
    return {row["projection"]: row["failures"] for row in await transaction.fetch(_COUNT_OPEN)}
