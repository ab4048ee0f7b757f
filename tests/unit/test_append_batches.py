"""Many events in few requests: nothing is lost with a refused event, and nothing comes out of order."""

from collections.abc import Sequence

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisiongraph.v1.event_pb2 import Event, EventReceipt
from decisiongraph_client import errors
from decisiongraph_service.cli import append_batches
from decisiongraph_service.cli.append_batches import Appending
from decisiongraph_service.cli.append_lines import ReadEvent, Refusal


class _Service:
    """Takes all events of a request or none, as AppendEvents does."""

    def __init__(self, bad: set[int], *, most_events: int = 1000) -> None:
        self.log: list[str] = []
        self.requests: list[int] = []
        self._bad = bad
        self._most_events = most_events

    def append_all(self, events: Sequence[Event]) -> list[EventReceipt]:
        self.requests.append(len(events))
        if len(events) > self._most_events:
            raise errors.InvalidArgument("the request is too long", code=grpc.StatusCode.INVALID_ARGUMENT)
        for index, event in enumerate(events):
            if int(event.trace_id) in self._bad:
                message = f"events[{index}].payload.x: must be there"
                broken = errors.Violation(f"events[{index}].payload.x", "REQUIRED", "must be there")
                raise errors.SchemaViolation(message, metadata={"index": str(index)}, violations=[broken])
        receipts = []
        for event in events:
            reused = event.trace_id in self.log
            if not reused:
                self.log.append(event.trace_id)
            receipts.append(EventReceipt(log_seq=self.log.index(event.trace_id) + 1, reused=reused))
        return receipts


def _read(number: int, padding: int = 0) -> ReadEvent:
    event = Event(trace_id=str(number), tags=["x" * padding] if padding else [])
    return ReadEvent(number, event, {"trace_id": str(number)}, ())


def _append(service: _Service, numbers: Sequence[int], batch: int) -> tuple[Appending, list[Refusal]]:
    refused: list[Refusal] = []
    appending = Appending(service.append_all, refused.append, batch=batch)
    for number in numbers:
        appending.add(_read(number))
    appending.flush()
    return appending, refused


@given(st.integers(0, 25), st.sets(st.integers(0, 24)), st.integers(1, 10), st.integers(1, 12))
def test_exactly_the_bad_events_are_refused_whatever_the_requests(
    length: int, bad: set[int], batch: int, most_events: int
) -> None:
    service = _Service(bad, most_events=most_events)
    appending, refused = _append(service, range(length), batch)
    expected = [number for number in range(length) if number not in bad]
    assert service.log == [str(number) for number in expected]
    assert [refusal.line for refusal in refused] == [number for number in range(length) if number in bad]
    counts = appending.counts
    assert (counts.stored, counts.refused, counts.last_log_seq) == (len(expected), len(refused), len(expected))


class _End(Exception):
    pass


@given(st.integers(1, 25), st.sets(st.integers(0, 24), min_size=1), st.integers(1, 10))
def test_ending_at_a_refused_event_leaves_exactly_what_is_before_it(length: int, bad: set[int], batch: int) -> None:
    service = _Service(bad)

    def end(refusal: Refusal) -> None:
        raise _End

    appending = Appending(service.append_all, end, batch=batch)
    first = min(bad)
    if first < length:
        with pytest.raises(_End):
            _add_all(appending, length)
    else:
        _add_all(appending, length)
    assert service.log == [str(number) for number in range(min(first, length))]


def _add_all(appending: Appending, length: int) -> None:
    for number in range(length):
        appending.add(_read(number))
    appending.flush()


def test_a_refusal_speaks_of_the_line_and_not_of_the_request() -> None:
    _, (refusal,) = _append(_Service({3}), range(5), batch=100)
    assert refusal.as_dict() == {
        "line": 3,
        "reason": "SCHEMA_VIOLATION",
        "message": "payload.x: must be there",
        "violations": [{"field": "payload.x", "reason": "REQUIRED", "description": "must be there"}],
        "event": {"trace_id": "3"},
    }


def test_an_event_that_holds_a_secret_is_not_repeated() -> None:
    def refuse(events: Sequence[Event]) -> list[EventReceipt]:
        raise errors.PiiPolicyViolation("payload.x: looks like a secret", metadata={"index": "0"})

    refused: list[Refusal] = []
    appending = Appending(refuse, refused.append, batch=1)
    appending.add(_read(1))
    assert "event" not in refused[0].as_dict()


@pytest.mark.parametrize(
    "error",
    [
        errors.Unauthenticated("expired"),
        errors.Forbidden("no writer"),
        errors.Unreachable("gone"),
        errors.InvalidArgument("tenant", violations=[errors.Violation("x-tenant-id", "REQUIRED", "name it")]),
    ],
)
def test_what_is_wrong_with_the_call_is_not_blamed_on_events(error: errors.ServiceError) -> None:
    def refuse(events: Sequence[Event]) -> list[EventReceipt]:
        raise error

    refused: list[Refusal] = []
    appending = Appending(refuse, refused.append, batch=2)
    appending.add(_read(1))
    with pytest.raises(type(error)):
        appending.add(_read(2))
    assert refused == []


def test_requests_are_full_and_never_too_long() -> None:
    service = _Service(set())
    _append(service, range(25), batch=10)
    assert service.requests == [10, 10, 5]
    service = _Service(set())
    appending = Appending(service.append_all, lambda refusal: None, batch=100)
    for number in range(5):
        appending.add(_read(number, padding=append_batches.MAX_REQUEST_BYTES // 2 - 1000))
    appending.flush()
    assert service.requests == [2, 2, 1]


def test_a_line_that_holds_no_event_comes_in_its_turn() -> None:
    service = _Service(set())
    told: list[tuple[int, int]] = []
    appending = Appending(service.append_all, lambda refusal: told.append((refusal.line, len(service.log))), batch=100)
    appending.add(_read(1))
    appending.refuse(Refusal(2, "INVALID_ARGUMENT", "no JSON"))
    assert told == [(2, 1)]
