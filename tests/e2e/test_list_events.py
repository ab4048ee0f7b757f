"""ListEvents: every filter as a plain model says, bounds as promised, pages that add up to the whole."""

import asyncio
import datetime as dt
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests import samples
from tests.calling import BOTH_WAYS, Answer, Callers, Service, Tenant

from decisiongraph_service.access import tenancy
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.runtime import server
from decisiongraph_service.storage.database import Database

# The same instants in different words, and some close to each other.
_TIMES = [
    "2026-01-01T00:00:00Z",
    "2026-01-01T01:00:00+01:00",
    "2026-01-01T00:00:00.000001Z",
    "2025-12-31T23:59:59.999999Z",
    "2026-01-01T00:00:01-05:30",
    "2026-06-30T12:00:00Z",
]
_TAGS = [[], ["a"], ["a", "b"], ["b", "c"], ["ab"]]


@dataclass(frozen=True)
class Prepared:
    """A tenant with a log of 60 events, and the log as it was sent."""

    callers: Callers
    log: list[dict[str, Any]]


def _log() -> list[dict[str, Any]]:
    turns = itertools.cycle(range(7 * 5 * 3))
    log = []
    for trace in range(6):
        for position in range(10):
            n = next(turns)
            kind = "TraceStarted" if position == 0 else "TraceFinished" if position == 9 else "PrecedentCited"
            log.append(
                samples.json_event(
                    kind,
                    key=f"k{trace}/{position}",
                    trace_id=f"t{trace}",
                    occurred_at=_TIMES[(n * 5) % len(_TIMES)],
                    source={"producer_id": f"p{n % 3}", "system": "s"},
                    actor={"actor_type": ["agent", "person"][n % 2], "actor_id": f"a{n % 4}"},
                    tags=_TAGS[n % len(_TAGS)],
                    **({"correlation_id": f"c{n % 3}"} if n % 4 else {}),
                )
            )
    return log


@pytest.fixture(scope="module")
async def prepared(service: Service, database: Database) -> AsyncIterator[Prepared]:
    tenant_id = TenantId("listed-events")
    await tenancy.create_tenant(database, tenant_id, clock=server.clock_micros)
    tokens = {role: service.token(tenant_ids=[tenant_id], roles=[role]) for role in ("reader", "writer")}
    async with (
        grpc.aio.insecure_channel(service.grpc) as channel,
        httpx.AsyncClient(base_url=service.rest, timeout=30) as client,
    ):
        callers = Callers(Tenant(tenant_id, tokens), channel, client)
        log = _log()
        answer = await callers.call("grpc", "AppendEvents", {"events": log})
        assert answer.ok, answer.body
        yield Prepared(callers, [{**event, "log_seq": n} for n, event in enumerate(log, start=1)])


