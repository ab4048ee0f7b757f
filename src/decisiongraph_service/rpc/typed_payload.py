"""Typed payload messages to the JSON objects that they stand for (EVENT_ENVELOPE_CONTRACT.md, payloads).

Unset optional fields are left out; required lists are always there, optional lists only when they are not empty; the
two values of a change are null when unset.
"""

from collections.abc import Iterable
from typing import Final

import protovalidate
from google.protobuf import struct_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from decisiongraph.v1 import event_pb2, payload_pb2
from decisiongraph_service.domain import payload_rules
from decisiongraph_service.domain.errors import Violation
from decisiongraph_service.domain.events import JsonValue
from decisiongraph_service.rpc import struct_json, violations

_EVENT_TYPES: Final = {
    field.name: "".join(part.capitalize() for part in field.name.split("_"))
    for field in event_pb2.Event.DESCRIPTOR.oneofs_by_name["content"].fields
    if field.name != "payload"
}
_REQUIRED_LISTS: Final = {
    content: tuple(rule.path for rule in payload_rules.PAYLOAD_RULES[event_type] if rule.kind == "array")
    for content, event_type in _EVENT_TYPES.items()
}


def event_type_of(content: str) -> str:
    """The event type that a typed payload names: `trace_started` names `TraceStarted`."""
    return _EVENT_TYPES[content]


def to_json(content: str, message: Message) -> dict[str, JsonValue]:
    """The JSON object that a typed payload stands for."""
    payload = _object(message)
    for name in _REQUIRED_LISTS[content]:
        payload.setdefault(name, [])
    return payload


def check(validator: protovalidate.Validator, event: event_pb2.Event) -> tuple[Violation, ...]:
    """What is wrong with the typed payload of an event by the contract's rules; nothing for a JSON payload."""
    content = event.WhichOneof("content")
    if content is None or content == "payload":
        return ()
    found: list[Violation] = []
    if event.event_type and event.event_type != event_type_of(content):
        found.append(
            Violation(
                "event_type",
                "CONTRADICTS_PAYLOAD",
                f"does not go with {content}; send {event_type_of(content)} or leave it out",
            )
        )
    found.extend(violations.of_message(validator, getattr(event, content), prefix="payload"))
    return tuple(found)


def _object(message: Message) -> dict[str, JsonValue]:
    result: dict[str, JsonValue] = {}
    if isinstance(message, payload_pb2.Change):
        result = {"old_value": None, "new_value": None}
    fields: Iterable[FieldDescriptor] = message.DESCRIPTOR.fields  # type: ignore[assignment]
    for field in fields:
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            if value:
                result[field.name] = dict(value)
        elif field.is_repeated:
            if value:
                result[field.name] = _list(field, value)
        elif not field.has_presence or message.HasField(field.name):
            result[field.name] = _single(field, value)
    return result


def _list(field: FieldDescriptor, values: Iterable[object]) -> list[JsonValue]:
    return [_single(field, value) for value in values]


def _single(field: FieldDescriptor, value: object) -> JsonValue:
    if isinstance(value, struct_pb2.Struct):
        return struct_json.to_object(value)
    if isinstance(value, Message):
        return _object(value)
    if isinstance(value, str):
        return value
    raise TypeError(f"typed payloads hold text and messages only, {field.full_name} is neither")
