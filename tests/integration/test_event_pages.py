"""Reading a log forward for rare matches: window by window, nothing lost or doubled wherever a page ends."""

import pytest
from tests import samples

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.ingestion.group_commit import GroupCommitter
from decisiongraph_service.queries import event_pages, events, paging
from decisiongraph_service.queries.event_pages import ForwardRead
from decisiongraph_service.queries.events import EventQueries, EventsWanted
from decisiongraph_service.queries.paging import PageTokens
from decisiongraph_service.runtime import server
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database
from decisiongraph_service.storage.event_log import EventFilter

_LENGTH = 100


@pytest.fixture
async def rare(database_url: str, database: Database, tenant_id: TenantId) -> list[int]:
    """The few positions with the tag `rare` in a log of a hundred events."""
    committer = GroupCommitter(database, CommitSignal(database_url), clock=server.clock_micros, parallel_commits=1)
    positions = [1, 2, 3, 40, 41, 99, 100]
    await committer.submit(
        tenant_id,
        [
            samples.checked(
                "PrecedentCited" if n > 1 else "TraceStarted",
                key=f"k{n}",
                tags=("rare",) if n in positions else ("common",),
            )
            for n in range(1, _LENGTH + 1)
        ],
    )
    return positions


@pytest.mark.parametrize("window", [1, 3, 40, 99, 101])
@pytest.mark.parametrize("chunk", [1, 64])
@pytest.mark.parametrize("limit", [1, 3, 100])
@pytest.mark.parametrize("max_windows", [1, 5])
async def test_every_match_comes_once_whatever_the_sizes(
    database: Database,
    tenant_id: TenantId,
    rare: list[int],
    monkeypatch: pytest.MonkeyPatch,
    window: int,
    chunk: int,
    limit: int,
    max_windows: int,
) -> None:
    monkeypatch.setattr(event_pages, "_WINDOW_POSITIONS", window)
    monkeypatch.setattr(event_pages, "_CHUNK_EVENTS", chunk)
    read = ForwardRead(EventFilter(tag="rare"), after=0)
    found: list[int] = []
    async with database.tenant_statements(tenant_id) as statements:
        while read.position < _LENGTH:
            before = read.position
            page = await read.next_page(statements, until=_LENGTH, limit=limit, max_windows=max_windows)
            assert len(page) <= limit
            assert read.position > before, "no progress"
            found += [event.log_seq for event in page]
            assert found == [position for position in rare if position <= read.position]
    assert found == rare


async def test_pages_of_rare_matches_may_be_empty_and_still_lead_to_the_end(
    database: Database, tenant_id: TenantId, rare: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fifty windows of one position are looked through for a page, and fifty more for whether another one follows.
    monkeypatch.setattr(event_pages, "_WINDOW_POSITIONS", 1)
    queries = EventQueries(database, PageTokens(b"k" * 32))
    found: list[int] = []
    sizes = []
    token = ""
    for _ in range(20):
        page = await queries.list_events(tenant_id, EventsWanted(tag="rare"), page_size=3, page_token=token)
        found += [event.log_seq for event in page.events]
        sizes.append(len(page.events))
        if page.next_page_token is None:
            break
        token = page.next_page_token
    assert found == rare
    assert len(sizes) > 2


async def test_a_page_that_reaches_its_size_in_bytes_ends_before_the_event_that_is_too_much(
    database: Database, tenant_id: TenantId, rare: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "MAX_ANSWER_BYTES", 2_500)
    queries = EventQueries(database, PageTokens(b"k" * 32))
    found: list[int] = []
    token = ""
    while True:
        page = await queries.list_events(
            tenant_id, EventsWanted(), page_size=events.DEFAULT_PAGE_SIZE, page_token=token
        )
        assert len(page.events) == 2
        found += [event.log_seq for event in page.events]
        if page.next_page_token is None:
            break
        token = page.next_page_token
    assert found == list(range(1, _LENGTH + 1))
