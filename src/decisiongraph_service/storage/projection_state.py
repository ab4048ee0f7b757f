"""How far each projection of a tenant has come."""

from typing import Final

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage.database import Database, TenantTransaction

_POSITION: Final = """
    SELECT log_seq
    FROM projection_positions
    WHERE tenant_id = $1 AND projection = $2
"""

_BEGIN: Final = """
    INSERT INTO projection_positions (tenant_id, projection, log_seq)
    VALUES ($1, $2, 0)
    ON CONFLICT (tenant_id, projection) DO NOTHING
"""

_LOCK: Final = """
    SELECT log_seq
    FROM projection_positions
    WHERE tenant_id = $1 AND projection = $2
    FOR UPDATE SKIP LOCKED
"""

# A plain scan of all tenants, by the two primary keys; the rows are locked one by one afterwards.
_LAGGING: Final = """
    SELECT head.tenant_id
    FROM log_heads AS head
    LEFT JOIN projection_positions AS position
        ON position.tenant_id = head.tenant_id AND position.projection = $1
    WHERE head.log_seq > coalesce(position.log_seq, 0)
    LIMIT 1000
"""

_MOVE: Final = """
    INSERT INTO projection_positions (tenant_id, projection, log_seq)
    VALUES ($1, $2, $3)
    ON CONFLICT (tenant_id, projection) DO UPDATE
    SET log_seq = EXCLUDED.log_seq
"""


async def fetch_position(transaction: TenantTransaction, projection: str) -> int:
    """Log position of the last event whose effect is committed; 0 at the beginning."""
    row = await transaction.fetch_row(_POSITION, projection)
    return 0 if row is None else int(row["log_seq"])


async def lock_position(transaction: TenantTransaction, projection: str) -> int | None:
    """Lock the position to the end of the transaction and return it; None if another writer holds it."""
    row = await transaction.fetch_row(_LOCK, projection)
    if row is None:
        await transaction.execute(_BEGIN, projection)
        row = await transaction.fetch_row(_LOCK, projection)
    return None if row is None else int(row["log_seq"])


async def fetch_lagging_tenants(database: Database, projection: str) -> list[TenantId]:
    """Tenants whose projection is behind their log, at most 1,000."""
    return [TenantId(row["tenant_id"]) for row in await database.fetch_installation_rows(_LAGGING, projection)]


async def move(transaction: TenantTransaction, projection: str, log_seq: int) -> None:
    """Set the position; belongs into the transaction that writes the effect."""
    await transaction.execute(_MOVE, projection, log_seq)
