"""One pass over a log stops exactly before an event that it cannot apply, and names it.

Slices, a new pass at any position, and which projections it is for have no influence on the rows.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import golden_files

from decisiongraph_service.domain import canonical, errors, precedent_search, projection_pass, vocabulary
from decisiongraph_service.domain.events import ProjectedEvent
from decisiongraph_service.domain.projection_pass import Before, Changes, Pass

Change = Callable[[ProjectedEvent], ProjectedEvent]


def _whole_log() -> list[ProjectedEvent]:
    """Four traces, all ten event types."""
    events = []
    for log_seq, sent in enumerate(golden_files.SCENARIOS["refunds"]["events"], start=1):
        text = canonical.canonical_json(sent["payload"])
        events.append(
            ProjectedEvent(
                log_seq,
                sent["event_id"],
                sent["trace_id"],
                sent["trace_seq"],
                sent["event_type"],
                sent["occurred_at"],
                sent["actor"]["actor_type"],
                sent["actor"]["actor_id"],
                text,
                canonical.payload_hash(text),
            )
        )
    return events


LOG: Final = _whole_log()
POSITIONS: Final = st.integers(0, len(LOG))
INDEXES: Final = st.integers(0, len(LOG) - 1)


def run(*slices: Sequence[ProjectedEvent], projections: Sequence[str] = vocabulary.PROJECTIONS) -> Changes:
    one = Pass(0, Before(), projections)
    for events in slices:
        one.run(events)
    return one.changes


def rows_of(changes: Changes) -> dict[str, list[Any]]:
    """Everything that the changes write."""
    return {
        "nodes": changes.graph.nodes,
        "documents": changes.documents,
        "edges": changes.graph.edges,
        "started": changes.summaries.started,
        "finishes": changes.summaries.finishes,
        "evaluations": changes.evaluations,
        "precedents": changes.precedents,
    }


def everything_of(changes: Changes) -> tuple[object, ...]:
    return rows_of(changes), changes.position, changes.applied, str(changes.damage)


def in_slices(events: Sequence[ProjectedEvent], cuts: Sequence[int]) -> list[Sequence[ProjectedEvent]]:
    bounds = [0, *sorted(cuts), len(events)]
    return [events[start:end] for start, end in itertools.pairwise(bounds)]


def with_payload(event: ProjectedEvent, text: str) -> ProjectedEvent:
    """Another payload with the hash that goes with it."""
    return event._replace(canonical_payload=text, payload_hash=canonical.payload_hash(text))


# --- damage ---

DAMAGES: Final[dict[str, tuple[str, Change]]] = {
    "a gap in the log": ("event_sequence_invalid", lambda event: event._replace(log_seq=event.log_seq + 1)),
    "a log position twice": ("event_sequence_invalid", lambda event: event._replace(log_seq=event.log_seq - 1)),
    "a gap in the trace": ("event_sequence_invalid", lambda event: event._replace(trace_seq=event.trace_seq + 1)),
    "a trace position twice": ("event_sequence_invalid", lambda event: event._replace(trace_seq=event.trace_seq - 1)),
    "another trace": ("event_sequence_invalid", lambda event: event._replace(trace_id="new", trace_seq=1)),
    "another payload": ("conflict", lambda event: event._replace(canonical_payload=event.canonical_payload + " ")),
    "another hash": ("conflict", lambda event: event._replace(payload_hash="sha256:" + "0" * 64)),
    "a payload that is no JSON": ("conflict", lambda event: with_payload(event, "{")),
}


@pytest.mark.parametrize(("category", "change"), DAMAGES.values(), ids=DAMAGES)
@given(index=INDEXES, cuts=st.lists(POSITIONS, max_size=3))
def test_a_pass_stops_exactly_before_a_damaged_event_and_names_it(
    category: str, change: Change, index: int, cuts: list[int]
) -> None:
    broken = change(LOG[index])
    changes = run(*in_slices([*LOG[:index], broken, *LOG[index + 1 :]], cuts))
    assert_stopped_before(index, broken, category, changes)


@given(index=st.integers(0, len(LOG) - 2))
def test_a_missing_event_stops_the_pass_at_the_one_after_it(index: int) -> None:
    changes = run([*LOG[:index], *LOG[index + 1 :]])
    assert_stopped_before(index, LOG[index + 1], "event_sequence_invalid", changes)


def assert_stopped_before(index: int, broken: ProjectedEvent, category: str, changes: Changes) -> None:
    damage = changes.damage
    assert isinstance(damage, errors.EventDamaged)
    assert (damage.event_id, damage.log_seq, damage.category) == (broken.event_id, broken.log_seq, category)
    assert repr(broken.event_id) in damage.message
    assert f"position {broken.log_seq} " in damage.message
    assert (changes.position, changes.applied) == (index, index)
    assert rows_of(changes) == rows_of(run(LOG[:index]))


SHAPELESS: Final = [
    *((name, "{}") for name in vocabulary.EVENT_TYPES),
    *((name, "[]") for name in vocabulary.EVENT_TYPES),
    *((name, "null") for name in vocabulary.EVENT_TYPES),
    ("TraceStarted", '{"primary_entity":{"entity_id":"1","entity_type":"order"},"workflow":"w"}'),
    ("TraceStarted", '{"primary_entity":{"entity_id":"1","entity_type":"order"},"title":"t"}'),
    ("TraceStarted", '{"primary_entity":{"entity_id":"1"},"title":"t","workflow":"w"}'),
    ("TraceStarted", '{"primary_entity":"order","title":"t","workflow":"w"}'),
    ("EntityObserved", '{"entity":{"entity_type":"order"}}'),
    ("EntityObserved", '{"entity":null}'),
    ("PolicyEvaluated", '{"policy":{"policy_id":"cap"}}'),
    ("PolicyEvaluated", '{"policy":["policy_id","policy_version"]}'),
    ("ExceptionRequested", '{"exception_id":"x"}'),
    ("ExceptionRequested", '{"exception_id":"x","policy":{"policy_id":"cap","policy_version":1}}'),
    ("ActionCommitted", '{"action_id":null,"status":"success"}'),
    ("TraceFinished", '{"outcome":5}'),
    ("ExceptionRequested", '{"policy":{"policy_id":"cap","policy_version":"1"}}'),
    ("ApprovalRecorded", '{"approver":{"actor_id":"a","actor_type":"person"}}'),
    ("ApprovalRecorded", '{"approver":{"actor_id":"a","actor_type":"person"},"subject":{"subject_type":"exception"}}'),
    ("ApprovalRecorded", '{"approver":{"actor_id":"a"},"subject":{"subject_id":"x","subject_type":"exception"}}'),
    ("ActionProposed", '{"action_id":"a"}'),
    ("ActionProposed", '{"action_id":"a","target_entity":{"entity_type":"order"}}'),
]


@pytest.mark.parametrize(("event_type", "payload"), SHAPELESS)
def test_a_payload_without_the_shape_of_its_type_stops_the_pass_before_it(event_type: str, payload: str) -> None:
    for index, event in enumerate(LOG):
        if event.event_type == event_type:
            broken = with_payload(event, payload)
            changes = run([*LOG[:index], broken, *LOG[index + 1 :]])
            assert_stopped_before(index, broken, "conflict", changes)


def test_every_event_type_occurs_in_the_log() -> None:
    assert {event.event_type for event in LOG} == set(vocabulary.EVENT_TYPES)


# --- slices, new passes, single projections ---


@given(cuts=st.lists(POSITIONS, max_size=6), broken=INDEXES | st.none())
def test_slices_have_no_influence(cuts: list[int], broken: int | None) -> None:
    events = [event._replace(payload_hash="") if at == broken else event for at, event in enumerate(LOG)]
    assert everything_of(run(*in_slices(events, cuts))) == everything_of(run(events))


@pytest.mark.parametrize("size", [1, 2, 7])
def test_slices_of_one_size_have_no_influence(size: int) -> None:
    assert everything_of(run(*in_slices(LOG, range(size, len(LOG), size)))) == everything_of(run(LOG))


@given(position=POSITIONS)
def test_what_is_needed_are_the_traces_that_go_on_and_those_of_them_that_finish(position: int) -> None:
    needed = projection_pass.needed(LOG[position:])
    began = {event.trace_id for event in LOG[:position]}
    later = LOG[position:]
    assert needed.traces == began & {event.trace_id for event in later}
    assert needed.finished == began & {event.trace_id for event in later if event.event_type == "TraceFinished"}


@given(cuts=st.lists(POSITIONS, min_size=1, max_size=5))
def test_a_new_pass_with_what_it_needs_to_know_goes_on_as_if_there_was_none(cuts: list[int]) -> None:
    merged = Changes(0)
    rows = rows_of(run([]))
    nodes: dict[str, Any] = {}
    started: dict[str, Any] = {}
    for events in in_slices(LOG, cuts):
        one = Pass(merged.position, before(events, merged.position), vocabulary.PROJECTIONS)
        one.run(events)
        assert one.changes.damage is None
        merged.position = one.changes.position
        merged.applied += one.changes.applied
        for node in one.changes.graph.nodes:
            nodes.setdefault(node.node_id, node)
        started |= {row.trace_id: row for row in one.changes.summaries.started}
        for finish in one.changes.summaries.finishes:
            started[finish.trace_id] = dataclasses.replace(
                started[finish.trace_id], event_count=2, **{**finish._asdict(), "trace_id": finish.trace_id}
            )
        for name in ("edges", "evaluations", "precedents", "documents"):
            rows[name] += rows_of(one.changes)[name]
    rows |= {"nodes": list(nodes.values()), "started": list(started.values())}
    assert (rows, merged.position, merged.applied) == (rows_of(run(LOG)), len(LOG), len(LOG))


def before(events: Sequence[ProjectedEvent], position: int) -> Before:
    """No more of the log up to the position than is asked for."""
    needed = projection_pass.needed(events)
    earlier = LOG[:position]
    return Before(
        {trace: sum(event.trace_id == trace for event in earlier) for trace in needed.traces},
        {
            trace: [
                event
                for event in earlier
                if event.trace_id == trace and event.event_type in precedent_search.READ_TYPES
            ]
            for trace in needed.finished
        },
    )


@pytest.mark.parametrize("projection", vocabulary.PROJECTIONS)
def test_a_pass_for_one_projection_makes_its_rows_and_none_of_the_others(projection: str) -> None:
    own = {
        "context_graph": {"nodes", "edges"},
        "trace_summary": {"started"},
        "precedent_index": {"evaluations", "precedents", "documents"},
    }[projection]
    whole = rows_of(run(LOG))
    assert all(whole[name] for name in own)
    assert rows_of(run(LOG, projections=[projection])) == {
        name: rows if name in own else [] for name, rows in whole.items()
    }
