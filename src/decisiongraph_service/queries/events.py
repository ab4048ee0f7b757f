"""Single events of the log."""

from decisiongraph_service.domain import errors
from decisiongraph_service.domain.events import StoredEvent
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import event_log
from decisiongraph_service.storage.database import Database


class EventQueries:
    """Questions about single events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_event(self, tenant_id: TenantId, event_id: str) -> StoredEvent:
        """One stored event.

        Raises:
            NotFound: the tenant has no such event.
        """
        async with self._database.tenant_snapshot(tenant_id) as snapshot:
            event = await event_log.fetch_event(snapshot, event_id)
        if event is None:
            raise errors.NotFound("event", event_id)
        return event
