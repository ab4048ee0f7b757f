"""`decisiongraph db distribute`: its plan, what it refuses, and that it runs its steps once, in order.

Citus does not run here. In its place stand SQL functions of the same names and arguments that write down how they were
called and fill catalogs like those of Citus. So what is tested is what is asked of Citus, not what Citus makes of it.
"""

import asyncio
import itertools
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from decisiongraph_service.domain import errors
from decisiongraph_service.runtime import server
from decisiongraph_service.storage import migrations, sharding
from decisiongraph_service.storage.database import RUNTIME_ROLE

_NUMBERS = itertools.count()

_STAND_IN = """
    SET allow_system_table_mods = on;
    INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
    VALUES (4370160, 'citus', 10, 'pg_catalog'::regnamespace, false, '13.2-1');
    CREATE SCHEMA stand_in;
    CREATE TABLE stand_in.calls (number serial, call text);
    CREATE TABLE stand_in.pg_dist_partition (logicalrelid regclass, partmethod "char", colocationid integer);
    CREATE TABLE stand_in.pg_dist_object (classid oid, objid oid, distribution_argument_index integer);
    CREATE FUNCTION stand_in.create_reference_table(name regclass) RETURNS void LANGUAGE sql AS $$
        INSERT INTO stand_in.calls (call) VALUES (format('reference %s', name));
        INSERT INTO stand_in.pg_dist_partition VALUES (name, 'n', 1);
    $$;
    CREATE FUNCTION stand_in.create_distributed_table(
        name regclass, distribution_column text, colocate_with text DEFAULT 'default', shard_count integer DEFAULT NULL
    ) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        IF colocate_with <> 'none' AND NOT EXISTS (
            SELECT FROM stand_in.pg_dist_partition WHERE logicalrelid = colocate_with::regclass
        ) THEN
            RAISE 'table % is not distributed', colocate_with;
        END IF;
        INSERT INTO stand_in.calls (call)
        VALUES (format('table %s by %s with %s in %s', name, distribution_column, colocate_with, shard_count));
        INSERT INTO stand_in.pg_dist_partition VALUES (name, 'h', 2);
    END
    $$;
    CREATE FUNCTION stand_in.create_distributed_function(
        name regprocedure, argument text, colocate_with text, force_delegation boolean
    ) RETURNS void LANGUAGE sql AS $$
        INSERT INTO stand_in.calls (call)
        VALUES (format(
            'function %s by %s with %s forced %s', name::oid::regproc, argument, colocate_with, force_delegation
        ));
        INSERT INTO stand_in.pg_dist_object VALUES ('pg_proc'::regclass, name, 0);
    $$;
"""
# As pg_catalog, where Citus has them: found without a schema.
_FOUND = "ALTER DATABASE {database} SET search_path = public, stand_in"


@pytest.fixture
async def url(database_url: str) -> AsyncIterator[str]:
    """A migrated database without Citus."""
    name = f"distributed_{next(_NUMBERS)}"
    owner = await asyncpg.connect(database_url)
    await owner.execute(f"CREATE DATABASE {name}")
    url = database_url.rsplit("/", 1)[0] + f"/{name}"
    await migrations.upgrade(url, server.migrations_folder())
    yield url
    await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await owner.close()


@pytest.fixture
async def citus_url(url: str) -> AsyncIterator[str]:
    """The same with what stands in for Citus."""
    await execute(url, _STAND_IN)
    await execute(url, _FOUND.format(database=url.rpartition("/")[2]))
    await execute(url, f"ALTER ROLE {RUNTIME_ROLE} LOGIN")
    yield url
    await execute(url, f"ALTER ROLE {RUNTIME_ROLE} NOLOGIN")


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


