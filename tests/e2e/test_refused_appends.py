"""Every append of the golden file `refunds` has its outcome both ways: code, status, category, and nothing written."""

from typing import Any

import pytest
from tests.calling import BOTH_WAYS, Answer, Callers
from tests.golden_files import SCENARIOS

from decisiongraph_service.storage import event_log
from decisiongraph_service.storage.database import Database

_REFUNDS = SCENARIOS["refunds"]

# Reason, gRPC code and HTTP status of each category (docs/reference/HTTP_API_CONTRACT.md, errors).
_ERRORS: dict[str, set[tuple[str, int, int]]] = {
    "invalid_argument": {("INVALID_ARGUMENT", 3, 400)},
    "schema_violation": {("SCHEMA_VIOLATION", 3, 422)},
    "pii_policy_violation": {("PII_POLICY_VIOLATION", 3, 422)},
    "idempotency_conflict": {("IDEMPOTENCY_CONFLICT", 6, 409)},
    "event_sequence_invalid": {("EVENT_SEQUENCE_INVALID", 10, 409)},
    "conflict": {("TRACE_FINISHED", 9, 409), ("EVENT_ID_CONFLICT", 6, 409)},
}


def _request(way: str, event: dict[str, Any]) -> dict[str, Any]:
    """A list cannot be put into a Struct: over gRPC the nearest thing is no payload at all."""
    if way == "grpc" and not isinstance(event["payload"], dict):
        return {"event": {key: value for key, value in event.items() if key != "payload"}}
    return {"event": event}


def _check_refusal(answer: Answer, way: str, case: dict[str, Any]) -> None:
    category = case.get("category_over_rest", case["category"]) if way == "rest" else case["category"]
    assert not answer.ok, f"stored: {answer.body}"
    assert answer.category == category, answer.body
    http = {status for reason, code, status in _ERRORS[category] if (reason, code) == (answer.reason, answer.code)}
    assert http, f"{answer.reason} with code {answer.code} is not an error of {category}"
    if way == "rest":
        assert {answer.http_status} == http
    assert answer.detail("RequestInfo")["request_id"]
    assert answer.body["message"]
    if (
        category in ("invalid_argument", "schema_violation", "pii_policy_violation")
        and "category_over_rest" not in case
    ):
        assert answer.fields, "a refused field must be named"


@pytest.mark.parametrize("case", _REFUNDS["appends"], ids=lambda case: case["case"])
async def test_an_append_has_the_outcome_of_the_golden_file(
    callers: Callers, database: Database, case: dict[str, Any]
) -> None:
    for event in _REFUNDS["events"]:
        await callers.call("grpc", "AppendEvent", {"event": event})
    # Refusals write nothing, so both ways can be tried on one log; what is accepted the first time is reused then.
    for way in BOTH_WAYS:
        answer = await callers.call(way, "AppendEvent", _request(way, case["event"]))
        if case["outcome"] == "rejected":
            _check_refusal(answer, way, case)
        else:
            assert answer.ok, answer.body
            assert answer.body["event"]["log_seq"] == str(case["log_seq"])
            assert answer.body["reused"] is (case["outcome"] == "reused" or way == BOTH_WAYS[1])
    async with database.tenant_snapshot(callers.tenant.tenant_id) as snapshot:
        head = await event_log.fetch_head(snapshot)
    assert head == len(_REFUNDS["events"]) + (case["outcome"] == "accepted")


async def test_an_idempotency_conflict_lists_the_fields_that_differ(callers: Callers) -> None:
    event = _REFUNDS["events"][0]
    await callers.call("grpc", "AppendEvent", {"event": event})
    changed = {**event, "tags": ["other"], "correlation_id": "c-1"}
    for way in BOTH_WAYS:
        answer = await callers.call(way, "AppendEvent", {"event": changed})
        assert answer.detail("ErrorInfo")["metadata"]["differing_fields"] == "correlation_id,tags"


async def test_a_wrong_position_is_answered_with_the_expected_one(callers: Callers) -> None:
    event = _REFUNDS["events"][0]
    await callers.call("grpc", "AppendEvent", {"event": event})
    late = {
        **event,
        "event_type": "TraceFinished",
        "payload": {"outcome": "success"},
        "trace_seq": 5,
        "event_id": "x",
        "idempotency_key": "x",
    }
    for way in BOTH_WAYS:
        answer = await callers.call(way, "AppendEvent", {"event": late})
        assert answer.detail("ErrorInfo")["metadata"]["expected_trace_seq"] == "1"
