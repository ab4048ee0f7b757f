"""Measures what it costs an append that a server is observed: metrics, spans of some calls, spans of all.

`python -m bench.observability` starts a Postgres and a server for each way of being observed, and appends through one
after another, again and again. A further server projects. Spans go to a program of its own that takes and drops them.
Needs Go for the load program. What it printed is in docs/benchmarks/API_BASELINE.md.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from rich.console import Console

from bench import load_program, machine, stack
from bench.cases import BATCH, Bench, Measurement
from bench.load_program import Group
from bench.stack import Stack
from decisiongraph_service.runtime import children, ports

UNOBSERVED: Final = "nothing"
CONTROL: Final = "nothing, once more"
"""What differs between it and the other is no cost, but how much the figures scatter."""
_LOADS: Final = {"AppendEvent, 64 callers": (64, 1), f"AppendEvents of {BATCH}, 4 callers": (4, BATCH)}

Observed: TypeAlias = dict[str, dict[str, list[Measurement]]]
"""By load and by way of being observed, the figures of each repeat."""


def _ways(collector: str) -> dict[str, dict[str, str]]:
    metrics = {"DG_METRICS_PORT": "0"}
    spans = {**metrics, "DG_OTLP_ENDPOINT": collector}
    return {
        UNOBSERVED: {},
        "metrics": metrics,
        "metrics, spans of a tenth": spans,
        "metrics, spans of all": {**spans, "DG_OTLP_SAMPLE_RATIO": "1"},
        CONTROL: {},
    }


async def measure(running: Stack, *, repeats: int, seconds: float, note: Callable[[str], None]) -> Observed:
    """Every load on a server that is observed in every way.

    Raises:
        LoadFailed: a call was not answered with OK.
        WrongCount: not everything that was acknowledged is in the logs, or more than that.
    """
    found: Observed = {load: {} for load in _LOADS}
    headers = await running.tenants(1)
    async with contextlib.AsyncExitStack() as opened:
        collector = await opened.enter_async_context(_collector())
        servers = [
            (
                way,
                await opened.enter_async_context(
                    stack.with_other_server(running, DG_PROJECTOR_ENABLED="false", **variables)
                ),
            )
            for way, variables in _ways(collector).items()
        ]
        for repeat in range(repeats):
            for load, (callers, batch) in _LOADS.items():
                # In turns: who comes first finds the log shorter.
                turn = repeat % len(servers)
                for way, observed in servers[turn:] + servers[:turn]:
                    method = "AppendEvents" if batch > 1 else "AppendEvent"
                    group = Group("unary", observed.service, callers, headers, method, batch)
                    figures = await Bench(observed, seconds).load(group)
                    found[load].setdefault(way, []).append(figures)
                told = ", ".join(f"{way} {runs[-1]['events_per_second']:,.0f}" for way, runs in found[load].items())
                note(f"{repeat + 1}/{repeats} {load}, events/s: {told}")
    return found


def shares(of_load: Mapping[str, Sequence[Measurement]]) -> dict[str, tuple[float, float]]:
    """By way, what is left of the rate and how much more processor time an event takes, as shares of the unobserved.

    Medians of the repeats' ratios.
    """
    plain = of_load[UNOBSERVED]

    def ratio(runs: Sequence[Measurement], figure: str) -> float:
        return statistics.median(run[figure] / base[figure] for run, base in zip(runs, plain, strict=True))

    return {
        way: (ratio(runs, "events_per_second"), ratio(runs, "server_us_per_event")) for way, runs in of_load.items()
    }


def lines(observed: Observed) -> list[str]:
    """What was found, for reading."""
    told = []
    for load, of_load in observed.items():
        for way, (rate, processor) in shares(of_load).items():
            runs = of_load[way]
            told.append(
                f"{load:<32} {way:<28} {statistics.median(run['events_per_second'] for run in runs):>8,.0f} events/s "
                f"{statistics.median(run['server_us_per_event'] for run in runs):>8,.0f} us/event   "
                f"rate {rate:.3f}   processor {processor:.3f}"
            )
    return told


@contextlib.asynccontextmanager
async def _collector() -> AsyncIterator[str]:
    """The address of a program that takes spans and drops them."""
    folder = Path(tempfile.mkdtemp(prefix="decisiongraph-bench-"))
    started = children.Children(folder / "logs", folder / "children.json")
    port = ports.free_port()
    try:
        await started.start(children.ChildSpec("collector", (sys.executable, "-m", "bench.span_collector", str(port))))
        yield f"http://127.0.0.1:{port}"
    finally:
        await started.stop()


async def _bench(repeats: int, seconds: float, console: Console) -> None:
    await load_program.build()
    async with stack.running() as running:
        console.print(f"load of the machine before: {machine.load_average()}")
        for line in lines(await measure(running, repeats=repeats, seconds=seconds, note=console.print)):
            console.print(line)
        console.print(f"load of the machine after: {machine.load_average()}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.observability", description="Measure what it costs an append that a server is observed."
    )
    parser.add_argument("--repeats", type=int, default=15, help="runs of each case; medians are told (default: 15)")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured time of each run (default: 2)")
    arguments = parser.parse_args()
    asyncio.run(_bench(arguments.repeats, arguments.seconds, Console(highlight=False, markup=False, width=160)))


if __name__ == "__main__":
    main()
