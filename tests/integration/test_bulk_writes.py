"""The functions that write in bulk write rows of the tenant they are given, and of no other, whoever calls them."""

import uuid
from collections.abc import AsyncIterator
from typing import TypeAlias

import asyncpg
import pytest
from tests.replaying import Projections, trace

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
_OF_PROJECTIONS = {
    "graph_nodes": 7,
    "graph_edges": 8,
    "trace_summaries": 9,
    "policy_evaluations": 15,
    "precedents": 16,
    "precedent_documents": 17,
}
"""The places of the rows among the arguments of apply_projections."""


@pytest.fixture
async def owner(own_database_url: str) -> AsyncIterator[Connection]:
    """The owner's session, which row-level security does not hold back."""
    connection = await asyncpg.connect(own_database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def tenants(own_database: Database, own_database_url: str) -> tuple[TenantId, TenantId]:
    """A tenant with events and projections, and an empty one."""
    projections = Projections(own_database, CommitSignal(own_database_url))
    full = await projections.make_tenant(f"full-{uuid.uuid4().hex[:12]}")
    await projections.append(full, [*trace(0), *trace(1)])
    await projections.projector().catch_up(full)
    return full, await projections.make_tenant(f"empty-{uuid.uuid4().hex[:12]}")


async def test_events_of_another_tenant_are_refused(owner: Connection, tenants: tuple[TenantId, TenantId]) -> None:
    full, empty = tenants
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="events of another tenant"):
        await owner.fetchval(
            "SELECT append_events($2, 0, ARRAY(SELECT e FROM events AS e WHERE tenant_id = $1))", full, empty
        )
    assert await owner.fetchval("SELECT count(*) FROM events WHERE tenant_id = $1", empty) == 0
    assert await owner.fetchval("SELECT log_seq FROM log_heads WHERE tenant_id = $1", empty) == 0


@pytest.mark.parametrize("table", _OF_PROJECTIONS)
async def test_rows_of_another_tenant_are_refused(
    owner: Connection, tenants: tuple[TenantId, TenantId], table: str
) -> None:
    full, empty = tenants
    # A row of each kind comes from the other tenant: where it has none, one that is made of its name alone.
    rows = f"ARRAY[jsonb_populate_record(NULL::{table}, jsonb_build_object('tenant_id', $1::text))]"
    arguments = ["$2", "'{}'", "'{}'", "0", "1", "now()", *["'{}'"] * 11]
    arguments[_OF_PROJECTIONS[table] - 1] = rows
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="rows of another tenant"):
        await owner.fetchval(f"SELECT apply_projections({', '.join(arguments)})", full, empty)
