"""Pages read while the log grows: nothing twice, nothing left out, and all that was there before.

Lists in ascending order may meet what is written meanwhile; those in descending order end where they began.
"""

import asyncio
import contextlib
import dataclasses
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import pytest
from tests import samples
from tests.asking import Queries
from tests.replaying import POLICY, Projections

from decisiongraph_service.domain.append_batch import Refusal
from decisiongraph_service.domain.events import CheckedEvent, StoredEvent
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.ingestion.group_commit import GroupCommitter
from decisiongraph_service.queries.events import EventsWanted
from decisiongraph_service.queries.freshness import Freshness
from decisiongraph_service.queries.trace_list import TracesWanted
from decisiongraph_service.runtime import server
from decisiongraph_service.storage import event_log
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database
from decisiongraph_service.storage.precedent_index import PrecedentFilter

_BEFORE: Final = 24
"""Traces that are there before the first page."""
_MEANWHILE: Final = 40
"""Traces that each of two tasks writes at most beside the reading: no list is read faster than it grows for ever."""
_PAGE_SIZE: Final = 3
_GROWING: Final = "growing"
_NUMBERS: Final = itertools.count()
_PROPOSED: Final = {
    "action_id": "hub",
    "action_type": "a",
    "target_entity": {"entity_type": "order", "entity_id": "1"},
    "target_system": "s",
    "changes": [],
}

Key = tuple[int, str]
"""Log position and name: what an item of a list is told by."""
Page = tuple[list[Key], str | None]
"""Its items, and the token of the next one."""


def whole_trace(number: int) -> list[CheckedEvent]:
    """With two edges of one event at the hub, and a precedent."""
    t = f"t{number}"
    return [
        samples.start(t),
        samples.checked("ActionProposed", key=f"{t}/1", trace_id=t, payload=_PROPOSED),
        samples.checked("PolicyEvaluated", key=f"{t}/2", trace_id=t, payload=POLICY),
        samples.checked("TraceFinished", key=f"{t}/3", trace_id=t),
    ]


class Writer:
    """Appends as several processes do: a trace and an event of the growing trace at a time."""

    def __init__(self, database: Database, signal: CommitSignal, tenant_id: TenantId) -> None:
        self.head = 0
        """The last acknowledged position."""
        self.stopped = False
        self._database = database
        self._signal = signal
        self._tenant_id = tenant_id
        self._numbers = itertools.count()
        self._wrote = asyncio.Event()
        self._at_work = 0

    async def write(self, count: int) -> None:
        """Append so many traces, unless it is stopped before."""
        committer = GroupCommitter(self._database, self._signal, clock=server.clock_micros, parallel_commits=1)
        self._at_work += 1
        for number in itertools.islice(self._numbers, count):
            if self.stopped:
                break
            growing = samples.checked(key=f"{_GROWING}/{number}", trace_id=_GROWING)
            await asyncio.gather(self._append(committer, whole_trace(number)), self._append(committer, [growing]))
            self._wrote.set()
        self._at_work -= 1
        self._wrote.set()

    async def begin(self) -> None:
        """Append what is there before."""
        committer = GroupCommitter(self._database, self._signal, clock=server.clock_micros, parallel_commits=1)
        await self._append(committer, [samples.start(_GROWING)])
        await self.write(_BEFORE)

    async def _append(self, committer: GroupCommitter, events: Sequence[CheckedEvent]) -> None:
        outcome = await committer.submit(self._tenant_id, events)
        if isinstance(outcome, Refusal):
            raise outcome.error
        self.head = max(self.head, outcome[-1].stored.log_seq)

    async def until_more(self) -> None:
        """Return when another trace is written, or none will be."""
        self._wrote.clear()
        if self._at_work:
            await self._wrote.wait()


