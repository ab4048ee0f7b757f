"""Bringing a database to the schema that this version needs, and telling whether it is there.

Safe to run from several processes at once: they take turns by a lock of the database.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import asyncpg
from alembic import command, script
from alembic.config import Config
from sqlalchemy import Connection, pool
from sqlalchemy.ext.asyncio import create_async_engine

from decisiongraph_service.domain import errors

_LOCK: Final = 4_370_160_501
"""Key of the advisory lock under which migrations run; any constant that others are unlikely to use."""


def _config(folder: Path, connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.attributes["connection"] = connection
    return config


def newest_revision(folder: Path) -> str:
    """The revision that the code of this version needs."""
    return script.ScriptDirectory.from_config(_config(folder)).get_current_head() or ""


async def upgrade(database_url: str, folder: Path) -> None:
    """Bring the database at `database_url` to the newest revision in `folder`. Does nothing if it is there.

    Raises:
        StorageUnavailable: the database cannot be reached, or the account may not create what is needed.
    """
    await _run(database_url, folder, lambda config: command.upgrade(config, "head"))


async def downgrade(database_url: str, folder: Path, revision: str) -> None:
    """Take the database back to `revision`; `base` removes everything, data included.

    Raises:
        StorageUnavailable: the database cannot be reached, or refuses.
    """
    await _run(database_url, folder, lambda config: command.downgrade(config, revision))


async def _run(database_url: str, folder: Path, work: Callable[[Config], None]) -> None:
    def work_on(connection: Connection) -> None:
        work(_config(folder, connection))

    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(database_url), poolclass=pool.NullPool
    )
    try:
        async with engine.begin() as connection:
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            await connection.run_sync(work_on)
    except (OSError, asyncpg.PostgresError) as error:
        raise errors.StorageUnavailable(f"the database cannot be migrated: {error}") from error
    finally:
        await engine.dispose()
