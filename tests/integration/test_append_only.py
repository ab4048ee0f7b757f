"""The log is append-only by the database: the role that servers work as may insert and select, and nothing else."""

from collections.abc import AsyncIterator
from typing import TypeAlias

import asyncpg
import pytest
from tests import samples

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.ingestion.group_commit import GroupCommitter
from decisiongraph_service.runtime import server
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import RUNTIME_ROLE, Database

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def runtime(database_url: str, database: Database, tenant_id: TenantId) -> AsyncIterator[Connection]:
    """A connection as servers have it, on a log with an event."""
    committer = GroupCommitter(database, CommitSignal(database_url), clock=server.clock_micros, parallel_commits=1)
    await committer.submit(tenant_id, [samples.start("t")])
    opened = await asyncpg.connect(database_url, server_settings={"role": RUNTIME_ROLE, "dg.tenant_id": tenant_id})
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET payload = '{}'",
        "UPDATE events SET digest = digest WHERE false",
        "DELETE FROM events",
        "DELETE FROM events WHERE false",
        "TRUNCATE events",
        "SELECT FROM events FOR UPDATE",
        "INSERT INTO events SELECT * FROM events ON CONFLICT (tenant_id, log_seq) DO UPDATE SET payload = '{}'",
        "MERGE INTO events USING tenants ON events.tenant_id = tenants.tenant_id WHEN MATCHED THEN DELETE",
        "DROP TABLE events",
        "ALTER TABLE events ADD COLUMN other text",
        "ALTER TABLE events DROP CONSTRAINT events_event_id",
        "ALTER TABLE events DISABLE TRIGGER ALL",
        "ALTER TABLE events OWNER TO current_user",
        "ALTER TABLE events DISABLE ROW LEVEL SECURITY",
        "DROP POLICY of_the_entered_tenant ON events",
        "CREATE TRIGGER changed BEFORE INSERT ON events EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE RULE changed AS ON INSERT TO events DO INSTEAD NOTHING",
        "DROP INDEX events_event_id",
        "ALTER FUNCTION append_events RENAME TO other",
        "DROP FUNCTION append_events",
        "DELETE FROM log_heads",
        "TRUNCATE log_heads",
        "UPDATE log_heads SET tenant_id = 'other'",
        "DROP TABLE log_heads",
        "DELETE FROM tenants",
        "UPDATE tenants SET tenant_id = 'other'",
        "UPDATE installation_keys SET key = ''",
        "UPDATE alembic_version SET version_num = ''",
        "CREATE TABLE of_its_own ()",
        "SET session_replication_role = 'replica'",
        "COPY events FROM PROGRAM 'true'",
    ],
)
async def test_what_could_change_the_log_is_refused(runtime: Connection, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await runtime.execute(statement)


async def test_the_role_cannot_give_itself_more(runtime: Connection) -> None:
    warnings: list[object] = []
    runtime.add_log_listener(lambda _, message: warnings.append(message))
    await runtime.execute("GRANT UPDATE, DELETE, TRUNCATE ON events TO decisiongraph_runtime")
    for privilege in ("UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"):
        assert not await runtime.fetchval("SELECT has_table_privilege('events', $1)", privilege)
        assert not await runtime.fetchval("SELECT has_table_privilege('events', $1)", f"{privilege} WITH GRANT OPTION")
    assert warnings, "Postgres says that nothing was granted"


async def test_events_can_be_read(runtime: Connection, tenant_id: TenantId) -> None:
    assert await runtime.fetchval("SELECT count(*) FROM events WHERE tenant_id = $1", tenant_id) == 1


async def test_events_can_be_inserted(runtime: Connection, tenant_id: TenantId) -> None:
    await runtime.execute(
        "INSERT INTO events SELECT (row).* FROM (SELECT jsonb_populate_record(events, "
        '\'{"log_seq": 2, "event_id": "e2", "trace_seq": 1, "idempotency_key": "k2"}\') AS row '
        "FROM events WHERE tenant_id = $1) AS copied",
        tenant_id,
    )
    assert await runtime.fetchval("SELECT count(*) FROM events WHERE tenant_id = $1", tenant_id) == 2


@pytest.mark.parametrize(
    "changes",
    ['{"log_seq": 2}', '{"log_seq": 2, "event_id": "e2"}', '{"log_seq": 2, "event_id": "e2", "trace_seq": 1}', "{}"],
    ids=["event id", "trace position", "key", "log position"],
)
async def test_the_unique_keys_hold_for_whoever_inserts(runtime: Connection, tenant_id: TenantId, changes: str) -> None:
    with pytest.raises(asyncpg.UniqueViolationError):
        await runtime.execute(
            "INSERT INTO events SELECT (row).* FROM (SELECT jsonb_populate_record(events, $2::jsonb) AS row "
            "FROM events WHERE tenant_id = $1) AS copied",
            tenant_id,
            changes,
        )


async def test_the_service_works_as_that_role(database: Database, tenant_id: TenantId) -> None:
    async with database.tenant_statements(tenant_id) as statements:
        assert await statements.fetch_value("SELECT current_user FROM tenants WHERE tenant_id = $1") == RUNTIME_ROLE


async def test_the_role_cannot_log_in_and_has_no_powers_of_its_own(runtime: Connection) -> None:
    role = await runtime.fetchrow(
        "SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication "
        "FROM pg_roles WHERE rolname = $1",
        RUNTIME_ROLE,
    )
    assert role is not None
    assert not any(role.values())
