"""The second wall between tenants holds where the first is missing: row-level security in the database."""

import uuid
from collections.abc import AsyncIterator
from typing import TypeAlias

import asyncpg
import pytest
from tests.replaying import Projections, trace

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import (
    audit,
    context_graph,
    event_log,
    precedent_documents,
    projection_state,
    replay_jobs,
    trace_summary,
)
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import RUNTIME_ROLE, Database, TenantTransaction

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
_WITHOUT = {"tenants"}
"""Names all tenants; belongs to the installation."""


@pytest.fixture
async def tenants(own_database: Database, own_database_url: str) -> tuple[TenantId, TenantId]:
    """Two tenants with the same two traces each, projected, and a job and an audit entry."""
    projections = Projections(own_database, CommitSignal(own_database_url))
    made = []
    for _ in range(2):
        tenant_id = await projections.make_tenant(f"walled-{uuid.uuid4().hex[:12]}")
        await projections.append(tenant_id, [*trace(0), *trace(1)])
        await projections.projector().catch_up(tenant_id)
        job = await projections.start_job(tenant_id, "verify")
        async with own_database.tenant_transaction(tenant_id) as transaction:
            await replay_jobs.cancel(transaction, job.job_id, now_micros=0)
        made.append(tenant_id)
    return made[0], made[1]


@pytest.fixture
async def runtime(own_database_url: str) -> AsyncIterator[Connection]:
    """A session as a server has it."""
    connection = await asyncpg.connect(own_database_url, server_settings={"role": RUNTIME_ROLE})
    yield connection
    await connection.close()


async def tables_of_tenants(connection: Connection) -> list[str]:
    rows = await connection.fetch(
        "SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' AND column_name = 'tenant_id' "
        "ORDER BY table_name"
    )
    return [row["table_name"] for row in rows if row["table_name"] not in _WITHOUT]


async def test_every_table_of_tenants_is_walled(own_database_url: str) -> None:
    owner = await asyncpg.connect(own_database_url)
    tables = await tables_of_tenants(owner)
    walled = await owner.fetch(
        "SELECT c.relname FROM pg_class AS c JOIN pg_policy AS p ON p.polrelid = c.oid WHERE c.relrowsecurity "
        "AND p.polcmd = '*' ORDER BY c.relname"
    )
    await owner.close()
    assert len(tables) >= 15
    assert [row["relname"] for row in walled] == tables


async def test_a_statement_that_names_no_tenant_sees_the_entered_one_only(
    runtime: Connection, tenants: tuple[TenantId, TenantId]
) -> None:
    await runtime.execute(f"SET dg.tenant_id = '{tenants[0]}'")
    seen = {}
    for table in await tables_of_tenants(runtime):
        rows = await runtime.fetch(f"SELECT tenant_id FROM {table}")  # noqa: S608 - names of our own tables
        seen[table] = {row["tenant_id"] for row in rows}
    assert {name for name, found in seen.items() if found} == set(seen) - {"projection_failures", "projection_digests"}
    assert all(found <= {tenants[0]} for found in seen.values())


@pytest.mark.parametrize("entered", [None, "", "nobody"])
async def test_a_session_in_no_tenant_sees_and_changes_nothing(
    runtime: Connection, tenants: tuple[TenantId, TenantId], entered: str | None
) -> None:
    if entered is not None:
        await runtime.execute(f"SET dg.tenant_id = '{entered}'")
    for table in await tables_of_tenants(runtime):
        assert not await runtime.fetch(f"SELECT FROM {table}"), table
    assert await runtime.execute("UPDATE log_heads SET log_seq = 0") == "UPDATE 0"
    assert await runtime.execute("DELETE FROM trace_summaries") == "DELETE 0"


