"""The audit log: administrative acts, done and refused. Append-only, as the log of events."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from decisiongraph_service.storage.database import TenantTransaction

# The head row numbers the entries, so that two at once do not get the same place.
_APPEND: Final = """
    WITH head AS (
        INSERT INTO audit_heads AS known (tenant_id, audit_seq)
        VALUES ($1, 1)
        ON CONFLICT (tenant_id) DO UPDATE
        SET audit_seq = known.audit_seq + 1
        RETURNING audit_seq
    )
    INSERT INTO audit_entries
        (tenant_id, audit_seq, recorded_at, account_id, action, target, reason, outcome, refusal_reason, request_id)
    SELECT $1, audit_seq, $2, $3, $4, $5, $6, CASE WHEN $7::text IS NULL THEN 'done' ELSE 'refused' END, $7, $8
    FROM head
"""

# The primary key, backwards: so many entries are looked at, the filters only drop some of them. One row comes at least.
_NEWEST: Final = """
    WITH scanned AS MATERIALIZED (
        SELECT audit_seq, recorded_at, account_id, action, target, reason, outcome, refusal_reason, request_id
        FROM audit_entries
        WHERE tenant_id = $1 AND audit_seq < $2
        ORDER BY audit_entries.audit_seq DESC
        LIMIT $3
    )
    SELECT scan.reached, scan.looked_at, found.*
    FROM (SELECT min(audit_seq) AS reached, count(*) AS looked_at FROM scanned) AS scan
    LEFT JOIN LATERAL (
        SELECT *
        FROM scanned
        WHERE ($5::text IS NULL OR account_id = $5)
          AND ($6::text IS NULL OR action = $6)
          AND ($7::text IS NULL OR outcome = $7)
          AND ($8::timestamptz IS NULL OR recorded_at > $8)
          AND ($9::timestamptz IS NULL OR recorded_at <= $9)
        ORDER BY audit_seq DESC
        LIMIT $4
    ) AS found ON true
    ORDER BY found.audit_seq DESC
"""


@dataclass(frozen=True, slots=True)
class Act:
    """Who does what, and why: what an audit entry says besides its outcome."""

    account_id: str
    action: str
    """The full name of the rpc."""
    reason: str
    request_id: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An act on record."""

    audit_seq: int
    recorded_at_micros: int
    account_id: str
    action: str
    target: str
    reason: str
    outcome: str
    """`done` or `refused`."""
    refusal_reason: str | None
    request_id: str


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries are wanted; None: no filter. The lower bound is exclusive, the upper one inclusive."""

    account_id: str | None = None
    action: str | None = None
    outcome: str | None = None
    since_recorded_micros: int | None = None
    until_recorded_micros: int | None = None


@dataclass(frozen=True, slots=True)
class AuditStep:
    """What one step through the log found."""

    found: Sequence[AuditEntry]
    next_before: int | None
    """Where the next step begins; None: nothing is left."""


async def append(
    transaction: TenantTransaction, act: Act, *, target: str, refusal_reason: str | None = None, now_micros: int
) -> None:
    """Write one entry; belongs into the transaction of the act. `refusal_reason`: None if it was done."""
    await transaction.execute(
        _APPEND, now_micros, act.account_id, act.action, target, act.reason, refusal_reason, act.request_id
    )


async def fetch_newest(
    transaction: TenantTransaction, matching: AuditFilter, *, before: int | None, limit: int, look_at: int
) -> AuditStep:
    """Entries before a position, newest first: at most `limit` among the next `look_at`."""
    rows = await transaction.fetch(
        _NEWEST,
        before,
        look_at,
        limit,
        matching.account_id,
        matching.action,
        matching.outcome,
        matching.since_recorded_micros,
        matching.until_recorded_micros,
    )
    found = [AuditEntry(*row[2:]) for row in rows if row["audit_seq"] is not None]
    if len(found) == limit:
        return AuditStep(found, found[-1].audit_seq)
    return AuditStep(found, rows[0]["reached"] if rows[0]["looked_at"] == look_at else None)
