"""One pass over events of the log: checking each before it is applied, and what it changes in the projections.

Source: docs/reference/PROJECTION_AND_REPLAY_SEMANTICS.md, projections in general. Pure: what a pass needs to know of
the log before its first event is given to it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from decisiongraph_service.domain import canonical, errors, precedent_index, precedent_search, vocabulary
from decisiongraph_service.domain.context_graph import GraphChanges
from decisiongraph_service.domain.events import ProjectedEvent
from decisiongraph_service.domain.precedent_index import PolicyEvaluationRow, PrecedentRow, Source
from decisiongraph_service.domain.precedent_search import Document, DocumentRow, Facts
from decisiongraph_service.domain.trace_summary import SummaryChanges


@dataclass(frozen=True, slots=True)
class Before:
    """What the log held of the pass's traces up to the position that it starts from."""

    event_counts: Mapping[str, int] = field(default_factory=dict)
    """By trace: the number of its events."""
    read_back: Mapping[str, Sequence[ProjectedEvent]] = field(default_factory=dict)
    """By trace that is finished in the pass: its events of `precedent_search.READ_TYPES`, in their order."""


@dataclass(frozen=True, slots=True)
class Needed:
    """Which traces a pass has to know of, as they were before it."""

    traces: frozenset[str]
    """Traces that go on in the pass, but do not start in it."""
    finished: frozenset[str]
    """Those of them that it finishes."""


@dataclass(slots=True)
class Changes:
    """What the events of a pass change, in rows."""

    position: int
    """Log position of the last applied event."""
    applied: int = 0
    """Number of applied events."""
    graph: GraphChanges = field(default_factory=GraphChanges)
    summaries: SummaryChanges = field(default_factory=SummaryChanges)
    evaluations: list[PolicyEvaluationRow] = field(default_factory=list)
    precedents: list[PrecedentRow] = field(default_factory=list)
    documents: list[DocumentRow] = field(default_factory=list)
    finished: dict[str, int] = field(default_factory=dict)
    """By trace that was finished: log position of its TraceFinished."""
    damage: errors.EventDamaged | None = None
    """Why the pass ended before the last event it was given."""


def needed(events: Sequence[ProjectedEvent]) -> Needed:
    """What must be known to apply `events`."""
    first: dict[str, ProjectedEvent] = {}
    for event in events:
        first.setdefault(event.trace_id, event)
    going_on = {trace_id for trace_id, event in first.items() if event.trace_seq > 0}
    finished = {event.trace_id for event in events if event.event_type == vocabulary.TRACE_FINISHED}
    return Needed(frozenset(going_on), frozenset(finished & going_on))


class _Told:
    """What the events of one trace have told so far of its precedent rows and of its document."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self._facts: list[tuple[str, Facts]] = []

    def hear(self, event: ProjectedEvent, payload: Mapping[str, Any]) -> None:
        """The next event. Raises KeyError or TypeError, and keeps nothing of it, if its payload has another shape."""
        source = precedent_index.source(event, payload)
        facts = precedent_search.facts(event.event_type, payload)
        if source is not None:
            self.sources.append(source)
        if facts is not None:
            self._facts.append((event.event_type, facts))

    def document(self, finish: ProjectedEvent) -> DocumentRow:
        """The document of the trace, once it is finished."""
        document = Document(self._facts)
        return DocumentRow(finish.log_seq, finish.trace_id, document.features, document.keys)


class Pass:
    """Applies events in their order, in any number of slices, up to the first that is damaged."""

    def __init__(self, position: int, before: Before, projections: Collection[str]) -> None:
        """Set up.

        Args:
            position: Log position of the last event that was applied before.
            before: What `needed` asks for, of all events of the pass.
            projections: Which projections to make rows for.
        """
        self.changes = Changes(position)
        self._counts = dict(before.event_counts)
        self._told: dict[str, _Told] = {}
        for trace_id, events in before.read_back.items():
            told = self._told.setdefault(trace_id, _Told())
            for event in events:
                told.hear(event, orjson.loads(event.canonical_payload))
        self._graph = vocabulary.CONTEXT_GRAPH in projections
        self._summaries = vocabulary.TRACE_SUMMARY in projections
        self._precedents = vocabulary.PRECEDENT_INDEX in projections

    def run(self, events: Sequence[ProjectedEvent]) -> None:
        """Apply the next events. After damage nothing is applied any more."""
        changes = self.changes
        if changes.damage is not None:
            return
        for event in events:
            try:
                self._check(event)
                self._apply(event)
            except errors.EventDamaged as damage:
                changes.damage = damage
                break
            changes.position = event.log_seq
            changes.applied += 1

    def _check(self, event: ProjectedEvent) -> None:
        if event.log_seq != self.changes.position + 1:
            raise errors.EventOutOfSequence(
                event.event_id, event.log_seq, f"the log goes on after position {self.changes.position} with it"
            )
        if canonical.payload_hash(event.canonical_payload) != event.payload_hash:
            raise errors.EventDamaged(event.event_id, event.log_seq, "its payload does not have its payload_hash")
        count = self._counts.get(event.trace_id, 0)
        if event.trace_seq != count:
            raise errors.EventOutOfSequence(
                event.event_id,
                event.log_seq,
                f"its trace_seq is {event.trace_seq}, the trace has {count} events before it",
            )
        self._counts[event.trace_id] = count + 1

    def _apply(self, event: ProjectedEvent) -> None:
        changes = self.changes
        try:
            # Rows first, then what is kept of them: an event that cannot be applied leaves nothing behind.
            payload = orjson.loads(event.canonical_payload)
            finished = evaluation = None
            if self._precedents:
                told = self._told.setdefault(event.trace_id, _Told())
                told.hear(event, payload)
                if event.event_type == vocabulary.POLICY_EVALUATED:
                    evaluation = precedent_index.policy_evaluation(event, payload)
                elif event.event_type == vocabulary.TRACE_FINISHED:
                    finished = precedent_index.precedents(event.trace_id, told.sources), told.document(event)
            if self._summaries:
                changes.summaries.apply(event)
            if self._graph:
                changes.graph.apply(event, payload)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise errors.EventDamaged(
                event.event_id, event.log_seq, f"its payload does not have the shape of {event.event_type}"
            ) from error
        if evaluation is not None:
            changes.evaluations.append(evaluation)
        if finished is not None:
            self._told.pop(event.trace_id)
            changes.finished[event.trace_id] = event.log_seq
            changes.precedents.extend(finished[0])
            changes.documents.append(finished[1])