def _matches(event: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    happened = dt.datetime.fromisoformat(event["occurred_at"])
    tests: dict[str, Callable[[Any], bool]] = {
        "since_log_seq": lambda value: event["log_seq"] > value,
        "until_log_seq": lambda value: event["log_seq"] <= value,
        "trace_id": lambda value: event["trace_id"] == value,
        "event_type": lambda value: event["event_type"] == value,
        "producer_id": lambda value: event["source"]["producer_id"] == value,
        "actor_type": lambda value: event["actor"]["actor_type"] == value,
        "actor_id": lambda value: event["actor"]["actor_id"] == value,
        "tag": lambda value: value in event["tags"],
        "correlation_id": lambda value: event.get("correlation_id") == value,
        "since_occurred_at": lambda value: happened > dt.datetime.fromisoformat(value),
        "until_occurred_at": lambda value: happened <= dt.datetime.fromisoformat(value),
    }
    return all(tests[name](value) for name, value in wanted.items())


def _inverted(wanted: Mapping[str, Any]) -> bool:
    since, until = wanted.get("since_log_seq"), wanted.get("until_log_seq")
    after, before = (wanted.get(f"{name}_occurred_at") for name in ("since", "until"))
    return (since is not None and until is not None and since > until) or (
        after is not None
        and before is not None
        and dt.datetime.fromisoformat(after) > dt.datetime.fromisoformat(before)
    )


def _positions(answers: Iterable[Answer]) -> list[int]:
    return [int(event["log_seq"]) for answer in answers for event in answer.body["events"]]


async def _pages(callers: Callers, way: str, request: Mapping[str, Any]) -> list[Answer]:
    """All pages of a list."""
    pages: list[Answer] = []
    token: dict[str, str] = {}
    for _ in range(200):
        page = await callers.call(way, "ListEvents", {**request, **token})
        assert page.ok, page.body
        pages.append(page)
        if "next_page_token" not in page.body:
            return pages
        token = {"page_token": page.body["next_page_token"]}
    raise AssertionError("the list has no end")


_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "since_log_seq": st.integers(0, 62),
    "until_log_seq": st.integers(0, 62),
    "trace_id": st.sampled_from([*(f"t{n}" for n in range(6)), "none"]),
    "event_type": st.sampled_from(["TraceStarted", "PrecedentCited", "TraceFinished", "Unknown"]),
    "producer_id": st.sampled_from(["p0", "p1", "p2", "p"]),
    "actor_type": st.sampled_from(["agent", "person", "role"]),
    "actor_id": st.sampled_from(["a0", "a1", "A1"]),
    "tag": st.sampled_from(["a", "b", "c", "ab"]),
    "correlation_id": st.sampled_from(["c0", "c1", "c"]),
    "since_occurred_at": st.sampled_from(_TIMES),
    "until_occurred_at": st.sampled_from(_TIMES),
}
_FILTERS = st.lists(st.sampled_from(sorted(_VALUES)), unique=True, max_size=4).flatmap(
    lambda names: st.fixed_dictionaries({name: _VALUES[name] for name in names})
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=_FILTERS, page_size=st.sampled_from([1, 7, 100]), data=st.data())
async def test_filters_keep_what_the_model_keeps(
    prepared: Prepared, wanted: dict[str, Any], page_size: int, data: st.DataObject
) -> None:
    way = "grpc" if data.draw(st.integers(0, 9)) else "rest"
    request = {**wanted, "page_size": page_size}
    if _inverted(wanted):
        refused = await prepared.callers.call(way, "ListEvents", request)
        assert refused.reason == "INVALID_ARGUMENT", refused.body
        return
    expected = [event["log_seq"] for event in prepared.log if _matches(event, wanted)]
    pages = await _pages(prepared.callers, way, request)
    assert _positions(pages) == expected
    assert all(len(page.body["events"]) <= page_size for page in pages)
    assert {page.body["head_log_seq"] for page in pages} == {"60"}


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_the_whole_log_comes_in_order_with_every_field(prepared: Prepared, way: str) -> None:
    (page,) = await _pages(prepared.callers, way, {})
    for sent, got in zip(prepared.log, page.body["events"], strict=True):
        assert {name: got[name] for name in sent} == {**sent, "log_seq": str(sent["log_seq"])}


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"since_log_seq": 57}, [58, 59, 60]),
        ({"until_log_seq": 2}, [1, 2]),
        ({"since_log_seq": 2, "until_log_seq": 4}, [3, 4]),
        ({"since_log_seq": 4, "until_log_seq": 4}, []),
        ({"since_log_seq": 0, "until_log_seq": 0}, []),
        ({"since_log_seq": 60}, []),
        ({"since_log_seq": 1_000_000}, []),
        ({"since_log_seq": 59, "until_log_seq": 9_223_372_036_854_775_807}, [60]),
        ({"event_type": "Unknown"}, []),
        ({"event_type": "tracestarted"}, []),
        ({"trace_id": "t5", "event_type": "TraceFinished"}, [60]),
    ],
    ids=str,
)
async def test_lower_bounds_exclude_and_upper_bounds_include(
    prepared: Prepared, way: str, wanted: dict[str, Any], expected: list[int]
) -> None:
    assert _positions(await _pages(prepared.callers, way, wanted)) == expected


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_times_are_compared_as_instants(prepared: Prepared, way: str) -> None:
    instant = "2026-01-01T00:00:00Z"
    same = {"2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00"}
    until = await _pages(prepared.callers, way, {"until_occurred_at": instant})
    kept = {event["occurred_at"] for page in until for event in page.body["events"]}
    assert kept == {*same, "2025-12-31T23:59:59.999999Z"}
    since = await _pages(prepared.callers, way, {"since_occurred_at": "2026-01-01T05:30:00+05:30"})
    assert not same & {event["occurred_at"] for page in since for event in page.body["events"]}
    equal = {"since_occurred_at": instant, "until_occurred_at": "2026-01-01T01:00:00+01:00"}
    assert _positions(await _pages(prepared.callers, way, equal)) == []


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"since_log_seq": 5, "until_log_seq": 4}, "since_log_seq"),
        ({"since_log_seq": -1}, "since_log_seq"),
        ({"until_log_seq": -1}, "until_log_seq"),
        ({"since_occurred_at": _TIMES[5], "until_occurred_at": _TIMES[0]}, "since_occurred_at"),
        ({"since_occurred_at": "yesterday"}, "since_occurred_at"),
        ({"until_occurred_at": "2026-01-01T00:00:00"}, "until_occurred_at"),
        ({"until_occurred_at": "2026-02-30T00:00:00Z"}, "until_occurred_at"),
        ({"page_size": 0}, "page_size"),
        ({"page_size": 10_001}, "page_size"),
        ({"trace_id": "x" * 201}, "trace_id"),
    ],
    ids=str,
)
async def test_a_bound_that_makes_no_sense_is_refused_and_named(
    prepared: Prepared, way: str, wanted: dict[str, Any], field: str
) -> None:
    answer = await prepared.callers.call(way, "ListEvents", wanted)
    assert (answer.reason, answer.fields) == ("INVALID_ARGUMENT", [field]), answer.body


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_token_of_another_request_is_refused(prepared: Prepared, way: str) -> None:
    page = await prepared.callers.call(way, "ListEvents", {"producer_id": "p1", "page_size": 3})
    token = page.body["next_page_token"]
    for request in (
        {"producer_id": "p2", "page_token": token},
        {"page_token": token},
        {"producer_id": "p1", "since_log_seq": 0, "page_token": token},
        {"producer_id": "p1", "page_token": token[:-1]},
        {"producer_id": "p1", "page_token": "AAAA" + token[4:]},
        {"producer_id": "p1", "page_token": "ä"},
    ):
        answer = await prepared.callers.call(way, "ListEvents", request)
        assert (answer.reason, answer.fields) == ("INVALID_ARGUMENT", ["page_token"]), request
    other_size = await prepared.callers.call(
        way, "ListEvents", {"producer_id": "p1", "page_size": 5, "page_token": token}
    )
    assert other_size.ok, "the page size may change from page to page"


