"""FindPrecedents with `query` and `like_trace_id`, by both ways: what is found, why, in which order, in which pages."""

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
import httpx
import pytest
from tests import jobs, samples
from tests.calling import BOTH_WAYS, METHODS, Callers, Service, Tenant
from tests.jobs import append, ask

from decisiongraph.v1 import query_service_pb2
from decisiongraph_service.access import tenancy
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.runtime import server
from decisiongraph_service.storage.database import Database

Event = tuple[str, dict[str, Any]]


def started(title: str, *, workflow: str = "refund", entity: str = "order:A-1") -> Event:
    entity_type, _, entity_id = entity.partition(":")
    primary = {"entity_type": entity_type, "entity_id": entity_id}
    return "TraceStarted", {"workflow": workflow, "title": title, "primary_entity": primary}


def evaluated(policy: str, decision: str) -> Event:
    return "PolicyEvaluated", {"policy": _policy(policy), "inputs": [], "decision": decision}


def asked(policy: str, reason: str) -> Event:
    return "ExceptionRequested", {"exception_id": "e", "policy": _policy(policy), "reason": reason}


def approval(decision: str, approver: str = "person:ann", subject_type: str = "exception", **more: str) -> Event:
    actor_type, _, actor_id = approver.partition(":")
    payload = {
        "approval_id": "ap",
        "subject": {"subject_type": subject_type, "subject_id": "e"},
        "approver": {"actor_type": actor_type, "actor_id": actor_id},
        "decision": decision,
        **more,
    }
    return "ApprovalRecorded", payload


def proposed(action_type: str) -> Event:
    target = {"entity_type": "order", "entity_id": "A-1"}
    payload = {"action_id": "a", "action_type": action_type, "target_entity": target, "target_system": "s"}
    return "ActionProposed", {**payload, "changes": []}


def committed(status: str) -> Event:
    return "ActionCommitted", {"action_id": "a", "status": status}


def finished(outcome: str, summary: str | None = None) -> Event:
    return "TraceFinished", {"outcome": outcome, "summary": summary}


def _policy(policy: str) -> dict[str, str]:
    policy_id, _, version = policy.partition("@")
    return {"policy_id": policy_id, "policy_version": version}


def trace(trace_id: str, *events: Event, first: int = 0) -> list[dict[str, Any]]:
    """The events of a trace, the first of them at this position of it."""
    return [
        samples.json_event(event_type, key=f"{trace_id}/{n}", trace_id=trace_id, payload=payload)
        for n, (event_type, payload) in enumerate(events, start=first)
    ]


LOG: Final = [
    *trace("kettle", started("Refund for a broken kettle"), evaluated("limit@1", "allow"), proposed("pay"),
           committed("failure"), committed("success"), finished("success", "40 refunded")),
    *trace("denied", started("Refund for espresso machine", entity="order:A-2"),
           evaluated("limit@1", "require_exception"), asked("limit@1", "Series defect"),
           approval("rejected", reason="Too late"), evaluated("limit@3", "allow"), finished("failure", "Denied")),
    *trace("granted", started("Espresso machine leaks"), evaluated("limit@2", "require_exception"),
           asked("limit@2", "Series defect, goodwill"), approval("rejected"), approval("approved"), proposed("pay"),
           committed("partial"), finished("success")),
    *trace("now", started("Espresso machine broken"), evaluated("limit@2", "require_exception"),
           asked("limit@2", "defect"), proposed("pay")),
    *trace("voucher", started("Voucher", workflow="goodwill", entity="customer:c:1"), evaluated("fraud@1", "deny"),
           approval("approved", "role:leads", "action", reason="Loves tea"), proposed("voucher"),
           finished("abandoned", "Espresso!")),
    *trace("hired", started("Hire Bob", workflow="hiring", entity="person:bob"), finished("success")),
]  # fmt: skip


def feature(name: str, value: str, weight: int, result: str | None = None) -> dict[str, Any]:
    told = {"feature": name, "value": value, "weight": str(weight)}
    return told if result is None else {**told, "result": result}


