"""Spreading a migrated schema over the nodes of Citus, by tenant (docs/operations/scaling.md, sharding).

All rows of a tenant come to one node: its tables are distributed by `tenant_id` and co-located, and the functions that
write in bulk run where the tenant is. What the whole installation shares is copied to every node, or stays on the
coordinator.
"""

import re
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg

from decisiongraph_service.domain import errors
from decisiongraph_service.storage.database import RUNTIME_ROLE

REFERENCE_TABLES: Final = frozenset({"tenants", "service_accounts", "api_keys"})
"""Belong to the installation; every node gets a copy."""

LOCAL_TABLES: Final = frozenset({"alembic_version", "installation_keys", "schema_compatibility"})
"""Belong to the installation and are read by servers and migrations alone; they stay on the coordinator."""

OLDEST_CITUS: Final = (13, 1)
"""The first version that copies privileges on columns to shards; the runtime role has some."""

DEFAULT_SHARDS: Final = 32

_APPLICATION: Final = "decisiongraph"
_PROPAGATION: Final = "citus.propagate_set_commands"
_ROOT: Final = "log_heads"
"""The table that the others are co-located with."""
_TENANT_ARGUMENT: Final = "tenant"
_DISTRIBUTED: Final = "h"
_REFERENCE: Final = "n"

_CITUS: Final = "SELECT extversion FROM pg_extension WHERE extname = 'citus'"

_MIGRATED: Final = "SELECT to_regclass('alembic_version') IS NOT NULL AND to_regclass('log_heads') IS NOT NULL"

_TABLES: Final = """
    SELECT relation.relname AS name,
           EXISTS (
               SELECT FROM pg_attribute
               WHERE attrelid = relation.oid AND attname = 'tenant_id' AND NOT attisdropped
           ) AS of_tenants
    FROM pg_class AS relation
    WHERE relation.relkind IN ('r', 'p') AND relation.relnamespace = current_schema()::regnamespace
      AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = relation.oid AND deptype = 'e')
    ORDER BY relation.relname
"""

# By table those that its foreign keys go to.
_REFERENCES: Final = """
    SELECT DISTINCT source.relname AS name, target.relname AS needs
    FROM pg_constraint AS key
    JOIN pg_class AS source ON source.oid = key.conrelid
    JOIN pg_class AS target ON target.oid = key.confrelid
    WHERE key.contype = 'f' AND source.relnamespace = current_schema()::regnamespace AND key.conrelid <> key.confrelid
"""

_FUNCTIONS: Final = """
    SELECT proname AS name, oid::regprocedure::text AS signature
    FROM pg_proc
    WHERE pronamespace = current_schema()::regnamespace AND proargnames[1] = $1 AND prokind = 'f'
    ORDER BY proname
"""

_DISTRIBUTED_TABLES: Final = """
    SELECT relation.relname AS name, part.partmethod::text AS method, part.colocationid AS colocation
    FROM pg_dist_partition AS part
    JOIN pg_class AS relation ON relation.oid = part.logicalrelid
    WHERE relation.relnamespace = current_schema()::regnamespace
"""

_DISTRIBUTED_FUNCTIONS: Final = """
    SELECT objid::regprocedure::text AS signature
    FROM pg_dist_object
    WHERE classid = 'pg_proc'::regclass AND distribution_argument_index IS NOT NULL
"""

_SETTING: Final = """
    SELECT EXISTS (
        SELECT FROM pg_db_role_setting AS of_database
        JOIN pg_database ON pg_database.oid = of_database.setdatabase
        WHERE pg_database.datname = current_database() AND of_database.setrole = 0
          AND $1 = ANY (of_database.setconfig)
    )
"""

_DATABASE: Final = "SELECT quote_ident(current_database())"

_MAY_LOG_IN: Final = "SELECT rolcanlogin FROM pg_roles WHERE rolname = $1"

_SERVERS: Final = """
    SELECT count(*)
    FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = $1 AND pid <> pg_backend_pid()
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One statement of the plan."""

    what: str
    statement: str
    done: bool
    """It was run before."""


