"""AppendEvents: all or none, in the order given, and the error names the event."""

from typing import Any

import pytest
from tests.appending import head
from tests.calling import BOTH_WAYS, METHODS, Callers
from tests.traces import event_of_trace, whole_trace

from decisiongraph_service.ingestion.append import MAX_BATCH_EVENTS
from decisiongraph_service.storage.database import Database


def _batch(traces: int, length: int) -> list[dict[str, Any]]:
    return [event for number in range(traces) for event in whole_trace(f"trace-{number}", length)]


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize(("traces", "length"), [(1, 2), (20, 5), (100, 10)])
async def test_a_batch_is_stored_in_its_order(
    callers: Callers, database: Database, way: str, traces: int, length: int
) -> None:
    events = _batch(traces, length)
    answer = await callers.call(way, "AppendEvents", {"events": events})
    assert answer.ok, answer.body
    receipts = answer.body["receipts"]
    assert [receipt["log_seq"] for receipt in receipts] == [str(n + 1) for n in range(len(events))]
    assert [(r["trace_id"], r["trace_seq"]) for r in receipts] == [(e["trace_id"], str(e["trace_seq"])) for e in events]
    assert not any(receipt["reused"] for receipt in receipts)
    assert await head(callers, database) == len(events)


async def test_a_repeated_batch_is_reused_as_a_whole(callers: Callers, database: Database) -> None:
    events = _batch(3, 4)
    first, again = [await callers.call(way, "AppendEvents", {"events": events}) for way in BOTH_WAYS]
    assert all(receipt["reused"] for receipt in again.body["receipts"])
    assert [{**r, "reused": False} for r in again.body["receipts"]] == first.body["receipts"]
    assert await head(callers, database) == len(events)


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"occurred_at": "yesterday"}, "INVALID_ARGUMENT"),
        ({"payload": {}}, "SCHEMA_VIOLATION"),
        ({"tags": ["password=hunter2hunter2"]}, "PII_POLICY_VIOLATION"),
        ({"trace_seq": 7}, "EVENT_SEQUENCE_INVALID"),
        ({"event_id": "taken"}, "EVENT_ID_CONFLICT"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
async def test_one_refused_event_refuses_the_batch_and_is_named(
    callers: Callers, database: Database, way: str, broken: dict[str, Any], reason: str
) -> None:
    events = whole_trace("trace", 5)
    events[0]["event_id"] = "taken"
    events[3] = {**events[3], **broken}
    answer = await callers.call(way, "AppendEvents", {"events": events})
    assert answer.reason == reason, answer.body
    assert answer.detail("ErrorInfo")["metadata"]["index"] == "3"
    assert all(field.startswith("events[3].") for field in answer.fields)
    assert answer.body["message"].startswith("events[3].")
    assert await head(callers, database) == 0, "a refused batch wrote something"


async def test_what_a_refused_batch_would_have_taken_is_still_free(callers: Callers) -> None:
    events = whole_trace("trace", 4)
    refused = await callers.call("grpc", "AppendEvents", {"events": [*events, event_of_trace("trace", 4)]})
    assert refused.reason == "TRACE_FINISHED"
    accepted = await callers.call("grpc", "AppendEvents", {"events": events})
    assert accepted.ok, accepted.body
    assert not any(receipt["reused"] for receipt in accepted.body["receipts"])


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize("count", [0, MAX_BATCH_EVENTS + 1])
async def test_a_batch_has_one_to_a_thousand_events(callers: Callers, way: str, count: int) -> None:
    events = [event_of_trace(f"trace-{number}", 0) for number in range(count)]
    answer = await callers.call(way, "AppendEvents", {"events": events})
    assert (answer.reason, answer.fields) == ("INVALID_ARGUMENT", ["events"])


def test_the_limit_is_that_of_the_contract() -> None:
    from buf.validate import validate_pb2

    _, method = METHODS["AppendEvents"]
    options: Any = method.input_type.fields_by_name["events"].GetOptions()
    rules = options.Extensions[validate_pb2.field].repeated
    assert (rules.min_items, rules.max_items) == (1, MAX_BATCH_EVENTS)