def words(*found: str) -> list[dict[str, Any]]:
    return [feature("text", word, 4) for word in found]


_REFUND: Final = [feature("workflow", "refund", 15), feature("entity_type", "order", 5)]
_THIS_ORDER: Final = feature("entity", "order:A-1", 25)
LIKE_NOW: Final = [
    ("granted", 132, [*_REFUND, _THIS_ORDER, feature("policy", "limit", 30, "require_exception"),
                      feature("policy_version", "limit:2", 15, "require_exception"),
                      feature("exception", "limit", 20, "approved"), feature("action_type", "pay", 10, "partial"),
                      *words("espresso", "machine", "defect")]),
    ("kettle", 89, [*_REFUND, _THIS_ORDER, feature("policy", "limit", 30, "allow"),
                    feature("action_type", "pay", 10, "success"), *words("broken")]),
    ("denied", 82, [*_REFUND, feature("policy", "limit", 30, "allow"), feature("exception", "limit", 20, "rejected"),
                    *words("espresso", "machine", "defect")]),
    ("voucher", 4, words("espresso")),
]  # fmt: skip
LIKE_GRANTED: Final = [("denied", 96), ("kettle", 85), ("voucher", 4)]


@dataclass(frozen=True)
class Prepared:
    """A tenant with the log above."""

    callers: Callers

    async def hits(self, **wanted: Any) -> list[dict[str, Any]]:
        """The hits of the one page that both ways answer."""
        answer = await ask(self.callers, "FindPrecedents", wanted)
        assert answer.ok, answer.body
        assert "next_page_token" not in answer.body
        return list(answer.body["precedents"])

    async def scores(self, **wanted: Any) -> list[tuple[str, int]]:
        return [(hit["trace_id"], int(hit["score"])) for hit in await self.hits(**wanted)]


@pytest.fixture(scope="module")
async def prepared(service: Service, database: Database) -> AsyncIterator[Prepared]:
    tenant_id = TenantId("ranked-precedents")
    await tenancy.create_tenant(database, tenant_id, clock=server.clock_micros)
    tokens = {role: service.token(tenant_ids=[tenant_id], roles=[role]) for role in ("reader", "writer", "admin")}
    async with (
        grpc.aio.insecure_channel(service.grpc) as channel,
        httpx.AsyncClient(base_url=service.rest, timeout=30) as client,
    ):
        callers = Callers(Tenant(tenant_id, tokens), channel, client)
        await append(callers, LOG)
        yield Prepared(callers)


def _told(hits: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, list[dict[str, Any]]]]:
    return [(hit["trace_id"], int(hit["score"]), hit["features"]) for hit in hits]


async def test_traces_like_an_open_one_are_ranked_by_what_they_have_in_common(prepared: Prepared) -> None:
    hits = await prepared.hits(like_trace_id="now")
    assert _told(hits) == LIKE_NOW
    assert {name: hits[2][name] for name in ("workflow", "title", "outcome", "finished_at")} == {
        "workflow": "refund",
        "title": "Refund for espresso machine",
        "outcome": "failure",
        "finished_at": "2026-01-01T00:00:00Z",
    }
    assert all("policy_id" not in hit and "policy_version" not in hit for hit in hits)


async def test_traces_like_a_finished_one_do_not_hold_it_itself(prepared: Prepared) -> None:
    assert await prepared.scores(like_trace_id="granted") == LIKE_GRANTED
    denied = (await prepared.hits(like_trace_id="granted"))[0]
    assert feature("approver", "person:ann", 10, "rejected") in denied["features"]
    assert denied["features"][-4:] == words("espresso", "machine", "series", "defect")


async def test_a_query_finds_the_traces_with_any_of_its_words(prepared: Prepared) -> None:
    assert _told(await prepared.hits(query="late espresso, DEFECT machine & unheard")) == [
        ("denied", 16, words("late", "espresso", "defect", "machine")),
        ("granted", 12, words("espresso", "defect", "machine")),
        ("voucher", 4, words("espresso")),
    ]
    assert await prepared.scores(query="tea") == [("voucher", 4)]
    assert await prepared.scores(query="unheard refunds goodwil") == []


