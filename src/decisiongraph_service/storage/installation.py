"""What belongs to the whole installation: its keys and the state of its schema."""

from dataclasses import dataclass
from typing import Final

import asyncpg

from decisiongraph_service.storage.database import Database

_KEY: Final = "SELECT key FROM installation_keys WHERE name = $1"
_REVISION: Final = "SELECT version_num FROM alembic_version"
_OLDEST_SERVER: Final = "SELECT oldest_server FROM schema_compatibility"
_PING: Final = "SELECT 1"


_POSTGRES: Final = """
    SELECT current_setting('server_version_num')::int / 10000 AS major,
           (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_micros
"""
_DURABILITY: Final = """
    SELECT name, setting
    FROM pg_settings
    WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')
"""
_SAFE: Final = {
    "fsync": ("on",),
    "full_page_writes": ("on",),
    "synchronous_commit": ("on", "remote_apply"),
}


@dataclass(frozen=True, slots=True)
class Postgres:
    """The server of the database."""

    major: int
    """Its version."""
    now_micros: int
    """Its time, microseconds since 1970-01-01T00:00:00Z."""


async def fetch_postgres(database: Database) -> Postgres:
    """Version and time of the server."""
    (row,) = await database.fetch_installation_rows(_POSTGRES)
    return Postgres(row["major"], row["now_micros"])


async def fetch_unsafe_settings(database: Database) -> list[str]:
    """The settings of the database with which a commit may be lost, e.g. `fsync = off`; empty if it is safe."""
    settings = {row["name"]: row["setting"] for row in await database.fetch_installation_rows(_DURABILITY)}
    return [f"{name} = {settings[name]}" for name, safe in _SAFE.items() if settings[name] not in safe]


async def fetch_key(database: Database, name: str) -> bytes:
    """A key that all servers share, 32 bytes."""
    return bytes(await database.fetch_installation_value(_KEY, name))


async def fetch_oldest_server(database: Database) -> str:
    """The oldest revision whose servers work with this schema; empty if it does not say: only its own do."""
    try:
        return str(await database.fetch_installation_value(_OLDEST_SERVER) or "")
    except asyncpg.UndefinedTableError:
        return ""


async def fetch_revision(database: Database) -> str:
    """The revision of the schema; empty if it was never migrated."""
    try:
        return str(await database.fetch_installation_value(_REVISION) or "")
    except asyncpg.UndefinedTableError:
        return ""


async def ping(database: Database) -> None:
    """Return if the database answers.

    Raises:
        StorageUnavailable: it does not.
    """
    await database.fetch_installation_value(_PING)
