"""Migrations go up, down and up again, from several places at once; a server refuses what is not as it needs it."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator

import asyncpg
import pytest

from decisiongraph_service.runtime import embedded_postgres, server
from decisiongraph_service.storage import installation, migrations
from decisiongraph_service.storage.database import Database

_FOLDER = server.migrations_folder()


@pytest.fixture
async def empty_database(database_url: str) -> AsyncIterator[str]:
    """A database of this test alone, without a schema, on the run's Postgres."""
    owner = await asyncpg.connect(database_url)
    await owner.execute("CREATE DATABASE migrated")
    yield database_url.rpartition("/")[0] + "/migrated"
    await owner.execute("DROP DATABASE migrated WITH (FORCE)")
    await owner.close()


async def _revision(url: str) -> str:
    database = await Database.open(url, pool_size=1)
    try:
        return await installation.fetch_revision(database)
    finally:
        await database.close()


async def test_up_down_and_up_again(empty_database: str) -> None:
    await migrations.upgrade(empty_database, _FOLDER)
    assert await _revision(empty_database) == migrations.newest_revision(_FOLDER)
    await migrations.downgrade(empty_database, _FOLDER, "base")
    connection = await asyncpg.connect(empty_database)
    left = await connection.fetch("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
    await connection.close()
    assert {row["relname"] for row in left} <= {"alembic_version", "alembic_version_pkc"}
    await migrations.upgrade(empty_database, _FOLDER)
    assert await _revision(empty_database) == migrations.newest_revision(_FOLDER)


async def test_several_may_migrate_at_once(empty_database: str) -> None:
    await asyncio.gather(*(migrations.upgrade(empty_database, _FOLDER) for _ in range(4)))
    assert await _revision(empty_database) == migrations.newest_revision(_FOLDER)


def _serve(url: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "decisiongraph_service.cli.main", "serve"],
        env={"PATH": "/usr/bin:/bin", "DG_DATABASE_URL": url, "DG_GRPC_PORT": "0", **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_a_server_refuses_a_database_that_is_not_migrated(empty_database: str, tmp_path: object) -> None:
    refused = await asyncio.to_thread(_serve, empty_database, DG_DATA_DIR=str(tmp_path))
    assert refused.returncode == 1
    assert "decisiongraph migrate" in refused.stderr
    assert "Traceback" not in refused.stderr


async def test_a_server_refuses_a_database_that_may_lose_commits(database_url: str, tmp_path: object) -> None:
    refused = await asyncio.to_thread(_serve, database_url, DG_DATA_DIR=str(tmp_path))
    assert refused.returncode == 1
    for setting in ("fsync = off", "full_page_writes = off", "synchronous_commit = off", "DG_ALLOW_UNSAFE_DATABASE"):
        assert setting in refused.stderr
    assert "Traceback" not in refused.stderr


async def test_a_durable_database_is_safe() -> None:
    async with embedded_postgres.temporary_postgres(durable=True) as postgres:
        await migrations.upgrade(postgres.dsn, _FOLDER)
        database = await Database.open(postgres.dsn, pool_size=1)
        assert await installation.fetch_unsafe_settings(database) == []
        await database.close()


async def test_a_server_without_a_database_says_where_it_looked(tmp_path: object) -> None:
    refused = await asyncio.to_thread(_serve, "postgresql://me:hush@127.0.0.1:1/none", DG_DATA_DIR=str(tmp_path))
    assert refused.returncode == 1
    assert "database cannot be opened" in refused.stderr
    assert "hush" not in refused.stderr
