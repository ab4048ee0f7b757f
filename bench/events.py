"""The events that are measured with: traces of six, with payloads of about 400 bytes.

One trace is made by the generated messages; each further one is a copy with another number in place of a placeholder
of the same length, so that making events costs next to nothing while something is measured.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf import json_format

from decisiongraph.v1 import ingestion_service_pb2

PLACEHOLDER: Final = "@" * 16
"""Stands where each trace has its own number."""

TAGS: Final = ("refund", "automatic")
_OCCURRED_AT: Final = "2026-03-02T10:00:05.120+01:00"
_NOTE: Final = (
    "The customer reported that the parcel was delivered with a broken seal; photographs are attached to the case, the "
    "carrier has confirmed the damage in writing."
)


@dataclass(frozen=True, slots=True)
class TraceTemplate:
    """The encoded events of one trace, each with placeholders for its number."""

    protobuf: Sequence[bytes]
    """AppendEventRequest. IngestEventsRequest is the same on the wire, and several after one another are the
    AppendEventsRequest of them all."""
    json: Sequence[bytes]
    """The body of a REST call."""


def trace_template(run: str) -> TraceTemplate:
    """The events of a trace; `run` makes them differ from those of other runs."""
    events = _trace(run)
    return TraceTemplate(
        [
            json_format.ParseDict({"event": event}, ingestion_service_pb2.AppendEventRequest()).SerializeToString()
            for event in events
        ],
        [json.dumps(event).encode() for event in events],
    )


def payload_bytes() -> list[int]:
    """The length of each payload of a trace, as canonical JSON."""
    return [len(_compact(event["payload"])) for event in _trace("0" * 8)]


class RowMaker:
    """Makes the same events as rows of the log, for writing them without the service."""

    columns: Final = (
        ("tenant_id", "text"),
        ("log_seq", "bigint"),
        ("event_id", "text"),
        ("trace_id", "text"),
        ("trace_seq", "bigint"),
        ("event_type", "text"),
        ("occurred_at", "text"),
        ("occurred_instant", "timestamptz"),
        ("producer_id", "text"),
        ("source_system", "text"),
        ("actor_type", "text"),
        ("actor_id", "text"),
        ("idempotency_key", "text"),
        ("payload", "text"),
        ("payload_hash", "text"),
        ("schema_version", "integer"),
        ("recorded_at", "timestamptz"),
        ("digest", "bytea"),
    )

    def __init__(self, run: str, tenant_id: str) -> None:
        self._tenant_id = tenant_id
        self._events = [(event, _compact(event["payload"])) for event in _trace(run)]
        self._instant = datetime.fromisoformat(_OCCURRED_AT)
        self._made = 0

    def rows(self, count: int) -> list[tuple[object, ...]]:
        """The next rows."""
        return [self._row() for _ in range(count)]

    def _row(self) -> tuple[object, ...]:
        trace, position = divmod(self._made, len(self._events))
        self._made += 1
        event, payload = self._events[position]
        number = f"{trace:0{len(PLACEHOLDER)}d}"
        key = event["idempotency_key"].replace(PLACEHOLDER, number)
        digest = hashlib.sha256(key.encode())
        return (
            self._tenant_id,
            self._made,
            f"evt-{digest.hexdigest()}",
            event["trace_id"].replace(PLACEHOLDER, number),
            position,
            event["event_type"],
            event["occurred_at"],
            self._instant,
            event["source"]["producer_id"],
            event["source"]["system"],
            event["actor"]["actor_type"],
            event["actor"]["actor_id"],
            key,
            payload.replace(PLACEHOLDER, number),
            f"sha256:{digest.hexdigest()}",
            1,
            datetime.now(UTC),
            digest.digest(),
        )


def _compact(payload: Mapping[str, Any]) -> str:
    return json.dumps(payload, separators=(",", ":"), sort_keys=True)


def _trace(run: str) -> list[dict[str, Any]]:
    trace_id = f"refund-{run}-{PLACEHOLDER}"
    order = {"entity_type": "order", "entity_id": f"order-{PLACEHOLDER}"}
    policy = {"policy_id": "refund-limit", "policy_version": "2026-01"}
    payloads: list[tuple[str, dict[str, Any]]] = [
        (
            "TraceStarted",
            {
                "workflow": "refund",
                "title": f"Refund of order {PLACEHOLDER}",
                "primary_entity": {**order, "system": "shop"},
                "channel": "chat",
                "note": _NOTE,
            },
        ),
        (
            "InputObserved",
            {
                "input_id": f"input-{PLACEHOLDER}",
                "source": {"system": "shop", "object_type": "order", "object_id": f"order-{PLACEHOLDER}"},
                "facts": [{"name": "amount_cents", "value": 12900}, {"name": "days_since_delivery", "value": 9}],
                "note": _NOTE,
            },
        ),
        (
            "PolicyEvaluated",
            {
                "policy": policy,
                "inputs": [{"name": "amount_cents", "value": 12900}, {"name": "limit_cents", "value": 10000}],
                "decision": "require_exception",
                "note": _NOTE,
            },
        ),
        (
            "ApprovalRecorded",
            {
                "approval_id": f"approval-{PLACEHOLDER}",
                "subject": {"subject_type": "order", "subject_id": f"order-{PLACEHOLDER}"},
                "approver": {"actor_type": "person", "actor_id": "lead-7"},
                "decision": "approved",
                "reason": _NOTE,
            },
        ),
        (
            "ActionProposed",
            {
                "action_id": f"action-{PLACEHOLDER}",
                "action_type": "refund",
                "target_entity": order,
                "target_system": "payments",
                "changes": [{"path": "refunded_cents", "old_value": 0, "new_value": 12900}],
                "note": _NOTE,
            },
        ),
        ("TraceFinished", {"outcome": "success", "summary": f"Order {PLACEHOLDER} was refunded. {_NOTE} {_NOTE}"}),
    ]
    return [
        {
            "trace_id": trace_id,
            "event_type": event_type,
            "occurred_at": _OCCURRED_AT,
            "source": {"producer_id": "refund-agent", "system": "support"},
            "actor": {"actor_type": "agent", "actor_id": "refund-agent-3"},
            "idempotency_key": f"{trace_id}/{position}",
            "payload": payload,
            "tags": list(TAGS),
        }
        for position, (event_type, payload) in enumerate(payloads)
    ]