async def test_a_query_and_a_trace_count_together_and_a_word_of_both_once(prepared: Prepared) -> None:
    hits = await prepared.hits(query="voucher espresso", like_trace_id="now")
    expected = []
    for trace_id, score, features in LIKE_NOW:
        rest = [one for one in features if one["value"] != "espresso"]
        asked_for = words("espresso") if len(rest) < len(features) else []
        expected.append((trace_id, score, asked_for + rest))
    expected[-1] = ("voucher", 8, words("voucher", "espresso"))
    assert _told(hits) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"workflow": "goodwill"}, ["voucher"]),
        ({"workflow": "good"}, []),
        ({"outcome": "success"}, ["granted", "kettle"]),
        ({"outcome": "unheard-of"}, []),
        ({"entity_type": "order"}, ["granted", "kettle", "denied"]),
        ({"entity_type": "order", "entity_id": "A-2"}, ["denied"]),
        ({"entity_type": "customer", "entity_id": "c:1"}, ["voucher"]),
        ({"entity_type": "customer:c", "entity_id": "1"}, []),
        ({"policy_id": "limit"}, ["granted", "kettle", "denied"]),
        ({"policy_id": "limit", "policy_version": "1"}, ["kettle", "denied"]),
        ({"policy_id": "limit", "policy_version": "1", "outcome": "failure", "workflow": "refund"}, ["denied"]),
        ({"policy_id": "fraud", "entity_type": "order"}, []),
    ],
    ids=str,
)
async def test_filters_apply_exactly_and_change_no_score(
    prepared: Prepared, wanted: dict[str, str], expected: list[str]
) -> None:
    scores = {trace_id: score for trace_id, score, _ in LIKE_NOW}
    found = await prepared.scores(like_trace_id="now", **wanted)
    assert found == [(trace_id, scores[trace_id]) for trace_id in expected]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"policy_id": "limit"}, {"granted": "2", "kettle": "1", "denied": "1"}),
        ({"policy_id": "limit", "policy_version": "3"}, {"denied": "3"}),
        ({"policy_id": "fraud"}, {"voucher": "1"}),
    ],
    ids=str,
)
async def test_a_hit_names_the_policy_that_was_asked_for(
    prepared: Prepared, wanted: dict[str, str], expected: dict[str, str]
) -> None:
    hits = await prepared.hits(like_trace_id="now", **wanted)
    assert {hit["trace_id"]: hit["policy_version"] for hit in hits} == expected
    assert {hit["policy_id"] for hit in hits} == {wanted["policy_id"]}


async def test_a_version_is_one_of_that_policy_whatever_colons_are_in_their_names(callers: Callers) -> None:
    other = "PolicyEvaluated", {"policy": {"policy_id": "a:b", "policy_version": "c"}, "inputs": [], "decision": "deny"}
    await append(callers, trace("t", started("same"), evaluated("a@x", "allow"), other, finished("success")))
    wanted = {"policy_id": "a", "policy_version": "b:c"}
    unranked = await ask(callers, "FindPrecedents", wanted)
    ranked = await ask(callers, "FindPrecedents", {**wanted, "query": "same"})
    assert (unranked.body["precedents"], ranked.body["precedents"]) == ([], [])


async def test_without_query_and_trace_nothing_is_ranked(prepared: Prepared) -> None:
    hits = await prepared.hits(query="", like_trace_id="")
    assert [hit["trace_id"] for hit in hits] == ["hired", "voucher", "granted", "denied", "kettle"]
    assert all("score" not in hit and hit["features"] == [] for hit in hits)


@pytest.mark.parametrize("like", ["unheard", "nowhere", " ", "NOW"])
async def test_a_trace_that_does_not_exist_is_not_found(prepared: Prepared, like: str) -> None:
    answer = await ask(prepared.callers, "FindPrecedents", {"like_trace_id": like, "query": "espresso"})
    assert (answer.reason, answer.code, answer.http_status) == ("NOT_FOUND", 5, 404)


