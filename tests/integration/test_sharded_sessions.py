"""On a distributed database a session tells its tenant in transactions alone: what reaches the shards of Citus.

Citus does not run here. Row-level security of one node shows that each statement has its tenant, and in what way.
"""

import itertools
from collections.abc import AsyncIterator

import asyncpg
import pytest
from tests.replaying import Projections, trace

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.runtime import server
from decisiongraph_service.storage import event_log, installation, migrations, tenants
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database

_NUMBERS = itertools.count()
_TENANT = "SELECT current_setting('dg.tenant_id', true) WHERE $1 <> ''"


@pytest.fixture
async def sharded(database_url: str) -> AsyncIterator[Database]:
    """A database with the setting that `decisiongraph db distribute` leaves."""
    name = f"sharded_{next(_NUMBERS)}"
    owner = await asyncpg.connect(database_url)
    await owner.execute(f"CREATE DATABASE {name}")
    url = database_url.rsplit("/", 1)[0] + f"/{name}"
    await migrations.upgrade(url, server.migrations_folder())
    await owner.execute(f"ALTER DATABASE {name} SET citus.propagate_set_commands = 'local'")
    database = await Database.open(url, pool_size=1)
    yield database
    await database.close()
    await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await owner.close()


@pytest.fixture
async def made(sharded: Database) -> tuple[TenantId, TenantId]:
    """Two tenants with events and projections."""
    projections = Projections(sharded, CommitSignal("unused"))
    one, other = [await projections.make_tenant(name) for name in ("one", "other")]
    for tenant_id in (one, other):
        await projections.append(tenant_id, [*trace(0), *trace(1)])
        await projections.projector().catch_up(tenant_id)
    return one, other


async def test_each_way_to_a_tenant_sees_its_rows_and_leaves_none_behind(
    sharded: Database, made: tuple[TenantId, TenantId]
) -> None:
    for tenant_id in (*made, *made):
        for way in (sharded.tenant_transaction, sharded.tenant_statements, sharded.tenant_snapshot):
            async with way(tenant_id) as transaction:
                event = await event_log.fetch_event(transaction, "t0-0")
                assert event is not None
                assert event.tenant_id == tenant_id
                assert await transaction.fetch_value(_TENANT) == tenant_id
            # It was SET LOCAL: the session, which the next tenant gets, knows nothing of it.
            assert await sharded.fetch_installation_value("SELECT current_setting('dg.tenant_id', true)") in (None, "")
            assert await sharded.fetch_installation_rows("SELECT FROM events LIMIT 1") == []


async def test_a_transaction_of_the_installation_enters_a_tenant(
    sharded: Database, made: tuple[TenantId, TenantId]
) -> None:
    async with sharded.installation_transaction() as transaction:
        assert await tenants.fetch(transaction, made[0]) is not None
        inside = await transaction.in_tenant(made[0])
        assert await event_log.fetch_head(inside) > 0


async def test_what_fails_takes_its_block_back(sharded: Database, made: tuple[TenantId, TenantId]) -> None:
    async def fail_after_a_write() -> None:
        async with sharded.tenant_statements(made[0]) as statements:
            await statements.execute("UPDATE log_heads SET log_seq = 99 WHERE tenant_id = $1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail_after_a_write()
    async with sharded.tenant_statements(made[0]) as statements:
        assert await event_log.fetch_head(statements) < 99


async def test_plans_are_made_for_a_tenant_only_where_functions_must_go_to_its_node(
    sharded: Database, own_database: Database
) -> None:
    statement = "SHOW plan_cache_mode"
    assert await sharded.fetch_installation_value(statement) == "auto"
    assert await own_database.fetch_installation_value(statement) == "force_generic_plan"
    await installation.ping(sharded)
