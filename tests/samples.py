"""Events to append, as domain values and as JSON: small, valid, and different only where a test says so."""

from typing import Any, Final

from decisiongraph_service.domain import event_checks, secret_guard
from decisiongraph_service.domain.events import Actor, CheckedEvent, Event, Source
from decisiongraph_service.domain.limits import EventLimits

PAYLOADS: Final[dict[str, dict[str, Any]]] = {
    "TraceStarted": {"workflow": "w", "title": "t", "primary_entity": {"entity_type": "order", "entity_id": "1"}},
    "PrecedentCited": {"cited_trace_id": "c", "reason": "r"},
    "TraceFinished": {"outcome": "success"},
}

_GUARD: Final = secret_guard.guard_for("precise")
_LIMITS: Final = EventLimits()


def event(event_type: str = "PrecedentCited", *, key: str, trace_id: str = "t", **changes: Any) -> Event:
    """An event as a producer sends it."""
    fields: dict[str, Any] = {
        "trace_id": trace_id,
        "event_type": event_type,
        "occurred_at": "2026-01-01T00:00:00Z",
        "source": Source("p", "s"),
        "actor": Actor("agent", "a"),
        "idempotency_key": key,
        "payload": PAYLOADS.get(event_type, {}),
    }
    return Event(**{**fields, **changes})


def checked(event_type: str = "PrecedentCited", *, key: str, trace_id: str = "t", **changes: Any) -> CheckedEvent:
    """An event that passed steps 1 to 6."""
    return event_checks.check_event(event(event_type, key=key, trace_id=trace_id, **changes), _GUARD, _LIMITS)


def start(trace_id: str, **changes: Any) -> CheckedEvent:
    """The first event of a trace."""
    return checked("TraceStarted", key=f"{trace_id}/start", trace_id=trace_id, **changes)


def json_event(event_type: str = "PrecedentCited", *, key: str, trace_id: str = "t", **changes: Any) -> dict[str, Any]:
    """An event as JSON, for a call."""
    fields: dict[str, Any] = {
        "trace_id": trace_id,
        "event_type": event_type,
        "occurred_at": "2026-01-01T00:00:00Z",
        "source": {"producer_id": "p", "system": "s"},
        "actor": {"actor_type": "agent", "actor_id": "a"},
        "idempotency_key": key,
        "payload": PAYLOADS.get(event_type, {}),
    }
    return {**fields, **changes}


def json_trace(length: int, *, trace_id: str = "t", **changes: Any) -> list[dict[str, Any]]:
    """An open trace of so many events."""
    return [
        json_event("PrecedentCited" if i else "TraceStarted", key=f"{trace_id}/{i}", trace_id=trace_id, **changes)
        for i in range(length)
    ]
