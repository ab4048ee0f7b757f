"""Finding precedents by likeness (docs/reference/PRECEDENT_AND_GRAPH_QUERY_SEMANTICS.md, ranked precedents)."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Final

import orjson

from decisiongraph_service.domain import errors, precedent_search, vocabulary
from decisiongraph_service.domain.precedent_search import Document, Facts, Term
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries import paging, search_words
from decisiongraph_service.queries.freshness import Freshness, FreshnessWait, ReadPosition
from decisiongraph_service.queries.paging import PageTokens
from decisiongraph_service.queries.precedents import DEFAULT_PAGE_SIZE, PROJECTIONS, check_companions
from decisiongraph_service.storage import log_replay, precedent_documents
from decisiongraph_service.storage.database import TenantTransaction
from decisiongraph_service.storage.precedent_documents import RankedHit, RankedSearch
from decisiongraph_service.storage.precedent_index import PrecedentFilter

MAX_LIKE_EVENTS: Final = 10_000
"""So many events of a trace, the first ones, say what is like it."""

_LIST: Final = "FindPrecedents, ranked"
_EVENTS_AT_ONCE: Final = 200
_HIT_OVERHEAD_BYTES: Final = 200
_MATCH_OVERHEAD_BYTES: Final = 60
_NO_LIMIT: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Likeness:
    """What hits are ranked by; an empty text asks for nothing, not both are empty."""

    query: str = ""
    like_trace_id: str = ""


@dataclass(frozen=True, slots=True)
class RankedPage:
    """Finished traces, the best match first."""

    terms: Sequence[Term]
    """What was looked for."""
    hits: Sequence[RankedHit]
    next_page_token: str | None
    position: ReadPosition


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a page begins, and the state that all pages of a search are made from."""

    score: int
    finished_log_seq: int
    until_log_seq: int
    """Position of the projections when the first page was made: what finished later is in none of the pages."""
    like_until_log_seq: int
    """Likewise the end of the log: what the trace that is compared with did later changes nothing."""


class RankedPrecedentQueries:
    """Questions for what is most like a decision at hand."""

    def __init__(
        self,
        page_tokens: PageTokens,
        freshness_wait: FreshnessWait,
        *,
        candidates_of_a_key: int = precedent_documents.CANDIDATES_OF_A_KEY,
    ) -> None:
        """`candidates_of_a_key`: how many traces are looked at for each term and filter."""
        self._page_tokens = page_tokens
        self._freshness_wait = freshness_wait
        self._candidates_of_a_key = candidates_of_a_key

    async def find(
        self,
        tenant_id: TenantId,
        likeness: Likeness,
        wanted: PrecedentFilter,
        *,
        page_size: int | None,
        page_token: str,
        freshness_wanted: Freshness,
    ) -> RankedPage:
        """Finished traces that match all filters and have something in common with what is asked for.

        Raises:
            InvalidArgument: the query has no word or too many, a filter lacks its companion, or a foreign `page_token`.
            NotFound: the tenant has no such trace to compare with.
            ProjectionOutOfDate: a projection is behind what `freshness_wanted` asks for.
        """
        check_companions(wanted)
        query_words = search_words.checked(likeness.query)
        page_size = page_size or DEFAULT_PAGE_SIZE
        parameters = (*astuple(likeness), *astuple(wanted))
        place = None
        if page_token:
            decoded = self._page_tokens.decode(_LIST, tenant_id, parameters, page_token)
            place = _Place(*(int(part or 0) for part in decoded))
        async with self._freshness_wait.reading(tenant_id, PROJECTIONS, freshness_wanted) as reading:
            position = reading.position
            place = place or _Place(_NO_LIMIT, _NO_LIMIT, position.log_seq, position.head_log_seq)
            terms = list(precedent_search.terms_of_words(query_words))
            if likeness.like_trace_id:
                document = await _document(reading.snapshot, likeness.like_trace_id, place.like_until_log_seq)
                terms.extend(precedent_search.terms_like(document))
            # A word may be in the query and in the trace.
            terms = list(dict.fromkeys(terms))
            hits = await precedent_documents.find_ranked(
                reading.snapshot,
                reading.generations[vocabulary.PRECEDENT_INDEX],
                reading.generations[vocabulary.TRACE_SUMMARY],
                _search(terms, wanted, likeness, place),
                after=(place.score, place.finished_log_seq),
                limit=page_size + 1,
                max_bytes=paging.MAX_ANSWER_BYTES,
                candidates_of_a_key=self._candidates_of_a_key,
            )
        fitting = min(page_size, paging.fit(_hit_bytes(hit, terms) for hit in hits))
        token = None
        if fitting < len(hits):
            last = hits[fitting - 1]
            following = (last.score, last.document.finished_log_seq, place.until_log_seq, place.like_until_log_seq)
            token = self._page_tokens.encode(_LIST, tenant_id, parameters, following)
        return RankedPage(terms, hits[:fitting], token, position)


async def _document(snapshot: TenantTransaction, trace_id: str, until_log_seq: int) -> Document:
    facts: list[tuple[str, Facts]] = []
    after, read = -1, 0
    while read < MAX_LIKE_EVENTS:
        events = await log_replay.fetch_of_trace(
            snapshot,
            trace_id,
            precedent_search.READ_TYPES,
            since_trace_seq=after,
            until_log_seq=until_log_seq,
            limit=_EVENTS_AT_ONCE,
        )
        for event in events:
            found = precedent_search.facts(event.event_type, orjson.loads(event.canonical_payload))
            if found is not None:
                facts.append((event.event_type, found))
        if len(events) < _EVENTS_AT_ONCE:
            break
        after, read = events[-1].trace_seq, read + len(events)
    if not facts:
        raise errors.NotFound("trace", trace_id)
    return Document(facts)


def _search(terms: Sequence[Term], wanted: PrecedentFilter, likeness: Likeness, place: _Place) -> RankedSearch:
    filters = (
        (precedent_search.WORKFLOW, wanted.workflow),
        (precedent_search.OUTCOME, wanted.outcome),
        (precedent_search.ENTITY_TYPE, wanted.entity_type),
        (precedent_search.ENTITY, wanted.entity_id and precedent_search.joined(wanted.entity_type, wanted.entity_id)),
        (precedent_search.POLICY, wanted.policy_id),
        (
            precedent_search.POLICY_VERSION,
            wanted.policy_version and precedent_search.joined(wanted.policy_id, wanted.policy_version),
        ),
    )
    return RankedSearch(
        terms=terms,
        filter_keys=[precedent_search.feature_key(feature, value) for feature, value in filters if value],
        policy_id=wanted.policy_id or None,
        policy_version=wanted.policy_version or None,
        besides_trace_id=likeness.like_trace_id,
        until_log_seq=place.until_log_seq,
    )


def _hit_bytes(hit: RankedHit, terms: Sequence[Term]) -> int:
    matched = sum(_MATCH_OVERHEAD_BYTES + 2 * len(term.value.encode()) for term in terms)
    return _HIT_OVERHEAD_BYTES + hit.stored_bytes + matched
