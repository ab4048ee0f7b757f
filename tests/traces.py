"""Whole traces for tests that need many events."""

from typing import Any

from google.protobuf import json_format

from decisiongraph.v1 import event_pb2


def event_of_trace(trace_id: str, position: int, *, last: bool = False, **changes: Any) -> dict[str, Any]:
    """The event at a position of a trace: it starts, commits actions, and with `last` finishes."""
    if position == 0:
        event_type, payload = "TraceStarted", started_payload(f"Trace {trace_id}")
    elif last:
        event_type, payload = "TraceFinished", {"outcome": "success"}
    else:
        event_type, payload = "ActionCommitted", {"action_id": f"{trace_id}-{position}", "status": "success"}
    return {
        "trace_id": trace_id,
        "trace_seq": position,
        "event_type": event_type,
        "occurred_at": f"2026-03-02T09:{position % 60:02}:00Z",
        "source": {"producer_id": "producer", "system": "system"},
        "actor": {"actor_type": "agent", "actor_id": "actor"},
        "idempotency_key": f"{trace_id}/{position}",
        "payload": payload,
        **changes,
    }


def started_payload(title: str) -> dict[str, Any]:
    """The payload of a TraceStarted event."""
    return {
        "workflow": "refund",
        "title": title,
        "primary_entity": {"entity_type": "order", "entity_id": "1"},
    }


def whole_trace(trace_id: str, length: int) -> list[dict[str, Any]]:
    """All events of a finished trace, at least two."""
    return [event_of_trace(trace_id, position, last=position == length - 1) for position in range(length)]


def message(event: dict[str, Any]) -> event_pb2.Event:
    """The event as a message."""
    return json_format.ParseDict(event, event_pb2.Event())
