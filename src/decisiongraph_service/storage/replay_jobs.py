"""Replay jobs: admission, the claim of a runner, progress, and their end. What is written here survives a process."""

from collections.abc import Sequence
from typing import Final

import asyncpg
import orjson

from decisiongraph_service.domain.replay import ReplayJob, ReplayRequest, VerifyResult
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage.database import Database, TenantTransaction

RUNNER_LOST_SECONDS: Final = 5
"""A job whose runner has said nothing for so long is taken over."""

_COLUMNS: Final = """
    job_seq, job_id, projection, mode, reason, since_log_seq, until_log_seq, metadata, status, requested_by,
    requested_at, started_at, finished_at, processed_events, total_events, last_log_seq, events_per_second, error_code,
    error_message, verify_results
"""

# The unique index of active jobs.
_ACTIVE: Final = f"""
    SELECT {_COLUMNS}
    FROM replay_jobs
    WHERE tenant_id = $1 AND status IN ('queued', 'running')
    ORDER BY job_seq
"""

_INSERT: Final = f"""
    INSERT INTO replay_jobs
        (tenant_id, job_seq, job_id, projection, mode, status, reason, requested_by, requested_at, since_log_seq,
         until_log_seq, metadata)
    SELECT $1, 1 + coalesce(max(job_seq), 0), $2, $3, $4, 'queued', $5, $6, $7, $8, $9, $10
    FROM replay_jobs
    WHERE tenant_id = $1
    RETURNING {_COLUMNS}
"""

# The unique key (tenant_id, job_id).
_BY_ID: Final = f"""
    SELECT {_COLUMNS}
    FROM replay_jobs
    WHERE tenant_id = $1 AND job_id = $2
"""

# A range of the primary key, backwards.
_NEWEST: Final = f"""
    SELECT {_COLUMNS}
    FROM replay_jobs
    WHERE tenant_id = $1 AND job_seq < $2
      AND ($3 = '' OR projection = $3)
      AND ($4 = '' OR status = $4)
      AND mode = ANY ($5::text[])
    ORDER BY job_seq DESC
    LIMIT $6
"""

# A plain scan of the unique index of active jobs, over all tenants.
# See the migration that creates it: it looks at all tenants.
_CLAIMABLE: Final = f"SELECT tenant_id, job_id FROM claimable_replay_jobs(interval '{RUNNER_LOST_SECONDS} seconds')"

_CLAIM: Final = f"""
    UPDATE replay_jobs
    SET status = 'running', runner_id = $3, alive_at = clock_timestamp(), started_at = coalesce(started_at, $4)
    WHERE tenant_id = $1 AND job_id = $2 AND status IN ('queued', 'running')
      AND (runner_id IS NULL OR alive_at < clock_timestamp() - interval '{RUNNER_LOST_SECONDS} seconds')
    RETURNING {_COLUMNS}
"""

_REPORT: Final = """
    UPDATE replay_jobs
    SET alive_at = clock_timestamp(), processed_events = $4, total_events = $5, last_log_seq = $6,
        events_per_second = $7
    WHERE tenant_id = $1 AND job_id = $2 AND runner_id = $3 AND status = 'running'
    RETURNING true
"""

_TOUCH: Final = """
    UPDATE replay_jobs
    SET alive_at = clock_timestamp()
    WHERE tenant_id = $1 AND job_id = $2 AND runner_id = $3 AND status = 'running'
    RETURNING true
"""

_FINISH: Final = """
    UPDATE replay_jobs
    SET status = $4, finished_at = $5, error_code = $6, error_message = $7, verify_results = $8
    WHERE tenant_id = $1 AND job_id = $2 AND runner_id = $3 AND status = 'running'
    RETURNING true
"""

_RELEASE: Final = """
    UPDATE replay_jobs
    SET runner_id = NULL
    WHERE tenant_id = $1 AND job_id = $2 AND runner_id = $3 AND status = 'running'
"""

_CANCEL: Final = f"""
    UPDATE replay_jobs
    SET status = 'cancelled', finished_at = $3
    WHERE tenant_id = $1 AND job_id = $2 AND status IN ('queued', 'running')
    RETURNING {_COLUMNS}
"""


async def fetch_active(transaction: TenantTransaction) -> list[ReplayJob]:
    """The jobs that wait or work."""
    return [_job(row) for row in await transaction.fetch(_ACTIVE)]


