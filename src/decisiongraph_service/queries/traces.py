"""Traces: their summaries and their timelines (docs/reference/QUERY_AND_ORDERING_INVARIANTS.md sections 5, 6 and 9)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from decisiongraph_service.domain import errors, trace_summary, vocabulary
from decisiongraph_service.domain.events import StoredEvent
from decisiongraph_service.domain.trace_summary import TraceSummaryRow
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries import freshness, paging
from decisiongraph_service.queries.freshness import Freshness, FreshnessWait, Reading, ReadPosition
from decisiongraph_service.queries.paging import PageTokens
from decisiongraph_service.storage import event_log
from decisiongraph_service.storage import trace_summary as trace_summary_rows
from decisiongraph_service.storage.database import Database, TenantTransaction

DEFAULT_PAGE_SIZE: Final = 100
MAX_TIMELINE_EVENTS: Final = 1_000
"""Most events that `get_trace` answers; the rest is read page by page."""

_PROJECTIONS: Final = (vocabulary.TRACE_SUMMARY,)
_EVENTS_LIST: Final = "ListTraceEvents"
_CHUNK: Final = 128


@dataclass(frozen=True, slots=True)
class TraceEventsPage:
    """Events of a trace by ascending `trace_seq`."""

    events: Sequence[StoredEvent]
    next_page_token: str | None


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace as it stands at a position."""

    summary: TraceSummaryRow
    event_count: int
    """The true number of its events: `summary.event_count` keeps the reference's way of counting."""
    last_log_seq: int
    """Log position of its newest event."""
    timeline: TraceEventsPage
    position: ReadPosition


class TraceQueries:
    """Questions about single traces."""

    def __init__(self, database: Database, page_tokens: PageTokens, freshness_wait: FreshnessWait) -> None:
        self._database = database
        self._freshness_wait = freshness_wait
        self._page_tokens = page_tokens

    async def get_trace(
        self, tenant_id: TenantId, trace_id: str, *, as_of_log_seq: int | None, freshness_wanted: Freshness
    ) -> Trace:
        """One trace, now or as the log stood at `as_of_log_seq`.

        Raises:
            NotFound: the tenant has no event of this trace up to the position that is answered from.
            InvalidArgument: `as_of_log_seq` lies beyond the log.
            ProjectionOutOfDate: the summary is behind what `freshness_wanted` asks for.
        """
        if as_of_log_seq is not None:
            # Answered from the log alone, so that no projection is waited for.
            freshness_wanted = Freshness(allow_stale=True)
        async with self._freshness_wait.reading(tenant_id, _PROJECTIONS, freshness_wanted) as reading:
            snapshot, position = reading.snapshot, reading.position
            # The log may be ahead of the summary: what is answered stands at one position.
            until = position.log_seq
            if as_of_log_seq is not None:
                until = freshness.checked_as_of(as_of_log_seq, position.head_log_seq)
            timeline = await self._page(
                snapshot, trace_id, None, after=-1, until_log_seq=until, page_size=MAX_TIMELINE_EVENTS
            )
            newest = timeline.events[-1] if timeline.events else None
            if timeline.next_page_token is not None:
                newest = await event_log.fetch_newest_of_trace(snapshot, trace_id, until_log_seq=until)
            if newest is None:
                raise errors.NotFound("trace", trace_id)
            summary = await _summary(reading, timeline.events[0], newest, as_of=as_of_log_seq is not None)
        if as_of_log_seq is not None:
            position = ReadPosition(as_of_log_seq, position.head_log_seq)
        return Trace(summary, newest.trace_seq + 1, newest.log_seq, timeline, position)

    async def list_trace_events(
        self, tenant_id: TenantId, trace_id: str, *, since_trace_seq: int | None, page_size: int | None, page_token: str
    ) -> TraceEventsPage:
        """Events of a trace with a `trace_seq` greater than `since_trace_seq`, ascending.

        Raises:
            NotFound: the tenant has no event of this trace.
            InvalidArgument: `page_token` belongs to another request.
        """
        after = -1 if since_trace_seq is None else since_trace_seq
        until = freshness.WHOLE_LOG
        if page_token:
            place = self._page_tokens.decode(_EVENTS_LIST, tenant_id, (trace_id, since_trace_seq), page_token)
            after, until = int(place[0] or 0), int(place[1] or 0)
        async with self._database.tenant_snapshot(tenant_id) as snapshot:
            page = await self._page(
                snapshot,
                trace_id,
                since_trace_seq,
                after=after,
                until_log_seq=until,
                page_size=page_size or DEFAULT_PAGE_SIZE,
            )
            if (
                not page.events
                and await event_log.fetch_newest_of_trace(snapshot, trace_id, until_log_seq=freshness.WHOLE_LOG) is None
            ):
                raise errors.NotFound("trace", trace_id)
        return page

    async def _page(
        self,
        snapshot: TenantTransaction,
        trace_id: str,
        since_trace_seq: int | None,
        *,
        after: int,
        until_log_seq: int,
        page_size: int,
    ) -> TraceEventsPage:
        """Up to `page_size` events, read in chunks so that large payloads never pile up beyond one answer."""
        events: list[StoredEvent] = []
        size, more = 0, True
        while more and len(events) <= page_size and size <= paging.MAX_ANSWER_BYTES:
            limit = min(_CHUNK, page_size + 1 - len(events))
            chunk = await event_log.fetch_trace_events(
                snapshot,
                trace_id,
                since_trace_seq=events[-1].trace_seq if events else after,
                until_log_seq=until_log_seq,
                limit=limit,
            )
            more = len(chunk) == limit
            events.extend(chunk)
            size += sum(map(paging.estimated_bytes, chunk))
        fitting = min(page_size, paging.fit(map(paging.estimated_bytes, events)))
        token = None
        if fitting < len(events):
            place = (events[fitting - 1].trace_seq, until_log_seq)
            token = self._page_tokens.encode(_EVENTS_LIST, snapshot.tenant_id, (trace_id, since_trace_seq), place)
        return TraceEventsPage(events[:fitting], token)


async def _summary(reading: Reading, first: StoredEvent, newest: StoredEvent, *, as_of: bool) -> TraceSummaryRow:
    row = None
    if not as_of:
        generation = reading.generations[vocabulary.TRACE_SUMMARY]
        row = await trace_summary_rows.fetch(reading.snapshot, generation, first.trace_id)
    if row is not None:
        return row
    # As the log stood at a position: the same rules over the only events that the summary can depend on.
    for event in (first, newest):
        row = trace_summary.apply(row, event)
    if row is None:
        raise errors.NotFound("trace", first.trace_id)
    return row
