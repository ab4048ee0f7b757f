"""Following a log: history first, then live, each event once and in order, with heartbeats in between.

One cursor does both: it reads forward from where it stands, and when it has reached the head it waits for the signal of
the next commit, or looks again by itself. So there is no seam between history and live at which an event could be lost
or doubled.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from decisiongraph_service.domain import errors
from decisiongraph_service.domain.events import StoredEvent
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries.event_pages import ForwardRead
from decisiongraph_service.storage import event_log
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database
from decisiongraph_service.storage.event_log import EventFilter

_PAGE_EVENTS: Final = 200
_WINDOWS_AT_ONCE: Final = 5


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing new, but every event up to this position was sent or does not match."""

    head_log_seq: int


class EventWatches:
    """The watches of a process."""

    def __init__(
        self, database: Database, signal: CommitSignal, *, heartbeat_seconds: float, max_per_tenant: int
    ) -> None:
        """Set up.

        Args:
            database: Where the logs are.
            signal: Tells of new commits.
            heartbeat_seconds: Longest silence of a watch.
            max_per_tenant: Most watches of one tenant.
        """
        self._database = database
        self._signal = signal
        self._heartbeat_seconds = heartbeat_seconds
        self._max_per_tenant = max_per_tenant
        self._watching: Counter[TenantId] = Counter()

    @property
    def watching(self) -> int:
        """How many watches are open at this server."""
        return self._watching.total()

    async def watch(
        self, tenant_id: TenantId, matching: EventFilter, *, since_log_seq: int | None
    ) -> AsyncGenerator[StoredEvent | Heartbeat, None]:
        """Events after `since_log_seq` (None: only new ones), without end.

        Holds one page of events at a time: a slow reader costs no memory.

        Raises:
            RateLimited: the tenant has too many watches.
            InvalidArgument: `since_log_seq` lies beyond the log.
        """
        if self._watching[tenant_id] >= self._max_per_tenant:
            raise errors.RateLimited(f"tenant:{tenant_id}", f"{self._max_per_tenant} watches at this server")
        self._watching[tenant_id] += 1
        try:
            async with contextlib.aclosing(self._follow(tenant_id, matching, since_log_seq)) as messages:
                async for message in messages:
                    yield message
        finally:
            self._watching[tenant_id] -= 1
            if not self._watching[tenant_id]:
                del self._watching[tenant_id]

    async def _follow(
        self, tenant_id: TenantId, matching: EventFilter, since_log_seq: int | None
    ) -> AsyncGenerator[StoredEvent | Heartbeat, None]:
        loop = asyncio.get_running_loop()
        with self._signal.listen(tenant_id) as grown:
            read = ForwardRead(matching, after=await self._begin(tenant_id, since_log_seq))
            # At once, so that the caller knows that it watches, and from where.
            yield Heartbeat(read.position)
            silent_until = loop.time() + self._heartbeat_seconds
            while True:
                grown.clear()
                async with self._database.tenant_statements(tenant_id) as statements:
                    head = await event_log.fetch_head(statements)
                    page = await read.next_page(
                        statements, until=head, limit=_PAGE_EVENTS, max_windows=_WINDOWS_AT_ONCE
                    )
                for event in page:
                    yield event
                    silent_until = loop.time() + self._heartbeat_seconds
                if loop.time() >= silent_until:
                    yield Heartbeat(read.position)
                    silent_until = loop.time() + self._heartbeat_seconds
                if read.position >= head:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout_at(silent_until):
                            await grown.wait()

    async def _begin(self, tenant_id: TenantId, since_log_seq: int | None) -> int:
        async with self._database.tenant_statements(tenant_id) as statements:
            head = await event_log.fetch_head(statements)
        if since_log_seq is not None and since_log_seq > head:
            raise errors.InvalidArgument(
                [
                    errors.Violation(
                        "since_log_seq",
                        "OUT_OF_RANGE",
                        f"{since_log_seq} was sent, the log ends at {head}; leave it out to see new events only",
                    )
                ]
            )
        return head if since_log_seq is None else since_log_seq