async def test_rows_of_another_tenant_cannot_be_written(
    runtime: Connection, tenants: tuple[TenantId, TenantId]
) -> None:
    entered, other = tenants
    await runtime.execute(f"SET dg.tenant_id = '{entered}'")
    assert await runtime.execute("UPDATE log_heads SET log_seq = 0 WHERE tenant_id = $1", other) == "UPDATE 0"
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await runtime.execute("INSERT INTO audit_heads VALUES ($1, 1) ON CONFLICT DO NOTHING", f"{other}-x")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await runtime.execute("UPDATE log_heads SET tenant_id = $1", other)


async def test_with_the_check_of_the_service_removed_nothing_of_another_tenant_is_read(
    own_database: Database, tenants: tuple[TenantId, TenantId]
) -> None:
    entered, other = tenants
    async with own_database.tenant_snapshot(entered) as snapshot:
        # What a mistake in the service would be: a question to another tenant than the one that was let in.
        mistaken = TenantTransaction(other, snapshot._connection)
        for one, expected in ((snapshot, True), (mistaken, False)):
            found = {
                "event": await event_log.fetch_event(one, "t0-0"),
                "trace": await event_log.fetch_trace_events(one, "t0", since_trace_seq=-1, until_log_seq=99, limit=9),
                "head": await event_log.fetch_head(one),
                "summary": await trace_summary.fetch(one, 1, "t0"),
                "graph": await context_graph.fetch_nodes(one, 1, ["trace:t0"], until_log_seq=99),
                "edges": await context_graph.fetch_node_edges(
                    one, 1, "trace:t0", outgoing=True, from_log_seq=0, limit=9
                ),
                "documents": [row async for row in precedent_documents.iterate(one, 1)],
                "live": await projection_state.fetch_live(one),
                "jobs": await replay_jobs.fetch_newest(
                    one, projection="", status="", modes=["verify"], before_seq=99, limit=9
                ),
                "audit": (await audit.fetch_newest(one, audit.AuditFilter(), before=99, limit=9, look_at=9)).found,
            }
            assert {name: bool(value) for name, value in found.items()} == dict.fromkeys(found, expected)


async def test_the_schedulers_see_ids_and_nothing_else(runtime: Connection) -> None:
    found = {}
    for name in ("lagging_tenants()", "tenants_with_retired_generations()", "claimable_replay_jobs('5 s')"):
        prepared = await runtime.prepare(f"SELECT * FROM {name} AS tenant_id")  # noqa: S608 - names of our own
        found[name] = [attribute.name for attribute in prepared.get_attributes()]
    assert list(found.values()) == [["tenant_id"], ["tenant_id"], ["tenant_id", "job_id"]]


async def test_a_temporary_table_does_not_mislead_the_schedulers(runtime: Connection) -> None:
    await runtime.execute("CREATE TEMPORARY TABLE replay_jobs (tenant_id text, job_id text, status text)")
    await runtime.execute("INSERT INTO replay_jobs VALUES ('planted', 'planted', 'queued')")
    claimable = await runtime.fetch("SELECT tenant_id FROM claimable_replay_jobs('5 s')")
    assert "planted" not in {row["tenant_id"] for row in claimable}


async def test_connections_change_tenants_with_their_users(
    own_database_url: str, tenants: tuple[TenantId, TenantId]
) -> None:
    database = await Database.open(own_database_url, pool_size=1)
    for tenant_id in (*tenants, *tenants):
        async with database.tenant_statements(tenant_id) as statements:
            event = await event_log.fetch_event(statements, "t0-0")
        assert event is not None
        assert event.tenant_id == tenant_id
        assert await database.fetch_installation_rows("SELECT FROM events LIMIT 1") == []
    await database.close()


@pytest.mark.parametrize("tenant_id", ["a'; RESET ROLE; --", "A", "", "a b", "x" * 64])
async def test_a_tenant_id_that_is_none_never_reaches_the_database(own_database: Database, tenant_id: str) -> None:
    if tenant_id == "":
        async with own_database.tenant_statements(TenantId("")) as statements:
            assert await event_log.fetch_head(statements) == 0
        return
    with pytest.raises(ValueError, match="slug"):
        async with own_database.tenant_statements(TenantId(tenant_id)):
            pass
