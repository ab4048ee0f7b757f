"""What becomes of several events that are to be committed together: the rules of one append, one after another.

Pure: decides over what one query fetched, and over what it has accepted itself so far, so that the result is that of
appending the events one by one (docs/reference/APPEND_SEMANTICS.md sections 5 and 7).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from decisiongraph_service.domain import append_rules, errors, vocabulary
from decisiongraph_service.domain.append_rules import AppendState
from decisiongraph_service.domain.events import CheckedEvent, StoredEvent


@dataclass(frozen=True, slots=True)
class TraceTail:
    """The end of a trace."""

    length: int
    finished: bool


_NO_TRACE = TraceTail(0, finished=False)


@dataclass(frozen=True, slots=True)
class LogView:
    """What a tenant's log holds about some candidates, all as of `head`."""

    head: int
    stored_by_key: Mapping[tuple[str, str], StoredEvent]
    """By producer and idempotency key."""
    traces: Mapping[str, TraceTail]
    """The traces that have events."""
    taken_event_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Placed:
    """One event's place in the log."""

    stored: StoredEvent
    reused: bool
    """True: it was there before, or earlier in the same batch."""


@dataclass(frozen=True, slots=True)
class NewRow:
    """An event to be written."""

    stored: StoredEvent
    occurred_at_micros: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """The first event of a submission that does not fit the log. Nothing of the submission is to be written."""

    index: int
    error: errors.DecisionGraphError


class BatchPlan:
    """Places submissions one after another behind a log as one query saw it."""

    def __init__(self, tenant_id: str, view: LogView, *, recorded_at_micros: int) -> None:
        self._tenant_id = tenant_id
        self._view = view
        self._recorded_at_micros = recorded_at_micros
        self._by_key: dict[tuple[str, str], StoredEvent] = {}
        self._traces: dict[str, TraceTail] = {}
        self._event_ids: set[str] = set()
        self.rows: list[NewRow] = []
        """What is to be written, at the positions after the head, in this order."""

    def place(self, submission: Sequence[CheckedEvent]) -> list[Placed] | Refusal:
        """Place all events of a submission, or none of them."""
        mark = len(self.rows)
        placed: list[Placed] = []
        for index, checked in enumerate(submission):
            decision = append_rules.decide(checked, self._state(checked), self._tenant_id)
            if isinstance(decision, append_rules.Refused):
                self._take_back(mark)
                return Refusal(index, decision.error)
            if isinstance(decision, append_rules.Reused):
                placed.append(Placed(decision.stored, reused=True))
            else:
                placed.append(Placed(self._accept(checked, decision), reused=False))
        return placed

    def _state(self, checked: CheckedEvent) -> AppendState:
        event = checked.event
        key = (event.source.producer_id, event.idempotency_key)
        tail = self._tail(event.trace_id)
        event_id = append_rules.event_id_of(checked, self._tenant_id)
        return AppendState(
            stored_with_key=self._by_key.get(key) or self._view.stored_by_key.get(key),
            trace_length=tail.length,
            trace_finished=tail.finished,
            event_id_taken=event_id in self._event_ids or event_id in self._view.taken_event_ids,
        )

    def _tail(self, trace_id: str) -> TraceTail:
        return self._traces.get(trace_id) or self._view.traces.get(trace_id, _NO_TRACE)

    def _accept(self, checked: CheckedEvent, accepted: append_rules.Accepted) -> StoredEvent:
        stored = checked.stored(
            tenant_id=self._tenant_id,
            log_seq=self._view.head + len(self.rows) + 1,
            event_id=accepted.event_id,
            trace_seq=accepted.trace_seq,
            recorded_at_micros=self._recorded_at_micros,
        )
        self._by_key[(stored.source.producer_id, stored.idempotency_key)] = stored
        self._traces[stored.trace_id] = TraceTail(
            stored.trace_seq + 1, finished=stored.event_type == vocabulary.TRACE_FINISHED
        )
        self._event_ids.add(stored.event_id)
        self.rows.append(NewRow(stored, checked.occurred_at_micros))
        return stored

    def _take_back(self, mark: int) -> None:
        for row in reversed(self.rows[mark:]):
            stored = row.stored
            del self._by_key[(stored.source.producer_id, stored.idempotency_key)]
            self._event_ids.discard(stored.event_id)
            if stored.trace_seq > 0:
                self._traces[stored.trace_id] = TraceTail(stored.trace_seq, finished=False)
            else:
                del self._traces[stored.trace_id]
        del self.rows[mark:]
