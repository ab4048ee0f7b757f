"""ListEvents: every filter against a plain model, and pages that add up to the whole."""

import asyncio
from typing import Any

import pytest
from tests.calling import BOTH_WAYS, Callers
from tests.traces import event_of_trace, whole_trace

from decisiongraph_service.domain import timestamps


def _log() -> list[dict[str, Any]]:
    """Twenty-four events that differ in everything that can be filtered by."""
    events = []
    for number in range(4):
        for position, event in enumerate(whole_trace(f"trace-{number}", 6)):
            events.append(
                {
                    **event,
                    "source": {"producer_id": f"producer-{number % 2}", "system": "s"},
                    "actor": {"actor_type": ("agent", "person")[position % 2], "actor_id": f"actor-{position % 3}"},
                    "tags": ["even"] if position % 2 == 0 else ["odd", "rare"][: 1 + (position == 5)],
                    "occurred_at": f"2026-03-0{number + 1}T0{position}:00:00+0{position % 3}:00",
                    **({"correlation_id": "c-1"} if position == 3 else {}),
                }
            )
    return events


def _keeps(event: dict[str, Any], log_seq: int, wanted: dict[str, Any]) -> bool:
    instant = timestamps.parse_rfc3339(event["occurred_at"])
    checks = {
        "since_log_seq": lambda v: log_seq > v,
        "until_log_seq": lambda v: log_seq <= v,
        "trace_id": lambda v: event["trace_id"] == v,
        "event_type": lambda v: event["event_type"] == v,
        "producer_id": lambda v: event["source"]["producer_id"] == v,
        "actor_type": lambda v: event["actor"]["actor_type"] == v,
        "actor_id": lambda v: event["actor"]["actor_id"] == v,
        "tag": lambda v: v in event["tags"],
        "correlation_id": lambda v: event.get("correlation_id") == v,
        "since_occurred_at": lambda v: instant > timestamps.parse_rfc3339(v),
        "until_occurred_at": lambda v: instant <= timestamps.parse_rfc3339(v),
    }
    return all(checks[name](value) for name, value in wanted.items())


_WANTED: list[dict[str, Any]] = [
    {},
    {"since_log_seq": 7},
    {"until_log_seq": 7},
    {"since_log_seq": 7, "until_log_seq": 7},
    {"since_log_seq": 3, "until_log_seq": 20, "event_type": "ActionCommitted"},
    {"trace_id": "trace-2"},
    {"trace_id": "trace-2", "since_log_seq": 14, "until_log_seq": 16},
    {"trace_id": "none"},
    {"event_type": "TraceFinished"},
    {"event_type": "NoSuchType"},
    {"producer_id": "producer-1", "actor_id": "actor-2"},
    {"actor_type": "person", "tag": "odd"},
    {"tag": "rare"},
    {"tag": "Rare"},
    {"correlation_id": "c-1"},
    {"since_occurred_at": "2026-03-02T03:00:00Z"},
    {"until_occurred_at": "2026-03-02T03:00:00Z"},
    {"since_occurred_at": "2026-03-02T02:00:00+01:00", "until_occurred_at": "2026-03-03T04:00:00Z"},
    {"since_occurred_at": "2026-03-02T02:00:00Z", "until_occurred_at": "2026-03-02T02:00:00Z"},
    {"trace_id": "trace-1", "actor_type": "agent", "since_occurred_at": "2026-03-02T00:30:00Z"},
]


async def _append_log(callers: Callers) -> list[dict[str, Any]]:
    events = _log()
    answer = await callers.call("grpc", "AppendEvents", {"events": events})
    assert answer.ok, answer.body
    return events