async def test_a_trace_of_another_tenant_is_not_found(prepared: Prepared, callers: Callers) -> None:
    assert await prepared.hits(like_trace_id="now")
    await append(callers, trace("mine", started("Espresso machine broken"), finished("success")))
    answer = await ask(callers, "FindPrecedents", {"like_trace_id": "now"})
    assert (answer.reason, answer.code, answer.http_status) == ("NOT_FOUND", 5, 404)
    own = await ask(callers, "FindPrecedents", {"query": "espresso"})
    assert [hit["trace_id"] for hit in own.body["precedents"]] == ["mine"]


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"query": " ?! 👟"}, "query"),
        ({"query": "_", "like_trace_id": "now"}, "query"),
        ({"query": " ".join(map(str, range(17)))}, "query"),
        ({"query": "x" * 501}, "query"),
        ({"query": "x", "policy_version": "1"}, "policy_id"),
        ({"like_trace_id": "now", "entity_id": "A-1"}, "entity_type"),
        ({"query": "x", "page_size": 0}, "page_size"),
        ({"query": "x", "page_size": 10_001}, "page_size"),
        ({"query": "x", "page_token": "x"}, "page_token"),
        ({"like_trace_id": "x" * 201}, "like_trace_id"),
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_refused_and_named(prepared: Prepared, wanted: dict[str, Any], field: str) -> None:
    answer = await ask(prepared.callers, "FindPrecedents", wanted)
    assert (answer.reason, answer.fields) == ("INVALID_ARGUMENT", [field]), answer.body


async def test_sixteen_different_words_may_be_looked_for(prepared: Prepared) -> None:
    sixteen = "espresso " + " ".join(map(str, range(15)))
    assert await prepared.scores(query=f"{sixteen} {sixteen}") == [("voucher", 4), ("granted", 4), ("denied", 4)]


async def pages(callers: Callers, way: str, wanted: Mapping[str, Any], token: str = "") -> list[list[dict[str, Any]]]:
    """The hits of each page of a search, from a token on."""
    found: list[list[dict[str, Any]]] = []
    for _ in range(100):
        page = await callers.call(way, "FindPrecedents", {**wanted, "page_token": token})
        assert page.ok, page.body
        found.append(page.body["precedents"])
        if not (token := page.body.get("next_page_token", "")):
            return found
    raise AssertionError("the search has no end")


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize("page_size", [1, 2, 3, 4])
async def test_pages_add_up_to_the_whole_search(prepared: Prepared, way: str, page_size: int) -> None:
    found = await pages(prepared.callers, way, {"like_trace_id": "now", "page_size": page_size})
    assert [len(page) for page in found] == {1: [1, 1, 1, 1], 2: [2, 2], 3: [3, 1], 4: [4]}[page_size]
    assert _told(list(itertools.chain(*found))) == LIKE_NOW


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_equal_hits_come_newest_finish_first_and_later_ones_on_no_page(callers: Callers, way: str) -> None:
    texts = ["tie", "tie", "tie more", "tie", "tie", "more tie"]
    for n, text in enumerate(texts):
        await append(callers, trace(f"t{n}", started(text)))
    await append(callers, trace("now", started("tie more", entity="order:A-2")))
    for n in (3, 5, 0, 2, 4, 1):
        await append(callers, trace(f"t{n}", finished("success"), first=1))
    wanted = {"like_trace_id": "now", "page_size": 2}
    whole = await callers.call(way, "FindPrecedents", {"like_trace_id": "now"})
    assert [hit["trace_id"] for hit in whole.body["precedents"]] == ["t2", "t5", "t1", "t4", "t0", "t3"]
    first = await callers.call(way, "FindPrecedents", wanted)
    await append(callers, trace("late", started("tie more later"), evaluated("p@1", "allow"), finished("success")))
    await append(callers, trace("now", evaluated("p@1", "allow"), asked("p@1", "later tie"), first=1))
    rest = await pages(callers, way, wanted, first.body["next_page_token"])
    assert [*first.body["precedents"], *itertools.chain(*rest)] == whole.body["precedents"]
    again = await callers.call(way, "FindPrecedents", {"like_trace_id": "now"})
    assert [hit["trace_id"] for hit in again.body["precedents"]][:2] == ["late", "t2"]


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_large_hits_make_small_pages_and_none_is_lost(callers: Callers, way: str) -> None:
    for n in range(20):
        await append(callers, trace(f"t{n}", started("large " + "x" * 240_000), finished("success")))
    found = await pages(callers, way, {"query": "large", "page_size": 10_000})
    assert len(found) > 1
    assert [hit["trace_id"] for hit in itertools.chain(*found)] == [f"t{n}" for n in reversed(range(20))]


