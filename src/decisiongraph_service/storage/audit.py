"""The audit log: administrative acts, done and refused. Append-only, as the log of events."""

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


@dataclass(frozen=True, slots=True)
class Act:
    """Who does what, and why: what an audit entry says besides its outcome."""

    account_id: str
    action: str
    """The full name of the rpc."""
    reason: str
    request_id: str


async def append(
    transaction: TenantTransaction, act: Act, *, target: str, refusal_reason: str | None = None, now_micros: int
) -> None:
    """Write one entry; belongs into the transaction of the act. `refusal_reason`: None if it was done."""
    await transaction.execute(
        _APPEND, now_micros, act.account_id, act.action, target, act.reason, refusal_reason, act.request_id
    )
