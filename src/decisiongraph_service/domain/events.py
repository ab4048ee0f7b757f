"""The values of the log: an event as a producer sends it, and as the log holds it.

Text is kept exactly as received; nothing here trims, folds or normalises
(docs/reference/EVENT_ENVELOPE_CONTRACT.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

JsonValue: TypeAlias = "Mapping[str, JsonValue] | list[JsonValue] | str | int | float | bool | None"
JsonObject: TypeAlias = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Source:
    """Where an event comes from. A part that the producer left out is empty text."""

    producer_id: str
    system: str
    subsystem: str | None = None


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acted. A part that the producer left out is empty text."""

    actor_type: str
    actor_id: str


@dataclass(frozen=True, slots=True)
class Event:
    """An event as a producer sends it, not yet checked.

    A required text that was left out is empty text. `None` in `event_id` and `trace_seq` asks the server to assign
    them. `payload` is any JSON value (`None`: left out); numbers are `int`, or `float` where they had a fraction.
    """

    trace_id: str
    event_type: str
    occurred_at: str
    source: Source
    actor: Actor
    idempotency_key: str
    payload: JsonValue
    event_id: str | None = None
    trace_seq: int | None = None
    correlation_id: str | None = None
    causation_event_id: str | None = None
    schema_version: int = 1
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event of the log. Nothing in it changes after its commit."""

    tenant_id: str
    log_seq: int
    event_id: str
    trace_id: str
    trace_seq: int
    event_type: str
    occurred_at: str
    source: Source
    actor: Actor
    idempotency_key: str
    canonical_payload: str
    payload_hash: str
    correlation_id: str | None
    causation_event_id: str | None
    schema_version: int
    tags: tuple[str, ...]
    recorded_at_micros: int
    """When the service stored it, microseconds since 1970-01-01T00:00:00Z."""


@dataclass(frozen=True, slots=True)
class CheckedEvent:
    """An event that passed every check which needs no stored state (APPEND_SEMANTICS.md, steps 1 to 6)."""

    event: Event
    canonical_payload: str
    """Canonical JSON of the payload: the bytes that `payload_hash` covers and that the log stores."""
    payload_hash: str
    """`sha256:` and 64 lower-case hex digits."""
    occurred_at_micros: int
    """The instant of `occurred_at` in microseconds since 1970-01-01T00:00:00Z, negative before it."""

    def stored(
        self, *, tenant_id: str, log_seq: int, event_id: str, trace_seq: int, recorded_at_micros: int
    ) -> StoredEvent:
        """This event at a place of a log."""
        event = self.event
        return StoredEvent(
            tenant_id=tenant_id,
            log_seq=log_seq,
            event_id=event_id,
            trace_id=event.trace_id,
            trace_seq=trace_seq,
            event_type=event.event_type,
            occurred_at=event.occurred_at,
            source=event.source,
            actor=event.actor,
            idempotency_key=event.idempotency_key,
            canonical_payload=self.canonical_payload,
            payload_hash=self.payload_hash,
            correlation_id=event.correlation_id,
            causation_event_id=event.causation_event_id,
            schema_version=event.schema_version,
            tags=event.tags,
            recorded_at_micros=recorded_at_micros,
        )


class ProjectedEvent(NamedTuple):
    """What projections look at of a stored event."""

    log_seq: int
    event_id: str
    trace_id: str
    trace_seq: int
    event_type: str
    occurred_at: str
    actor_type: str
    actor_id: str
    canonical_payload: str
    payload_hash: str
