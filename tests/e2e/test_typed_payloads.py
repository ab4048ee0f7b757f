"""Typed payloads are stored as the JSON payloads that they stand for, and are held to the whole contract."""

import re
from typing import Any

import pytest
from google.protobuf import json_format
from tests.appending import append, append_bytes, field, head, request_bytes, started
from tests.calling import BOTH_WAYS, Callers
from tests.golden_files import SCENARIOS

from decisiongraph.v1 import event_pb2
from decisiongraph_service.domain import vocabulary
from decisiongraph_service.storage.database import Database


def content_name(event_type: str) -> str:
    """The field of the typed payload: `TraceStarted` is `trace_started`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", event_type).lower()


def typed(event: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The event with its payload as a typed message and without its type."""
    rest = {key: value for key, value in event.items() if key not in ("payload", "event_type")}
    return {**rest, content_name(event["event_type"]): event["payload"], **changes}


def in_whole(event: dict[str, Any]) -> bool:
    """The typed message holds the whole payload: it has no nulls, and no optional lists that are empty."""
    message = event_pb2.Event()
    payload = event["payload"]
    if None in payload.values() or [] in (payload.get("violations"), payload.get("evidence")):
        return False
    try:
        json_format.ParseDict(typed(event), message)
    except json_format.ParseError:
        return False
    return True


GOLDEN = [event for scenario in SCENARIOS.values() for event in scenario["events"] if in_whole(event)]


def test_the_golden_events_that_can_be_typed_cover_every_event_type() -> None:
    assert {event["event_type"] for event in GOLDEN} == set(vocabulary.EVENT_TYPES)


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_typed_payload_is_stored_with_the_hash_of_the_json_payload(
    callers: Callers, way: str, name: str
) -> None:
    for event, expected in zip(SCENARIOS[name]["events"], SCENARIOS[name]["stored"], strict=True):
        answer = await append(callers, way, typed(event) if in_whole(event) else event)
        assert answer.ok, f"{event['event_id']}: {answer.body}"
        stored = answer.body["event"]
        assert stored["payload_hash"] == expected["payload_hash"], f"{event['event_id']}: {stored['payload']}"
        assert (stored["event_type"], stored["payload"]) == (event["event_type"], event["payload"])


async def test_typed_and_json_payload_are_the_same_event(callers: Callers) -> None:
    event = started()
    for way in BOTH_WAYS:
        for sent in (event, typed(event), typed(event, event_type="TraceStarted")):
            answer = await append(callers, way, sent)
            assert answer.ok, answer.body
            assert answer.body["event"]["log_seq"] == "1"


@pytest.mark.parametrize("event_type", ["TraceFinished", "tracestarted", "Nothing"])
async def test_a_typed_payload_that_contradicts_the_event_type_is_a_schema_violation(
    callers: Callers, database: Database, event_type: str
) -> None:
    for way in BOTH_WAYS:
        answer = await append(callers, way, typed(started(), event_type=event_type))
        assert (answer.category, answer.fields) == ("schema_violation", ["event_type"]), answer.body
        assert "TraceStarted" in answer.body["message"]
    assert await head(callers, database) == 0


FACT = {"key": "k", "value": {"type": "float", "value": "1.5"}}
BROKEN = [
    ("input_observed", {"input_id": "i", "facts": [FACT]}, "payload.facts[0].value.type"),
    ("trace_started", {"workflow": "w", "title": ""}, "payload.title"),
    ("trace_started", {"workflow": "w", "title": "t"}, "payload.primary_entity"),
    ("trace_finished", {"outcome": "great"}, "payload.outcome"),
    ("trace_finished", {}, "payload.outcome"),
    (
        "approval_recorded",
        {"approval_id": "a", "decision": "approved", "subject": {"subject_type": "meeting", "subject_id": "m"}},
        "payload.subject.subject_type",
    ),
    ("action_proposed", {"action_id": "a", "changes": [{"path": "p"}]}, "payload.changes[0].new_value"),
]


@pytest.mark.parametrize(("content", "payload", "named"), BROKEN)
async def test_a_typed_payload_is_held_to_its_whole_structure(
    callers: Callers, database: Database, content: str, payload: dict[str, Any], named: str
) -> None:
    event = {key: value for key, value in started().items() if key not in ("payload", "event_type")}
    for way in BOTH_WAYS:
        answer = await append(callers, way, {**event, content: payload})
        assert answer.category == "schema_violation", answer.body
        assert named in answer.fields, answer.body
    assert await head(callers, database) == 0


async def test_a_literal_that_only_typed_payloads_know_passes_in_json(callers: Callers) -> None:
    event = started()
    await append(callers, "grpc", event)
    payload = {"input_id": "i", "source": {"system": "s", "object_type": "t", "object_id": "o"}, "facts": [FACT]}
    for way in BOTH_WAYS:
        observed = started(trace_id=event["trace_id"], event_type="InputObserved", payload=payload)
        answer = await append(callers, way, observed)
        assert answer.ok, answer.body
        assert answer.body["event"]["payload"] == payload


async def test_an_event_without_content_is_a_schema_violation(callers: Callers, database: Database) -> None:
    for way in BOTH_WAYS:
        answer = await append(callers, way, started(payload=None))
        assert (answer.category, answer.fields) == ("schema_violation", ["payload"]), answer.body
    assert await head(callers, database) == 0


async def test_of_two_contents_on_the_wire_the_last_one_counts(callers: Callers) -> None:
    event = json_format.ParseDict(started(), event_pb2.Event())
    other = json_format.ParseDict(typed(started()), event_pb2.Event())
    wire = request_bytes(event)
    merged = field(1, event.SerializeToString() + field(20, other.trace_started.SerializeToString()))
    assert (await append_bytes(callers, wire)).ok
    assert (await append_bytes(callers, merged)).body["reused"], "the typed payload says the same"


async def test_two_contents_in_json_are_refused(callers: Callers, database: Database) -> None:
    answer = await append(callers, "rest", {**started(), "trace_finished": {"outcome": "success"}})
    assert (answer.http_status, answer.category) == (400, "invalid_argument"), answer.body
    assert await head(callers, database) == 0


async def test_a_struct_in_a_typed_payload_is_held_to_the_rules_of_numbers(
    callers: Callers, database: Database
) -> None:
    for details in ({"n": 0.5}, {"n": 2**53}):
        payload = {
            "policy": {"policy_id": "p", "policy_version": "1"},
            "decision": "deny",
            "violations": [{"code": "c", "details": details}],
        }
        event = {key: value for key, value in started().items() if key not in ("payload", "event_type")}
        for way in BOTH_WAYS:
            answer = await append(callers, way, {**event, "policy_evaluated": payload})
            assert answer.category == "schema_violation", answer.body
            assert answer.fields == ["payload.violations[0].details.n"]
    assert await head(callers, database) == 0