@asynccontextmanager
async def connected(database_url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """A connection as the owner of the schema.

    Raises:
        StorageUnavailable: the database cannot be reached, or a statement inside the block failed.
    """
    try:
        connection = await asyncpg.connect(database_url)
        try:
            yield connection
        finally:
            await connection.close()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise errors.StorageUnavailable(f"the database does not do what it was asked for: {error}") from error


async def require_ready(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Return if the schema can be distributed now.

    Raises:
        FailedPrecondition: Citus is not installed, or too old, the nodes cannot reach each other as the servers' role,
            or servers work on the database.
    """
    version = await connection.fetchval(_CITUS)
    if version is None:
        raise errors.FailedPrecondition(
            "the extension citus is not installed in this database; on a coordinator with shared_preload_libraries = "
            "'citus' run CREATE EXTENSION citus, add the workers with citus_add_node, and repeat this"
        )
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST_CITUS:
        needed = ".".join(map(str, OLDEST_CITUS))
        raise errors.FailedPrecondition(f"Citus is {version} here and {needed} is needed: older ones lose privileges")
    if not await connection.fetchval(_MAY_LOG_IN, RUNTIME_ROLE):
        raise errors.FailedPrecondition(
            f"nodes reach each other as the role {RUNTIME_ROLE}, which may not log in; run ALTER ROLE {RUNTIME_ROLE} "
            "LOGIN, let it in between the nodes alone (pg_hba.conf), and repeat this"
        )
    servers = await connection.fetchval(_SERVERS, _APPLICATION)
    if servers:
        raise errors.FailedPrecondition(
            f"{servers} connections of servers are open; stop all servers and workers, and repeat this"
        )


async def plan(connection: "asyncpg.Connection[asyncpg.Record]", *, shards: int = DEFAULT_SHARDS) -> list[Step]:
    """What distributes the schema, in the order in which it can be run, each with whether it is done.

    Raises:
        FailedPrecondition: the database is not migrated, or holds something that cannot be distributed by tenant.
    """
    if not await connection.fetchval(_MIGRATED):
        raise errors.FailedPrecondition("the database is not migrated; run `decisiongraph migrate` first")
    found = {row["name"]: row["of_tenants"] for row in await connection.fetch(_TABLES)}
    of_tenants = [name for name in found if name not in REFERENCE_TABLES | LOCAL_TABLES]
    strange = [name for name in of_tenants if not found[name]]
    if strange:
        raise errors.FailedPrecondition(
            f"{', '.join(strange)}: no column tenant_id, and no table of the service; move it to another schema"
        )
    present = await _present(connection)
    ordered = _in_order(found, [(row["name"], row["needs"]) for row in await connection.fetch(_REFERENCES)])
    # What others are co-located with comes first.
    of_tenants = [_ROOT, *(name for name in ordered if name in of_tenants and name != _ROOT)]
    return [
        await _setting(connection),
        *(_reference(name, present) for name in ordered if name in REFERENCE_TABLES),
        *(_distribute(name, present, shards) for name in of_tenants),
        *(
            _function(row["name"], row["signature"], present)
            for row in await connection.fetch(_FUNCTIONS, _TENANT_ARGUMENT)
        ),
    ]


async def run(connection: "asyncpg.Connection[asyncpg.Record]", steps: Iterable[Step]) -> AsyncIterator[Step]:
    """Run what is not done, each statement in a transaction of its own; yields each step after it has run.

    Whatever stops this, a plan that is made anew goes on where it stopped.
    """
    for step in steps:
        if not step.done:
            # A table is copied while it is distributed, which takes as long as it takes.
            await connection.execute(step.statement)
            yield step


@dataclass(frozen=True, slots=True)
class _Present:
    """What is distributed already: methods of tables by name, and signatures of functions."""

    tables: dict[str, str]
    functions: frozenset[str]


async def _present(connection: "asyncpg.Connection[asyncpg.Record]") -> _Present:
    if await connection.fetchval(_CITUS) is None:
        return _Present({}, frozenset())
    tables = await connection.fetch(_DISTRIBUTED_TABLES)
    groups = {row["colocation"] for row in tables if row["method"] == _DISTRIBUTED}
    if len(groups) > 1:
        raise errors.FailedPrecondition(
            "tables are distributed that are not co-located; undistribute_table() them, and repeat this"
        )
    functions = frozenset(row["signature"] for row in await connection.fetch(_DISTRIBUTED_FUNCTIONS))
    return _Present({row["name"]: row["method"] for row in tables}, functions)


def _in_order(tables: Collection[str], references: Sequence[tuple[str, str]]) -> list[str]:
    """Tables behind those that their foreign keys go to, otherwise by name."""
    ordered: list[str] = []
    left = sorted(tables)
    while left:
        free = [name for name in left if not any(a == name and b in left for a, b in references)]
        if not free:
            raise errors.FailedPrecondition(f"the foreign keys of {', '.join(left)} form a circle")
        ordered += free
        left = [name for name in left if name not in free]
    return ordered


async def _setting(connection: "asyncpg.Connection[asyncpg.Record]") -> Step:
    database = await connection.fetchval(_DATABASE)
    return Step(
        "tell the nodes which tenant a transaction is in",
        f"ALTER DATABASE {database} SET {_PROPAGATION} = 'local'",
        done=await connection.fetchval(_SETTING, f"{_PROPAGATION}=local"),
    )


def _reference(table: str, present: _Present) -> Step:
    return Step(
        f"copy {table} to every node",
        f"SELECT create_reference_table('{table}')",
        done=_is_done(table, present, _REFERENCE),
    )


def _distribute(table: str, present: _Present, shards: int) -> Step:
    where = f"colocate_with => 'none', shard_count => {shards:d}" if table == _ROOT else f"colocate_with => '{_ROOT}'"
    return Step(
        f"distribute {table} by tenant",
        f"SELECT create_distributed_table('{table}', 'tenant_id', {where})",
        done=_is_done(table, present, _DISTRIBUTED),
    )


def _is_done(table: str, present: _Present, method: str) -> bool:
    if present.tables.get(table, method) != method:
        raise errors.FailedPrecondition(
            f"{table} is distributed in another way than it must be; undistribute_table() it, and repeat this"
        )
    return table in present.tables


def _function(name: str, signature: str, present: _Present) -> Step:
    # Servers tell the tenant at the beginning of a transaction, and in one only what is forced runs on the node.
    return Step(
        f"run {name} where its tenant is",
        f"SELECT create_distributed_function('{signature}', '{_TENANT_ARGUMENT}', "
        f"colocate_with => '{_ROOT}', force_delegation => true)",
        done=signature in present.functions,
    )
