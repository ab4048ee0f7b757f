"""Logs in a database: holding up their commits, and reading them back."""

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, TypeAlias

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries import log_audit
from decisiongraph_service.storage import event_log
from decisiongraph_service.storage.database import Database

if TYPE_CHECKING:
    import asyncpg

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@contextlib.asynccontextmanager
async def held_up(connection: Connection, tenant_id: TenantId) -> AsyncIterator[None]:
    """No commit of this tenant can happen inside this block."""
    async with connection.transaction():
        await connection.execute("SELECT FROM log_heads WHERE tenant_id = $1 FOR UPDATE", tenant_id)
        yield


async def stored_keys(database: Database, tenant_id: TenantId) -> list[str]:
    """The keys of the log in its order, after it was found whole."""
    assert await log_audit.check_log(database, tenant_id) == []
    async with database.tenant_snapshot(tenant_id) as snapshot:
        return [event.idempotency_key for event in await event_log.fetch_events_after(snapshot, 0, limit=100_000)]
