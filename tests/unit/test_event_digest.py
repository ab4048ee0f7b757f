"""The digest of a stored event covers every column."""

import dataclasses
from typing import Any

import pytest
from tests import samples

from decisiongraph_service.domain import event_digest
from decisiongraph_service.domain.events import Actor, Source, StoredEvent

STORED = samples.checked(
    key="k", correlation_id="c", causation_event_id="b", tags=("x", "y"), source=Source("p", "s", "u")
).stored(tenant_id="acme", log_seq=7, event_id="e", trace_seq=3, recorded_at_micros=1_000)

CHANGES: dict[str, Any] = {
    "tenant_id": "other",
    "log_seq": 8,
    "event_id": "f",
    "trace_id": "u",
    "trace_seq": 4,
    "event_type": "TraceFinished",
    "occurred_at": "2026-01-01T00:00:00.0Z",
    "source": Source("q", "s", "u"),
    "actor": Actor("person", "a"),
    "idempotency_key": "l",
    "payload_hash": "sha256:" + "0" * 64,
    "correlation_id": None,
    "causation_event_id": "",
    "schema_version": 2,
    "tags": ("y", "x"),
    "recorded_at_micros": 1_001,
}


@pytest.mark.parametrize(("column", "value"), CHANGES.items(), ids=CHANGES)
def test_a_changed_column_changes_the_digest(column: str, value: Any) -> None:
    changed = dataclasses.replace(STORED, **{column: value})
    assert event_digest.digest(changed, 5) != event_digest.digest(STORED, 5)


@pytest.mark.parametrize(
    "change",
    [
        {"source": Source("p", "t", "u")},
        {"source": Source("p", "s", "v")},
        {"source": Source("p", "s", None)},
        {"actor": Actor("agent", "b")},
        {"correlation_id": "d"},
        {"causation_event_id": None},
        {"tags": ("x,y",)},
        {"tags": ()},
    ],
    ids=str,
)
def test_parts_absence_and_borders_change_the_digest(change: dict[str, Any]) -> None:
    assert event_digest.digest(dataclasses.replace(STORED, **change), 5) != event_digest.digest(STORED, 5)


def test_another_instant_changes_the_digest() -> None:
    assert event_digest.digest(STORED, 6) != event_digest.digest(STORED, 5)


def test_texts_that_swap_columns_change_the_digest() -> None:
    one = dataclasses.replace(STORED, correlation_id="x", causation_event_id="y")
    other = dataclasses.replace(STORED, correlation_id="y", causation_event_id="x")
    assert event_digest.digest(one, 5) != event_digest.digest(other, 5)


def test_every_column_of_an_event_is_tried_here() -> None:
    columns = {column.name for column in dataclasses.fields(StoredEvent)}
    assert columns - {"canonical_payload"} == set(CHANGES), "the payload is covered through its hash"


def test_it_stays_what_logs_of_today_hold() -> None:
    assert event_digest.digest(STORED, 5).hex() == "baf1b7039c99387f93d3145ee805124d9d7b25d620acbd2c7ef3ffd1e6ca2fc2"
