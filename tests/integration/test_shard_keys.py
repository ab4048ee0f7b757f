"""Everything carries the tenant: every table, key, statement and function, so that no statement crosses shards."""

from collections.abc import AsyncIterator
from typing import TypeAlias

import asyncpg
import pytest
from tests import storage_statements, tenant_scope

from decisiongraph_service.storage import sharding

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

INSTALLATION = {
    "tenants": "names all tenants, and is looked up by servers before they enter one",
    "service_accounts": "an account may act in several tenants",
    "api_keys": "a key is looked up before it is known whose it is",
    "alembic_version": "the revision of the schema",
    "installation_keys": "what all servers sign page tokens with",
    "schema_compatibility": "which servers work with the schema",
}
"""Tables that belong to no tenant, each with the reason."""

WIDE = {
    "lagging_tenants": "the projector looks for work; each tenant that is found is locked by a statement of its own",
    "tenants_with_retired_generations": "the same for rows to remove",
    "claimable_replay_jobs": "the same for jobs to run",
    "projection_lag": "metrics: sums over all tenants",
    "stopped_projections": "metrics: sums over all tenants",
    "running_replays": "metrics: sums over all tenants",
}
"""Functions that look over all tenants, each with the reason. They read and lock nothing, so that they may fan out."""

WIDE_STATEMENTS = {
    "projection_state._LAGGING",
    "projection_state._TENANTS_WITH_RETIRED",
    "replay_jobs._CLAIMABLE",
    "measurements._LAG",
    "measurements._STOPPED",
    "measurements._REPLAYS",
}
"""The statements that call them, and nothing besides."""

WRITTEN_IN_FUNCTIONS = {
    "commit_signal": {"_send_from"},  # pg_notify: no table
    "migrations": {"_run"},  # takes the lock of migrations: no table
    "projection_state": {"_remove"},  # checked for each table it is called with
    "sharding": {"_reference", "_distribute", "_function"},  # calls of Citus itself
}
"""Functions with a statement of their own; all others are constants, which are found by what they begin with."""


