"""The database itself keeps the log append-only: the role that the service works as may insert and select."""

import asyncpg
import pytest
from tests.logs import append_all
from tests.traces import whole_trace

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage.database import RUNTIME_ROLE, Database

_REFUSED = (
    "UPDATE events SET actor_id = 'somebody else'",
    "DELETE FROM events",
    "TRUNCATE events",
    "DROP TABLE events",
    "ALTER TABLE events DROP COLUMN digest",
    "ALTER TABLE events DISABLE TRIGGER ALL",
    "CREATE RULE quiet AS ON INSERT TO events DO INSTEAD NOTHING",
    "DELETE FROM log_heads",
    "TRUNCATE log_heads",
    "DELETE FROM tenants",
    "UPDATE installation_keys SET key = ''",
    "CREATE TABLE elsewhere (id integer)",
)


@pytest.fixture
async def runtime(database_url: str, database: Database, tenant_id: TenantId) -> "asyncpg.Connection[asyncpg.Record]":
    await append_all(database, tenant_id, whole_trace("trace", 3))
    return await asyncpg.connect(database_url, server_settings={"role": RUNTIME_ROLE})


@pytest.mark.parametrize("statement", _REFUSED)
async def test_the_runtime_role_cannot(runtime: "asyncpg.Connection[asyncpg.Record]", statement: str) -> None:
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await runtime.execute(statement)
    finally:
        await runtime.close()


async def test_the_runtime_role_reads_the_log(
    runtime: "asyncpg.Connection[asyncpg.Record]", tenant_id: TenantId
) -> None:
    try:
        assert await runtime.fetchval("SELECT count(*) FROM events WHERE tenant_id = $1", tenant_id) == 3
    finally:
        await runtime.close()


async def test_a_pool_of_the_service_works_as_the_runtime_role(database: Database) -> None:
    assert await database.fetch_installation_value("SELECT current_user::text") == RUNTIME_ROLE
