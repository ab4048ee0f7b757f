"""Committing events together is appending them one by one, wherever one batch ends and the next begins."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests import samples

from decisiongraph_service.domain import append_rules
from decisiongraph_service.domain.append_batch import BatchPlan, LogView, Placed, Refusal, TraceTail
from decisiongraph_service.domain.events import CheckedEvent, Source, StoredEvent

TENANT = "acme"
Outcome = list[tuple[str, str, int, int, bool]] | tuple[int, str]
"""What a caller learns: per event its id, trace, positions and whether it was reused; or the index and the reason."""


@dataclass
class Model:
    """Section 8 of the append semantics in the plainest words: a list, searched from the front for every question."""

    log: list[dict[str, Any]] = field(default_factory=list)

    def submit(self, submission: Sequence[dict[str, Any]]) -> Outcome:
        before = list(self.log)
        answers = []
        for index, sent in enumerate(submission):
            answer = self._append(sent)
            if isinstance(answer, str):
                self.log = before
                return index, answer
            answers.append(answer)
        return answers

    def _append(self, sent: dict[str, Any]) -> tuple[str, str, int, int, bool] | str:
        for old in self.log:
            if (old["producer"], old["key"]) == (sent["producer"], sent["key"]):
                same = all(old[name] == sent[name] for name in ("trace", "type", "tag"))
                return self._answer(old, reused=True) if same else "IDEMPOTENCY_CONFLICT"
        trace = [old for old in self.log if old["trace"] == sent["trace"]]
        if any(old["type"] == "TraceFinished" for old in trace):
            return "TRACE_FINISHED"
        if (sent["type"] == "TraceStarted") != (not trace) or sent["seq"] not in (None, len(trace)):
            return "EVENT_SEQUENCE_INVALID"
        event_id = sent["id"] or append_rules.derive_event_id(TENANT, sent["producer"], sent["key"])
        if any(old["id"] == event_id for old in self.log):
            return "EVENT_ID_CONFLICT"
        self.log.append({**sent, "id": event_id, "seq": len(trace), "log_seq": len(self.log) + 1})
        return self._answer(self.log[-1], reused=False)

    @staticmethod
    def _answer(old: dict[str, Any], *, reused: bool) -> tuple[str, str, int, int, bool]:
        return (old["id"], old["trace"], old["seq"], old["log_seq"], reused)


@dataclass
class Log:
    """The code under test, on a log in memory: shows a plan what the storage would fetch, keeps what it writes."""

    rows: list[StoredEvent] = field(default_factory=list)

    def commit(self, batch: Sequence[Sequence[CheckedEvent]]) -> list[Outcome]:
        plan = BatchPlan(
            TENANT, self._view([e for part in batch for e in part]), recorded_at_micros=len(self.rows) * 1_000
        )
        outcomes = [_outcome(plan.place(submission)) for submission in batch]
        self.rows += [row.stored for row in plan.rows]
        return outcomes

    def _view(self, candidates: Sequence[CheckedEvent]) -> LogView:
        """Only what concerns the candidates, as the query gives it."""
        keys = {(c.event.source.producer_id, c.event.idempotency_key) for c in candidates}
        traces = {c.event.trace_id for c in candidates}
        ids = {append_rules.event_id_of(c, TENANT) for c in candidates}
        return LogView(
            head=len(self.rows),
            stored_by_key={
                scope: old for old in self.rows if (scope := (old.source.producer_id, old.idempotency_key)) in keys
            },
            traces={
                old.trace_id: TraceTail(old.trace_seq + 1, finished=old.event_type == "TraceFinished")
                for old in self.rows
                if old.trace_id in traces
            },
            taken_event_ids=frozenset(old.event_id for old in self.rows if old.event_id in ids),
        )


def _outcome(result: list[Placed] | Refusal) -> Outcome:
    if isinstance(result, Refusal):
        return result.index, result.error.reason
    stored = [(placed.stored, placed.reused) for placed in result]
    return [(old.event_id, old.trace_id, old.trace_seq, old.log_seq, reused) for old, reused in stored]


def _checked(sent: dict[str, Any]) -> CheckedEvent:
    return samples.checked(
        sent["type"],
        key=sent["key"],
        trace_id=sent["trace"],
        trace_seq=sent["seq"],
        event_id=sent["id"],
        source=Source(sent["producer"], "s"),
        tags=(sent["tag"],),
    )


# Few values, so that keys, ids and positions meet; the middle of a trace is the most common.
SENT = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["TraceStarted", "PrecedentCited", "PrecedentCited", "PrecedentCited", "TraceFinished"]
        ),
        "trace": st.sampled_from(["t1", "t2", "t3"]),
        "producer": st.sampled_from(["p", "p", "q"]),
        "key": st.sampled_from([f"k{n}" for n in range(12)]),
        "seq": st.one_of(st.none(), st.none(), st.integers(0, 4)),
        "id": st.one_of(st.none(), st.none(), st.sampled_from(["e1", "e2", "e3"])),
        "tag": st.sampled_from(["a", "a", "a", "b"]),
    }
)


@settings(max_examples=80, stateful_step_count=25, deadline=None)
class Appends(RuleBasedStateMachine):
    """Submissions wait; batches of any length are committed; the model appends the same one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.log = Log()
        self.waiting: list[list[dict[str, Any]]] = []
        self.past: list[list[dict[str, Any]]] = []

    @rule(sent=SENT)
    def send_one(self, sent: dict[str, Any]) -> None:
        self.waiting.append([sent])

    @rule(sent=st.lists(SENT, min_size=2, max_size=6))
    def send_several_as_one(self, sent: list[dict[str, Any]]) -> None:
        self.waiting.append(sent)

    @rule(trace=st.sampled_from(["t1", "t2", "t3"]), length=st.integers(1, 5), finished=st.booleans(), data=st.data())
    def send_a_whole_trace(self, trace: str, length: int, finished: bool, data: st.DataObject) -> None:
        sent = [{**data.draw(SENT), "trace": trace, "type": "PrecedentCited", "seq": None} for _ in range(length)]
        sent[0]["type"] = "TraceStarted"
        if finished and length > 1:
            sent[-1]["type"] = "TraceFinished"
        self.waiting.append(sent)

    @precondition(lambda self: self.past)
    @rule(data=st.data(), seq=st.one_of(st.none(), st.integers(0, 9)))
    def send_again_with_another_position(self, data: st.DataObject, seq: int | None) -> None:
        self.waiting.append([{**sent, "seq": seq} for sent in data.draw(st.sampled_from(self.past))])

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        size = data.draw(st.integers(1, len(self.waiting)))
        batch, self.waiting = self.waiting[:size], self.waiting[size:]
        expected = [self.model.submit(submission) for submission in batch]
        assert self.log.commit([[_checked(sent) for sent in submission] for submission in batch]) == expected
        self.past += batch

    @invariant()
    def the_logs_are_the_same(self) -> None:
        assert [
            {"type": old.event_type, "trace": old.trace_id, "producer": old.source.producer_id, "tag": old.tags[0]}
            | {"key": old.idempotency_key, "seq": old.trace_seq, "id": old.event_id, "log_seq": old.log_seq}
            for old in self.log.rows
        ] == self.model.log


