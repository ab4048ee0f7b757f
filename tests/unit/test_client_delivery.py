"""The delivery from the outbox against a session that answers as told: nothing is lost, nothing stops it for good."""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from decisiongraph.v1.event_pb2 import Event
from decisiongraph.v1.ingestion_service_pb2 import AppendEventsRequest, AppendEventsResponse
from decisiongraph_client import errors
from decisiongraph_client._delivery import Delivery
from decisiongraph_client._outbox import Outbox
from decisiongraph_client._outbox_status import RefusedEvent
from decisiongraph_client._sync.session import Session

Answer = Callable[[list[str]], None]


class Service:
    """Takes batches, or does what it is told with them."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.tenants: list[str | None] = []
        self.calls: list[list[str]] = []
        self.answer: Answer = lambda _: None
        self.closed = threading.Event()

    def call(self, _method: object, request: AppendEventsRequest, *, tenant: str | None) -> AppendEventsResponse:
        ids = [event.event_id for event in request.events]
        self.calls.append(ids)
        self.answer(ids)
        self.log += [one for one in ids if one not in self.log]
        self.tenants.append(tenant)
        return AppendEventsResponse()

    def close(self) -> None:
        self.closed.set()

    def session(self) -> Session:
        return cast("Session", self)


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    opened = Outbox(tmp_path / "outbox.db", max_bytes=10**8)
    yield opened
    opened.close()


@contextlib.contextmanager
def delivering(outbox: Outbox, service: Service, **given: Any) -> Iterator[Delivery]:
    delivery = Delivery(outbox, given.pop("session", service.session), on_refused=given.pop("on_refused", None))
    try:
        yield delivery
    finally:
        delivery.stop(5)


def until(seen: Callable[[], bool]) -> None:
    """Return when a thread has made it so."""
    ends = time.monotonic() + 10
    while not seen():
        assert time.monotonic() < ends
        time.sleep(0.02)


def put(outbox: Outbox, *names: str, tenant: str | None = None) -> None:
    for name in names:
        outbox.put(Event(event_id=name), tenant)


def refusing(name: str, error: Callable[[int], errors.Refused]) -> Answer:
    """Refuses batches that hold this event, and says at which place."""

    def answer(ids: list[str]) -> None:
        if name in ids:
            raise error(ids.index(name))

    return answer


def schema_violation(index: int) -> errors.Refused:
    return errors.SchemaViolation("wrong", metadata={"index": str(index)})


def aside(outbox: Outbox) -> list[tuple[str, str]]:
    return [(one.event.event_id, one.reason) for one in outbox.refused()]


def test_events_are_delivered_in_their_order(outbox: Outbox, service: Service) -> None:
    put(outbox, *(str(n) for n in range(450)))
    with delivering(outbox, service) as delivery:
        assert delivery.flush(10)
        put(outbox, "later")
        assert delivery.flush(10)
    assert service.log == [*(str(n) for n in range(450)), "later"]
    assert [len(call) for call in service.calls] == [200, 200, 50, 1]
    assert outbox.status().waiting == outbox.status().size_bytes == 0


def test_a_batch_is_of_one_tenant(outbox: Outbox, service: Service) -> None:
    put(outbox, "1", "2", tenant="a")
    put(outbox, "3", tenant=None)
    put(outbox, "4", tenant="a")
    with delivering(outbox, service) as delivery:
        assert delivery.flush(10)
    assert service.calls == [["1", "2"], ["3"], ["4"]]
    assert service.tenants == ["a", None, "a"]


def test_an_event_leaves_the_outbox_after_it_is_in_the_log(outbox: Outbox, service: Service) -> None:
    held: list[int] = []
    service.answer = lambda _: held.append(outbox.status().waiting)
    put(outbox, "1", "2")
    with delivering(outbox, service) as delivery:
        assert delivery.flush(10)
    assert held == [2]


def test_a_refused_event_is_put_aside_and_the_rest_delivered(outbox: Outbox, service: Service) -> None:
    told: list[RefusedEvent] = []
    service.answer = refusing("2", schema_violation)
    put(outbox, "1", "2", "3", tenant="a")
    with delivering(outbox, service, on_refused=told.append) as delivery:
        assert delivery.flush(10)
        assert delivery.last_error is None
    assert service.log == ["1", "3"]
    assert aside(outbox) == [("2", "SCHEMA_VIOLATION")]
    assert told == outbox.refused()
    assert (told[0].tenant, told[0].message) == ("a", "wrong")


@pytest.mark.parametrize("metadata", [{}, {"index": "1000"}, {"index": "-1"}, {"index": "x"}])
def test_a_refused_event_is_found_if_its_place_is_not_told(
    outbox: Outbox, service: Service, metadata: dict[str, str]
) -> None:
    service.answer = refusing("77", lambda _: errors.InvalidArgument("too long", metadata=metadata))
    put(outbox, *(str(n) for n in range(100)))
    with delivering(outbox, service) as delivery:
        assert delivery.flush(10)
    assert service.log == [str(n) for n in range(100) if n != 77]
    assert aside(outbox) == [("77", "INVALID_ARGUMENT")]
    assert len(service.calls) < 20


def test_what_follows_a_refused_start_is_reported_event_by_event(outbox: Outbox, service: Service) -> None:
    def answer(ids: list[str]) -> None:
        for index, name in enumerate(ids):
            if name == "start":
                raise errors.PiiPolicyViolation("a secret", metadata={"index": str(index)})
            if name.startswith("step"):
                raise errors.EventSequenceInvalid("no start", metadata={"index": str(index)})

    told: list[str] = []
    service.answer = answer
    put(outbox, "other", "start", "step 1", "step 2", "another")
    with delivering(outbox, service, on_refused=lambda event: told.append(event.event.event_id)) as delivery:
        assert delivery.flush(10)
    assert service.log == ["other", "another"]
    assert told == ["start", "step 1", "step 2"]
    assert [reason for _, reason in aside(outbox)] == [
        "PII_POLICY_VIOLATION",
        "EVENT_SEQUENCE_INVALID",
        "EVENT_SEQUENCE_INVALID",
    ]


@pytest.mark.parametrize(
    "error",
    [
        errors.Unauthenticated("no token"),
        errors.Forbidden("no role"),
        errors.NotFound("tenant 'a' does not exist"),
        errors.Unimplemented("no rpc"),
        errors.FailedPrecondition("not now"),
        errors.InvalidArgument("which?", violations=[errors.Violation("x-tenant-id", "REQUIRED", "name it")]),
        errors.Internal("failed"),
        errors.Unreachable("down"),
        errors.RateLimited("too much", retry_after=0.1),
        errors.ConfigurationError("no library"),
        RuntimeError("a fault of ours"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_events_wait_until_what_is_wrong_with_the_caller_is_mended(
    outbox: Outbox, service: Service, error: Exception
) -> None:
    def answer(_: list[str]) -> None:
        raise error

    service.answer = answer
    put(outbox, "1", "2")
    with delivering(outbox, service) as delivery:
        assert not delivery.flush(0.5)
        until(lambda: delivery.last_error is not None)
        assert delivery.last_error is error
        assert outbox.status().waiting == 2
        service.answer = lambda _: None
        assert delivery.flush(10)
        until(lambda: delivery.last_error is None)
    assert service.log == ["1", "2"]
    assert aside(outbox) == []


def test_a_session_that_cannot_be_made_is_tried_again(outbox: Outbox, service: Service) -> None:
    problems = [errors.ConfigurationError("no file"), OSError("no disk")]

    def session() -> Session:
        if problems:
            raise problems.pop()
        return service.session()

    put(outbox, "1")
    with delivering(outbox, service, session=session) as delivery:
        assert delivery.flush(10)
    assert service.log == ["1"]


def test_an_outbox_that_cannot_be_written_is_tried_again(
    outbox: Outbox, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems: list[Exception] = [errors.OutboxError("disk full")]
    delivered = outbox.delivered

    def fails(numbers: list[int]) -> None:
        if problems:
            raise problems.pop()
        delivered(numbers)

    monkeypatch.setattr(outbox, "delivered", fails)
    put(outbox, "1", "2")
    with delivering(outbox, service) as delivery:
        assert delivery.flush(10)
    assert service.calls == [["1", "2"], ["1", "2"]]
    assert outbox.status().waiting == 0


def test_a_hook_that_fails_or_waits_for_the_delivery_does_not_end_it(outbox: Outbox, service: Service) -> None:
    waited: list[object] = []

    def hook(_: RefusedEvent) -> None:
        waited.append(delivery.flush(0.1))
        raise ZeroDivisionError

    service.answer = refusing("1", schema_violation)
    put(outbox, "1", "2")
    with delivering(outbox, service, on_refused=hook) as delivery:
        assert delivery.flush(10)
    assert waited == [False]
    assert service.log == ["2"]


def test_a_hook_may_end_the_delivery(outbox: Outbox, service: Service) -> None:
    service.answer = refusing("1", schema_violation)
    put(outbox, "1")
    ended = threading.Event()

    def hook(_: RefusedEvent) -> None:
        delivery.stop(10)
        ended.set()

    with delivering(outbox, service, on_refused=hook) as delivery:
        delivery.wake()
        assert ended.wait(5)


def test_pauses_grow_and_end_when_somebody_waits(outbox: Outbox, service: Service) -> None:
    up = threading.Event()

    times: list[float] = []

    def answer(_: list[str]) -> None:
        times.append(time.monotonic())
        if not up.is_set():
            raise errors.Unreachable("down")

    service.answer = answer
    put(outbox, "1")
    with delivering(outbox, service) as delivery:
        delivery.wake()
        for _ in range(200):
            if len(service.calls) >= 4:
                break
            time.sleep(0.05)
        # New events do not change how long it pauses.
        for n in range(20):
            put(outbox, f"more {n}")
            delivery.wake()
        pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert all(pause >= 0.05 * 2**failed for failed, pause in enumerate(pauses)), pauses
        delivery._turn.failures = 20
        time.sleep(2)
        tried = len(service.calls)
        up.set()
        begin = time.monotonic()
        assert delivery.flush(10)
        assert time.monotonic() - begin < 3
    assert len(service.calls) == tried + 1


def test_a_wait_that_the_service_asks_for_is_not_cut_short(outbox: Outbox, service: Service) -> None:
    times: list[float] = []

    def answer(_: list[str]) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            raise errors.RateLimited("too much", retry_after=1.0)

    service.answer = answer
    put(outbox, "1")
    with delivering(outbox, service) as delivery:
        assert delivery.flush(10)
    assert times[1] - times[0] >= 1.0


@pytest.mark.parametrize("timeout", [0.0, 0.2])
def test_a_call_that_hangs_is_cut_off_in_time(outbox: Outbox, service: Service, timeout: float) -> None:
    inside = threading.Event()

    def answer(_: list[str]) -> None:
        inside.set()
        service.closed.wait(30)
        raise errors.Unreachable("cut off", code=grpc.StatusCode.CANCELLED)

    service.answer = answer
    put(outbox, "1")
    delivery = Delivery(outbox, service.session, on_refused=None)
    delivery.wake()
    assert inside.wait(5)
    begin = time.monotonic()
    assert not delivery.flush(timeout)
    delivery.stop(0)
    assert time.monotonic() - begin < timeout + 1
    assert service.closed.is_set()
    assert outbox.status().waiting == 1


def test_one_delivers_and_the_other_follows_when_it_is_gone(outbox: Outbox, service: Service) -> None:
    other_outbox, other_service = Outbox(outbox.path, max_bytes=10**8), Service()
    with delivering(outbox, service) as first, delivering(other_outbox, other_service) as second:
        put(outbox, "1")
        assert first.flush(10)
        put(other_outbox, "2")
        second.wake()
        assert second.flush(10), "it is not seen when the other one delivers"
        assert (service.log, other_service.log) == (["1", "2"], [])
        first.stop(5)
        put(other_outbox, "3")
        assert second.flush(10)
        assert other_service.log == ["3"]
    other_outbox.close()


def test_nothing_runs_before_there_is_something_to_deliver(outbox: Outbox, service: Service) -> None:
    before = set(threading.enumerate())
    with delivering(outbox, service) as delivery:
        assert delivery.flush(1)
        assert set(threading.enumerate()) <= before
