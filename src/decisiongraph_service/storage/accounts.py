"""Service accounts and their API keys. They belong to the installation, not to a tenant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from decisiongraph_service.storage.database import Database, InstallationTransaction

_ACCOUNT_COLUMNS: Final = "account_id, display_name, tenant_ids, roles, permissions, created_at, disabled_at"
_KEY_COLUMNS: Final = "key_id, account_id, prefix, created_at, expires_at, last_used_at, revoked_at"

_CREATE: Final = f"""
    INSERT INTO service_accounts ({_ACCOUNT_COLUMNS})
    VALUES ($1, $2, $3, $4, $5, $6, NULL)
    ON CONFLICT (account_id) DO NOTHING
    RETURNING {_ACCOUNT_COLUMNS}
"""

_BY_ID: Final = f"""
    SELECT {_ACCOUNT_COLUMNS}
    FROM service_accounts
    WHERE account_id = $1
"""

_BY_ID_LOCKED: Final = f"{_BY_ID} FOR UPDATE"

_LIST: Final = f"""
    SELECT {_ACCOUNT_COLUMNS}
    FROM service_accounts
    WHERE account_id > $1 AND ($2::text IS NULL OR $2 = ANY (tenant_ids))
    ORDER BY account_id
    LIMIT $3
"""

_SET_DISABLED: Final = f"""
    UPDATE service_accounts
    SET disabled_at = CASE WHEN $2::timestamptz IS NULL THEN NULL ELSE coalesce(disabled_at, $2) END
    WHERE account_id = $1
    RETURNING {_ACCOUNT_COLUMNS}
"""

_MANAGERS: Final = """
    SELECT account_id
    FROM service_accounts
    WHERE disabled_at IS NULL AND 'access_manage' = ANY (permissions)
    ORDER BY account_id
    FOR UPDATE
"""

_MANAGERS_WITH_KEYS: Final = """
    SELECT account_id
    FROM service_accounts AS account
    WHERE disabled_at IS NULL AND 'access_manage' = ANY (permissions)
      AND EXISTS (
          SELECT FROM api_keys
          WHERE api_keys.account_id = account.account_id AND revoked_at IS NULL
            AND (expires_at IS NULL OR expires_at > $1)
      )
    ORDER BY account_id
"""

_CREATE_KEY: Final = f"""
    INSERT INTO api_keys ({_KEY_COLUMNS}, secret_hash)
    VALUES ($1, $2, $3, $4, $5, NULL, NULL, $6)
    RETURNING {_KEY_COLUMNS}
"""

_KEYS: Final = f"""
    SELECT {_KEY_COLUMNS}
    FROM api_keys
    WHERE account_id = $1
    ORDER BY created_at DESC, key_id
    LIMIT 1000
"""

_COUNT_VALID_KEYS: Final = """
    SELECT count(*)
    FROM api_keys
    WHERE account_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
"""

_REVOKE: Final = f"""
    UPDATE api_keys
    SET revoked_at = coalesce(revoked_at, $3)
    WHERE account_id = $1 AND key_id = $2
    RETURNING {_KEY_COLUMNS}
"""

_CREDENTIALS: Final = f"""
    SELECT api_keys.secret_hash, {", ".join(f"api_keys.{name}" for name in _KEY_COLUMNS.split(", "))},
           {", ".join(f"account.{name}" for name in _ACCOUNT_COLUMNS.split(", "))}
    FROM api_keys
    JOIN service_accounts AS account ON account.account_id = api_keys.account_id
    WHERE api_keys.key_id = $1
"""

_TOUCH: Final = """
    UPDATE api_keys
    SET last_used_at = $2
    WHERE key_id = $1 AND (last_used_at IS NULL OR last_used_at < $2::timestamptz - interval '1 minute')