TestAppends = Appends.TestCase


def plan_over(*stored: Sequence[CheckedEvent]) -> tuple[Log, BatchPlan]:
    log = Log()
    log.commit(stored)
    everything = [event for submission in stored for event in submission]
    return log, BatchPlan(TENANT, log._view(everything), recorded_at_micros=1)


def test_a_retry_in_the_same_batch_gets_the_event_of_the_first_try() -> None:
    _, plan = plan_over()
    first, again = plan.place([samples.start("t")]), plan.place([samples.start("t")])
    assert isinstance(first, list)
    assert again == [Placed(first[0].stored, reused=True)]
    assert len(plan.rows) == 1


def test_the_same_key_twice_in_one_submission_is_stored_once() -> None:
    _, plan = plan_over()
    placed = plan.place([samples.start("t"), samples.start("t")])
    assert isinstance(placed, list)
    assert [p.reused for p in placed] == [False, True]
    assert len(plan.rows) == 1


@pytest.mark.parametrize(
    "broken",
    [
        samples.checked(key="k9", trace_seq=7),
        samples.checked(key="k9", event_id="taken"),
        samples.checked(key="t/start", tags=("other",)),
        samples.checked("TraceStarted", key="k9"),
    ],
    ids=["position", "event id", "key", "second start"],
)
def test_a_refused_submission_leaves_no_trace_of_its_earlier_events(broken: CheckedEvent) -> None:
    good = [samples.checked("TraceFinished", key="k2"), samples.start("u"), samples.checked(key="k3", trace_id="u")]
    _, plan = plan_over([samples.start("t", event_id="taken")])
    untouched = plan_over([samples.start("t", event_id="taken")])[1]

    refused = plan.place([samples.start("u"), samples.checked(key="k2", tags=("gone",)), broken])
    assert isinstance(refused, Refusal)
    assert refused.index == 2
    assert plan.rows == []
    assert plan.place(good) == untouched.place(good), "key, trace or id of the refused events was remembered"


def test_a_refused_submission_takes_back_a_finish() -> None:
    _, plan = plan_over([samples.start("t")])
    refused = plan.place([samples.checked("TraceFinished", key="f"), samples.checked(key="late")])
    assert isinstance(refused, Refusal)
    assert (refused.index, refused.error.reason) == (1, "TRACE_FINISHED")
    placed = plan.place([samples.checked(key="next")])
    assert isinstance(placed, list)
    assert (placed[0].stored.trace_seq, placed[0].stored.log_seq) == (1, 2)


def test_a_refused_submission_does_not_forget_what_neighbours_wrote_before_it() -> None:
    _, plan = plan_over([samples.start("t")])
    plan.place([samples.checked(key="k1", event_id="mine")])
    assert isinstance(plan.place([samples.checked(key="k2"), samples.checked(key="k3", event_id="mine")]), Refusal)
    again = plan.place([samples.checked(key="k1", event_id="mine")])
    assert isinstance(again, list)
    assert again[0].reused
    assert [row.stored.idempotency_key for row in plan.rows] == ["k1"]