async def calls(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT call FROM calls ORDER BY number")
    await connection.close()
    return [row["call"] for row in rows]


async def distribute(url: str, folder: Path, *arguments: str, answer: str = "") -> tuple[int, str, str]:
    """Exit code, output and errors of the command."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "decisiongraph_service.cli.main", "db", "distribute", *arguments),
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("DG_")},
            "DG_DATABASE_URL": url,
            "DG_DATA_DIR": str(folder),
        },
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            output, failure = await process.communicate(answer.encode())
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, output.decode(), failure.decode()


async def tables_of_tenants(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT table_name AS name FROM information_schema.columns WHERE column_name = 'tenant_id' "
        "AND table_schema = 'public' AND table_name <> 'tenants'"
    )
    await connection.close()
    return {row["name"] for row in rows}


async def test_a_dry_run_names_every_table_once_in_an_order_that_can_be_run(url: str, tmp_path: Path) -> None:
    code, output, _ = await distribute(url, tmp_path, "--dry-run", "--shards", "48")
    assert code == 0
    lines = output.splitlines()
    assert re.fullmatch(r"ALTER DATABASE distributed_\d+ SET citus.propagate_set_commands = 'local';", lines[0])
    references = re.findall(r"create_reference_table\('(\w+)'\)", output)
    # api_keys has a foreign key to service_accounts.
    assert references == ["service_accounts", "tenants", "api_keys"]
    tables = re.findall(r"create_distributed_table\('(\w+)', 'tenant_id', (.*)\)", output)
    assert tables[0] == ("log_heads", "colocate_with => 'none', shard_count => 48")
    assert {rest for _, rest in tables[1:]} == {"colocate_with => 'log_heads'"}
    assert sorted(name for name, _ in tables) == sorted(await tables_of_tenants(url))
    functions = re.findall(
        r"create_distributed_function\('(\w+)\(text,.*\)', 'tenant', "
        r"colocate_with => 'log_heads', force_delegation => true\)",
        output,
    )
    assert functions == ["append_events", "apply_projections"]
    assert len(lines) == 1 + len(references) + len(tables) + len(functions)
    order = [next(n for n, line in enumerate(lines) if kind in line) for kind in ("reference", "_table('log", "_func")]
    assert order == sorted(order)


async def test_without_citus_it_is_refused(url: str, tmp_path: Path) -> None:
    code, output, failure = await distribute(url, tmp_path, "--yes")
    assert (code, output) == (1, "")
    assert "CREATE EXTENSION citus" in failure
    assert failure.count("\n") == 1


async def test_a_database_that_is_not_migrated_is_refused(url: str, tmp_path: Path) -> None:
    await migrations.downgrade(url, server.migrations_folder(), "base")
    code, _, failure = await distribute(url, tmp_path, "--dry-run")
    assert code == 1
    assert "decisiongraph migrate" in failure


async def test_all_steps_are_run_once(citus_url: str, tmp_path: Path) -> None:
    code, output, failure = await distribute(citus_url, tmp_path, "--yes", "--shards", "8")
    assert (code, failure) == (0, "")
    made = await calls(citus_url)
    assert made[:4] == [
        "reference service_accounts",
        "reference tenants",
        "reference api_keys",
        "table log_heads by tenant_id with none in 8",
    ]
    tables = await tables_of_tenants(citus_url)
    assert set(made[4:-2]) == {f"table {name} by tenant_id with log_heads in " for name in tables - {"log_heads"}}
    assert made[-2:] == [
        f"function {name} by tenant with log_heads forced t" for name in ("append_events", "apply_projections")
    ]
    assert f"{len(made) + 1}/{len(made) + 1}  run apply_projections where its tenant is\n" in output

    code, output, _ = await distribute(citus_url, tmp_path, "--yes")
    assert (code, output) == (0, "everything is distributed already\n")
    code, output, _ = await distribute(citus_url, tmp_path, "--dry-run")
    assert all(line.startswith("-- done before: ") for line in output.splitlines())
    assert await calls(citus_url) == made


async def test_the_setting_holds_for_new_sessions(citus_url: str, tmp_path: Path) -> None:
    await distribute(citus_url, tmp_path, "--yes")
    connection = await asyncpg.connect(citus_url)
    assert await connection.fetchval("SHOW citus.propagate_set_commands") == "local"
    await connection.close()


async def test_a_run_that_was_stopped_goes_on_where_it_stopped(citus_url: str, tmp_path: Path) -> None:
    await execute(citus_url, "ALTER TABLE calls ADD CHECK (call NOT LIKE 'table precedents %')")
    code, output, failure = await distribute(citus_url, tmp_path, "--yes")
    assert code == 1
    assert "violates check constraint" in failure
    before = await calls(citus_url)
    assert len(before) == output.count("\n") - 1
    await execute(citus_url, "ALTER TABLE calls DROP CONSTRAINT calls_call_check")
    code, _, _ = await distribute(citus_url, tmp_path, "--yes")
    made = await calls(citus_url)
    assert code == 0
    assert made[: len(before)] == before
    assert len(made) == len(set(made)) == len(await tables_of_tenants(citus_url)) + 5


async def test_it_asks_before_it_changes_anything(citus_url: str, tmp_path: Path) -> None:
    code, output, _ = await distribute(citus_url, tmp_path, answer="n\n")
    assert code == 1
    assert "Distribute this database in 21 steps?" in output
    assert await calls(citus_url) == []
    code, _, _ = await distribute(citus_url, tmp_path, answer="y\n")
    assert code == 0
    assert len(await calls(citus_url)) == 20


async def test_while_servers_work_it_is_refused(citus_url: str, tmp_path: Path) -> None:
    serving = await asyncpg.connect(citus_url, server_settings={"application_name": "decisiongraph"})
    code, _, failure = await distribute(citus_url, tmp_path, "--yes")
    await serving.close()
    assert code == 1
    assert "stop all servers" in failure
    assert await calls(citus_url) == []


async def test_nodes_that_cannot_reach_each_other_are_refused(citus_url: str, tmp_path: Path) -> None:
    await execute(citus_url, f"ALTER ROLE {RUNTIME_ROLE} NOLOGIN")
    code, _, failure = await distribute(citus_url, tmp_path, "--yes")
    assert code == 1
    assert f"ALTER ROLE {RUNTIME_ROLE} LOGIN" in failure


async def test_a_citus_that_loses_privileges_is_refused(citus_url: str, tmp_path: Path) -> None:
    await execute(
        citus_url,
        "SET allow_system_table_mods = on; UPDATE pg_extension SET extversion = '13.0-1' WHERE extname = 'citus'",
    )
    code, _, failure = await distribute(citus_url, tmp_path, "--yes")
    assert code == 1
    assert "13.1 is needed" in failure


@pytest.mark.parametrize(
    ("before", "says"),
    [
        ("CREATE TABLE notes (n integer)", "notes: no column tenant_id"),
        ("SELECT create_reference_table('events')", "events is distributed in another way"),
        ("INSERT INTO pg_dist_partition VALUES ('events', 'h', 7), ('log_heads', 'h', 8)", "not co-located"),
        (
            (
                "CREATE TABLE a (tenant_id text UNIQUE REFERENCES tenants); "
                "CREATE TABLE b (tenant_id text UNIQUE REFERENCES a (tenant_id)); "
                "ALTER TABLE a ADD FOREIGN KEY (tenant_id) REFERENCES b (tenant_id)"
            ),
            "a, b form a circle",
        ),
    ],
)
async def test_what_stands_in_the_way_is_named(citus_url: str, before: str, says: str) -> None:
    await execute(citus_url, before)
    with pytest.raises(errors.FailedPrecondition, match=says):
        async with sharding.connected(citus_url) as connection:
            await sharding.plan(connection)


async def test_a_table_comes_behind_those_that_it_refers_to(citus_url: str) -> None:
    await execute(
        citus_url,
        "CREATE TABLE a_note (tenant_id text REFERENCES tenants, log_seq bigint, "
        "FOREIGN KEY (tenant_id, log_seq) REFERENCES events)",
    )
    async with sharding.connected(citus_url) as connection:
        names = [step.what for step in await sharding.plan(connection)]
    assert names.index("distribute events by tenant") < names.index("distribute a_note by tenant")


async def test_a_database_that_cannot_be_reached_is_said(tmp_path: Path) -> None:
    code, _, failure = await distribute("postgresql://nobody@127.0.0.1:1/nothing", tmp_path, "--yes")
    assert code == 1
    assert failure.count("\n") == 1