"""


@dataclass(frozen=True, slots=True)
class Account:
    """A service account. Times are microseconds since 1970-01-01T00:00:00Z."""

    account_id: str
    display_name: str
    tenant_ids: Sequence[str]
    roles: Sequence[str]
    permissions: Sequence[str]
    created_at_micros: int = 0
    disabled_at_micros: int | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret. Times are microseconds since 1970-01-01T00:00:00Z."""

    key_id: str
    account_id: str
    prefix: str
    """The first characters of the secret."""
    created_at_micros: int
    expires_at_micros: int | None
    last_used_at_micros: int | None
    """To the minute."""
    revoked_at_micros: int | None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a secret is checked against, and whom it speaks for."""

    secret_hash: bytes
    key: ApiKey
    account: Account


async def create(transaction: InstallationTransaction, account: Account) -> Account | None:
    """Make an account; None if one with this id exists."""
    row = await transaction.fetch_row(
        _CREATE,
        account.account_id,
        account.display_name,
        list(account.tenant_ids),
        list(account.roles),
        list(account.permissions),
        account.created_at_micros,
    )
    return None if row is None else Account(*row)


async def fetch(transaction: InstallationTransaction, account_id: str, *, lock: bool = False) -> Account | None:
    """One account; locked to the end of the transaction if asked for."""
    row = await transaction.fetch_row(_BY_ID_LOCKED if lock else _BY_ID, account_id)
    return None if row is None else Account(*row)


async def fetch_page(
    transaction: InstallationTransaction, *, after: str, tenant_id: str | None, limit: int
) -> list[Account]:
    """Accounts by id, those behind `after`; `tenant_id`: only those that may act in it."""
    return [Account(*row) for row in await transaction.fetch(_LIST, after, tenant_id, limit)]


async def set_disabled(
    transaction: InstallationTransaction, account_id: str, disabled_at_micros: int | None
) -> Account | None:
    """Disable an account, or enable it with None; one that is disabled keeps its time."""
    row = await transaction.fetch_row(_SET_DISABLED, account_id, disabled_at_micros)
    return None if row is None else Account(*row)


async def lock_managers(transaction: InstallationTransaction) -> list[str]:
    """The enabled accounts that may manage access; they stay so to the end of the transaction."""
    return [row["account_id"] for row in await transaction.fetch(_MANAGERS)]


async def fetch_managers_with_keys(transaction: InstallationTransaction, *, now_micros: int) -> list[str]:
    """The enabled accounts that may manage access and have a valid key to do it with."""
    return [row["account_id"] for row in await transaction.fetch(_MANAGERS_WITH_KEYS, now_micros)]


async def create_key(transaction: InstallationTransaction, key: ApiKey, secret_hash: bytes) -> ApiKey:
    """Make a key."""
    row = await transaction.fetch_row(
        _CREATE_KEY,
        key.key_id,
        key.account_id,
        key.prefix,
        key.created_at_micros,
        key.expires_at_micros,
        secret_hash,
    )
    if row is None:
        raise LookupError("an insert with RETURNING answered no row")
    return ApiKey(*row)


async def fetch_keys(transaction: InstallationTransaction, account_id: str) -> list[ApiKey]:
    """The keys of an account, newest first, at most 1,000."""
    return [ApiKey(*row) for row in await transaction.fetch(_KEYS, account_id)]


async def count_valid_keys(transaction: InstallationTransaction, account_id: str, *, now_micros: int) -> int:
    """The number of keys that are neither revoked nor expired."""
    return int(await transaction.fetch_value(_COUNT_VALID_KEYS, account_id, now_micros))


async def revoke_key(
    transaction: InstallationTransaction, account_id: str, key_id: str, *, now_micros: int
) -> ApiKey | None:
    """Revoke a key for good; one that is revoked keeps its time. None: the account has no such key."""
    row = await transaction.fetch_row(_REVOKE, account_id, key_id, now_micros)
    return None if row is None else ApiKey(*row)


async def fetch_credentials(database: Database, key_id: str) -> Credentials | None:
    """What belongs to a key, with its account."""
    rows = await database.fetch_installation_rows(_CREDENTIALS, key_id)
    if not rows:
        return None
    hashed, *columns = rows[0]
    return Credentials(hashed, ApiKey(*columns[:7]), Account(*columns[7:]))


async def remember_use(transaction: InstallationTransaction, key_id: str, *, now_micros: int) -> None:
    """Note that a token was issued for a key, to the minute."""
    await transaction.execute(_TOUCH, key_id, now_micros)
