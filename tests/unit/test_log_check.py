"""The check of a log finds and names what is wrong with it, and says nothing about a log that is whole."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import samples

from decisiongraph_service.domain import event_digest
from decisiongraph_service.domain.append_batch import BatchPlan, LogView
from decisiongraph_service.domain.events import Actor, Source
from decisiongraph_service.domain.log_check import Damage, LogCheck, LogRow

TENANT = "acme"


def log() -> list[LogRow]:
    """Two traces of three and two events, the first one finished."""
    submission = [
        samples.start("t", event_id="e1"),
        samples.checked(key="k2", event_id="e2", correlation_id="c", tags=("x",)),
        samples.start("u", event_id="e3"),
        samples.checked("TraceFinished", key="k4", event_id="e4"),
        samples.checked(key="k5", trace_id="u", event_id="e5"),
    ]
    plan = BatchPlan(TENANT, LogView(0, {}, {}, frozenset()), recorded_at_micros=1_000)
    plan.place(submission)
    return [
        LogRow(row.stored, row.occurred_at_micros, event_digest.digest(row.stored, row.occurred_at_micros))
        for row in plan.rows
    ]


def check(rows: list[LogRow], *, head: int | None = None) -> list[Damage]:
    one = LogCheck()
    found = [damage for row in rows for damage in one.check(row)]
    return found + one.check_head(len(rows) if head is None else head)


def changed(row: LogRow, **changes: Any) -> LogRow:
    return dataclasses.replace(row, stored=dataclasses.replace(row.stored, **changes))


def digested(row: LogRow, **changes: Any) -> LogRow:
    """Changed by somebody who also writes the digest that goes with it."""
    other = changed(row, **changes)
    return dataclasses.replace(other, digest=event_digest.digest(other.stored, other.occurred_at_micros))


def test_a_whole_log_has_no_damage() -> None:
    assert len(log()) == 5
    assert check(log()) == []


def test_an_empty_log_has_no_damage() -> None:
    assert check([]) == []


CHANGES: dict[str, Any] = {
    "tenant_id": "other",
    "log_seq": 20,
    "event_id": "f",
    "trace_id": "v",
    "trace_seq": 9,
    "event_type": "InputObserved",
    "occurred_at": "2026-01-01T00:00:01Z",
    "source": Source("q", "s"),
    "actor": Actor("agent", "b"),
    "idempotency_key": "other",
    "canonical_payload": '{"cited_trace_id":"c","reason":"other"}',
    "payload_hash": "sha256:" + "0" * 64,
    "correlation_id": None,
    "causation_event_id": "e1",
    "schema_version": 2,
    "tags": (),
    "recorded_at_micros": 999,
}


@pytest.mark.parametrize(("column", "value"), CHANGES.items(), ids=CHANGES)
def test_a_column_changed_alone_is_found_at_its_event(column: str, value: Any) -> None:
    rows = log()
    rows[1] = changed(rows[1], **{column: value})
    first = check(rows)[0]
    assert (first.log_seq, first.event_id) == (rows[1].stored.log_seq, rows[1].stored.event_id)


def test_a_changed_instant_is_found() -> None:
    rows = log()
    rows[1] = dataclasses.replace(rows[1], occurred_at_micros=0)
    assert [damage.what for damage in check(rows)] == [
        "a column differs from what was stored",
        "occurred_at and its instant differ",
    ]


def test_a_changed_digest_is_found() -> None:
    rows = log()
    rows[1] = dataclasses.replace(rows[1], digest=b"\0" * 32)
    assert check(rows) == [Damage(2, "e2", "a column differs from what was stored")]


def test_a_payload_and_hash_changed_together_are_found() -> None:
    rows = log()
    other = samples.checked(key="k2", payload={"cited_trace_id": "c", "reason": "other"})
    rows[1] = changed(rows[1], canonical_payload=other.canonical_payload, payload_hash=other.payload_hash)
    assert check(rows) == [Damage(2, "e2", "a column differs from what was stored")]


def test_an_occurred_at_that_is_no_time_is_found() -> None:
    rows = log()
    rows[1] = digested(rows[1], occurred_at="yesterday")
    assert check(rows) == [Damage(2, "e2", "occurred_at is no timestamp")]


@given(gone=st.integers(0, 3))
def test_a_missing_event_is_found_at_the_next_one(gone: int) -> None:
    rows = log()
    del rows[gone]
    first = check(rows, head=5)[0]
    assert (first.log_seq, first.event_id) == (gone + 2, f"e{gone + 2}")
    assert first.what == f"its log position is {gone + 2}, the next one is {gone + 1}"


def test_a_missing_end_is_found() -> None:
    assert check(log()[:4], head=5) == [Damage(4, "", "the log ends here and its head says 5")]


def test_a_head_that_was_set_back_is_found() -> None:
    assert check(log(), head=4) == [Damage(5, "", "the log ends here and its head says 4")]


def test_a_log_that_is_gone_is_found() -> None:
    assert check([], head=5) == [Damage(0, "", "the log ends here and its head says 5")]


def test_an_event_after_the_finish_is_found() -> None:
    rows = log()
    rows[4] = digested(rows[4], trace_id="t", trace_seq=3)
    assert check(rows) == [Damage(5, "e5", "its trace was finished before it")]


def test_a_second_start_is_found() -> None:
    rows = log()
    rows[1] = digested(rows[1], event_type="TraceStarted")
    assert check(rows) == [Damage(2, "e2", "a trace begins with its only TraceStarted, and this event breaks that")]


def test_a_trace_without_a_start_is_found() -> None:
    rows = log()
    rows[0] = digested(rows[0], event_type="PrecedentCited")
    assert check(rows) == [Damage(1, "e1", "a trace begins with its only TraceStarted, and this event breaks that")]


def test_a_trace_with_a_hole_is_found() -> None:
    rows = log()
    rows[1] = digested(rows[1], trace_seq=2)
    rows[3] = digested(rows[3], trace_seq=3)
    assert check(rows) == [Damage(2, "e2", "its trace_seq is 2, the trace's next one is 1")]
