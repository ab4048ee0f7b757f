"""A database that may lack what was acknowledged is not read: a standby, or one that is still being restored.

Postgres lets such a one be read. A server that did would deny events that it had acknowledged, and refuse appends for
a log that it saw an old state of.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from decisiongraph_service.domain import errors
from decisiongraph_service.runtime import children, server
from decisiongraph_service.runtime.embedded_postgres import EmbeddedPostgres
from decisiongraph_service.storage import migrations
from decisiongraph_service.storage.database import Database


@pytest.fixture
async def standby(folder: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A migrated database that waits for WAL which never comes."""
    among = children.Children(folder / "logs", folder / "children.json")
    postgres = EmbeddedPostgres(folder / "postgres")
    try:
        await postgres.start(among)
        await migrations.upgrade(postgres.dsn, server.migrations_folder())
        await among.stop()
        signal = postgres.data / "standby.signal"
        signal.touch()
        owner = postgres.data.stat()
        os.chown(signal, owner.st_uid, owner.st_gid)
        await postgres.start(among)
        yield postgres
    finally:
        await among.stop()


async def test_a_standby_is_refused_until_it_is_promoted(standby: EmbeddedPostgres) -> None:
    connection = await asyncpg.connect(standby.dsn)
    try:
        assert await connection.fetchval("SELECT count(*) FROM log_heads") >= 0, "it can be read"
        with pytest.raises(errors.StorageUnavailable, match="standby"):
            await Database.open(standby.dsn, pool_size=2)
        assert await connection.fetchval("SELECT pg_promote()") is True
        opened = await Database.open(standby.dsn, pool_size=2)
        await opened.close()
    finally:
        await connection.close()