async def test_a_token_of_another_tenant_is_refused(prepared: Prepared, callers: Callers) -> None:
    page = await prepared.callers.call("grpc", "ListEvents", {"page_size": 3})
    answer = await callers.call("grpc", "ListEvents", {"page_token": page.body["next_page_token"]})
    assert (answer.reason, answer.fields) == ("INVALID_ARGUMENT", ["page_token"])


@pytest.mark.parametrize("wanted", [{}, {"producer_id": "p"}, {"trace_id": "t"}], ids=str)
async def test_pages_add_up_to_the_whole_while_a_writer_appends(callers: Callers, wanted: dict[str, Any]) -> None:
    events = samples.json_trace(120)
    for begin in range(0, 60, 20):
        await callers.call("grpc", "AppendEvents", {"events": events[begin : begin + 20]})

    async def write() -> None:
        for event in events[60:]:
            assert (await callers.call("grpc", "AppendEvent", {"event": event})).ok

    writing = asyncio.create_task(write())
    read = _positions(await _pages(callers, "grpc", {**wanted, "page_size": 7}))
    await writing
    assert read == list(range(1, len(read) + 1)), "a gap or a double at the seam of two pages"
    assert len(read) >= 60


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_large_events_make_small_pages_and_none_is_lost(callers: Callers, way: str) -> None:
    events = samples.json_trace(30)
    for event in events[1:]:
        event["payload"] = {**event["payload"], "note": "x" * 250_000}
        event["idempotency_key"] += "large"
    for begin in range(0, 30, 10):
        answer = await callers.call("grpc", "AppendEvents", {"events": events[begin : begin + 10]})
        assert answer.ok, answer.body
    pages = await _pages(callers, way, {"page_size": 10_000})
    assert len(pages) > 1
    assert _positions(pages) == list(range(1, 31))
