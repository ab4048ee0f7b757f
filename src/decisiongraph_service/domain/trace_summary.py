"""The projection `trace_summary`: one row per trace, from its TraceStarted and TraceFinished events only.

Source: docs/reference/PROJECTION_AND_REPLAY_SEMANTICS.md, Trace summary. Pure; the same events give the same
row.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import orjson

from decisiongraph_service.domain import text, timestamps, vocabulary
from decisiongraph_service.domain.events import ProjectedEvent, StoredEvent


@dataclass(frozen=True, slots=True)
class TraceSummaryRow:
    """What the read model knows of a trace. Times are the `occurred_at` of their events, as sent."""

    trace_id: str
    workflow: str
    title: str
    primary_entity_type: str
    primary_entity_id: str
    primary_entity_system: str | None
    """This column and those behind `last_log_seq` are outside the digest."""
    outcome: str | None
    """`None` until the trace is finished."""
    started_at: str
    finished_at: str | None
    event_count: int
    """1 for an open trace, 2 for a finished one: only the events that had an effect here."""
    last_log_seq: int
    """Log position of the last event that had an effect here."""
    started_log_seq: int
    """Log position of the TraceStarted event: the order of lists."""
    started_micros: int
    """The instant of `started_at` in microseconds since 1970-01-01T00:00:00Z."""
    finished_micros: int | None
    """The instant of `finished_at`."""


class TraceFinish(NamedTuple):
    """What a TraceFinished event changes in the row of a trace that was started before."""

    trace_id: str
    outcome: str
    finished_at: str
    last_log_seq: int
    finished_micros: int


def apply(row: TraceSummaryRow | None, event: ProjectedEvent | StoredEvent) -> TraceSummaryRow | None:
    """Return the row of the event's trace after the event.

    Args:
        row: The row before it; `None` if there is none yet.
        event: The next event of the same trace. It passed the checks of an append, so its payload has the
            shape of its type.

    Returns:
        The new row, or `row` itself if the event has no effect here. A TraceFinished without a row changes
        nothing, as an update of no rows; replay refuses such a log before it comes to that.
    """
    if event.event_type == vocabulary.TRACE_STARTED:
        return _started(event)
    if event.event_type == vocabulary.TRACE_FINISHED and row is not None:
        return _finished(row, event)
    return row


class SummaryChanges:
    """What events in log order change: traces that they start, and traces started before that they finish."""

    def __init__(self) -> None:
        self._started: dict[str, TraceSummaryRow] = {}
        self.finishes: list[TraceFinish] = []

    @property
    def started(self) -> list[TraceSummaryRow]:
        """The rows of traces that were started, finished if they were finished too."""
        return list(self._started.values())

    def apply(self, event: ProjectedEvent) -> None:
        """Add what the next event changes."""
        if event.event_type == vocabulary.TRACE_STARTED:
            self._started[event.trace_id] = _started(event)
        elif event.event_type == vocabulary.TRACE_FINISHED:
            row = self._started.get(event.trace_id)
            if row is not None:
                self._started[event.trace_id] = _finished(row, event)
            else:
                outcome = text.member(orjson.loads(event.canonical_payload), "outcome")
                finished_micros = timestamps.parse_rfc3339(event.occurred_at)
                self.finishes.append(
                    TraceFinish(event.trace_id, outcome, event.occurred_at, event.log_seq, finished_micros)
                )


def _started(event: ProjectedEvent | StoredEvent) -> TraceSummaryRow:
    payload = orjson.loads(event.canonical_payload)
    entity = payload["primary_entity"]
    return TraceSummaryRow(
        trace_id=event.trace_id,
        workflow=text.member(payload, "workflow"),
        title=text.member(payload, "title"),
        primary_entity_type=text.member(entity, "entity_type"),
        primary_entity_id=text.member(entity, "entity_id"),
        primary_entity_system=text.optional_member(entity, "system"),
        outcome=None,
        started_at=event.occurred_at,
        finished_at=None,
        event_count=1,
        last_log_seq=event.log_seq,
        started_log_seq=event.log_seq,
        started_micros=timestamps.parse_rfc3339(event.occurred_at),
        finished_micros=None,
    )


def _finished(row: TraceSummaryRow, event: ProjectedEvent | StoredEvent) -> TraceSummaryRow:
    return replace(
        row,
        outcome=text.member(orjson.loads(event.canonical_payload), "outcome"),
        finished_at=event.occurred_at,
        event_count=row.event_count + 1,
        last_log_seq=event.log_seq,
        finished_micros=timestamps.parse_rfc3339(event.occurred_at),
    )
