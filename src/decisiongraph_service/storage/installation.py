"""What belongs to the whole installation: its keys and the state of its schema."""

from typing import Final

from decisiongraph_service.storage.database import Database

_KEY: Final = "SELECT key FROM installation_keys WHERE name = $1"
_REVISION: Final = "SELECT version_num FROM alembic_version"
_PING: Final = "SELECT 1"


async def fetch_key(database: Database, name: str) -> bytes:
    """A key that all servers share, 32 bytes."""
    return bytes(await database.fetch_installation_value(_KEY, name))


async def fetch_revision(database: Database) -> str:
    """The revision of the schema; empty if it was never migrated."""
    return str(await database.fetch_installation_value(_REVISION) or "")


async def ping(database: Database) -> None:
    """Return if the database answers.

    Raises:
        StorageUnavailable: it does not.
    """
    await database.fetch_installation_value(_PING)
