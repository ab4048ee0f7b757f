"""What callers were told: every append, read, watch and error of a run, to be judged afterwards."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TypeAlias

Scope: TypeAlias = tuple[str, str]
"""Tenant and idempotency key."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event is, by its receipt."""

    log_seq: int
    event_id: str
    trace_id: str
    trace_seq: int


@dataclass(slots=True)
class History:
    """Of one run."""

    acknowledged: dict[Scope, Place] = field(default_factory=dict)
    """By the first answer."""
    sent: dict[Scope, str] = field(default_factory=dict)
    """Everything that was ever sent, with the trace it belongs to."""
    unanswered: list[list[Scope]] = field(default_factory=list)
    """Batches that were given up without an answer: each is in the log whole, or not at all."""
    faults: list[str] = field(default_factory=list)
    """What callers saw that must not be, in words."""
    errors: Counter[str] = field(default_factory=Counter)
    """Errors by code and reason."""
    watched: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    """What each watcher saw: log position and event id, in the order of arrival. The name begins with the tenant."""
    reads: int = 0
    recoveries: dict[str, float] = field(default_factory=dict)
    """Seconds from the end of each fault to the first append and fresh read that worked again."""

    def told(self, scope: Scope, place: Place) -> None:
        """A caller was told where its event is."""
        before = self.acknowledged.setdefault(scope, place)
        if before != place:
            self.faults.append(f"{scope}: first answered {before}, then {place}")
