"""The audit log of a tenant, newest first (docs/operations/API_SECURITY.md, audit)."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Final

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries import bounds
from decisiongraph_service.queries.paging import PageTokens
from decisiongraph_service.storage import audit
from decisiongraph_service.storage.audit import AuditEntry, AuditFilter
from decisiongraph_service.storage.database import Database

DEFAULT_PAGE_SIZE: Final = 100
_LIST: Final = "ListAuditEntries"
_LOOKED_AT_ONCE: Final = 5_000
_MAX_STEPS: Final = 10
"""Then the page ends, however few were found."""
_BEYOND: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class AuditWanted:
    """What a list asks for. The lower bound is exclusive, the upper one inclusive; empty text: no filter."""

    account_id: str = ""
    action: str = ""
    outcome: str = ""
    since_recorded_at: str = ""
    until_recorded_at: str = ""


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Entries, newest first."""

    entries: Sequence[AuditEntry]
    next_page_token: str | None


class AuditQueries:
    """Questions to the audit log."""

    def __init__(self, database: Database, page_tokens: PageTokens) -> None:
        self._database = database
        self._page_tokens = page_tokens

    async def list_entries(
        self, tenant_id: TenantId, wanted: AuditWanted, *, page_size: int | None, page_token: str
    ) -> AuditPage:
        """A page of the tenant's audit log.

        Raises:
            InvalidArgument: a time cannot be parsed, the lower bound is above the upper one, or the token is foreign.
        """
        page_size = page_size or DEFAULT_PAGE_SIZE
        since = bounds.instant("since_recorded_at", wanted.since_recorded_at)
        until = bounds.instant("until_recorded_at", wanted.until_recorded_at)
        bounds.require_order("recorded_at", since, until)
        matching = AuditFilter(wanted.account_id or None, wanted.action or None, wanted.outcome or None, since, until)
        before: int | None = _BEYOND
        if page_token:
            before = int(self._page_tokens.decode(_LIST, tenant_id, astuple(wanted), page_token)[0] or 0)
        found: list[AuditEntry] = []
        async with self._database.tenant_snapshot(tenant_id) as snapshot:
            for _ in range(_MAX_STEPS):
                limit = page_size + 1 - len(found)
                step = await audit.fetch_newest(snapshot, matching, before=before, limit=limit, look_at=_LOOKED_AT_ONCE)
                found.extend(step.found)
                before = step.next_before
                if before is None or len(found) > page_size:
                    break
        if len(found) > page_size:
            found, before = found[:page_size], found[page_size - 1].audit_seq
        token = None
        if before is not None:
            token = self._page_tokens.encode(_LIST, tenant_id, astuple(wanted), (before,))
        return AuditPage(found, token)
