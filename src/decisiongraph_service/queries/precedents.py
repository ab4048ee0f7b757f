"""Finding precedents (docs/reference/PRECEDENT_AND_GRAPH_QUERY_SEMANTICS.md, precedents)."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Final

from decisiongraph_service.domain import errors, vocabulary
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries import freshness, paging
from decisiongraph_service.queries.freshness import Freshness, FreshnessWait, Reading, ReadPosition
from decisiongraph_service.queries.paging import PageTokens
from decisiongraph_service.storage import precedent_index
from decisiongraph_service.storage.precedent_index import Generations, PrecedentFilter, PrecedentHit

DEFAULT_PAGE_SIZE: Final = 100
PROJECTIONS: Final = (vocabulary.TRACE_SUMMARY, vocabulary.PRECEDENT_INDEX)
_LIST: Final = "FindPrecedents"
_HITS_AT_ONCE: Final = 200
_HIT_OVERHEAD_BYTES: Final = 200


@dataclass(frozen=True, slots=True)
class PrecedentsPage:
    """Finished traces, newest first."""

    hits: Sequence[PrecedentHit]
    next_page_token: str | None
    position: ReadPosition
    """Of the projection that is further behind."""


class PrecedentQueries:
    """Questions to the precedent index."""

    def __init__(self, page_tokens: PageTokens, freshness_wait: FreshnessWait) -> None:
        self._page_tokens = page_tokens
        self._freshness_wait = freshness_wait

    async def find(
        self,
        tenant_id: TenantId,
        wanted: PrecedentFilter,
        *,
        page_size: int | None,
        page_token: str,
        freshness_wanted: Freshness,
    ) -> PrecedentsPage:
        """Finished traces that match all filters: those finished last first.

        Raises:
            InvalidArgument: a version without its policy, an entity without its type, or a foreign `page_token`.
            ProjectionOutOfDate: a projection is behind what `freshness_wanted` asks for.
        """
        check_companions(wanted)
        page_size = page_size or DEFAULT_PAGE_SIZE
        parameters = astuple(wanted)
        before = freshness.WHOLE_LOG
        if page_token:
            before = int(self._page_tokens.decode(_LIST, tenant_id, parameters, page_token)[0] or 0)
        async with self._freshness_wait.reading(tenant_id, PROJECTIONS, freshness_wanted) as reading:
            hits = await _next_hits(reading, wanted, before, page_size + 1)
        fitting = min(page_size, paging.fit(map(_hit_bytes, hits)))
        token = None
        if fitting < len(hits):
            token = self._page_tokens.encode(_LIST, tenant_id, parameters, (hits[fitting - 1].last_log_seq,))
        return PrecedentsPage(hits[:fitting], token, reading.position)


async def _next_hits(reading: Reading, wanted: PrecedentFilter, before: int, count: int) -> list[PrecedentHit]:
    """Up to `count` hits, read in chunks so that long texts never pile up beyond one answer."""
    generations = Generations(
        reading.generations[vocabulary.TRACE_SUMMARY], reading.generations[vocabulary.PRECEDENT_INDEX]
    )
    hits: list[PrecedentHit] = []
    size = 0
    while len(hits) < count and size <= paging.MAX_ANSWER_BYTES:
        limit = min(_HITS_AT_ONCE, count - len(hits))
        chunk = await precedent_index.find(reading.snapshot, generations, wanted, before=before, limit=limit)
        hits.extend(chunk)
        size += sum(map(_hit_bytes, chunk))
        if len(chunk) < limit:
            break
        before = chunk[-1].last_log_seq
    return hits


def check_companions(wanted: PrecedentFilter) -> None:
    """A version goes with its policy, an entity with its type.

    Raises:
        InvalidArgument: one is without the other.
    """
    found = [
        errors.Violation(name, "REQUIRED", f"is needed beside {other}")
        for name, other, missing in (
            ("policy_id", "policy_version", wanted.policy_version and not wanted.policy_id),
            ("entity_type", "entity_id", wanted.entity_id and not wanted.entity_type),
        )
        if missing
    ]
    if found:
        raise errors.InvalidArgument(found)


def _hit_bytes(hit: PrecedentHit) -> int:
    texts = (hit.trace_id, hit.workflow, hit.title, hit.finished_at, hit.policy_id or "", hit.policy_version or "")
    return _HIT_OVERHEAD_BYTES + sum(len(text.encode()) for text in texts)