async def test_a_token_of_another_search_is_refused(prepared: Prepared, callers: Callers) -> None:
    asked_for = {"query": "espresso", "like_trace_id": "now", "outcome": "success"}
    page = await ask(prepared.callers, "FindPrecedents", {**asked_for, "page_size": 1})
    token = page.body["next_page_token"]
    unranked = await ask(prepared.callers, "FindPrecedents", {"page_size": 1})
    for wanted in (
        *({**asked_for, name: other, "page_token": token} for name, other in (
            ("query", "Espresso"), ("query", ""), ("like_trace_id", "granted"), ("outcome", ""), ("workflow", "refund"),
        )),
        {"outcome": "success", "page_token": token},
        {**asked_for, "page_token": token[:-1]},
        {"query": "espresso", "page_token": unranked.body["next_page_token"]},
    ):  # fmt: skip
        answer = await ask(prepared.callers, "FindPrecedents", wanted)
        assert (answer.reason, answer.fields) == ("INVALID_ARGUMENT", ["page_token"]), wanted
    of_another_tenant = await ask(callers, "FindPrecedents", {**asked_for, "page_token": token})
    assert (of_another_tenant.reason, of_another_tenant.fields) == ("INVALID_ARGUMENT", ["page_token"])
    assert await prepared.scores(**asked_for, page_size=5, page_token=token) == [("kettle", 89)]


async def test_the_same_search_gives_the_same_bytes_and_does_so_after_a_rebuild(prepared: Prepared) -> None:
    callers = prepared.callers
    wanted = {"like_trace_id": "now", "query": "espresso late", "page_size": "3"}
    reader = {"authorization": f"Bearer {callers.tenant.tokens['reader']}"}
    search = query_service_pb2.FindPrecedentsRequest(like_trace_id="now", query="espresso late", page_size=3)
    ask_bytes: Any = callers.channel.unary_unary(METHODS["FindPrecedents"][0])
    answers = set()
    for rebuilt in (False, True):
        if rebuilt:
            job = await jobs.start(callers, mode="rebuild")
            assert (await jobs.ended(callers, job))["status"] == "completed"
        for _ in range(2):
            by_rest = await callers.client.get("/api/v1/precedents", params=wanted, headers=reader)
            by_grpc = await ask_bytes(search.SerializeToString(), metadata=tuple(reader.items()))
            answers.add((by_rest.content, by_grpc))
    assert len(answers) == 1
    assert query_service_pb2.FindPrecedentsResponse.FromString(answers.pop()[1]).precedents[0].score == 132


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_trace_is_found_as_soon_as_it_is_finished_and_not_before(callers: Callers, way: str) -> None:
    await append(callers, trace("t", started("Odd words"), proposed("a\0b")))
    assert (await ask(callers, "FindPrecedents", {"query": "words"})).body["precedents"] == []
    await append(callers, trace("t", committed("success"), finished("success"), first=2))
    await append(callers, trace("now", started("Other", workflow="w", entity="e:1"), proposed("a\0b")))
    answer = await callers.call(way, "FindPrecedents", {"query": "words", "like_trace_id": "now", "min_log_seq": 4})
    (hit,) = answer.body["precedents"]
    assert hit["features"] == [*words("words"), feature("action_type", "a\0b", 10, "success")]
    assert int(answer.body["position"]["log_seq"]) >= 4