@contextlib.asynccontextmanager
async def writing(writer: Writer) -> AsyncIterator[asyncio.Event]:
    """Two tasks write inside this block: half of it before the event that this gives is set, half of it after that."""
    first_page = asyncio.Event()

    async def write() -> None:
        await writer.write(_MEANWHILE // 2)
        await first_page.wait()
        await writer.write(_MEANWHILE // 2)

    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(write())
        try:
            yield first_page
        finally:
            writer.stopped = True
            first_page.set()


@dataclass(frozen=True)
class Reader:
    """The lists of one tenant."""

    database: Database
    queries: Queries
    tenant_id: TenantId
    page_size: int = _PAGE_SIZE

    async def edges(self, direction: str, token: str) -> Page:
        page = await self.queries.graph.list_node_edges(
            self.tenant_id,
            "action:hub",
            direction=direction,
            page_size=self.page_size,
            page_token=token,
            freshness_wanted=Freshness(),
        )
        return [(edge.log_seq, edge.edge_id) for edge in page.edges], page.next_page_token

    async def timeline(self, token: str) -> Page:
        page = await self.queries.traces.list_trace_events(
            self.tenant_id, _GROWING, since_trace_seq=None, page_size=self.page_size, page_token=token
        )
        return [(event.log_seq, event.event_id) for event in page.events], page.next_page_token

    async def events(self, event_type: str, token: str) -> Page:
        page = await self.queries.events.list_events(
            self.tenant_id, EventsWanted(event_type=event_type), page_size=self.page_size, page_token=token
        )
        return [(event.log_seq, event.event_id) for event in page.events], page.next_page_token

    async def traces(self, token: str) -> Page:
        page = await self.queries.trace_list.list_traces(
            self.tenant_id, TracesWanted(), page_size=self.page_size, page_token=token, freshness_wanted=Freshness()
        )
        found = [(trace.summary.started_log_seq, trace.summary.trace_id) for trace in page.traces]
        return found, page.next_page_token

    async def precedents(self, token: str) -> Page:
        page = await self.queries.precedents.find(
            self.tenant_id,
            PrecedentFilter(policy_id="p"),
            page_size=self.page_size,
            page_token=token,
            freshness_wanted=Freshness(),
        )
        return [(hit.last_log_seq, hit.trace_id) for hit in page.hits], page.next_page_token

    async def log(self) -> list[StoredEvent]:
        """All events that are stored now."""
        async with self.database.tenant_snapshot(self.tenant_id) as snapshot:
            return await event_log.fetch_events_after(snapshot, 0, limit=100_000)


@pytest.fixture
async def signal(own_database: Database, own_database_url: str) -> AsyncIterator[CommitSignal]:
    """That of a process in which the projector is at work."""
    signal = CommitSignal(own_database_url)
    projector = Projections(own_database, signal).projector()
    signal.start()
    projector.start()
    yield signal
    await projector.stop()
    await signal.stop()


@pytest.fixture
async def reader(own_database: Database, signal: CommitSignal) -> Reader:
    tenant_id = await Projections(own_database, signal).make_tenant(f"growing-{next(_NUMBERS)}")
    return Reader(own_database, Queries.of(own_database, signal, wait_seconds=10), tenant_id)


@pytest.fixture
async def writer(own_database: Database, signal: CommitSignal, reader: Reader) -> Writer:
    writer = Writer(own_database, signal, reader.tenant_id)
    await writer.begin()
    return writer


async def read_while_writing(writer: Writer, fetch: Callable[[str], Awaitable[Page]]) -> tuple[list[Key], list[int]]:
    """A whole list, with something new before each page but the first; and the positions that were acknowledged before
    each page was asked for.
    """
    found: list[Key] = []
    heads: list[int] = []
    token: str | None = ""
    async with asyncio.timeout(60), writing(writer) as first_page:
        while token is not None:
            if token:
                await writer.until_more()
            heads.append(writer.head)
            page, token = await fetch(token)
            first_page.set()
            assert len(page) == _PAGE_SIZE or token is None, "only the last page may be short"
            found += page
    assert heads[-1] > heads[0] + 10, "hardly anything was written meanwhile"
    return found, heads


def assert_beginning(found: list[Key], whole: list[Key], heads: Sequence[int]) -> None:
    """It is the whole list up to some item, with everything that was there before its last page."""
    assert found == whole[: len(found)]
    assert not [key for key in whole[len(found) :] if key[0] <= heads[-1]]


def hub_edges(log: Sequence[StoredEvent], *edge_types: str) -> list[Key]:
    keys = [
        (event.log_seq, f"{edge_type}:{ends}:{event.event_id}")
        for event in log
        if event.event_type == "ActionProposed"
        for edge_type, ends in (
            ("action_targets_entity", "action:hub:entity:order:1"),
            ("trace_proposed_action", f"trace:{event.trace_id}:action:hub"),
        )
        if edge_type in edge_types
    ]
    return sorted(keys)


@pytest.mark.parametrize(
    ("direction", "edge_types"),
    [
        ("both", ("action_targets_entity", "trace_proposed_action")),
        ("incoming", ("trace_proposed_action",)),
        ("outgoing", ("action_targets_entity",)),
    ],
)
async def test_edges_of_a_hub(writer: Writer, reader: Reader, direction: str, edge_types: tuple[str, ...]) -> None:
    found, heads = await read_while_writing(writer, lambda token: reader.edges(direction, token))
    assert_beginning(found, hub_edges(await reader.log(), *edge_types), heads)
    assert len(found) >= _BEFORE * len(edge_types)


async def test_events_of_a_growing_trace(writer: Writer, reader: Reader) -> None:
    found, heads = await read_while_writing(writer, reader.timeline)
    whole = [(event.log_seq, event.event_id) for event in await reader.log() if event.trace_id == _GROWING]
    assert_beginning(found, whole, heads)
    assert len(found) > _BEFORE


@pytest.mark.parametrize("event_type", ["", "TraceFinished"])
async def test_events_of_the_log(writer: Writer, reader: Reader, event_type: str) -> None:
    found, heads = await read_while_writing(writer, lambda token: reader.events(event_type, token))
    log = await reader.log()
    assert [event.log_seq for event in log] == list(range(1, len(log) + 1))
    whole = [(event.log_seq, event.event_id) for event in log if event_type in ("", event.event_type)]
    assert_beginning(found, whole, heads)
    assert len(found) >= _BEFORE


def assert_from_the_first_page_on(found: list[Key], newest_first: list[Key], heads: Sequence[int]) -> None:
    """It is the whole list from some item on, with everything that was there before its first page."""
    first = newest_first.index(found[0])
    assert found == newest_first[first:]
    assert not [key for key in newest_first[:first] if key[0] <= heads[0]], "what was there is missing"
    assert first > 5, "hardly anything came before the first page meanwhile"


async def test_precedents_of_a_policy(writer: Writer, reader: Reader) -> None:
    found, heads = await read_while_writing(writer, reader.precedents)
    finishes = [event for event in await reader.log() if event.event_type == "TraceFinished"]
    assert_from_the_first_page_on(found, [(event.log_seq, event.trace_id) for event in reversed(finishes)], heads)
    assert len(found) >= _BEFORE


async def test_traces(writer: Writer, reader: Reader) -> None:
    found, heads = await read_while_writing(writer, reader.traces)
    starts = [event for event in await reader.log() if event.event_type == "TraceStarted"]
    assert_from_the_first_page_on(found, [(event.log_seq, event.trace_id) for event in reversed(starts)], heads)
    assert len(found) > _BEFORE


@pytest.mark.parametrize("page_size", [201, 10_000])
async def test_large_pages_after_the_writing(writer: Writer, reader: Reader, page_size: int) -> None:
    # More than the service reads of any list with one statement.
    await writer.write(230)
    reader = dataclasses.replace(reader, page_size=page_size)
    log = await reader.log()

    async def whole(fetch: Callable[[str], Awaitable[Page]]) -> list[Key]:
        page, token = await fetch("")
        while token:
            more, token = await fetch(token)
            page += more
        return page

    def newest_first(event_type: str) -> list[Key]:
        return [(event.log_seq, event.trace_id) for event in reversed(log) if event.event_type == event_type]

    both = hub_edges(log, "action_targets_entity", "trace_proposed_action")
    assert await whole(lambda token: reader.edges("both", token)) == both
    assert await whole(reader.precedents) == newest_first("TraceFinished")
    assert await whole(reader.traces) == newest_first("TraceStarted")
    assert await whole(lambda token: reader.events("", token)) == [(event.log_seq, event.event_id) for event in log]
