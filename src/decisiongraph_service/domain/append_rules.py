"""What becomes of a checked event, given what the log already holds: steps 7 to 10 of APPEND_SEMANTICS.md.

Pure: the caller fetches the state and stores the result in one transaction that holds the trace and the key.
Source: docs/reference/APPEND_SEMANTICS.md.
"""

import hashlib
from dataclasses import dataclass
from typing import TypeAlias

from decisiongraph_service.domain import canonical, errors, vocabulary
from decisiongraph_service.domain.events import CheckedEvent, StoredEvent


@dataclass(frozen=True, slots=True)
class AppendState:
    """What the log holds about the key, the trace and the id of one event."""

    stored_with_key: StoredEvent | None
    """The event of the same tenant, producer and idempotency key."""
    trace_length: int
    """Number of stored events of the event's trace."""
    trace_finished: bool
    """The trace holds a TraceFinished event."""
    event_id_taken: bool
    """An event of the tenant has this event's id: the one sent, or else the derived one."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A new event, to be stored with this id at this position of its trace."""

    event_id: str
    trace_seq: int


@dataclass(frozen=True, slots=True)
class Reused:
    """The repetition of a stored event; nothing is to be written."""

    stored: StoredEvent


@dataclass(frozen=True, slots=True)
class Refused:
    """The event does not fit the log; nothing is to be written."""

    error: errors.DecisionGraphError


Decision: TypeAlias = Accepted | Reused | Refused


def decide(checked: CheckedEvent, state: AppendState, tenant_id: str) -> Decision:
    """Decide about an event; the first of reuse, finish lock, sequence and event id that applies wins.

    Errors inside `Refused`: IdempotencyConflict, TraceFinished, EventSequenceInvalid, EventIdConflict.
    Nothing is raised.
    """
    event = checked.event
    if state.stored_with_key is not None:
        return _reuse(checked, state.stored_with_key)
    if state.trace_finished:
        return Refused(errors.TraceFinished())
    broken_sequence = _broken_sequence(event.event_type, event.trace_seq, state.trace_length)
    if broken_sequence is not None:
        return Refused(errors.EventSequenceInvalid(broken_sequence, state.trace_length))
    if state.event_id_taken:
        return Refused(errors.EventIdConflict())
    return Accepted(event_id_of(checked, tenant_id), state.trace_length)


def event_id_of(checked: CheckedEvent, tenant_id: str) -> str:
    """Return the id that the event has or would get: the one that was sent, or else the derived one."""
    event = checked.event
    if event.event_id is not None:
        return event.event_id
    return derive_event_id(tenant_id, event.source.producer_id, event.idempotency_key)


def derive_event_id(tenant_id: str, producer_id: str, idempotency_key: str) -> str:
    """Return the id of an event that was sent without one: `evt_` and 40 lower-case hex digits.

    The same tenant, producer and key always give the same id, other ones another.
    """
    scope = canonical.canonical_json([tenant_id, producer_id, idempotency_key])
    return "evt_" + hashlib.sha256(scope.encode()).hexdigest()[:40]


def _reuse(checked: CheckedEvent, stored: StoredEvent) -> Reused | Refused:
    differing = _differing_fields(checked, stored)
    return Refused(errors.IdempotencyConflict(differing)) if differing else Reused(stored)


def _differing_fields(checked: CheckedEvent, stored: StoredEvent) -> list[str]:
    """Name what makes the event another one; `event_id`, `trace_seq` and `occurred_at` do not."""
    sent = checked.event
    compared = (
        ("payload", checked.payload_hash, stored.payload_hash),
        ("trace_id", sent.trace_id, stored.trace_id),
        ("event_type", sent.event_type, stored.event_type),
        ("source.producer_id", sent.source.producer_id, stored.source.producer_id),
        ("source.system", sent.source.system, stored.source.system),
        ("source.subsystem", sent.source.subsystem, stored.source.subsystem),
        ("actor.actor_type", sent.actor.actor_type, stored.actor.actor_type),
        ("actor.actor_id", sent.actor.actor_id, stored.actor.actor_id),
        ("correlation_id", sent.correlation_id, stored.correlation_id),
        ("causation_event_id", sent.causation_event_id, stored.causation_event_id),
        ("schema_version", sent.schema_version, stored.schema_version),
        ("tags", sent.tags, stored.tags),
    )
    return [name for name, new, old in compared if new != old]


def _broken_sequence(event_type: str, trace_seq: int | None, trace_length: int) -> str | None:
    starts = event_type == vocabulary.TRACE_STARTED
    if trace_length == 0 and not starts:
        return f"event_type: {event_type} was sent, but this trace has no events; its first must be TraceStarted"
    if trace_length > 0 and starts:
        return f"event_type: TraceStarted was sent, but this trace has one; its next position is {trace_length}"
    if trace_seq is not None and trace_seq != trace_length:
        return f"trace_seq: {trace_seq} was sent, the trace's next position is {trace_length}"
    return None
