"""Lists of replay jobs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from decisiongraph_service.domain.replay import ReplayJob
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries.paging import PageTokens
from decisiongraph_service.storage import replay_jobs
from decisiongraph_service.storage.database import Database

DEFAULT_PAGE_SIZE: Final = 100
_LIST: Final = "ListReplays"
_NEWEST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class JobsPage:
    """Jobs, newest first."""

    jobs: Sequence[ReplayJob]
    next_page_token: str | None


class JobQueries:
    """Questions about jobs."""

    def __init__(self, database: Database, page_tokens: PageTokens) -> None:
        self._database = database
        self._page_tokens = page_tokens

    async def list_jobs(
        self,
        tenant_id: TenantId,
        *,
        projection: str,
        status: str,
        modes: Collection[str],
        page_size: int | None,
        page_token: str,
    ) -> JobsPage:
        """Jobs of these modes, newest first; an empty text is no filter.

        Raises:
            InvalidArgument: `page_token` belongs to another request.
        """
        page_size = page_size or DEFAULT_PAGE_SIZE
        parameters = (projection, status)
        before = _NEWEST
        if page_token:
            before = int(self._page_tokens.decode(_LIST, tenant_id, parameters, page_token)[0] or 0)
        async with self._database.tenant_statements(tenant_id) as statements:
            found = await replay_jobs.fetch_newest(
                statements,
                before_seq=before,
                projection=projection,
                status=status,
                modes=sorted(modes),
                limit=page_size + 1,
            )
        token = None
        if len(found) > page_size:
            token = self._page_tokens.encode(_LIST, tenant_id, parameters, (found[page_size - 1].job_seq,))
        return JobsPage(found[:page_size], token)
