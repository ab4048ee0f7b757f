"""Events of the log, single and in log order (docs/reference/QUERY_AND_ORDERING_INVARIANTS.md section 7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from decisiongraph_service.domain import errors
from decisiongraph_service.domain.events import StoredEvent
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries import bounds
from decisiongraph_service.queries.event_pages import ForwardRead
from decisiongraph_service.queries.paging import PageTokens, Parameter
from decisiongraph_service.storage import event_log
from decisiongraph_service.storage.database import Database, TenantTransaction
from decisiongraph_service.storage.event_log import EventFilter

DEFAULT_PAGE_SIZE: Final = 100

_LIST: Final = "ListEvents"


@dataclass(frozen=True, slots=True)
class EventsWanted:
    """What a list of events asks for. Lower bounds are exclusive, upper bounds inclusive; empty text: no filter."""

    since_log_seq: int | None = None
    until_log_seq: int | None = None
    trace_id: str = ""
    event_type: str = ""
    producer_id: str = ""
    actor_type: str = ""
    actor_id: str = ""
    tag: str = ""
    correlation_id: str = ""
    since_occurred_at: str = ""
    until_occurred_at: str = ""

    def parameters(self) -> tuple[Parameter, ...]:
        """Everything that a page token is bound to."""
        return (
            self.since_log_seq,
            self.until_log_seq,
            self.trace_id,
            self.event_type,
            self.producer_id,
            self.actor_type,
            self.actor_id,
            self.tag,
            self.correlation_id,
            self.since_occurred_at,
            self.until_occurred_at,
        )


@dataclass(frozen=True, slots=True)
class EventsPage:
    """Events by ascending `log_seq`."""

    events: Sequence[StoredEvent]
    next_page_token: str | None
    head_log_seq: int


class EventQueries:
    """Questions about events."""

    def __init__(self, database: Database, page_tokens: PageTokens) -> None:
        self._database = database
        self._page_tokens = page_tokens

    async def get_event(self, tenant_id: TenantId, event_id: str) -> StoredEvent:
        """One stored event.

        Raises:
            NotFound: the tenant has no such event.
        """
        async with self._database.tenant_statements(tenant_id) as statements:
            event = await event_log.fetch_event(statements, event_id)
        if event is None:
            raise errors.NotFound("event", event_id)
        return event

    async def list_events(
        self, tenant_id: TenantId, wanted: EventsWanted, *, page_size: int | None, page_token: str
    ) -> EventsPage:
        """A page of the log.

        Raises:
            InvalidArgument: a time cannot be parsed, a lower bound is above its upper bound, or the token is foreign.
        """
        matching = _filter(wanted)
        after = wanted.since_log_seq or 0
        if page_token:
            place = self._page_tokens.decode(_LIST, tenant_id, wanted.parameters(), page_token)
            after = int(place[0] or 0)
        limit = page_size or DEFAULT_PAGE_SIZE
        read = ForwardRead(matching, after=after)
        async with self._database.tenant_snapshot(tenant_id) as snapshot:
            head = await event_log.fetch_head(snapshot)
            until = head if wanted.until_log_seq is None else min(head, wanted.until_log_seq)
            events = await read.next_page(snapshot, until=until, limit=limit)
            # The place is kept before the look ahead, which only tells whether more follow.
            place_after = read.position
            more = read.position < until and bool(await self._more(snapshot, read, until=until))
        token = None
        if more:
            token = self._page_tokens.encode(_LIST, tenant_id, wanted.parameters(), (place_after,))
        return EventsPage(events, token, head)

    @staticmethod
    async def _more(snapshot: TenantTransaction, read: ForwardRead, *, until: int) -> bool:
        """Whether another match follows; also true if that was not found out within bounds."""
        return bool(await read.next_page(snapshot, until=until, limit=1)) or read.position < until


def _filter(wanted: EventsWanted) -> EventFilter:
    since = bounds.instant("since_occurred_at", wanted.since_occurred_at)
    until = bounds.instant("until_occurred_at", wanted.until_occurred_at)
    bounds.require_order("occurred_at", since, until)
    bounds.require_order("log_seq", wanted.since_log_seq, wanted.until_log_seq)
    return EventFilter(
        trace_id=wanted.trace_id or None,
        event_type=wanted.event_type or None,
        producer_id=wanted.producer_id or None,
        actor_type=wanted.actor_type or None,
        actor_id=wanted.actor_id or None,
        tag=wanted.tag or None,
        correlation_id=wanted.correlation_id or None,
        since_occurred_micros=since,
        until_occurred_micros=until,
    )
