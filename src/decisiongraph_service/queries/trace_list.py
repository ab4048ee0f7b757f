"""Lists of traces, newest first (docs/reference/QUERY_AND_ORDERING_INVARIANTS.md, lists of traces)."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Final

from decisiongraph_service.domain import errors, vocabulary
from decisiongraph_service.domain.trace_summary import TraceSummaryRow
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries import bounds, freshness, paging, search_words
from decisiongraph_service.queries.freshness import Freshness, FreshnessWait, ReadPosition
from decisiongraph_service.queries.paging import PageTokens
from decisiongraph_service.storage import event_log, trace_summary
from decisiongraph_service.storage.database import TenantTransaction
from decisiongraph_service.storage.trace_summary import SummaryFilter

DEFAULT_PAGE_SIZE: Final = 100
OPEN: Final = "open"
FINISHED: Final = "finished"

_LIST: Final = "ListTraces"
_PROJECTIONS: Final = (vocabulary.TRACE_SUMMARY,)
_FOUND_AT_ONCE: Final = 200
_LOOKED_AT_ONCE: Final = 2_000
_MAX_STEPS: Final = 10
"""Then the page ends, however few were found."""
_ROW_OVERHEAD_BYTES: Final = 200


@dataclass(frozen=True, slots=True)
class TracesWanted:
    """What a list of traces asks for. Lower bounds are exclusive, upper bounds inclusive; empty text: no filter."""

    workflow: str = ""
    outcome: str = ""
    status: str = ""
    """`open` or `finished`."""
    primary_entity_type: str = ""
    primary_entity_id: str = ""
    since_started_at: str = ""
    until_started_at: str = ""
    since_finished_at: str = ""
    until_finished_at: str = ""
    query: str = ""


@dataclass(frozen=True, slots=True)
class ListedTrace:
    """A trace of a list."""

    summary: TraceSummaryRow
    event_count: int
    """The true number of its events: `summary.event_count` keeps the reference's way of counting."""
    last_log_seq: int
    """Log position of its newest event."""


@dataclass(frozen=True, slots=True)
class TracesPage:
    """Traces by descending log position of their start."""

    traces: Sequence[ListedTrace]
    next_page_token: str | None
    position: ReadPosition


class TraceList:
    """Lists of traces."""

    def __init__(self, page_tokens: PageTokens, freshness_wait: FreshnessWait) -> None:
        self._page_tokens = page_tokens
        self._freshness_wait = freshness_wait

    async def list_traces(
        self,
        tenant_id: TenantId,
        wanted: TracesWanted,
        *,
        page_size: int | None,
        page_token: str,
        freshness_wanted: Freshness,
    ) -> TracesPage:
        """Traces that match all filters, each as it stands now.

        Raises:
            InvalidArgument: a time cannot be parsed, a lower bound is above its upper bound, an entity has no type, the
                query has no word or too many, or the token is foreign.
            ProjectionOutOfDate: the summaries are behind what `freshness_wanted` asks for.
        """
        matching = _filter(wanted)
        page_size = page_size or DEFAULT_PAGE_SIZE
        before = freshness.WHOLE_LOG
        if page_token:
            before = int(self._page_tokens.decode(_LIST, tenant_id, astuple(wanted), page_token)[0] or 0)
        async with self._freshness_wait.reading(tenant_id, _PROJECTIONS, freshness_wanted) as reading:
            generation = reading.generations[vocabulary.TRACE_SUMMARY]
            rows, reached = await _next_rows(reading.snapshot, generation, matching, before, page_size + 1)
            fitting = min(page_size, paging.fit(map(_row_bytes, rows)))
            if fitting < len(rows):
                rows, reached = rows[:fitting], rows[fitting - 1].started_log_seq
            lengths = await event_log.fetch_lengths(
                reading.snapshot, [row.trace_id for row in rows], until_log_seq=reading.position.log_seq
            )
        token = None
        if reached is not None:
            token = self._page_tokens.encode(_LIST, tenant_id, astuple(wanted), (reached,))
        return TracesPage([_listed(row, lengths) for row in rows], token, reading.position)


async def _next_rows(
    snapshot: TenantTransaction, generation: int, matching: SummaryFilter, before: int, count: int
) -> tuple[list[TraceSummaryRow], int | None]:
    """Up to `count` rows, and the position up to which everything was looked at; None: nothing is left."""
    found: list[TraceSummaryRow] = []
    size = 0
    for _ in range(_MAX_STEPS):
        limit = min(_FOUND_AT_ONCE, count - len(found))
        look_at = _LOOKED_AT_ONCE if matching.is_narrow else None
        step = await trace_summary.fetch_newest(
            snapshot, generation, matching, before=before, limit=limit, look_at=look_at
        )
        found.extend(step.found)
        before = step.reached
        size += sum(map(_row_bytes, step.found))
        if step.at_the_end:
            return found, None
        if len(found) >= count or size > paging.MAX_ANSWER_BYTES:
            break
    return found, before


def _filter(wanted: TracesWanted) -> SummaryFilter:
    if wanted.primary_entity_id and not wanted.primary_entity_type:
        raise errors.InvalidArgument(
            [errors.Violation("primary_entity_type", "REQUIRED", "is needed beside primary_entity_id")]
        )
    since_started = bounds.instant("since_started_at", wanted.since_started_at)
    until_started = bounds.instant("until_started_at", wanted.until_started_at)
    since_finished = bounds.instant("since_finished_at", wanted.since_finished_at)
    until_finished = bounds.instant("until_finished_at", wanted.until_finished_at)
    bounds.require_order("started_at", since_started, until_started)
    bounds.require_order("finished_at", since_finished, until_finished)
    return SummaryFilter(
        workflow=wanted.workflow or None,
        outcome=wanted.outcome or None,
        finished={OPEN: False, FINISHED: True}.get(wanted.status),
        primary_entity_type=wanted.primary_entity_type or None,
        primary_entity_id=wanted.primary_entity_id or None,
        since_started_micros=since_started,
        until_started_micros=until_started,
        since_finished_micros=since_finished,
        until_finished_micros=until_finished,
        title_words=search_words.checked(wanted.query),
    )


def _listed(row: TraceSummaryRow, lengths: Mapping[str, tuple[int, int]]) -> ListedTrace:
    event_count, last_log_seq = lengths[row.trace_id]
    return ListedTrace(row, event_count, last_log_seq)


def _row_bytes(row: TraceSummaryRow) -> int:
    texts = (
        row.trace_id,
        row.workflow,
        row.title,
        row.primary_entity_type,
        row.primary_entity_id,
        row.primary_entity_system or "",
        row.started_at,
        row.finished_at or "",
    )
    return _ROW_OVERHEAD_BYTES + sum(len(text.encode()) for text in texts)
