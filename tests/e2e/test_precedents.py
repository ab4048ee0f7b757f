"""Precedents by both ways: the golden answers, pages, filters, and what is refused."""

from typing import Any

import pytest
from tests import traces
from tests.calling import BOTH_WAYS, Callers
from tests.golden_files import SCENARIOS


async def append(callers: Callers, events: list[dict[str, Any]]) -> None:
    answer = await callers.call("grpc", "AppendEvents", {"events": events})
    assert answer.ok, answer.body


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_every_answer_is_the_golden_one(callers: Callers, way: str, name: str) -> None:
    await append(callers, SCENARIOS[name]["events"])
    for query in SCENARIOS[name]["queries"]["precedents"]:
        request = {("page_size" if key == "limit" else key): value for key, value in query["params"].items()}
        answer = await callers.call(way, "FindPrecedents", request)
        assert answer.ok, answer.body
        found = [{"policy_id": None, "policy_version": None, **hit} for hit in answer.body["precedents"]]
        assert [{key: hit[key] for key in expected} for hit, expected in zip(found, query["result"], strict=True)] == (
            query["result"]
        ), query["params"]


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_pages_concatenate_to_the_whole_list(callers: Callers, way: str) -> None:
    for n in range(7):
        await append(callers, traces.whole_trace(f"t{n}", 2))
    await append(callers, [traces.event_of_trace("open", 0)])
    found: list[str] = []
    token = ""
    for _ in range(4):
        page = await callers.call(way, "FindPrecedents", {"entity_type": "order", "page_size": 2, "page_token": token})
        found.extend(hit["trace_id"] for hit in page.body["precedents"])
        token = page.body.get("next_page_token", "")
    assert token == ""
    assert found == [f"t{n}" for n in reversed(range(7))]


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_filters_are_combined(callers: Callers, way: str) -> None:
    await append(callers, SCENARIOS["refunds"]["events"])

    async def found(**request: str) -> list[str]:
        answer = await callers.call(way, "FindPrecedents", request)
        assert answer.ok, answer.body
        return [hit["trace_id"] for hit in answer.body["precedents"]]

    assert await found(workflow="refund", outcome="success") == ["rf-0900", "rf-1001"]
    assert await found(workflow="other") == []
    assert await found(outcome="unheard-of") == []
    assert await found(policy_id="refund_limit", entity_type="order", entity_id="A-77120") == ["rf-1001"]
    assert await found(policy_id="refund_limit", entity_type="account") == []


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize(
    ("request_", "field"),
    [({"policy_version": "1"}, "policy_id"), ({"entity_id": "1"}, "entity_type"), ({"page_size": 0}, "page_size")],
)
async def test_a_missing_companion_is_named(callers: Callers, way: str, request_: dict[str, Any], field: str) -> None:
    answer = await callers.call(way, "FindPrecedents", request_)
    assert (answer.ok, answer.reason, answer.fields) == (False, "INVALID_ARGUMENT", [field])


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_another_tenant_finds_nothing(callers: Callers, way: str) -> None:
    answer = await callers.call(way, "FindPrecedents", {})
    assert (answer.ok, answer.body["precedents"]) == (True, [])


async def test_a_policy_with_an_id_longer_than_an_index_takes_is_found(callers: Callers) -> None:
    policy = {"policy_id": "p" * 5_000, "policy_version": "1"}
    started, finished = traces.whole_trace("t", 2)
    evaluated = {
        **traces.event_of_trace("t", 1),
        "event_type": "PolicyEvaluated",
        "payload": {"policy": policy, "inputs": [], "decision": "allow"},
    }
    finished = {**finished, "trace_seq": 2, "idempotency_key": "t/2", "event_id": "t/2"}
    await append(callers, [started, evaluated, finished])
    for way in BOTH_WAYS:
        answer = await callers.call(way, "FindPrecedents", policy)
        assert [hit["policy_id"] for hit in answer.body["precedents"]] == [policy["policy_id"]]
