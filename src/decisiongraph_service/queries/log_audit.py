"""Checking stored logs from their first event to their last (domain/log_check.py says what is checked)."""

from collections.abc import Callable

from decisiongraph_service.domain.log_check import Damage, LogCheck
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import event_log, tenants
from decisiongraph_service.storage.database import Database

_BATCH_ROWS = 500


async def list_tenants(database: Database) -> list[TenantId]:
    """The ids of all tenants."""
    return await tenants.fetch_all(database)


async def check_log(
    database: Database, tenant_id: TenantId, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Damage]:
    """Everything that is wrong with a tenant's log as it stands now.

    `progress` is told how many events are done and how many there are.
    """
    check = LogCheck()
    found: list[Damage] = []
    async with database.tenant_snapshot(tenant_id) as snapshot:
        head = await event_log.fetch_head(snapshot)
        while rows := await event_log.fetch_rows_after(snapshot, check.last_log_seq, limit=_BATCH_ROWS):
            for row in rows:
                found.extend(check.check(row))
            progress(check.last_log_seq, head)
    return [*found, *check.check_head(head)]
