"""The golden scenarios go in event by event and come back, the same way over REST and over gRPC."""

from typing import Any

import pytest
from tests.calling import BOTH_WAYS, Callers
from tests.golden_files import SCENARIOS

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import projection_state
from decisiongraph_service.storage import trace_summary as trace_summary_rows
from decisiongraph_service.storage.database import Database

_NOT_COMPARED = "recorded_at"


async def _append_all(callers: Callers, way: str, scenario: dict[str, Any]) -> list[dict[str, Any]]:
    answers = []
    for event in scenario["events"]:
        answer = await callers.call(way, "AppendEvent", {"event": event})
        assert answer.ok, f"{event['event_id']} was refused: {answer.body}"
        answers.append(answer.body)
    return answers


def _without_time(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "event": {k: v for k, v in body["event"].items() if k != _NOT_COMPARED}}


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_every_event_is_stored_as_the_scenario_says(callers: Callers, way: str, name: str) -> None:
    scenario = SCENARIOS[name]
    answers = await _append_all(callers, way, scenario)
    stored = [
        {
            "event_id": a["event"]["event_id"],
            "log_seq": int(a["event"]["log_seq"]),
            "payload_hash": a["event"]["payload_hash"],
        }
        for a in answers
    ]
    assert stored == scenario["stored"]
    assert not any(a["reused"] for a in answers)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_an_event_comes_back_as_it_was_sent(callers: Callers, name: str) -> None:
    scenario = SCENARIOS[name]
    await _append_all(callers, "rest", scenario)
    for sent in scenario["events"]:
        for way in BOTH_WAYS:
            answer = await callers.call(way, "GetEvent", {"event_id": sent["event_id"]})
            got = answer.body["event"]
            expected = {"schema_version": 1, "tags": [], **sent, "trace_seq": str(sent["trace_seq"])}
            assert {key: got[key] for key in expected} == expected


@pytest.mark.parametrize("name", SCENARIOS)
async def test_both_ways_give_identical_answers(callers: Callers, name: str) -> None:
    scenario = SCENARIOS[name]
    first = await _append_all(callers, "grpc", scenario)
    again = await _append_all(callers, "rest", scenario)
    assert all(answer["reused"] for answer in again)
    assert [a["event"] for a in again] == [a["event"] for a in first]

    for trace_id in {event["trace_id"] for event in scenario["events"]}:
        for rpc, request in (
            ("GetTrace", {"trace_id": trace_id}),
            ("GetTrace", {"trace_id": trace_id, "view": "SUMMARY"}),
            ("ListTraceEvents", {"trace_id": trace_id}),
            ("ListTraceEvents", {"trace_id": trace_id, "page_size": 2}),
        ):
            by_rest, by_grpc = [await callers.call(way, rpc, request) for way in BOTH_WAYS]
            assert by_rest.ok, by_rest.body
            assert by_rest.body == by_grpc.body, f"{rpc} {request}"


@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_trace_summaries_are_those_of_the_scenario(
    callers: Callers, database: Database, tenant_id: TenantId, name: str
) -> None:
    scenario = SCENARIOS[name]
    await _append_all(callers, "grpc", scenario)
    for expected in scenario["expected"]["trace_summaries"]:
        summary = (await callers.call("rest", "GetTrace", {"trace_id": expected["trace_id"]})).body["summary"]
        async with database.tenant_snapshot(tenant_id) as snapshot:
            _, live = await projection_state.fetch_head_and_live(snapshot)
            generation = live["trace_summary"].generation
            row = await trace_summary_rows.fetch(snapshot, generation, expected["trace_id"])
        assert row is not None
        assert {column: getattr(row, column) for column in expected} == expected

        events = [event for event in scenario["events"] if event["trace_id"] == expected["trace_id"]]
        assert int(summary["event_count"]) == len(events), "on the surface every event counts"
        assert summary["status"] == ("open" if expected["outcome"] is None else "finished")
        assert summary.get("outcome") == expected["outcome"]
        assert summary["title"] == expected["title"]


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_pages_of_a_timeline_add_up_to_the_whole(callers: Callers, way: str) -> None:
    scenario = SCENARIOS["refunds"]
    await _append_all(callers, "grpc", scenario)
    collected: list[str] = []
    request: dict[str, Any] = {"trace_id": "rf-1001", "page_size": 3}
    for _ in range(20):
        page = await callers.call(way, "ListTraceEvents", request)
        assert page.ok, page.body
        collected += [event["event_id"] for event in page.body["events"]]
        if "next_page_token" not in page.body:
            break
        request["page_token"] = page.body["next_page_token"]
    assert collected == [e["event_id"] for e in scenario["events"] if e["trace_id"] == "rf-1001"]


async def test_a_page_token_of_another_request_is_refused(callers: Callers) -> None:
    await _append_all(callers, "grpc", SCENARIOS["refunds"])
    page = await callers.call("rest", "ListTraceEvents", {"trace_id": "rf-1001", "page_size": 3})
    token = page.body["next_page_token"]
    for request in (
        {"trace_id": "rf-1002", "page_token": token},
        {"trace_id": "rf-1001", "since_trace_seq": 1, "page_token": token},
        {"trace_id": "rf-1001", "page_token": token[:-2]},
        {"trace_id": "rf-1001", "page_token": "nonsense"},
    ):
        answer = await callers.call("rest", "ListTraceEvents", request)
        assert (answer.http_status, answer.reason, answer.fields) == (400, "INVALID_ARGUMENT", ["page_token"])


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_trace_reads_as_the_log_stood_at_a_position(callers: Callers, way: str) -> None:
    scenario = SCENARIOS["refunds"]
    await _append_all(callers, "grpc", scenario)
    for position in (1, 5, 12, len(scenario["events"])):
        events = [e for e in scenario["events"][:position] if e["trace_id"] == "rf-1001"]
        answer = await callers.call(way, "GetTrace", {"trace_id": "rf-1001", "as_of_log_seq": position})
        assert [e["event_id"] for e in answer.body["events"]] == [e["event_id"] for e in events]
        finished = events[-1]["event_type"] == "TraceFinished"
        assert answer.body["summary"]["status"] == ("finished" if finished else "open")
        assert int(answer.body["summary"]["event_count"]) == len(events)
        assert answer.body["position"]["log_seq"] == str(position)