async def insert(
    transaction: TenantTransaction, job_id: str, request: ReplayRequest, *, requested_by: str, requested_at_micros: int
) -> ReplayJob:
    """Queue a job. The caller holds the lock that admits one at a time (projection_state.lock_live)."""
    row = await transaction.fetch_row(
        _INSERT,
        job_id,
        request.projection,
        request.mode,
        request.reason,
        requested_by,
        requested_at_micros,
        request.since_log_seq,
        request.until_log_seq,
        request.metadata,
    )
    if row is None:
        raise AssertionError("an INSERT … RETURNING without a row")
    return _job(row)


async def fetch(transaction: TenantTransaction, job_id: str) -> ReplayJob | None:
    """The tenant's job with this id."""
    row = await transaction.fetch_row(_BY_ID, job_id)
    return None if row is None else _job(row)


async def fetch_newest(
    transaction: TenantTransaction, *, before_seq: int, projection: str, status: str, modes: Sequence[str], limit: int
) -> list[ReplayJob]:
    """Jobs with a lower `job_seq`, newest first; an empty text is no filter."""
    rows = await transaction.fetch(_NEWEST, before_seq, projection, status, list(modes), limit)
    return [_job(row) for row in rows]


async def fetch_claimable(database: Database) -> list[tuple[TenantId, str]]:
    """Tenant and id of jobs without a living runner, oldest first, at most 20."""
    return [(TenantId(row["tenant_id"]), row["job_id"]) for row in await database.fetch_installation_rows(_CLAIMABLE)]


async def claim(transaction: TenantTransaction, job_id: str, runner_id: str, *, now_micros: int) -> ReplayJob | None:
    """Make this runner the job's; None if another was faster or the job has ended."""
    row = await transaction.fetch_row(_CLAIM, job_id, runner_id, now_micros)
    return None if row is None else _job(row)


async def report(
    transaction: TenantTransaction,
    job_id: str,
    runner_id: str,
    *,
    processed_events: int,
    total_events: int,
    last_log_seq: int,
    events_per_second: float,
) -> bool:
    """Write progress and a sign of life; False if the job is no longer this runner's, or was cancelled."""
    return bool(
        await transaction.fetch_value(
            _REPORT, job_id, runner_id, processed_events, total_events, last_log_seq, events_per_second
        )
    )


async def touch(transaction: TenantTransaction, job_id: str, runner_id: str) -> bool:
    """Give a sign of life, and lock the job to the end of the transaction; False if it is no longer this runner's."""
    return bool(await transaction.fetch_value(_TOUCH, job_id, runner_id))


async def finish(
    transaction: TenantTransaction,
    job_id: str,
    runner_id: str,
    *,
    status: str,
    now_micros: int,
    error_code: str | None = None,
    error_message: str | None = None,
    verify_results: Sequence[VerifyResult] = (),
) -> bool:
    """End a job; False if it is no longer this runner's, or was cancelled."""
    results = orjson.dumps(list(verify_results)).decode()
    return bool(
        await transaction.fetch_value(
            _FINISH, job_id, runner_id, status, now_micros, error_code, error_message, results
        )
    )


async def release(transaction: TenantTransaction, job_id: str, runner_id: str) -> None:
    """Let another runner take the job over at once."""
    await transaction.execute(_RELEASE, job_id, runner_id)


async def cancel(transaction: TenantTransaction, job_id: str, *, now_micros: int) -> ReplayJob | None:
    """End an active job; None if it is unknown or no longer active."""
    row = await transaction.fetch_row(_CANCEL, job_id, now_micros)
    return None if row is None else _job(row)


def _job(row: asyncpg.Record) -> ReplayJob:
    return ReplayJob(
        job_seq=row["job_seq"],
        job_id=row["job_id"],
        request=ReplayRequest(
            projection=row["projection"],
            mode=row["mode"],
            reason=row["reason"],
            since_log_seq=row["since_log_seq"],
            until_log_seq=row["until_log_seq"],
            metadata=row["metadata"],
        ),
        status=row["status"],
        requested_by=row["requested_by"],
        requested_at_micros=row["requested_at"],
        started_at_micros=row["started_at"],
        finished_at_micros=row["finished_at"],
        processed_events=row["processed_events"],
        total_events=row["total_events"],
        last_log_seq=row["last_log_seq"],
        events_per_second=row["events_per_second"],
        error_code=row["error_code"],
        error_message=row["error_message"],
        verify_results=[VerifyResult(**result) for result in orjson.loads(row["verify_results"])],
    )
