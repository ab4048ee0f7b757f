"""Messages to domain values and back. No rules: what is wrong with an event is the domain's to say."""

import orjson

from decisiongraph.v1 import event_pb2, payload_pb2, projection_pb2, trace_pb2
from decisiongraph_service.domain import timestamps
from decisiongraph_service.domain.append_batch import Placed
from decisiongraph_service.domain.events import Actor, Event, JsonValue, Source, StoredEvent
from decisiongraph_service.queries.freshness import ReadPosition
from decisiongraph_service.queries.trace_list import ListedTrace
from decisiongraph_service.queries.traces import Trace
from decisiongraph_service.rpc import struct_json, typed_payload


def event_from_message(message: event_pb2.Event) -> Event:
    """The event in a request, unchecked. Unset required fields become empty text.

    A typed payload decides the event type; what `event_type` says against it is for `typed_payload.check` to refuse.
    """
    content = message.WhichOneof("content")
    event_type = message.event_type
    payload: JsonValue = None
    if content == "payload":
        payload = struct_json.to_object(message.payload)
    elif content is not None:
        typed = getattr(message, content)
        payload = typed_payload.to_json(content, typed)
        event_type = typed_payload.event_type_of(content)
    return Event(
        event_id=message.event_id if message.HasField("event_id") else None,
        trace_id=message.trace_id,
        trace_seq=message.trace_seq if message.HasField("trace_seq") else None,
        event_type=event_type,
        occurred_at=message.occurred_at,
        source=Source(
            message.source.producer_id,
            message.source.system,
            message.source.subsystem if message.source.HasField("subsystem") else None,
        ),
        actor=Actor(message.actor.actor_type, message.actor.actor_id),
        idempotency_key=message.idempotency_key,
        payload=payload,
        correlation_id=message.correlation_id if message.HasField("correlation_id") else None,
        causation_event_id=message.causation_event_id if message.HasField("causation_event_id") else None,
        schema_version=message.schema_version if message.HasField("schema_version") else 1,
        tags=tuple(message.tags),
    )


def stored_event_to_message(stored: StoredEvent, *, with_payload: bool = True) -> event_pb2.StoredEvent:
    """An event of the log, with or without its payload."""
    message = event_pb2.StoredEvent(
        event_id=stored.event_id,
        trace_id=stored.trace_id,
        trace_seq=stored.trace_seq,
        event_type=stored.event_type,
        occurred_at=stored.occurred_at,
        source=event_pb2.Source(
            producer_id=stored.source.producer_id, system=stored.source.system, subsystem=stored.source.subsystem
        ),
        actor=event_pb2.Actor(actor_type=stored.actor.actor_type, actor_id=stored.actor.actor_id),
        idempotency_key=stored.idempotency_key,
        correlation_id=stored.correlation_id,
        causation_event_id=stored.causation_event_id,
        schema_version=stored.schema_version,
        tags=stored.tags,
        log_seq=stored.log_seq,
        recorded_at=timestamps.format_micros(stored.recorded_at_micros),
        payload_hash=stored.payload_hash,
    )
    if with_payload:
        message.payload.SetInParent()
        struct_json.fill(message.payload, orjson.loads(stored.canonical_payload))
    return message


def placed_event_to_message(placed: Placed, sent: event_pb2.Event) -> event_pb2.StoredEvent:
    """The event of an append. A new one has the payload that was sent, which need not be made again."""
    if placed.reused or not sent.HasField("payload"):
        return stored_event_to_message(placed.stored)
    message = stored_event_to_message(placed.stored, with_payload=False)
    message.payload.CopyFrom(sent.payload)
    return message


def placed_event_to_receipt(placed: Placed) -> event_pb2.EventReceipt:
    """The receipt for an append."""
    stored = placed.stored
    return event_pb2.EventReceipt(
        event_id=stored.event_id,
        trace_id=stored.trace_id,
        trace_seq=stored.trace_seq,
        log_seq=stored.log_seq,
        payload_hash=stored.payload_hash,
        recorded_at=timestamps.format_micros(stored.recorded_at_micros),
        reused=placed.reused,
    )


def trace_summary_to_message(trace: Trace | ListedTrace) -> trace_pb2.TraceSummary:
    """The summary of a trace, with the true number of its events."""
    row = trace.summary
    return trace_pb2.TraceSummary(
        trace_id=row.trace_id,
        workflow=row.workflow,
        title=row.title,
        primary_entity=payload_pb2.EntityRef(
            entity_type=row.primary_entity_type, entity_id=row.primary_entity_id, system=row.primary_entity_system
        ),
        status="open" if row.outcome is None else "finished",
        outcome=row.outcome,
        started_at=row.started_at,
        finished_at=row.finished_at,
        event_count=trace.event_count,
        last_log_seq=trace.last_log_seq,
    )


def position_to_message(position: ReadPosition) -> projection_pb2.ReadPosition:
    """How old an answer is."""
    return projection_pb2.ReadPosition(log_seq=position.log_seq, head_log_seq=position.head_log_seq)
