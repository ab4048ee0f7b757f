"""A load: its callers work for as long as they are told, and its numbers are what was measured."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisiongraph_client import errors
from decisiongraph_service.cli import load
from decisiongraph_service.cli.load import Call, Measured


@given(st.lists(st.integers(0, 100), min_size=1, max_size=50), st.integers(1, 100))
def test_a_percentile_is_the_least_value_that_enough_values_do_not_exceed(values: list[int], share: int) -> None:
    ordered = sorted(values)
    found = load.percentile([float(value) for value in ordered], share)
    assert found in ordered
    assert sum(value <= found for value in values) >= len(values) * share / 100
    assert sum(value < found for value in values) < len(values) * share / 100


def test_without_values_a_percentile_is_nothing() -> None:
    assert load.percentile([], 99) == 0.0


def test_a_report_counts_in_milliseconds() -> None:
    measured = Measured(failures=Counter({"RATE_LIMITED": 2}))
    measured.seconds.extend([0.004, 0.001, 0.002, 0.003])
    assert measured.as_dict("GetTrace", 2.0) == {
        "rpc": "GetTrace",
        "calls": 4,
        "per_second": 2.0,
        "p50_ms": 2.0,
        "p90_ms": 4.0,
        "p99_ms": 4.0,
        "max_ms": 4.0,
        "failures": {"RATE_LIMITED": 2},
    }


def _calls(answer: Callable[[], None]) -> Callable[[int], Callable[[], tuple[str, Call]]]:
    async def call() -> None:
        await asyncio.sleep(0.001)
        answer()

    return lambda number: lambda: (f"rpc-{number}", call)


async def test_every_caller_works_and_all_end() -> None:
    measured = await load.run(_calls(lambda: None), seconds=0.5, callers=3)
    assert sorted(measured.by_rpc) == ["rpc-0", "rpc-1", "rpc-2"]
    assert all(one.seconds for one in measured.by_rpc.values())


async def test_no_more_callers_work_than_are_allowed() -> None:
    measured = await load.run(_calls(lambda: None), seconds=1, callers=1000)
    assert len(measured.by_rpc) == load.MAX_CALLERS


async def test_what_may_succeed_later_is_counted_and_what_never_will_ends_the_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load, "_AFTER_FAILURE_SECONDS", 1.0)

    def refuse(error: errors.ServiceError) -> Callable[[], None]:
        def answer() -> None:
            raise error

        return answer

    measured = await load.run(_calls(refuse(errors.RateLimited("too much"))), seconds=0.5, callers=1)
    assert (list(measured.by_rpc["rpc-0"].seconds), measured.by_rpc["rpc-0"].failures) == ([], {"RATE_LIMITED": 1})
    with pytest.raises(errors.Forbidden):
        await load.run(_calls(refuse(errors.Forbidden("no writer"))), seconds=60, callers=2)


def test_the_events_of_a_run_are_its_own_and_make_whole_traces() -> None:
    events = [load.event_of("r1", "t", position) for position in range(10)]
    assert {event.trace_id for event in events} == {"bench-r1-t"}
    assert [event.WhichOneof("content") for event in events] == [
        "trace_started",
        *["policy_evaluated"] * 8,
        "trace_finished",
    ]
    assert not {event.idempotency_key for event in events} & {load.event_of("r2", "t", 0).idempotency_key}
