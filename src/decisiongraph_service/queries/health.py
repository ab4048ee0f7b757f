"""How the projections of a tenant stand (docs/reference/QUERY_AND_ORDERING_INVARIANTS.md, projection health)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from decisiongraph_service.domain import errors, vocabulary
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries.paging import PageTokens
from decisiongraph_service.storage import (
    event_log,
    projection_digests,
    projection_failures,
    projection_state,
    replay_jobs,
)
from decisiongraph_service.storage.database import Database
from decisiongraph_service.storage.projection_digests import ComputedDigest
from decisiongraph_service.storage.projection_failures import ProjectionFailure
from decisiongraph_service.storage.projection_state import Generation

CURRENT: Final = "current"
CATCHING_UP: Final = "catching_up"
FAILED: Final = "failed"

DEFAULT_PAGE_SIZE: Final = 100
_FAILURES_LIST: Final = "ListProjectionFailures"
_FIRST_PLACE: Final = (2**63 - 1, "")


@dataclass(frozen=True, slots=True)
class ProjectionHealth:
    """How one projection stands."""

    live: Generation
    lag_events: int
    lag_seconds: float
    """Age of the oldest event that is not applied yet; 0 if there is none."""
    state: str
    digest: ComputedDigest | None
    """The last computed one of the generation that readers see."""
    open_failures: int
    running_job_id: str | None


@dataclass(frozen=True, slots=True)
class Health:
    """How all projections of a tenant stand in one snapshot."""

    head_log_seq: int
    projections: Sequence[ProjectionHealth]
    full_digest: str | None
    """The combined digest, if the three were computed at one position."""
    trace_count: int


@dataclass(frozen=True, slots=True)
class FailuresPage:
    """Failures, newest first."""

    failures: Sequence[ProjectionFailure]
    next_page_token: str | None


class HealthQueries:
    """Questions about projections."""

    def __init__(self, database: Database, page_tokens: PageTokens, *, clock: Callable[[], int]) -> None:
        """`clock` tells microseconds since 1970-01-01T00:00:00Z."""
        self._database = database
        self._page_tokens = page_tokens
        self._clock = clock

    async def get_health(self, tenant_id: TenantId) -> Health:
        """The health of the tenant's projections.

        Raises:
            NotFound: the tenant does not exist.
        """
        async with self._database.tenant_snapshot(tenant_id) as snapshot:
            head = await event_log.fetch_head(snapshot)
            live = await projection_state.fetch_live(snapshot)
            if not live:
                raise errors.NotFound("tenant", tenant_id)
            digests = await projection_digests.fetch(snapshot)
            failures = await projection_failures.count_open(snapshot)
            jobs = await replay_jobs.fetch_active(snapshot)
            waiting = {
                position: await event_log.fetch_recorded_at(snapshot, position + 1)
                for position in {one.log_seq for one in live if one.log_seq < head}
            }
            traces = await projection_state.count_traces(snapshot)
        now = self._clock()
        by_name = {
            one.projection: ProjectionHealth(
                live=one,
                lag_events=max(0, head - one.log_seq),
                lag_seconds=_age(waiting.get(one.log_seq), now),
                state=FAILED if one.blocked else CURRENT if one.log_seq >= head else CATCHING_UP,
                digest=_of_generation(digests.get(one.projection), one),
                open_failures=failures.get(one.projection, 0),
                running_job_id=next((j.job_id for j in jobs if one.projection in j.request.projections), None),
            )
            for one in live
        }
        projections = [by_name[name] for name in vocabulary.PROJECTIONS]
        return Health(head, projections, _full(projections, digests), traces)

    async def list_failures(
        self, tenant_id: TenantId, *, projection: str, include_resolved: bool, page_size: int | None, page_token: str
    ) -> FailuresPage:
        """Events that could not be applied, newest first.

        Raises:
            InvalidArgument: `page_token` belongs to another request.
        """
        page_size = page_size or DEFAULT_PAGE_SIZE
        parameters = (projection, include_resolved)
        before: tuple[int, str] = _FIRST_PLACE
        if page_token:
            place = self._page_tokens.decode(_FAILURES_LIST, tenant_id, parameters, page_token)
            before = int(place[0] or 0), str(place[1])
        async with self._database.tenant_statements(tenant_id) as statements:
            found = await projection_failures.fetch_newest(
                statements,
                projection=projection,
                include_resolved=include_resolved,
                before=before,
                limit=page_size + 1,
            )
        token = None
        if len(found) > page_size:
            last = found[page_size - 1]
            token = self._page_tokens.encode(_FAILURES_LIST, tenant_id, parameters, (last.log_seq, last.projection))
        return FailuresPage(found[:page_size], token)


def _age(recorded_at_micros: int | None, now_micros: int) -> float:
    return 0.0 if recorded_at_micros is None else max(0.0, (now_micros - recorded_at_micros) / 1_000_000)


def _of_generation(digest: ComputedDigest | None, live: Generation) -> ComputedDigest | None:
    return digest if digest is not None and digest.generation == live.generation else None


def _full(projections: Sequence[ProjectionHealth], digests: dict[str, ComputedDigest]) -> str | None:
    full = digests.get(vocabulary.FULL_PROJECTION)
    positions = {one.digest.log_seq if one.digest else None for one in projections}
    return full.digest if full is not None and positions == {full.log_seq} else None