async def _all_pages(callers: Callers, way: str, wanted: dict[str, Any], page_size: int) -> list[int]:
    positions: list[int] = []
    request = {**wanted, "page_size": page_size}
    for _ in range(100):
        page = await callers.call(way, "ListEvents", request)
        assert page.ok, page.body
        assert len(page.body["events"]) <= page_size
        positions += [int(event["log_seq"]) for event in page.body["events"]]
        if "next_page_token" not in page.body:
            return positions
        assert page.body["events"], "a page that says that more follows is not empty"
        request["page_token"] = page.body["next_page_token"]
    raise AssertionError("the pages do not end")


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_filters_keep_what_the_model_keeps(callers: Callers, way: str) -> None:
    events = await _append_log(callers)
    for wanted in _WANTED:
        expected = [n for n, event in enumerate(events, 1) if _keeps(event, n, wanted)]
        for page_size in (1, 5, 24, 1000):
            if page_size == 1 and len(expected) > 8:
                continue
            assert await _all_pages(callers, way, wanted, page_size) == expected, f"{wanted} by {page_size}"


async def test_a_full_last_page_promises_nothing_more(callers: Callers) -> None:
    await _append_log(callers)
    page = await callers.call("grpc", "ListEvents", {"page_size": 24})
    assert len(page.body["events"]) == 24
    assert "next_page_token" not in page.body


async def test_pages_neither_skip_nor_repeat_while_the_log_grows(callers: Callers) -> None:
    await _append_log(callers)
    stop = asyncio.Event()

    async def write() -> None:
        position = 0
        while not stop.is_set():
            await callers.call("grpc", "AppendEvent", {"event": event_of_trace("growing", position)})
            position += 1

    writer = asyncio.create_task(write())
    positions = await _all_pages(callers, "grpc", {"until_log_seq": 60}, 7)
    stop.set()
    await writer
    assert positions == list(range(1, len(positions) + 1))
    assert len(positions) >= 24


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"since_log_seq": 5, "until_log_seq": 4}, "since_log_seq"),
        (
            {"since_occurred_at": "2026-03-02T00:00:01Z", "until_occurred_at": "2026-03-02T00:00:00Z"},
            "since_occurred_at",
        ),
        ({"since_occurred_at": "yesterday"}, "since_occurred_at"),
        ({"until_occurred_at": "2026-03-02T00:00:00"}, "until_occurred_at"),
        ({"since_log_seq": -1}, "since_log_seq"),
        ({"page_size": 0}, "page_size"),
        ({"page_size": 10_001}, "page_size"),
        ({"page_token": "nonsense"}, "page_token"),
        ({"tag": "a\0b"}, "tag"),
    ],
    ids=str,
)
async def test_a_bad_request_names_its_field(callers: Callers, way: str, request_: dict[str, Any], field: str) -> None:
    answer = await callers.call(way, "ListEvents", request_)
    assert (answer.reason, answer.fields) == ("INVALID_ARGUMENT", [field]), answer.body


async def test_a_token_of_other_filters_is_refused(callers: Callers) -> None:
    await _append_log(callers)
    page = await callers.call("grpc", "ListEvents", {"page_size": 2})
    token = page.body["next_page_token"]
    assert (await callers.call("grpc", "ListEvents", {"page_token": token})).ok, "another page size is allowed"
    for other in ({"tag": "odd"}, {"since_log_seq": 1}, {"trace_id": "trace-1"}):
        answer = await callers.call("grpc", "ListEvents", {**other, "page_token": token})
        assert answer.fields == ["page_token"]


async def test_the_head_comes_with_every_page(callers: Callers) -> None:
    empty = await callers.call("rest", "ListEvents", {})
    assert (empty.body["events"], empty.body["head_log_seq"]) == ([], "0")
    await _append_log(callers)
    assert (await callers.call("rest", "ListEvents", {"page_size": 1})).body["head_log_seq"] == "24"


async def test_large_events_end_a_page_early(callers: Callers) -> None:
    payload = {"action_id": "a", "status": "success", "note": "x" * 200_000}
    events = [event_of_trace("large", 0), *({**event_of_trace("large", n), "payload": payload} for n in range(1, 19))]
    for event in events:
        assert (await callers.call("grpc", "AppendEvent", {"event": event})).ok
    for way in BOTH_WAYS:
        first = await callers.call(way, "ListEvents", {})
        assert 1 < len(first.body["events"]) < 19
        assert await _all_pages(callers, way, {}, 100) == list(range(1, 20))
