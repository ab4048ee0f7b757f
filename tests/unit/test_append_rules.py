"""Steps 7 to 10 of an append: reuse, finish lock, sequence, event id."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisiongraph_service.domain import append_rules, errors, event_checks, secret_guard
from decisiongraph_service.domain.events import Actor, CheckedEvent, Event, Source, StoredEvent
from decisiongraph_service.domain.limits import EventLimits

TENANT = "acme"
GUARD = secret_guard.guard_for("precise")
REFUNDS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "refunds.json").read_text())
LOAN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "loan.json").read_text())

PAYLOADS: dict[str, Any] = {
    "TraceStarted": {"workflow": "w", "title": "t", "primary_entity": {"entity_type": "e", "entity_id": "1"}},
    "PrecedentCited": {"cited_trace_id": "c", "reason": "r"},
    "TraceFinished": {"outcome": "success"},
}
EMPTY = append_rules.AppendState(None, trace_length=0, trace_finished=False, event_id_taken=False)


def event(event_type: str = "TraceStarted", **changes: Any) -> Event:
    fields: dict[str, Any] = {
        "trace_id": "t",
        "event_type": event_type,
        "occurred_at": "2026-01-01T00:00:00Z",
        "source": Source("p", "s"),
        "actor": Actor("agent", "a"),
        "idempotency_key": "k",
        "payload": PAYLOADS[event_type],
    }
    return Event(**{**fields, **changes})


def from_json(sent: dict[str, Any]) -> Event:
    return Event(
        **{
            **sent,
            "source": Source(**sent["source"]),
            "actor": Actor(**sent["actor"]),
            "tags": tuple(sent.get("tags", ())),
        }
    )


def check(sent: Event) -> CheckedEvent:
    return event_checks.check_event(sent, GUARD, EventLimits())


def stored(checked: CheckedEvent, accepted: append_rules.Accepted, log_seq: int) -> StoredEvent:
    sent = checked.event
    return StoredEvent(
        tenant_id=TENANT,
        log_seq=log_seq,
        event_id=accepted.event_id,
        trace_id=sent.trace_id,
        trace_seq=accepted.trace_seq,
        event_type=sent.event_type,
        occurred_at=sent.occurred_at,
        source=sent.source,
        actor=sent.actor,
        idempotency_key=sent.idempotency_key,
        canonical_payload=checked.canonical_payload,
        payload_hash=checked.payload_hash,
        correlation_id=sent.correlation_id,
        causation_event_id=sent.causation_event_id,
        schema_version=sent.schema_version,
        tags=sent.tags,
        recorded_at_micros=log_seq,
    )


class Log:
    """A log in memory: fetches the state of an append by scanning, and stores what is accepted."""

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []

    def state(self, checked: CheckedEvent) -> append_rules.AppendState:
        sent = checked.event
        scope = (sent.source.producer_id, sent.idempotency_key)
        trace = [old for old in self.events if old.trace_id == sent.trace_id]
        event_id = append_rules.event_id_of(checked, TENANT)
        return append_rules.AppendState(
            next((old for old in self.events if (old.source.producer_id, old.idempotency_key) == scope), None),
            len(trace),
            any(old.event_type == "TraceFinished" for old in trace),
            any(old.event_id == event_id for old in self.events),
        )

    def append(self, sent: Event) -> append_rules.Decision:
        checked = check(sent)
        decision = append_rules.decide(checked, self.state(checked), TENANT)
        if isinstance(decision, append_rules.Accepted):
            self.events.append(stored(checked, decision, len(self.events) + 1))
        return decision


def log_of(golden: dict[str, Any]) -> Log:
    log = Log()
    for sent in golden["events"]:
        assert log.append(from_json(sent)) == append_rules.Accepted(sent["event_id"], sent["trace_seq"])
    return log


@pytest.mark.parametrize("golden", [REFUNDS, LOAN], ids=["refunds", "loan"])
def test_golden_events_are_stored_in_order(golden: dict[str, Any]) -> None:
    log = log_of(golden)
    assert [(old.event_id, old.log_seq, old.payload_hash) for old in log.events] == [
        (expected["event_id"], expected["log_seq"], expected["payload_hash"]) for expected in golden["stored"]
    ]


def outcome(log: Log, sent: dict[str, Any]) -> dict[str, Any]:
    """What became of an append, in the words of the golden file."""
    try:
        decision = log.append(from_json(sent))
    except errors.DecisionGraphError as error:
        return {"outcome": "rejected", "category": error.category}
    if isinstance(decision, append_rules.Refused):
        return {"outcome": "rejected", "category": decision.error.category}
    if isinstance(decision, append_rules.Reused):
        return {"outcome": "reused", "log_seq": decision.stored.log_seq}
    return {"outcome": "accepted", "log_seq": len(log.events)}


def test_the_golden_file_has_its_36_appends() -> None:
    assert len(REFUNDS["appends"]) == 36


@pytest.mark.parametrize("append", REFUNDS["appends"], ids=[append["case"] for append in REFUNDS["appends"]])
def test_golden_appends_have_their_outcome(append: dict[str, Any]) -> None:
    expected = {key: append[key] for key in ("outcome", "category", "log_seq") if key in append}
    assert outcome(log_of(REFUNDS), append["event"]) == expected


def test_a_refused_append_consumes_no_position() -> None:
    log = log_of(REFUNDS)
    before = list(log.events)
    for append in REFUNDS["appends"]:
        if append["outcome"] != "accepted":
            outcome(log, append["event"])
    assert log.events == before


def decide(sent: Event, **state: Any) -> append_rules.Decision:
    return append_rules.decide(check(sent), dataclasses.replace(EMPTY, **state), TENANT)


def refused(sent: Event, **state: Any) -> errors.DecisionGraphError:
    decision = decide(sent, **state)
    assert isinstance(decision, append_rules.Refused)
    return decision.error


def old(sent: Event) -> StoredEvent:
    return stored(check(sent), append_rules.Accepted("evt", 0), 1)


SAME: list[dict[str, Any]] = [
    {},
    {"event_id": "other"},
    {"trace_seq": 99},
    {"occurred_at": "2027-01-01T00:00:00Z"},
    {"payload": dict(reversed(PAYLOADS["TraceStarted"].items()))},
]

DIFFERENT: list[tuple[dict[str, Any], list[str]]] = [
    ({"payload": {**PAYLOADS["TraceStarted"], "x": 1}}, ["payload"]),
    ({"trace_id": "u"}, ["trace_id"]),
    ({"event_type": "TraceFinished", "payload": PAYLOADS["TraceFinished"]}, ["payload", "event_type"]),
    ({"source": Source("p", "x")}, ["source.system"]),
    ({"source": Source("p", "s", "")}, ["source.subsystem"]),
    ({"source": Source("q", "s")}, ["source.producer_id"]),
    ({"actor": Actor("person", "b")}, ["actor.actor_type", "actor.actor_id"]),
    ({"correlation_id": ""}, ["correlation_id"]),
    ({"causation_event_id": "c"}, ["causation_event_id"]),
    ({"schema_version": 2}, ["schema_version"]),
    ({"tags": ("b", "a")}, ["tags"]),
]


@pytest.mark.parametrize("changes", SAME)
def test_an_equal_event_returns_the_stored_one_whatever_the_trace_holds(changes: dict[str, Any]) -> None:
    first = old(event())
    decision = decide(event(**changes), stored_with_key=first, trace_length=9, trace_finished=True, event_id_taken=True)
    assert decision == append_rules.Reused(first)


@pytest.mark.parametrize(("changes", "fields"), DIFFERENT)
def test_a_different_event_is_a_conflict_that_names_the_fields(changes: dict[str, Any], fields: list[str]) -> None:
    error = refused(event(**changes), stored_with_key=old(event()), trace_length=1)
    assert isinstance(error, errors.IdempotencyConflict)
    assert list(error.differing_fields) == fields


def test_order_and_duplicates_of_tags_are_significant() -> None:
    error = refused(event(tags=("a", "b", "a")), stored_with_key=old(event(tags=("a", "a", "b"))))
    assert isinstance(error, errors.IdempotencyConflict)


def test_the_finish_lock_comes_before_the_sequence() -> None:
    error = refused(event("PrecedentCited", trace_seq=7), trace_length=2, trace_finished=True, event_id_taken=True)
    assert isinstance(error, errors.TraceFinished)


SEQUENCE: list[tuple[str, int | None, int, str]] = [
    ("PrecedentCited", 7, 3, "trace_seq: 7 was sent, the trace's next position is 3"),
    ("TraceFinished", 2, 3, "trace_seq: 2 was sent, the trace's next position is 3"),
    ("TraceStarted", 1, 0, "trace_seq: 1 was sent, the trace's next position is 0"),
    ("PrecedentCited", 0, 0, "its first must be TraceStarted"),
    ("TraceFinished", None, 0, "its first must be TraceStarted"),
    ("TraceStarted", 3, 3, "TraceStarted was sent, but this trace has one; its next position is 3"),
    ("TraceStarted", None, 1, "TraceStarted was sent"),
]


@pytest.mark.parametrize(("event_type", "trace_seq", "length", "message"), SEQUENCE)
def test_the_sequence_is_kept_and_the_expected_position_is_named(
    event_type: str, trace_seq: int | None, length: int, message: str
) -> None:
    error = refused(event(event_type, trace_seq=trace_seq), trace_length=length, event_id_taken=True)
    assert isinstance(error, errors.EventSequenceInvalid)
    assert message in error.message
    assert error.expected_trace_seq == length


def test_a_taken_event_id_is_checked_last() -> None:
    assert isinstance(refused(event(event_id="e"), event_id_taken=True), errors.EventIdConflict)


def test_a_missing_position_is_the_next_one() -> None:
    assert decide(event("PrecedentCited", event_id="e"), trace_length=5) == append_rules.Accepted("e", 5)


def test_a_missing_event_id_is_derived() -> None:
    derived = append_rules.derive_event_id(TENANT, "p", "k")
    assert decide(event()) == append_rules.Accepted(derived, 0)
    assert derived == "evt_" + hashlib.sha256(b'["acme","p","k"]').hexdigest()[:40]


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), min_size=2, max_size=2, unique=True))
def test_derived_ids_tell_scopes_apart(scopes: list[tuple[str, str, str]]) -> None:
    first, second = (append_rules.derive_event_id(*scope) for scope in scopes)
    assert first != second
    assert first == append_rules.derive_event_id(*scopes[0])


def test_derived_ids_are_unambiguous_about_where_a_part_ends() -> None:
    assert append_rules.derive_event_id("a", "b", "c") != append_rules.derive_event_id("a", "bc", "")
    assert append_rules.derive_event_id("a", 'b","c', "d") != append_rules.derive_event_id("a", "b", 'c","d')


class Model:
    """The rules of an append written down once more, over plain dictionaries."""

    def __init__(self) -> None:
        self.by_key: dict[str, tuple[str, str, int]] = {}
        self.traces: dict[str, list[str]] = {}
        self.ids: set[str] = set()

    def append(self, key: str, trace: str, kind: str, position: int | None, event_id: str | None) -> str:
        events = self.traces.setdefault(trace, [])
        if key in self.by_key:
            return "reused" if self.by_key[key][:2] == (trace, kind) else "idempotency_conflict"
        if "TraceFinished" in events:
            return "conflict"
        if position not in (None, len(events)) or (kind == "TraceStarted") != (not events):
            return "event_sequence_invalid"
        if event_id in self.ids:
            return "conflict"
        self.by_key[key] = (trace, kind, len(events))
        events.append(kind)
        self.ids |= {event_id} if event_id is not None else set()
        return "accepted"


appends = st.tuples(
    st.sampled_from("abcdefgh"),
    st.sampled_from(["t", "u"]),
    st.sampled_from(list(PAYLOADS)),
    st.none() | st.integers(0, 3),
    st.none() | st.sampled_from(["1", "2", "3"]),
)


@given(st.lists(appends, max_size=12))
def test_any_sequence_of_appends_ends_as_in_the_model(
    sequence: list[tuple[str, str, str, int | None, str | None]],
) -> None:
    log, model = Log(), Model()
    for key, trace, kind, position, event_id in sequence:
        sent = event(kind, idempotency_key=key, trace_id=trace, trace_seq=position, event_id=event_id)
        decision = log.append(sent)
        category = decision.error.category if isinstance(decision, append_rules.Refused) else ""
        named = category or type(decision).__name__.lower()
        assert named == model.append(key, trace, kind, position, event_id)
    for trace, kinds in model.traces.items():
        kept = [(old.trace_seq, old.event_type) for old in log.events if old.trace_id == trace]
        assert kept == list(enumerate(kinds))
