"""Tenants: the isolation scopes, and the empty log that each begins with."""

from typing import Final

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import projection_state
from decisiongraph_service.storage.database import Database, TenantTransaction

_CREATE: Final = """
    INSERT INTO tenants (tenant_id, display_name, created_at)
    VALUES ($1, $2, $3)
    ON CONFLICT (tenant_id) DO NOTHING
"""

_CREATE_HEAD: Final = """
    INSERT INTO log_heads (tenant_id, log_seq)
    VALUES ($1, 0)
    ON CONFLICT (tenant_id) DO NOTHING
"""


_ALL: Final = "SELECT tenant_id FROM tenants ORDER BY tenant_id"


async def fetch_all(database: Database) -> list[TenantId]:
    """The ids of all tenants."""
    return [TenantId(row["tenant_id"]) for row in await database.fetch_installation_rows(_ALL)]


async def create(transaction: TenantTransaction, *, display_name: str, created_at_micros: int) -> None:
    """Make the transaction's tenant with an empty log. One that exists is left as it is."""
    await transaction.execute(_CREATE, display_name, created_at_micros)
    await transaction.execute(_CREATE_HEAD)
    await projection_state.begin(transaction)
