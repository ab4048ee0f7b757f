"""A light load: callers that each make one call after the other for a while, and how long the calls took."""

import asyncio
import math
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from decisiongraph.v1 import payload_pb2
from decisiongraph.v1.event_pb2 import Actor, Event, Source
from decisiongraph_client import AsyncClient, errors

MAX_SECONDS: Final = 300
MAX_CALLERS: Final = 64
WORKFLOW: Final = "bench"
_MAX_CALLS: Final = 1_000_000
"""Of one rpc; more are not made."""
_TRACE_EVENTS: Final = 10
_TRACES_TO_READ: Final = 20
_AFTER_FAILURE_SECONDS: Final = 0.1


@dataclass(slots=True)
class Measured:
    """The calls of one rpc."""

    seconds: "array[float]" = field(default_factory=lambda: array("d"))
    """Of each call that was answered."""
    failures: Counter[str] = field(default_factory=Counter)
    """Calls that may succeed later, by reason."""

    def as_dict(self, rpc: str, lasted: float) -> dict[str, Any]:
        """For a report; times in milliseconds."""
        ordered = sorted(self.seconds)
        shares = {"p50_ms": 50, "p90_ms": 90, "p99_ms": 99, "max_ms": 100}
        return {
            "rpc": rpc,
            "calls": len(ordered),
            "per_second": round(len(ordered) / lasted, 1) if lasted > 0 else 0.0,
            **{name: round(percentile(ordered, share) * 1000, 2) for name, share in shares.items()},
            "failures": dict(sorted(self.failures.items())),
        }


def percentile(ordered: Sequence[float], share: float) -> float:
    """The least of ascending values that `share` percent of them do not exceed; 0 if there are none."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)]


Call = Callable[[], Awaitable[object]]


async def run(calls: Callable[[int], Callable[[], tuple[str, Call]]], *, seconds: float, callers: int) -> "Load":
    """Let `callers` work for so many seconds.

    Args:
        calls: Given the number of a caller, what tells it its next call, with the name of its rpc.
        seconds: At most `MAX_SECONDS`.
        callers: At most `MAX_CALLERS`.

    Raises:
        ServiceError: the service refuses a call, so that all the others would be refused as well.
    """
    load = Load()
    ends = time.monotonic() + min(seconds, MAX_SECONDS)
    began = time.monotonic()
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(min(callers, MAX_CALLERS)):
                group.create_task(_work(calls(number), load, ends), name=f"caller-{number}")
    except* errors.ServiceError as refused:
        raise refused.exceptions[0] from None
    load.lasted = time.monotonic() - began
    return load


@dataclass(slots=True)
class Load:
    """What was measured."""

    by_rpc: dict[str, Measured] = field(default_factory=dict)
    lasted: float = 0.0
    """Seconds."""


async def _work(next_call: Callable[[], tuple[str, Call]], load: Load, ends: float) -> None:
    while (began := time.monotonic()) < ends:
        rpc, call = next_call()
        measured = load.by_rpc.setdefault(rpc, Measured())
        if len(measured.seconds) >= _MAX_CALLS:
            return
        try:
            await call()
        except errors.TryAgain as error:
            measured.failures[error.reason] += 1
            await asyncio.sleep(_AFTER_FAILURE_SECONDS)
        else:
            measured.seconds.append(time.monotonic() - began)


def appending(client: AsyncClient, run_id: str) -> Callable[[int], Callable[[], tuple[str, Call]]]:
    """Callers that append traces of ten events, an event a call."""

    def caller(number: int) -> Callable[[], tuple[str, Call]]:
        position = 0

        def next_call() -> tuple[str, Call]:
            nonlocal position
            event = event_of(run_id, f"{number}-{position // _TRACE_EVENTS}", position % _TRACE_EVENTS)
            position += 1
            return "AppendEvent", lambda: client.append(event)

        return next_call

    return caller


async def reading(client: AsyncClient, run_id: str) -> Callable[[int], Callable[[], tuple[str, Call]]]:
    """Callers that read, in turn, traces, a list, a graph and precedents; what they read is appended before."""
    traces = [f"read-{number}" for number in range(_TRACES_TO_READ)]
    for trace in traces:
        await client.append_all([event_of(run_id, trace, position) for position in range(_TRACE_EVENTS)])

    def caller(number: int) -> Callable[[], tuple[str, Call]]:
        turn = number

        def next_call() -> tuple[str, Call]:
            nonlocal turn
            turn += 1
            trace_id = trace_id_of(run_id, traces[turn % len(traces)])
            choices: tuple[tuple[str, Call], ...] = (
                ("GetTrace", lambda: client.get_trace(trace_id)),
                ("ListTraces", lambda: _first(client.list_traces(workflow=WORKFLOW, page_size=20))),
                ("GetContextGraph", lambda: client.get_context_graph("trace", trace_id, max_depth=2)),
                ("FindPrecedents", lambda: _first(client.find_precedents(like_trace_id=trace_id, page_size=20))),
            )
            return choices[turn % len(choices)]

        return next_call

    return caller


async def _first(pages: Any) -> object:
    async for page in pages.pages():
        return page
    return None


def trace_id_of(run_id: str, trace: str) -> str:
    """The id of a trace of a run."""
    return f"bench-{run_id}-{trace}"


def event_of(run_id: str, trace: str, position: int) -> Event:
    """The event at a position of a trace of ten events."""
    trace_id = trace_id_of(run_id, trace)
    event = Event(
        trace_id=trace_id,
        trace_seq=position,
        occurred_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        source=Source(producer_id="decisiongraph-bench", system="decisiongraph"),
        actor=Actor(actor_type="system", actor_id="decisiongraph-bench"),
        idempotency_key=f"{trace_id}/{position}",
        tags=["bench"],
    )
    if position == 0:
        event.trace_started.CopyFrom(
            payload_pb2.TraceStartedPayload(
                workflow=WORKFLOW,
                title=f"Bench {trace_id}",
                primary_entity=payload_pb2.EntityRef(entity_type="bench", entity_id=run_id),
            )
        )
    elif position == _TRACE_EVENTS - 1:
        event.trace_finished.CopyFrom(payload_pb2.TraceFinishedPayload(outcome="success"))
    else:
        event.policy_evaluated.CopyFrom(
            payload_pb2.PolicyEvaluatedPayload(
                policy=payload_pb2.PolicyRef(policy_id="bench-limit", policy_version=str(position)), decision="allow"
            )
        )
    return event
