"""What stops tokens before they expire: revoked keys, disabled accounts, disabled tenants."""

from dataclasses import dataclass
from typing import Final

from decisiongraph_service.storage.database import Database

_MAX_ROWS: Final = 100_000

# Each list is short: what was switched off, and of keys only what may still have tokens.
_ALL: Final = """
    (SELECT 'key' AS kind, key_id AS id FROM api_keys WHERE revoked_at > $1 LIMIT $2)
    UNION ALL
    (SELECT 'account', account_id FROM service_accounts WHERE disabled_at IS NOT NULL LIMIT $2)
    UNION ALL
    (SELECT 'tenant', tenant_id FROM tenants WHERE disabled_at IS NOT NULL LIMIT $2)
"""


@dataclass(frozen=True, slots=True)
class Revoked:
    """Ids that are switched off."""

    keys: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()
    tenants: frozenset[str] = frozenset()


async def fetch(database: Database, *, since_micros: int) -> Revoked:
    """Everything that is switched off; of keys those that were revoked after `since_micros`.

    Raises:
        StorageUnavailable: the database cannot be reached.
    """
    found: dict[str, set[str]] = {"key": set(), "account": set(), "tenant": set()}
    for row in await database.fetch_installation_rows(_ALL, since_micros, _MAX_ROWS):
        found[row["kind"]].add(row["id"])
    return Revoked(frozenset(found["key"]), frozenset(found["account"]), frozenset(found["tenant"]))