@pytest.fixture
async def owner(own_database_url: str) -> AsyncIterator[Connection]:
    """The owner's session in a migrated database."""
    connection = await asyncpg.connect(own_database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def schema(owner: Connection) -> tenant_scope.Schema:
    """What the database holds."""
    tables = await owner.fetch(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
    )
    functions = await owner.fetch(
        "SELECT proname, proargnames[1] AS first FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    )
    return tenant_scope.Schema(
        frozenset(row["relname"] for row in tables) - set(INSTALLATION),
        frozenset(row["proname"] for row in functions if row["first"] == "tenant"),
        frozenset(row["proname"] for row in functions) & set(WIDE),
    )


async def test_every_table_has_the_tenant_or_is_the_installations(
    owner: Connection, schema: tenant_scope.Schema
) -> None:
    columns = await owner.fetch(
        """
        SELECT c.relname, a.attnum, t.typname, l.collname, a.attnotnull
        FROM pg_attribute AS a
        JOIN pg_class AS c ON c.oid = a.attrelid
        JOIN pg_type AS t ON t.oid = a.atttypid
        JOIN pg_collation AS l ON l.oid = a.attcollation
        WHERE a.attname = 'tenant_id' AND c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
          AND c.relname <> ALL ($1::text[])
        """,
        list(INSTALLATION),
    )
    assert len(schema.tenant_tables) >= 15
    assert {row["relname"] for row in columns} == schema.tenant_tables
    # Co-located tables need one type and collation. Inserts without names of columns put the tenant first.
    assert {tuple(row)[1:] for row in columns} == {(1, "text", "C", True)}


async def test_the_tables_of_the_installation_are_those_that_are_not_distributed(owner: Connection) -> None:
    assert set(INSTALLATION) == sharding.REFERENCE_TABLES | sharding.LOCAL_TABLES
    found = await owner.fetch("SELECT relname FROM pg_class WHERE relname = ANY ($1::text[])", list(INSTALLATION))
    assert {row["relname"] for row in found} == set(INSTALLATION)


async def test_every_key_and_index_begins_with_the_tenant(owner: Connection, schema: tenant_scope.Schema) -> None:
    indexes = await owner.fetch(
        """
        SELECT c.relname AS name, t.relname AS of, a.attname AS first, i.indisprimary
        FROM pg_index AS i
        JOIN pg_class AS c ON c.oid = i.indexrelid
        JOIN pg_class AS t ON t.oid = i.indrelid
        LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE t.relname = ANY ($1::text[])
        """,
        sorted(schema.tenant_tables),
    )
    assert {row["of"] for row in indexes if row["indisprimary"]} == schema.tenant_tables
    assert [row["name"] for row in indexes if row["first"] != "tenant_id"] == []


async def test_no_foreign_key_leaves_a_tenant(owner: Connection, schema: tenant_scope.Schema) -> None:
    keys = await owner.fetch(
        """
        SELECT k.conname, s.relname AS source, t.relname AS target,
               ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS n (no, place)
                     JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = n.no ORDER BY n.place) AS here,
               ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS n (no, place)
                     JOIN pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = n.no ORDER BY n.place) AS there
        FROM pg_constraint AS k
        JOIN pg_class AS s ON s.oid = k.conrelid
        JOIN pg_class AS t ON t.oid = k.confrelid
        WHERE k.contype = 'f' AND s.relnamespace = 'public'::regnamespace
        """
    )
    for key in keys:
        if key["target"] in schema.tenant_tables:
            assert ("tenant_id", "tenant_id") in list(zip(key["here"], key["there"], strict=True)), key["conname"]
        elif key["source"] in schema.tenant_tables:
            assert key["target"] in sharding.REFERENCE_TABLES, key["conname"]


async def test_no_table_of_tenants_has_what_cannot_be_distributed(
    owner: Connection, schema: tenant_scope.Schema
) -> None:
    found = await owner.fetch(
        """
        SELECT tgname AS name FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = ANY ($1::regclass[])
        UNION ALL SELECT rulename FROM pg_rewrite WHERE ev_class = ANY ($1::regclass[])
        UNION ALL SELECT conname FROM pg_constraint WHERE contype = 'x' AND conrelid = ANY ($1::regclass[])
        UNION ALL SELECT attname FROM pg_attribute WHERE attidentity <> '' AND attrelid = ANY ($1::regclass[])
        """,
        sorted(schema.tenant_tables),
    )
    assert [row["name"] for row in found] == []


async def test_every_statement_stays_with_its_tenant(schema: tenant_scope.Schema) -> None:
    checked = 0
    found = {}
    for module in storage_statements.modules():
        for constant, statements in storage_statements.constants(module).items():
            name = f"{storage_statements.name(module)}.{constant}"
            for statement in statements:
                checked += 1
                if faults := tenant_scope.faults(statement, schema):
                    found[name] = faults
    # What looks over all tenants does so by its function alone.
    assert all(len(faults) == 1 and "looks over all tenants" in faults[0] for faults in found.values()), found
    assert set(found) == WIDE_STATEMENTS
    assert checked > 80


def test_no_statement_hides_from_the_check() -> None:
    found = {
        storage_statements.name(module): set(hidden)
        for module in storage_statements.modules()
        if (hidden := storage_statements.written_in_functions(module))
    }
    assert found == WRITTEN_IN_FUNCTIONS


async def test_removing_rows_stays_with_the_tenant(schema: tenant_scope.Schema) -> None:
    statements = storage_statements.removals()
    assert len(statements) == 7
    assert [tenant_scope.faults(statement, schema) for statement in statements] == [[]] * 7


async def test_only_transactions_of_a_tenant_touch_its_tables(schema: tenant_scope.Schema) -> None:
    # They alone pass the tenant as the first argument.
    touched = {}
    for module in storage_statements.modules():
        known = storage_statements.constants(module)
        for constant in storage_statements.sent_outside_of_tenants(module):
            for statement in known[constant]:
                name = f"{storage_statements.name(module)}.{constant}"
                if tenant_scope.functions(statement) & schema.wide_functions:
                    assert name in WIDE_STATEMENTS
                touched[name] = tenant_scope.tables(statement) & schema.tenant_tables
    assert {"tenants._LIST", "accounts._CREDENTIALS", "projection_state._LAGGING"} <= set(touched)
    assert {name for name, tables in touched.items() if tables} == set()


async def test_every_function_stays_with_the_tenant_it_is_given(owner: Connection, schema: tenant_scope.Schema) -> None:
    rows = await owner.fetch(
        "SELECT p.proname, p.proargnames, p.prosrc, l.lanname FROM pg_proc AS p JOIN pg_language AS l "
        "ON l.oid = p.prolang WHERE p.pronamespace = 'public'::regnamespace AND p.proname <> ALL ($1::text[])",
        list(WIDE),
    )
    assert {row["proname"] for row in rows} == {"append_events", "apply_projections"} == schema.tenant_functions
    for row in rows:
        assert row["lanname"] == "plpgsql"
        statements = tenant_scope.statements_of_plpgsql(row["proargnames"], row["prosrc"])
        assert any(tenant_scope.tables(statement) & schema.tenant_tables for statement in statements)
        faults = [one for statement in statements for one in tenant_scope.faults(statement, schema, argument="tenant")]
        assert faults == [], row["proname"]


async def test_what_looks_over_all_tenants_reads_and_locks_nothing(owner: Connection) -> None:
    rows = await owner.fetch(
        "SELECT p.proname, p.prosrc, p.provolatile, l.lanname FROM pg_proc AS p JOIN pg_language AS l "
        "ON l.oid = p.prolang WHERE p.pronamespace = 'public'::regnamespace AND p.proname = ANY ($1::text[])",
        list(WIDE),
    )
    assert {row["proname"] for row in rows} == set(WIDE)
    for row in rows:
        # Postgres itself refuses writes in a function that is not volatile.
        assert (row["lanname"], row["provolatile"]) == ("sql", b"s")
        assert tenant_scope.only_reads(row["prosrc"]), row["proname"]
