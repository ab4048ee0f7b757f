"""Events of the contract, made complete: ids, keys, times, source and actor; and masked before they leave."""

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value

from decisiongraph.v1 import payload_pb2
from decisiongraph.v1.event_pb2 import Actor, Event, Source
from decisiongraph_client import _json_values, payloads
from decisiongraph_client.errors import ConfigurationError, MaskFailed
from decisiongraph_client.payloads import ActorLike

Mask: TypeAlias = Callable[[str, str], str]
"""Is given the path and the text of every text of a payload, and returns what shall be sent instead."""

Payload: TypeAlias = (
    Mapping[str, object]
    | payload_pb2.TraceStartedPayload
    | payload_pb2.InputObservedPayload
    | payload_pb2.EntityObservedPayload
    | payload_pb2.PolicyEvaluatedPayload
    | payload_pb2.ExceptionRequestedPayload
    | payload_pb2.ApprovalRecordedPayload
    | payload_pb2.PrecedentCitedPayload
    | payload_pb2.ActionProposedPayload
    | payload_pb2.ActionCommittedPayload
    | payload_pb2.TraceFinishedPayload
)

_NAMESPACE: Final = uuid.UUID("6d1c6f2c-2f0e-4b43-9d5e-7a6f5b1d0c11")

_FIELDS: Final = {
    field.message_type.full_name: field.name
    for field in Event.DESCRIPTOR.oneofs_by_name["content"].fields
    if field.message_type is not None and field.name != "payload"
}


@dataclass(frozen=True, slots=True)
class Origin:
    """What the events of a client have in common."""

    producer: str | None
    """`source.producer_id`: the service or job that sends. Part of the scope of idempotency keys."""
    system: str | None
    subsystem: str | None
    actor: Actor | None

    @classmethod
    def of(
        cls,
        producer: str | None,
        system: str | None,
        subsystem: str | None,
        actor: ActorLike | None,
        environment: Mapping[str, str] = os.environ,
    ) -> "Origin":
        """Completed by `DG_PRODUCER` and `DG_SYSTEM`; the system is by default called like the producer."""
        producer = producer or environment.get("DG_PRODUCER")
        system = system or environment.get("DG_SYSTEM") or producer
        return cls(producer, system, subsystem, None if actor is None else payloads.actor_of(actor))

    def source(self) -> Source:
        """Of an event.

        Raises:
            ConfigurationError: the producer has no name.
        """
        if not self.producer:
            raise ConfigurationError(
                "say who records: Client(..., producer='refund-agent') or the variable DG_PRODUCER"
            )
        return Source(producer_id=self.producer, system=self.system or self.producer, subsystem=self.subsystem)


def make(
    origin: Origin,
    trace_id: str,
    payload: Payload,
    *,
    event_type: str = "",
    actor: ActorLike | None = None,
    occurred_at: datetime | str | None = None,
    idempotency_key: str | None = None,
    event_id: str | None = None,
    trace_seq: int | None = None,
    causation_event_id: str | None = None,
    correlation_id: str | None = None,
    tags: Sequence[str] = (),
    schema_version: int | None = None,
) -> Event:
    """An event that can be sent as it is, as often as need be: key and id are in it. The same key gives the same id.

    Raises:
        ConfigurationError: no producer is named, or a JSON payload has no event type.
        TypeError, ValueError: a JSON payload holds what the contract cannot; the message says where.
    """
    source = origin.source()
    event_id = event_id or new_id(idempotency_key and f"event/{source.producer_id}/{idempotency_key}")
    event = Event(
        event_id=event_id,
        trace_id=trace_id,
        trace_seq=trace_seq,
        event_type=event_type,
        occurred_at=occurred_at
        if isinstance(occurred_at, str)
        else payloads.timestamp(occurred_at or datetime.now(UTC)),
        source=source,
        actor=_actor(actor, origin),
        idempotency_key=idempotency_key or event_id,
        causation_event_id=causation_event_id,
        correlation_id=correlation_id,
        tags=tags,
        schema_version=schema_version,
    )
    if isinstance(payload, Message):
        getattr(event, _FIELDS[payload.DESCRIPTOR.full_name]).CopyFrom(payload)
    elif not event_type:
        raise ConfigurationError("a payload as a dictionary needs its event_type, e.g. event_type='InputObserved'")
    else:
        plain = _json_values.checked(payload, "payload", largest=_json_values.LARGEST_NUMBER)
        ParseDict(plain, event.payload)
    return event


def new_id(name: str | None = None) -> str:
    """An id that nothing else has; of a name always the same."""
    return str(uuid.uuid4() if name is None else uuid.uuid5(_NAMESPACE, name))


def _actor(given: ActorLike | None, origin: Origin) -> Actor:
    if given is not None:
        return payloads.actor_of(given)
    return origin.actor or Actor(actor_type="agent", actor_id=origin.source().producer_id)


def masked(event: Event, mask: Mask | None) -> Event:
    """The event with every text of its payload as the hook wants it. The event itself stays as it is.

    Raises:
        MaskFailed: the hook raised or returned no text: the event must not leave.
    """
    if mask is None:
        return event
    copy = Event()
    copy.CopyFrom(event)
    content = copy.WhichOneof("content")
    if content is None:
        return copy
    try:
        _mask_message(getattr(copy, content), "payload", mask)
    except Exception as error:
        raise MaskFailed(f"the masking hook failed on an event of trace {event.trace_id!r}; it was not sent") from error
    return copy


def _mask_message(message: Message, path: str, mask: Mask) -> None:
    if isinstance(message, Struct):
        for key, value in message.fields.items():
            _mask_value(value, f"{path}.{key}", mask)
        return
    for field, value in message.ListFields():
        _mask_field(message, field, value, f"{path}.{field.name}", mask)


def _mask_field(message: Message, field: FieldDescriptor, value: object, path: str, mask: Mask) -> None:
    if isinstance(value, str):
        setattr(message, field.name, _text(mask(path, value)))
    elif isinstance(value, Message):
        _mask_message(value, path, mask)
    elif isinstance(value, Mapping):
        texts = getattr(message, field.name)
        for key, text in list(value.items()):
            texts[key] = _text(mask(f"{path}.{key}", text))
    elif field.message_type is not None:
        for index, item in enumerate(getattr(message, field.name)):
            _mask_message(item, f"{path}[{index}]", mask)
    else:
        items = getattr(message, field.name)
        for index, item in enumerate(list(items)):
            items[index] = _text(mask(f"{path}[{index}]", item))


def _mask_value(value: Value, path: str, mask: Mask) -> None:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        value.string_value = _text(mask(path, value.string_value))
    elif kind == "struct_value":
        _mask_message(value.struct_value, path, mask)
    elif kind == "list_value":
        _mask_list(value.list_value, path, mask)


def _mask_list(values: ListValue, path: str, mask: Mask) -> None:
    for index, item in enumerate(values.values):
        _mask_value(item, f"{path}[{index}]", mask)


def _text(result: object) -> str:
    if not isinstance(result, str):
        raise TypeError(f"the hook returned {type(result).__name__}; it must return text")
    return result
