"""Events as the client completes them: ids, keys, source, actor; and what a trace's steps send."""

import contextlib
from datetime import UTC, datetime
from typing import Any

import protovalidate
import pytest

from decisiongraph.v1.event_pb2 import Event, EventReceipt
from decisiongraph_client import Recorded, _events, payloads
from decisiongraph_client._sync.trace import Trace, started

ORIGIN = _events.Origin("agent", "desk", None, None)


class Sent:
    """Takes events and keeps them."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> EventReceipt | None:
        self.events.append(event)
        return None

    @property
    def last(self) -> Event:
        return self.events[-1]


def trace_of(sent: Sent, **given: Any) -> Trace:
    """A trace that begins with its block."""
    arguments: dict[str, Any] = {"trace_id": None, "actor": None, "tags": (), "correlation_id": None}
    arguments |= {"idempotency_key": None, "start": started("w", "t", ("order", "1"), None), **given}
    return Trace(sent, ORIGIN, **arguments)


def test_an_event_is_complete() -> None:
    event = _events.make(ORIGIN, "t", {"a": 1}, event_type="InputObserved")
    protovalidate.validate(event)
    assert event.event_id == event.idempotency_key
    assert (event.source.producer_id, event.source.system) == ("agent", "desk")
    assert (event.actor.actor_type, event.actor.actor_id) == ("agent", "agent")
    assert not event.HasField("trace_seq")


def test_the_nearest_actor_counts() -> None:
    with_actor = _events.Origin("agent", None, None, payloads.actor("system", "s"))
    assert _events.make(with_actor, "t", {}, event_type="x").actor.actor_id == "s"
    assert _events.make(with_actor, "t", {}, event_type="x", actor=("person", "ann")).actor.actor_id == "ann"


def test_all_kinds_of_steps_are_valid_events() -> None:
    sent = Sent()
    with trace_of(sent, tags=["a"], correlation_id="c") as trace:
        found = trace.observe_input("crm", "order", "1", facts={"total": 3}, locator="/a")
        trace.observe_entity(("order", "1"), role="primary", facts={"vip": True})
        trace.evaluate_policy(
            ("limit", "7"), "require_exception", inputs=[found, "other"], violations=[payloads.violation("over")]
        )
        asked = trace.request_exception(("limit", "7"), "loyal", evidence=[payloads.evidence("crm", "1")])
        trace.record_approval("approved", ("person", "ann"), exception=asked)
        trace.cite_precedent("earlier", "same case", similarity_score="0.9")
        proposed = trace.propose_action("refund", ("order", "1"), "shop", changes=[payloads.change("state", "paid")])
        trace.record_approval("rejected", ("person", "ann"), action=proposed, reason="no")
        trace.commit_action(proposed, "failure", error="declined")
        trace.record({"action_id": "x", "status": "success"}, event_type="ActionCommitted")
    for event in sent.events:
        protovalidate.validate(event)
        assert (event.trace_id, list(event.tags), event.correlation_id) == (trace.trace_id, ["a"], "c")
    assert len({event.idempotency_key for event in sent.events}) == len(sent.events) == 12
    assert sent.events[3].policy_evaluated.inputs == [found.subject_id, "other"]
    assert sent.events[5].approval_recorded.subject.subject_id == asked.subject_id
    assert sent.events[5].actor.actor_id == "ann", "an approval is the approver's act"
    assert sent.events[9].action_committed.action_id == proposed.subject_id


def test_how_changes_a_single_event() -> None:
    sent = Sent()
    with trace_of(sent, tags=["a"]) as trace:
        trace.evaluate_policy(
            ("p", "1"),
            "allow",
            actor=("person", "ann"),
            occurred_at=datetime(2026, 3, 2, 9, tzinfo=UTC),
            idempotency_key="key",
            causation_event_id="cause",
            tags=["b"],
        )
        event = sent.last
    assert (event.actor.actor_id, event.occurred_at) == ("ann", "2026-03-02T09:00:00.000000Z")
    assert (event.idempotency_key, event.causation_event_id, list(event.tags)) == ("key", "cause", ["b"])


def test_a_misspelt_argument_is_refused() -> None:
    sent = Sent()
    with trace_of(sent) as trace, pytest.raises(TypeError, match="occured_at"):
        trace.evaluate_policy(("p", "1"), "allow", occured_at="2026-03-02T09:00:00Z")  # type: ignore[call-arg]
    assert [event.WhichOneof("content") for event in sent.events] == ["trace_started", "trace_finished"]


def test_an_approval_needs_its_subject() -> None:
    with trace_of(Sent()) as trace:
        with pytest.raises(ValueError, match="exception"):
            trace.record_approval("approved", ("person", "ann"))
        with pytest.raises(ValueError, match="exception"):
            trace.record_approval("approved", ("person", "ann"), exception="e", action="a")
        with pytest.raises(ValueError, match="nothing that has an id"):
            trace.commit_action(Recorded("t", "e"))


def end_by(error: BaseException | None) -> None:
    if error is not None:
        raise error


class Interruption(BaseException):
    """Ends a block from outside."""


@pytest.mark.parametrize(
    ("error", "outcome", "summary"),
    [
        (None, "success", ""),
        (ZeroDivisionError("secret"), "failure", "ZeroDivisionError"),
        (KeyboardInterrupt(), "abandoned", "KeyboardInterrupt"),
        (SystemExit(0), "abandoned", "SystemExit"),
        (Interruption(), "abandoned", "Interruption"),
    ],
    ids=repr,
)
def test_the_end_of_the_block_is_the_outcome(error: BaseException | None, outcome: str, summary: str) -> None:
    sent = Sent()
    comes_through = contextlib.nullcontext() if error is None else pytest.raises(type(error))
    with comes_through, trace_of(sent):
        end_by(error)
    finished = sent.last.trace_finished
    assert (finished.outcome, finished.summary) == (outcome, summary)


def test_a_finished_or_resumed_trace_is_not_finished_by_its_block() -> None:
    sent = Sent()
    with trace_of(sent) as trace:
        trace.finish("abandoned", summary="by hand")
    assert len(sent.events) == 2
    with trace_of(sent, start=None, trace_id="begun elsewhere") as trace:
        trace.evaluate_policy(("p", "1"), "allow")
    assert len(sent.events) == 3
    assert sent.last.trace_id == "begun elsewhere"


def record_with_keys(sent: Sent) -> list[Recorded]:
    with trace_of(sent, idempotency_key="refund/A-1") as trace:
        return [
            trace.observe_input("crm", "order", "1", idempotency_key="1"),
            trace.request_exception(("p", "1"), "r", idempotency_key="2"),
            trace.record_approval("approved", ("person", "ann"), exception="e", idempotency_key="3"),
            trace.propose_action("refund", ("order", "1"), "shop", idempotency_key="4"),
        ]


def without_time(event: Event) -> Event:
    copy = Event()
    copy.CopyFrom(event)
    copy.ClearField("occurred_at")
    return copy


def test_steps_with_keys_are_the_same_events_when_a_program_records_them_again() -> None:
    """Else they would be refused as different events under a used key."""
    first, second = Sent(), Sent()
    assert record_with_keys(first) == record_with_keys(second)
    assert [without_time(one) for one in first.events] == [without_time(one) for one in second.events]
    assert len({event.event_id for event in first.events}) == 6


def test_the_same_key_in_another_trace_is_about_something_else() -> None:
    sent = Sent()
    with trace_of(sent, trace_id="a") as one, trace_of(sent, trace_id="b") as other:
        first = one.observe_input("crm", "order", "1", idempotency_key="a/1")
        second = other.observe_input("crm", "order", "1", idempotency_key="b/1")
    assert first.subject_id != second.subject_id
    assert first.event_id != second.event_id
