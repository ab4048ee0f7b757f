"""Events for tests of refusals: a valid one to break, its bytes, and whether the log stayed as it was."""

import copy
import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

import httpx
from google.protobuf import json_format, struct_pb2

from decisiongraph.v1 import event_pb2, ingestion_service_pb2
from decisiongraph_service.storage import event_log
from decisiongraph_service.storage.database import Database
from tests.calling import Answer, Callers, rest_answer

JSON: Final = {"content-type": "application/json"}
EVENTS_PATH: Final = "/api/v1/events"


def started(**changes: Any) -> dict[str, Any]:
    """A valid TraceStarted event of a trace of its own, with these fields changed; None leaves a field out."""
    name = uuid.uuid4().hex[:12]
    event = {
        "trace_id": f"trace {name}",
        "event_type": "TraceStarted",
        "occurred_at": "2026-03-02T09:00:00Z",
        "source": {"producer_id": "producer", "system": "system"},
        "actor": {"actor_type": "agent", "actor_id": "actor"},
        "idempotency_key": f"key {name}",
        "payload": {
            "workflow": "refund",
            "title": "Refund",
            "primary_entity": {"entity_type": "order", "entity_id": "1"},
        },
        **changes,
    }
    return {key: value for key, value in event.items() if value is not None}


def changed(event: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of the event with another value at a dotted path."""
    copied = copy.deepcopy(dict(event))
    *parents, name = path.split(".")
    holder = copied
    for parent in parents:
        holder = holder.setdefault(parent, {})
    holder[name] = value
    return copied


def event_message(event: Mapping[str, Any]) -> event_pb2.Event:
    """The event as a message."""
    return json_format.ParseDict(dict(event), event_pb2.Event())


def request_bytes(event: event_pb2.Event) -> bytes:
    """An AppendEvent request as it goes over the wire."""
    return ingestion_service_pb2.AppendEventRequest(event=event).SerializeToString()


def with_payload_value(value: struct_pb2.Value) -> bytes:
    """A request whose payload has `value` under the key `extra`."""
    message = event_message(started())
    message.payload.fields["extra"].CopyFrom(value)
    return request_bytes(message)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of the protobuf wire format."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    """An unsigned integer of the protobuf wire format."""
    encoded = b""
    while number > 127:
        encoded += bytes([number & 127 | 128])
        number >>= 7
    return encoded + bytes([number])


def writer(callers: Callers) -> dict[str, str]:
    """The metadata, or headers, of a caller that may append."""
    return {"authorization": f"Bearer {callers.tenant.tokens['writer']}"}


async def append_json(callers: Callers, text: str | bytes) -> Answer:
    """Post a body as it is."""
    return rest_answer(await post(callers, text))


async def post(callers: Callers, text: str | bytes) -> httpx.Response:
    """Post a body as it is and give the response as it came."""
    return await callers.client.post(EVENTS_PATH, content=text, headers={**JSON, **writer(callers)})


async def append_bytes(callers: Callers, request: bytes) -> Answer:
    """Send a message as it is."""
    return await callers.by_grpc_bytes("AppendEvent", request, writer(callers))


async def append(callers: Callers, way: str, event: Mapping[str, Any]) -> Answer:
    """Append by either way; over REST the event goes as it is, whatever a message could hold."""
    if way == "rest":
        return await append_json(callers, json.dumps(event))
    return await append_bytes(callers, request_bytes(event_message(event)))


async def head(callers: Callers, database: Database) -> int:
    """The position of the newest event of the test's tenant."""
    async with database.tenant_snapshot(callers.tenant.tenant_id) as snapshot:
        return await event_log.fetch_head(snapshot)


def same_category(answers: Mapping[str, Answer]) -> str:
    """The category that both ways agree on."""
    categories = {way: answer.category for way, answer in answers.items()}
    assert len(set(categories.values())) == 1, f"the two ways differ: {categories}"
    return next(iter(categories.values()))
