"""Tenants: the isolation scopes, and the empty log that each begins with."""

from dataclasses import dataclass
from typing import Final

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import projection_state
from decisiongraph_service.storage.database import Database, InstallationTransaction, TenantTransaction

SYSTEM: Final = TenantId("decisiongraph-system")
"""The tenant whose audit log holds the acts on the whole installation."""

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

_COLUMNS: Final = "tenant_id, display_name, created_at, disabled_at"

_ALL: Final = "SELECT tenant_id FROM tenants ORDER BY tenant_id"

_BY_ID: Final = f"""
    SELECT {_COLUMNS}
    FROM tenants
    WHERE tenant_id = $1
"""

_LOCK: Final = "SELECT FROM tenants WHERE tenant_id = $1 FOR UPDATE"

_LIST: Final = f"""
    SELECT {_COLUMNS}
    FROM tenants
    WHERE tenant_id > $1
    ORDER BY tenant_id
    LIMIT $2
"""

_MISSING: Final = """
    SELECT wanted.tenant_id
    FROM unnest($1::text[]) AS wanted (tenant_id)
    WHERE NOT EXISTS (SELECT FROM tenants WHERE tenants.tenant_id = wanted.tenant_id)
    ORDER BY wanted.tenant_id
"""

_SET_DISABLED: Final = f"""
    UPDATE tenants
    SET disabled_at = CASE WHEN $2::timestamptz IS NULL THEN NULL ELSE coalesce(disabled_at, $2) END
    WHERE tenant_id = $1
    RETURNING {_COLUMNS}
"""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant. Times are microseconds since 1970-01-01T00:00:00Z."""

    tenant_id: str
    display_name: str
    created_at_micros: int
    disabled_at_micros: int | None


async def fetch_all(database: Database) -> list[TenantId]:
    """The ids of all tenants."""
    return [TenantId(row["tenant_id"]) for row in await database.fetch_installation_rows(_ALL)]


async def create(transaction: TenantTransaction, *, display_name: str, created_at_micros: int) -> None:
    """Make the transaction's tenant with an empty log. One that exists is left as it is."""
    await transaction.execute(_CREATE, display_name, created_at_micros)
    await transaction.execute(_CREATE_HEAD)
    await projection_state.begin(transaction)


async def fetch(transaction: InstallationTransaction, tenant_id: str) -> Tenant | None:
    """One tenant."""
    row = await transaction.fetch_row(_BY_ID, tenant_id)
    return None if row is None else Tenant(*row)


async def lock(transaction: InstallationTransaction, tenant_id: str) -> None:
    """Let others who lock this tenant wait until the end of the transaction."""
    await transaction.execute(_LOCK, tenant_id)


async def fetch_page(transaction: InstallationTransaction, *, after: str, limit: int) -> list[Tenant]:
    """Tenants by id, those behind `after`."""
    return [Tenant(*row) for row in await transaction.fetch(_LIST, after, limit)]


async def fetch_missing(transaction: InstallationTransaction, tenant_ids: list[str]) -> list[str]:
    """Those of these ids that no tenant has."""
    return [row["tenant_id"] for row in await transaction.fetch(_MISSING, tenant_ids)]


async def set_disabled(
    transaction: InstallationTransaction, tenant_id: str, disabled_at_micros: int | None
) -> Tenant | None:
    """Disable a tenant, or enable it with None; one that is disabled keeps its time."""
    row = await transaction.fetch_row(_SET_DISABLED, tenant_id, disabled_at_micros)
    return None if row is None else Tenant(*row)
