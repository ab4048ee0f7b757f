"""Migrations go up and down and up again, also from several sides at once; a server starts only on what is safe."""

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from tests import samples
from tests.own_ports import own_port
from tests.replaying import Projections

from decisiongraph_service.domain import errors
from decisiongraph_service.queries.readiness import Readiness
from decisiongraph_service.runtime import server
from decisiongraph_service.storage import installation, migrations, projection_state
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database

_NUMBERS = itertools.count()


@pytest.fixture
async def empty_url(database_url: str) -> AsyncIterator[str]:
    """A database that was never migrated."""
    name = f"migrated_{next(_NUMBERS)}"
    owner = await asyncpg.connect(database_url)
    await owner.execute(f"CREATE DATABASE {name}")
    yield database_url.rsplit("/", 1)[0] + f"/{name}"
    await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await owner.close()


async def upgrade(url: str) -> None:
    await migrations.upgrade(url, server.migrations_folder())


async def made(url: str) -> set[str]:
    """What there is of the service in a database."""
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetch(
            "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' "
            "UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        )
    finally:
        await connection.close()
    return {row["name"] for row in found} - {"alembic_version"}


async def revision(url: str) -> str:
    database = await Database.open(url, pool_size=1)
    try:
        return await installation.fetch_revision(database)
    finally:
        await database.close()


async def serve(url: str, folder: Path, **environment: str) -> tuple[int, str]:
    """Exit code and output of a server that is expected not to start."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "decisiongraph_service.cli.main", "serve"),
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("DG_")},
            "DG_DATABASE_URL": url,
            "DG_DATA_DIR": str(folder),
            "DG_GRPC_PORT": str(own_port()),
            **environment,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(30):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_an_upgraded_database_has_the_newest_revision(empty_url: str) -> None:
    await upgrade(empty_url)
    assert await revision(empty_url) == migrations.newest_revision(server.migrations_folder())


async def test_down_to_the_base_removes_everything_and_up_again_makes_it_anew(empty_url: str) -> None:
    await upgrade(empty_url)
    first = await made(empty_url)
    assert {"events", "log_heads", "tenants", "append_events"} <= first
    await migrations.downgrade(empty_url, server.migrations_folder(), "base")
    assert await made(empty_url) == set()
    await upgrade(empty_url)
    assert await made(empty_url) == first


async def test_a_second_upgrade_changes_nothing(empty_url: str) -> None:
    await upgrade(empty_url)
    database = await Database.open(empty_url, pool_size=1)
    key = await installation.fetch_key(database, "page_token")
    await upgrade(empty_url)
    assert await installation.fetch_key(database, "page_token") == key
    await database.close()


async def test_upgrades_at_the_same_moment_take_turns(empty_url: str) -> None:
    await asyncio.gather(*(upgrade(empty_url) for _ in range(4)))
    assert await revision(empty_url) == migrations.newest_revision(server.migrations_folder())


async def test_a_database_that_cannot_be_reached_is_said() -> None:
    with pytest.raises(errors.StorageUnavailable, match="cannot be migrated"):
        await upgrade("postgresql://nobody@127.0.0.1:1/nothing")


async def test_a_server_does_not_start_on_a_database_without_migrations(empty_url: str, tmp_path: Path) -> None:
    code, output = await serve(empty_url, tmp_path, DG_ALLOW_UNSAFE_DATABASE="true")
    assert code == 1
    assert "decisiongraph migrate" in output
    assert "Traceback" not in output


async def test_a_server_does_not_start_on_a_database_at_another_revision(empty_url: str, tmp_path: Path) -> None:
    await upgrade(empty_url)
    await later_migration(empty_url, revision="9999", oldest_server="9999")
    code, output = await serve(empty_url, tmp_path, DG_ALLOW_UNSAFE_DATABASE="true")
    assert code == 1
    assert "revision 9999" in output
    assert "Traceback" not in output


async def test_a_server_does_not_start_on_a_database_that_may_lose_commits(database_url: str, tmp_path: Path) -> None:
    code, output = await serve(database_url, tmp_path)
    assert code == 1
    for setting in ("fsync = off", "full_page_writes = off", "synchronous_commit = off"):
        assert setting in output
    assert "DG_ALLOW_UNSAFE_DATABASE" in output
    assert "Traceback" not in output


async def test_nor_do_several_workers(database_url: str, tmp_path: Path) -> None:
    code, output = await serve(database_url, tmp_path, DG_WORKERS="2")
    assert code == 1
    assert "fsync = off" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("setting", "safe"),
    [("off", False), ("local", False), ("remote_write", False), ("on", True), ("remote_apply", True)],
)
async def test_synchronous_commit_is_safe_from_on_upwards(empty_url: str, setting: str, safe: bool) -> None:
    await upgrade(empty_url)
    owner = await asyncpg.connect(empty_url)
    name = await owner.fetchval("SELECT current_database()")
    await owner.execute(f"ALTER DATABASE {name} SET synchronous_commit = {setting}")
    await owner.close()
    database = await Database.open(empty_url, pool_size=1)
    unsafe = await installation.fetch_unsafe_settings(database)
    await database.close()
    assert (f"synchronous_commit = {setting}" in unsafe) is not safe


async def test_projections_go_on_after_a_way_back_to_the_first_revision(empty_url: str) -> None:
    await upgrade(empty_url)
    database = await Database.open(empty_url, pool_size=4)
    projections = Projections(database, CommitSignal(empty_url))
    tenant_id = await projections.make_tenant("kept")
    events = [
        samples.start("t"),
        samples.checked(key="t/1", trace_id="t"),
        samples.checked("TraceFinished", key="t/2", trace_id="t"),
    ]
    await projections.append(tenant_id, events)
    await projections.projector().catch_up(tenant_id)
    before = await projections.digests(tenant_id)
    await database.close()

    await migrations.downgrade(empty_url, server.migrations_folder(), "0001")
    await upgrade(empty_url)

    database = await Database.open(empty_url, pool_size=4)
    projections = Projections(database, CommitSignal(empty_url))
    async with database.tenant_statements(tenant_id) as statements:
        positions = {one.projection: one.log_seq for one in await projection_state.fetch_live(statements)}
        assert positions == {"trace_summary": 0, "context_graph": 0, "precedent_index": 0}
        assert await projection_state.count_traces(statements) == 1
    await projections.projector().catch_up(tenant_id)
    assert await projections.digests(tenant_id) == before
    await database.close()


async def later_migration(url: str, *, revision: str, oldest_server: str) -> None:
    """What a migration of a later version leaves behind."""
    connection = await asyncpg.connect(url)
    await connection.execute("UPDATE alembic_version SET version_num = $1", revision)
    await connection.execute("UPDATE schema_compatibility SET oldest_server = $1", oldest_server)
    await connection.close()


async def ready(url: str) -> list[str]:
    """The checks that a server of this version passes."""
    needed = migrations.newest_revision(server.migrations_folder())
    database = await Database.open(url, pool_size=1)
    try:
        return await Readiness(database, needed_revision=needed, projector_follows=lambda: True).check()
    finally:
        await database.close()


async def test_a_server_goes_on_after_a_migration_that_only_adds(empty_url: str) -> None:
    await upgrade(empty_url)
    await later_migration(
        empty_url, revision="9999", oldest_server=migrations.newest_revision(server.migrations_folder())
    )

    assert await ready(empty_url) == ["database", "migrations", "projector"]


async def test_a_server_stops_being_ready_after_a_migration_that_needs_newer_ones(empty_url: str) -> None:
    await upgrade(empty_url)
    await later_migration(empty_url, revision="9999", oldest_server="9998")

    with pytest.raises(errors.StorageUnavailable, match="revision 9999, which needs servers of revision 9998 or later"):
        await ready(empty_url)


async def test_the_newest_migration_says_which_servers_may_go_on(empty_url: str) -> None:
    await upgrade(empty_url)
    database = await Database.open(empty_url, pool_size=1)
    oldest = await installation.fetch_oldest_server(database)
    await database.close()

    assert oldest <= migrations.newest_revision(server.migrations_folder())
    assert oldest in {path.name[:4] for path in (server.migrations_folder() / "versions").glob("0*.py")}


async def test_a_database_that_was_dropped_is_an_outage(empty_url: str, database_url: str) -> None:
    await upgrade(empty_url)
    database = await Database.open(empty_url, pool_size=1)
    owner = await asyncpg.connect(database_url)
    try:
        await owner.execute(f"DROP DATABASE {empty_url.rpartition('/')[2]} WITH (FORCE)")
        # The connection that was open breaks, and the next one finds no database.
        for _ in range(2):
            with pytest.raises(errors.StorageUnavailable):
                await installation.ping(database)
    finally:
        await database.close()
        await owner.execute(f"CREATE DATABASE {empty_url.rpartition('/')[2]}")
        await owner.close()
