"""The projection trace_summary: what each event does to the row of its trace."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from decisiongraph_service.domain import canonical, trace_summary, vocabulary
from decisiongraph_service.domain.events import Actor, Source, StoredEvent

GOLDEN = Path(__file__).parents[1] / "golden"
COLUMNS = {
    "trace_id", "workflow", "title", "primary_entity_type", "primary_entity_id", "primary_entity_system", "outcome",
    "started_at", "finished_at", "event_count", "last_log_seq",
}  # fmt: skip
STARTED: dict[str, Any] = {
    "workflow": "w",
    "title": "Größe 😀",
    "primary_entity": {"entity_type": "account", "entity_id": "42"},
}
FOR_LISTS = {"started_log_seq", "started_micros", "finished_micros"}
"""Columns of the service's own, outside the digest."""


def stored(event_type: str, payload: dict[str, Any], log_seq: int = 1, **changes: Any) -> StoredEvent:
    text = canonical.canonical_json(payload)
    fields: dict[str, Any] = {
        "tenant_id": "acme",
        "log_seq": log_seq,
        "event_id": f"ev-{log_seq}",
        "trace_id": "t-1",
        "trace_seq": log_seq - 1,
        "event_type": event_type,
        "occurred_at": f"2026-01-01T00:00:0{(log_seq - 1) % 10}Z",
        "source": Source("p", "s"),
        "actor": Actor("agent", "a"),
        "idempotency_key": f"k-{log_seq}",
        "canonical_payload": text,
        "payload_hash": canonical.payload_hash(text),
        "correlation_id": None,
        "causation_event_id": None,
        "schema_version": 1,
        "tags": (),
        "recorded_at_micros": 0,
    }
    return StoredEvent(**{**fields, **changes})


def digest(rows: dict[str, trace_summary.TraceSummaryRow]) -> str:
    columns: list[Any] = [dataclasses.asdict(rows[trace_id]) for trace_id in sorted(rows)]
    for row in columns:
        for column in ("primary_entity_system", *FOR_LISTS):
            del row[column]
    return canonical.sha256_text(json.dumps(columns, sort_keys=True, separators=(",", ":")))


def test_the_row_has_exactly_the_columns_of_the_contract() -> None:
    assert {field.name for field in dataclasses.fields(trace_summary.TraceSummaryRow)} == COLUMNS | FOR_LISTS


def test_trace_started_makes_the_row() -> None:
    assert trace_summary.apply(None, stored("TraceStarted", STARTED, 7)) == trace_summary.TraceSummaryRow(
        trace_id="t-1",
        workflow="w",
        title="Größe 😀",
        primary_entity_type="account",
        primary_entity_id="42",
        primary_entity_system=None,
        outcome=None,
        started_at="2026-01-01T00:00:06Z",
        finished_at=None,
        event_count=1,
        last_log_seq=7,
        started_log_seq=7,
        started_micros=1_767_225_606_000_000,
        finished_micros=None,
    )


@pytest.mark.parametrize("system", [None, "", "crm"])
def test_the_system_of_the_entity_is_kept_as_it_is(system: str | None) -> None:
    payload = {**STARTED, "primary_entity": {**STARTED["primary_entity"], "system": system}}
    row = trace_summary.apply(None, stored("TraceStarted", payload))
    assert row is not None
    assert row.primary_entity_system == system


def test_trace_finished_completes_the_row_and_counts_two() -> None:
    row = trace_summary.apply(None, stored("TraceStarted", STARTED))
    finished = trace_summary.apply(row, stored("TraceFinished", {"outcome": "abandoned"}, 9))
    assert row is not None
    assert finished == dataclasses.replace(
        row,
        outcome="abandoned",
        finished_at="2026-01-01T00:00:08Z",
        event_count=2,
        last_log_seq=9,
        finished_micros=1_767_225_608_000_000,
    )


@pytest.mark.parametrize(
    "event_type", [name for name in vocabulary.EVENT_TYPES if name not in ("TraceStarted", "TraceFinished")]
)
def test_all_other_events_leave_the_row_as_it_is(event_type: str) -> None:
    row = trace_summary.apply(None, stored("TraceStarted", STARTED))
    assert trace_summary.apply(row, stored(event_type, {}, 5)) is row
    assert trace_summary.apply(None, stored(event_type, {}, 5)) is None


def test_digest_of_the_small_log_of_the_contract() -> None:
    log = [
        stored("TraceStarted", STARTED, 1),
        stored("PolicyEvaluated", {"policy": {"policy_id": "cap"}, "inputs": [], "decision": "allow"}, 2),
        stored("TraceFinished", {"outcome": "success"}, 3),
    ]
    row: trace_summary.TraceSummaryRow | None = None
    for event in log:
        row = trace_summary.apply(row, event)
    assert row is not None
    assert digest({"t-1": row}) == "sha256:cc29ee85b4e7e1a8005bfa2e38610d7ddd7e030a0d40be8a9cc465ea004dc4ff"


@pytest.mark.parametrize("name", ["refunds", "loan"])
def test_golden_rows_and_digests_at_every_recorded_position(name: str) -> None:
    golden: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    digests = {int(position): digests for position, digests in golden["expected"]["digests_at"].items()}
    rows: dict[str, trace_summary.TraceSummaryRow] = {}
    for log_seq, sent in enumerate(golden["events"], start=1):
        trace_id, occurred_at = sent["trace_id"], sent["occurred_at"]
        event = stored(sent["event_type"], sent["payload"], log_seq, trace_id=trace_id, occurred_at=occurred_at)
        row = trace_summary.apply(rows.get(trace_id), event)
        if row is not None:
            rows[trace_id] = row
        if log_seq in digests:
            assert digest(rows) == digests[log_seq]["trace_summary"]
    columns = [dataclasses.asdict(rows[trace_id]) for trace_id in sorted(rows)]
    assert [{name: row[name] for name in COLUMNS} for row in columns] == golden["expected"]["trace_summaries"]
    assert digest(rows) == golden["expected"]["digests"]["trace_summary"]
