"""What ten times the data does to the service: appends and reads on a log, and on one that is ten times as long."""

import contextlib
from collections.abc import Callable
from typing import Final

from bench import queries, query_cases
from bench.cases import BATCH, Bench, Measurement
from bench.load_program import Group
from bench.query_calls import GrpcCaller, figures, timed
from bench.query_cases import Case
from bench.query_log import Shape

TIMES: Final = 10
EVENTS: Final = 10_000
"""Length of the shorter log."""
_READS: Final = ("trace10", "event", "events", "traces", "graph2", "prec-policy", "prec-query", "health")
_CALLS: Final = 100
_WARMUP: Final = 20
_MOST_SECONDS: Final = 20.0


async def measure(
    bench: Bench, *, repeats: int, note: Callable[[str], None]
) -> dict[int, dict[str, list[Measurement]]]:
    """By length of the log and by what was called, the figures of each repeat.

    Raises:
        LoadFailed: a call was not answered with OK.
        CallFailed: the same, of a read.
        WrongCount: not everything that was acknowledged is in the log, or more than that.
    """
    found: dict[int, dict[str, list[Measurement]]] = {}
    for events in (EVENTS, TIMES * EVENTS):
        tenant_id, headers = await bench.stack.tenant()
        shape = Shape.of(events)
        await queries.make_log(bench.stack, tenant_id, shape, note)
        runs = found.setdefault(events, {})
        with contextlib.closing(GrpcCaller(bench.stack.service, headers)) as caller:
            for repeat in range(repeats):
                for case in query_cases.build(shape, []):
                    if case.name in _READS:
                        runs.setdefault(case.title, []).append(await _read(caller, case, repeat))
        for _ in range(repeats):
            for title, callers, batch in (("AppendEvent", 16, 1), (f"AppendEvents of {BATCH}", 4, BATCH)):
                method = "AppendEvents" if batch > 1 else "AppendEvent"
                group = Group("unary", bench.stack.service, callers, [headers], method, batch)
                runs.setdefault(title, []).append(await bench.load(group))
        note(f"growth: measured at {events:,} events")
    return found


async def _read(caller: GrpcCaller, case: Case, repeat: int) -> Measurement:
    async def call(number: int) -> object:
        return caller.ask(case.rpc, case.request(number))

    first = repeat * (_CALLS + _WARMUP) + _WARMUP
    taken = await timed(call, first=first, warmup=_WARMUP, calls=_CALLS, most_seconds=_MOST_SECONDS)
    return {name.removeprefix("grpc_"): value for name, value in figures("grpc", taken).items()}
