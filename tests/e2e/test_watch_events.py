"""WatchEvents: history, then live, each event once and in order, whoever writes meanwhile."""

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.calling import Callers, as_json
from tests.traces import event_of_trace, whole_trace

from decisiongraph.v1 import query_service_pb2, query_service_pb2_grpc
from decisiongraph_service.domain import errors
from decisiongraph_service.queries.watch import EventWatches, Heartbeat
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database
from decisiongraph_service.storage.event_log import EventFilter


def _reader(callers: Callers) -> dict[str, str]:
    return {"authorization": f"Bearer {callers.tenant.tokens['reader']}"}


@contextlib.asynccontextmanager
async def _watch(callers: Callers, **request: Any) -> AsyncIterator[Any]:
    stub = query_service_pb2_grpc.QueryServiceStub(callers.channel)
    call: Any = stub.WatchEvents(
        query_service_pb2.WatchEventsRequest(**request), metadata=tuple(_reader(callers).items()), timeout=60
    )
    try:
        yield call
    finally:
        call.cancel()


async def _positions(call: Any, count: int) -> list[int]:
    """The positions of the next `count` events."""
    found: list[int] = []
    while len(found) < count:
        answer = as_json(await call.read())
        if "event" in answer:
            found.append(int(answer["event"]["log_seq"]))
    return found


async def _append(callers: Callers, event: dict[str, Any]) -> None:
    answer = await callers.call("grpc", "AppendEvent", {"event": event})
    assert answer.ok, answer.body


async def test_history_runs_into_live_without_gap_or_double(callers: Callers) -> None:
    async def write(writer: int) -> None:
        for event in whole_trace(f"trace-{writer}", 60):
            await _append(callers, event)

    async with asyncio.TaskGroup() as group:
        for writer in range(4):
            group.create_task(write(writer))
        while int((await callers.call("grpc", "ListEvents", {"page_size": 1})).body["head_log_seq"]) < 20:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # then it is in the middle of it
        watches = []
        for since in (0, 5, 17):

            async def follow(since: int = since) -> list[int]:
                async with _watch(callers, since_log_seq=since) as call:
                    return await _positions(call, 240 - since)

            watches.append((since, group.create_task(follow())))
    for since, watch in watches:
        assert watch.result() == list(range(since + 1, 241))


async def test_without_a_position_only_new_events_come(callers: Callers) -> None:
    await _append(callers, event_of_trace("old", 0))
    async with _watch(callers) as call:
        assert as_json(await call.read()) == {"heartbeat": {"head_log_seq": "1"}}
        await _append(callers, event_of_trace("new", 0))
        assert await _positions(call, 1) == [2]


async def test_heartbeats_carry_the_position_to_resume_from(callers: Callers) -> None:
    for event in whole_trace("trace", 3):
        await _append(callers, event)
    async with _watch(callers, since_log_seq=0, trace_id="none of these") as call:
        beats = [as_json(await call.read())["heartbeat"]["head_log_seq"] for _ in range(2)]
    assert beats == ["0", "3"], "a watch that matches nothing still says how far it has seen"
    async with _watch(callers, since_log_seq=3) as call:
        await _append(callers, event_of_trace("next", 0))
        assert await _positions(call, 1) == [4]


async def test_a_watch_keeps_to_its_filters(callers: Callers) -> None:
    for event in [*whole_trace("a", 4), *whole_trace("b", 4)]:
        await _append(callers, event)
    async with _watch(callers, since_log_seq=0, trace_id="b", event_types=["TraceStarted", "TraceFinished"]) as call:
        assert await _positions(call, 2) == [5, 8]


async def test_a_position_beyond_the_log_is_refused(callers: Callers) -> None:
    answer = await callers.call("rest", "WatchEvents", {"since_log_seq": 99})
    assert (answer.http_status, answer.reason, answer.fields) == (400, "INVALID_ARGUMENT", ["since_log_seq"])


async def test_over_rest_each_message_is_a_line_as_it_comes(callers: Callers) -> None:
    await _append(callers, event_of_trace("trace", 0))
    async with callers.client.stream(
        "GET", "/api/v1/events:watch", params={"since_log_seq": "0"}, headers=_reader(callers)
    ) as response:
        lines = response.aiter_lines()
        assert json.loads(await anext(lines)) == {"heartbeat": {"head_log_seq": "0"}}
        assert json.loads(await anext(lines))["event"]["log_seq"] == "1"
        await _append(callers, event_of_trace("trace", 1))
        while "event" not in (line := json.loads(await anext(lines))):
            pass
        assert line["event"]["log_seq"] == "2"


async def test_events_come_soon_after_their_commit(callers: Callers) -> None:
    delays = []
    async with _watch(callers, since_log_seq=0) as call:
        await call.read()
        for position in range(30):
            await _append(callers, event_of_trace("trace", position))
            committed = time.perf_counter()
            await _positions(call, 1)
            delays.append(time.perf_counter() - committed)
    # Far above what an idle machine needs, and far below the polling that a lost wake-up would fall back to.
    assert statistics.median(delays) < 0.25


class _NoSignal(CommitSignal):
    """A signal between nobody: what the database says is all there is."""


@pytest.fixture
def watches(database: Database, database_url: str) -> EventWatches:
    return EventWatches(database, _NoSignal(database_url), heartbeat_seconds=0.2, max_per_tenant=2)


async def test_a_lost_signal_delays_an_event_and_loses_none(callers: Callers, watches: EventWatches) -> None:
    async with contextlib.aclosing(watches.watch(callers.tenant.tenant_id, EventFilter(), since_log_seq=0)) as watch:
        assert await anext(watch) == Heartbeat(0)
        await _append(callers, event_of_trace("trace", 0))
        while isinstance(message := await anext(watch), Heartbeat):
            pass
        assert message.log_seq == 1


async def test_watches_of_a_tenant_are_limited_and_given_back(callers: Callers, watches: EventWatches) -> None:
    tenant_id = callers.tenant.tenant_id

    async def begin() -> Any:
        watch = watches.watch(tenant_id, EventFilter(), since_log_seq=None)
        await anext(watch)
        return watch

    first, second = await begin(), await begin()
    with pytest.raises(errors.RateLimited):
        await begin()
    await first.aclose()
    third = await begin()
    await second.aclose()
    await third.aclose()
    assert not watches._watching


async def test_a_watch_ends_with_its_client(callers: Callers) -> None:
    # The default limit is 100 at a time: were ended watches not given back, the later ones would be refused.
    for _ in range(13):
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(10):
                call = await stack.enter_async_context(_watch(callers))
                assert "heartbeat" in as_json(await call.read())
    for _ in range(3):
        with contextlib.suppress(httpx.ReadTimeout):
            await callers.client.get(
                "/api/v1/events:watch", headers=_reader(callers), timeout=httpx.Timeout(30, read=0.3)
            )
    async with _watch(callers) as call:
        assert "heartbeat" in as_json(await call.read())
