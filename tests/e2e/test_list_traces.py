"""ListTraces by both ways: the order, every filter, pages that add up, and how fresh the answers are."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import grpc
import httpx
import pytest
from tests import jobs, samples
from tests.calling import BOTH_WAYS, Callers, Service, Tenant
from tests.jobs import append, ask

from decisiongraph_service.access import tenancy
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries import trace_list
from decisiongraph_service.queries.freshness import Freshness, FreshnessWait
from decisiongraph_service.queries.paging import PageTokens
from decisiongraph_service.queries.trace_list import TraceList, TracesWanted
from decisiongraph_service.runtime import server
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database


def started(trace_id: str, at: str, **payload: Any) -> dict[str, Any]:
    """The first event of a trace about an order, unless told otherwise."""
    payload = {"workflow": "refund", "primary_entity": {"entity_type": "order", "entity_id": "A-1"}, **payload}
    return samples.json_event("TraceStarted", key=f"{trace_id}/0", trace_id=trace_id, occurred_at=at, payload=payload)


def cited(trace_id: str, number: int) -> dict[str, Any]:
    return samples.json_event(key=f"{trace_id}/{number}", trace_id=trace_id)


def finished(trace_id: str, at: str, outcome: str = "success") -> dict[str, Any]:
    payload = {"outcome": outcome, "summary": "Nothing of this is in a title"}
    return samples.json_event(
        "TraceFinished", key=f"{trace_id}/end", trace_id=trace_id, occurred_at=at, payload=payload
    )


_CUSTOMER: Final = {"entity_type": "customer", "entity_id": "c:1", "system": "crm"}
# Traces overlap, and the clocks of their events tell another order than the log.
LOG: Final = [
    started("t1", "2026-03-02T09:00:00Z", title="Refund for damaged espresso machine"),
    started("t2", "2026-03-02T10:00:00+01:00", title="Refund of Größe 42", primary_entity={**_CUSTOMER, "system": ""}),
    cited("t1", 1),
    started("t3", "2026-03-02T09:00:00.000001Z", title="Espresso voucher", workflow="goodwill"),
    finished("t2", "2026-03-03T00:00:00Z", "failure"),
    started("t4", "2026-03-01T23:59:59-05:30", title="Machine, espresso: never arrived", primary_entity=_CUSTOMER),
    cited("t4", 1),
    finished("t1", "2026-03-02T12:00:00+02:00"),
    started(
        "t5", "2026-04-01T00:00:00Z", title="Sorry", primary_entity={"entity_type": "customer", "entity_id": "A-1"}
    ),
    finished("t5", "2026-03-02T10:00:00Z", "abandoned"),
    started("t6", "2026-03-02T09:00:00Z", title="espresso_espresso (DAMAGED)", workflow="Refund"),
    finished("t6", "2026-03-02T09:59:59.999999Z"),
    cited("t4", 2),
]
NEWEST_FIRST: Final = ["t6", "t5", "t4", "t3", "t2", "t1"]


@dataclass(frozen=True)
class Prepared:
    """A tenant with the log above."""

    callers: Callers

    async def found(self, **wanted: Any) -> list[str]:
        """The traces of the one page that both ways answer."""
        answer = await ask(self.callers, "ListTraces", wanted)
        assert answer.ok, answer.body
        assert "next_page_token" not in answer.body
        return [trace["trace_id"] for trace in answer.body["traces"]]


@pytest.fixture(scope="module")
async def prepared(service: Service, database: Database) -> AsyncIterator[Prepared]:
    tenant_id = TenantId("listed-traces")
    await tenancy.create_tenant(database, tenant_id, clock=server.clock_micros)
    tokens = {role: service.token(tenant_ids=[tenant_id], roles=[role]) for role in ("reader", "writer")}
    async with (
        grpc.aio.insecure_channel(service.grpc) as channel,
        httpx.AsyncClient(base_url=service.rest, timeout=30) as client,
    ):
        callers = Callers(Tenant(tenant_id, tokens), channel, client)
        await append(callers, LOG)
        yield Prepared(callers)


async def test_the_newest_start_comes_first_and_each_trace_is_told_as_by_itself(prepared: Prepared) -> None:
    answer = await ask(prepared.callers, "ListTraces", {})
    told = [
        (trace["trace_id"], trace["status"], trace.get("outcome"), trace["event_count"], trace["last_log_seq"])
        for trace in answer.body["traces"]
    ]
    assert told == [
        ("t6", "finished", "success", "2", "12"),
        ("t5", "finished", "abandoned", "2", "10"),
        ("t4", "open", None, "3", "13"),
        ("t3", "open", None, "1", "4"),
        ("t2", "finished", "failure", "2", "5"),
        ("t1", "finished", "success", "3", "8"),
    ]
    assert answer.body["position"] == {"log_seq": "13", "head_log_seq": "13"}
    for trace in answer.body["traces"]:
        alone = await prepared.callers.call("grpc", "GetTrace", {"trace_id": trace["trace_id"]})
        assert trace == alone.body["summary"]


async def test_an_open_and_a_finished_trace_are_told_with_every_field(prepared: Prepared) -> None:
    answer = await ask(prepared.callers, "ListTraces", {})
    assert answer.body["traces"][2] == {
        "trace_id": "t4",
        "workflow": "refund",
        "title": "Machine, espresso: never arrived",
        "primary_entity": _CUSTOMER,
        "status": "open",
        "started_at": "2026-03-01T23:59:59-05:30",
        "event_count": "3",
        "last_log_seq": "13",
    }
    assert answer.body["traces"][5] == {
        "trace_id": "t1",
        "workflow": "refund",
        "title": "Refund for damaged espresso machine",
        "primary_entity": {"entity_type": "order", "entity_id": "A-1"},
        "status": "finished",
        "outcome": "success",
        "started_at": "2026-03-02T09:00:00Z",
        "finished_at": "2026-03-02T12:00:00+02:00",
        "event_count": "3",
        "last_log_seq": "8",
    }


_AT_NINE: Final = "2026-03-02T04:00:00-05:00"
_AT_TEN: Final = "2026-03-02T15:30:00.0000009+05:30"
FILTERS: Final[list[tuple[dict[str, str], list[str]]]] = [
    ({"workflow": "refund"}, ["t5", "t4", "t2", "t1"]),
    ({"workflow": "Refund"}, ["t6"]),
    ({"workflow": "refun"}, []),
    ({"outcome": "success"}, ["t6", "t1"]),
    ({"outcome": "abandoned"}, ["t5"]),
    ({"status": "open"}, ["t4", "t3"]),
    ({"status": "finished"}, ["t6", "t5", "t2", "t1"]),
    ({"primary_entity_type": "order"}, ["t6", "t3", "t1"]),
    ({"primary_entity_type": "order", "primary_entity_id": "A-1"}, ["t6", "t3", "t1"]),
    ({"primary_entity_type": "customer", "primary_entity_id": "A-1"}, ["t5"]),
    ({"primary_entity_type": "customer", "primary_entity_id": "c:1"}, ["t4", "t2"]),
    ({"primary_entity_type": "customer:c", "primary_entity_id": "1"}, []),
    ({"since_started_at": _AT_NINE}, ["t5", "t3"]),
    ({"until_started_at": _AT_NINE}, ["t6", "t4", "t2", "t1"]),
    ({"since_started_at": "2026-03-02T05:29:58Z", "until_started_at": "2026-03-02T05:29:59Z"}, ["t4"]),
    ({"since_started_at": _AT_NINE, "until_started_at": "2026-03-02T09:00:00Z"}, []),
    ({"since_finished_at": _AT_TEN}, ["t2"]),
    ({"until_finished_at": _AT_TEN}, ["t6", "t5", "t1"]),
    ({"since_finished_at": "2026-03-02T09:59:59.999999Z", "until_finished_at": _AT_TEN}, ["t5", "t1"]),
    ({"since_finished_at": "0001-01-01T00:00:00+23:59"}, ["t6", "t5", "t2", "t1"]),
    ({"until_finished_at": "9999-12-31T23:59:59-23:59"}, ["t6", "t5", "t2", "t1"]),
    ({"since_finished_at": _AT_TEN, "until_finished_at": "2026-03-02T10:00:00Z"}, []),
    ({"query": "espresso"}, ["t6", "t4", "t3", "t1"]),
    ({"query": "MACHINE espresso"}, ["t4", "t1"]),
    ({"query": "damaged-espresso espresso"}, ["t6", "t1"]),
    ({"query": "gro\u0308sse"}, ["t2"]),
    ({"query": "espress"}, []),
    ({"query": "nothing"}, []),
]


@pytest.mark.parametrize(("wanted", "expected"), FILTERS, ids=str)
async def test_a_filter_keeps_what_it_names(prepared: Prepared, wanted: dict[str, str], expected: list[str]) -> None:
    assert await prepared.found(**wanted) == expected


async def test_filters_are_combined_with_and(prepared: Prepared) -> None:
    for (one, of_one), (other, of_other) in itertools.combinations(FILTERS, 2):
        if not one.keys() & other.keys():
            answer = await prepared.callers.call("grpc", "ListTraces", {**one, **other})
            assert answer.ok, answer.body
            found = [trace["trace_id"] for trace in answer.body["traces"]]
            assert found == [trace_id for trace_id in NEWEST_FIRST if trace_id in of_one and trace_id in of_other]


async def test_all_filters_at_once_find_the_trace_that_passes_all(prepared: Prepared) -> None:
    wanted = {
        "workflow": "refund",
        "outcome": "success",
        "status": "finished",
        "primary_entity_type": "order",
        "primary_entity_id": "A-1",
        "since_started_at": "2026-03-02T08:59:59.999999Z",
        "until_started_at": _AT_NINE,
        "since_finished_at": "2026-03-02T09:59:59.999999Z",
        "until_finished_at": _AT_TEN,
        "query": "machine refund",
    }
    assert await prepared.found(**wanted) == ["t1"]
    assert await prepared.found(**{**wanted, "status": "open"}) == []


async def test_an_empty_filter_is_none(prepared: Prepared) -> None:
    wanted = dict.fromkeys(("workflow", "outcome", "status", "primary_entity_type", "query", "until_started_at"), "")
    assert await prepared.found(**wanted) == NEWEST_FIRST


async def test_as_many_as_sixteen_different_words_are_looked_for(prepared: Prepared) -> None:
    words = "refund for damaged espresso machine"
    assert await prepared.found(query=f"{words} {words.upper()} {words} {words}") == ["t1"]
    assert await prepared.found(query=f"{words} 1 2 3 4 5 6 7 8 9 10 11") == []


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"primary_entity_id": "A-1"}, "primary_entity_type"),
        ({"since_started_at": "yesterday"}, "since_started_at"),
        ({"until_started_at": "2026-02-30T00:00:00Z"}, "until_started_at"),
        ({"since_finished_at": "2026-03-02T09:00:00"}, "since_finished_at"),
        ({"until_finished_at": "2026-03-02t09:00:00z"}, "until_finished_at"),
        ({"since_started_at": "2026-03-02T09:00:01Z", "until_started_at": _AT_NINE}, "since_started_at"),
        ({"since_finished_at": "2026-03-02T10:00:00.000001Z", "until_finished_at": _AT_TEN}, "since_finished_at"),
        ({"query": " ?! 👟"}, "query"),
        ({"query": " ".join(map(str, range(17)))}, "query"),
        ({"query": "x" * 501}, "query"),
        ({"outcome": "unheard-of"}, "outcome"),
        ({"status": "Open"}, "status"),
        ({"page_size": 0}, "page_size"),
        ({"page_size": -1}, "page_size"),
        ({"page_size": 1001}, "page_size"),
        ({"page_token": "x"}, "page_token"),
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_refused_and_named(prepared: Prepared, wanted: dict[str, Any], field: str) -> None:
    answer = await ask(prepared.callers, "ListTraces", wanted)
    assert (answer.reason, answer.fields) == ("INVALID_ARGUMENT", [field]), answer.body
    assert (answer.code, answer.http_status) == (3, 400)


async def test_a_token_of_another_request_is_refused(prepared: Prepared, callers: Callers) -> None:
    page = await ask(prepared.callers, "ListTraces", {"workflow": "refund", "query": "refund", "page_size": 1})
    token = page.body["next_page_token"]
    events = await prepared.callers.call("grpc", "ListEvents", {"page_size": 1})
    for wanted in (
        {"page_token": token},
        {"workflow": "refund", "page_token": token},
        {"workflow": "refund", "query": "REFUND", "page_token": token},
        {"workflow": "refund", "query": "refund", "status": "finished", "page_token": token},
        {"workflow": "refund", "query": "refund", "page_token": token[:-1]},
        {"page_token": events.body["next_page_token"]},
    ):
        answer = await ask(prepared.callers, "ListTraces", wanted)
        assert (answer.reason, answer.fields) == ("INVALID_ARGUMENT", ["page_token"]), wanted
    same = {"workflow": "refund", "query": "refund", "page_token": token}
    of_another_tenant = await ask(callers, "ListTraces", same)
    assert (of_another_tenant.reason, of_another_tenant.fields) == ("INVALID_ARGUMENT", ["page_token"])
    assert await prepared.found(**same, page_size=5) == ["t1"]


async def pages(callers: Callers, way: str, wanted: Mapping[str, Any]) -> list[list[str]]:
    """The traces of each page of a list."""
    found: list[list[str]] = []
    token: dict[str, str] = {}
    for _ in range(100):
        page = await callers.call(way, "ListTraces", {**wanted, **token})
        assert page.ok, page.body
        found.append([trace["trace_id"] for trace in page.body["traces"]])
        if "next_page_token" not in page.body:
            return found
        token = {"page_token": page.body["next_page_token"]}
    raise AssertionError("the list has no end")


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize("page_size", [1, 2, 3])
async def test_full_pages_add_up_to_the_whole_list(prepared: Prepared, way: str, page_size: int) -> None:
    for wanted, expected in [({}, NEWEST_FIRST), *FILTERS]:
        found = await pages(prepared.callers, way, {**wanted, "page_size": page_size})
        assert list(itertools.chain(*found)) == expected, wanted
        assert [len(page) for page in found[:-1]] == [page_size] * ((len(expected) - 1) // page_size), wanted


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_long_titles_make_small_pages_and_none_is_lost(callers: Callers, way: str) -> None:
    for n in range(20):
        await append(callers, [started(f"t{n}", "2026-01-01T00:00:00Z", title="long " + "x" * 240_000)])
    for wanted in ({}, {"query": "long"}):
        found = await pages(callers, way, {**wanted, "page_size": 1_000})
        assert len(found) > 1
        assert list(itertools.chain(*found)) == [f"t{n}" for n in reversed(range(20))]


async def test_another_tenant_has_none_of_them(prepared: Prepared, callers: Callers) -> None:
    assert await prepared.found() == NEWEST_FIRST
    answer = await ask(callers, "ListTraces", {})
    assert answer.body == {"traces": [], "position": {"log_seq": "0", "head_log_seq": "0"}}


async def test_a_trace_is_judged_as_it_stands_and_keeps_its_place(callers: Callers) -> None:
    await append(callers, [started(f"t{n}", "2026-01-01T00:00:00Z", title="t") for n in range(5)])
    first = await ask(callers, "ListTraces", {"status": "open", "page_size": 2})
    assert [trace["trace_id"] for trace in first.body["traces"]] == ["t4", "t3"]
    later = started("t5", "2026-01-01T00:00:00Z", title="t")
    await append(callers, [finished("t2", "2026-01-02T00:00:00Z"), cited("t1", 1), later])
    rest = await ask(callers, "ListTraces", {"status": "open", "page_token": first.body["next_page_token"]})
    assert [(trace["trace_id"], trace["event_count"]) for trace in rest.body["traces"]] == [("t1", "2"), ("t0", "1")]
    whole = await pages(callers, "grpc", {"page_size": 4})
    assert whole == [["t5", "t4", "t3", "t2"], ["t1", "t0"]]


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_ones_own_write_is_in_the_answer(callers: Callers, way: str) -> None:
    for n in range(3):
        event = started(f"t{n}", "2026-01-01T00:00:00Z", title="t")
        stored = await callers.call(way, "AppendEvent", {"event": event})
        log_seq = stored.body["event"]["log_seq"]
        answer = await callers.call(way, "ListTraces", {"min_log_seq": log_seq, "page_size": 1})
        assert [trace["trace_id"] for trace in answer.body["traces"]] == [f"t{n}"]
        assert answer.body["position"] == {"log_seq": log_seq, "head_log_seq": log_seq}


async def test_an_answer_is_old_only_if_that_was_asked_for(callers: Callers, database_url: str) -> None:
    await append(callers, [started("t1", "2026-01-01T00:00:00Z", title="t"), cited("t1", 1)])
    await jobs.until_projected(callers)
    owner = await asyncpg.connect(database_url)
    await jobs.keep_projector_out(owner, callers)
    await owner.close()
    await append(callers, [started("t2", "2026-01-01T00:00:00Z", title="t")])
    for wanted in ({"allow_stale": True}, {"min_log_seq": 2}):
        answer = await ask(callers, "ListTraces", wanted)
        assert answer.body["position"] == {"log_seq": "2", "head_log_seq": "3"}
        assert [trace["trace_id"] for trace in answer.body["traces"]] == ["t1"]
    refused = await asyncio.gather(
        *(callers.call(way, "ListTraces", wanted) for way in BOTH_WAYS for wanted in ({}, {"min_log_seq": 3}))
    )
    assert {answer.reason for answer in refused} == {"PROJECTION_OUT_OF_DATE"}


def many(count: int, titles: Sequence[str]) -> list[dict[str, Any]]:
    return [started(f"t{n}", "2026-01-01T00:00:00Z", title=titles[n % len(titles)]) for n in range(count)]


async def test_a_rare_match_among_thousands_is_found(callers: Callers) -> None:
    oldest = started("needle", "2025-12-31T00:00:00Z", title="Needle")
    for batch in ([oldest], *(many(2_101, ["hay"])[begin : begin + 700] for begin in range(0, 2_101, 700))):
        await append(callers, batch)
    await jobs.until_projected(callers)
    for wanted in ({"query": "needle"}, {"until_started_at": "2025-12-31T23:59:59Z", "status": "open"}):
        answer = await ask(callers, "ListTraces", wanted)
        assert [trace["trace_id"] for trace in answer.body["traces"]] == ["needle"]
        assert "next_page_token" not in answer.body
    assert [len(page) for page in await pages(callers, "grpc", {"page_size": 1_000})] == [1_000, 1_000, 102]
    assert [len(page) for page in await pages(callers, "grpc", {"page_size": 999, "query": "hay"})] == [999, 999, 103]


async def test_a_page_of_rare_matches_may_be_empty_and_go_on(
    callers: Callers, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_list, "_LOOKED_AT_ONCE", 3)
    monkeypatch.setattr(trace_list, "_MAX_STEPS", 2)
    await append(callers, many(20, ["needle", *["hay"] * 12, "needle"]))
    traces = TraceList(PageTokens(b"k" * 32), FreshnessWait(database, CommitSignal(database_url), wait_seconds=10))
    found: list[list[str]] = []
    token: str | None = ""
    while token is not None:
        page = await traces.list_traces(
            callers.tenant.tenant_id,
            TracesWanted(query="needle"),
            page_size=2,
            page_token=token,
            freshness_wanted=Freshness(),
        )
        found.append([trace.summary.trace_id for trace in page.traces])
        token = page.next_page_token
    assert found == [["t14"], ["t13"], [], ["t0"]]
