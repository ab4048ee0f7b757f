"""Measures appends through one server and through two on the same database, side by side.

`python -m bench.two_servers` starts a Postgres and two servers of its own. The same callers send their events all to
the first server, and then half to each; once with a tenant for each caller and once with one tenant for all. Needs Go
for the load program. What it printed is in docs/operations/scaling.md.
"""

import argparse
import asyncio
import statistics
import uuid
from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console

from bench import load_program, machine, stack
from bench.load_program import Group
from bench.stack import Stack

_CALLERS: Final = 32
_WARMUP_SECONDS: Final = 1.0
_BATCH: Final = 100


class WrongCount(Exception):
    """The logs did not grow by what was acknowledged."""


async def _events_per_second(
    running: Stack, targets: Sequence[str], headers: Sequence[Mapping[str, str]], *, batch: int, seconds: float
) -> float:
    """All callers together; the log is counted against what was acknowledged.

    Raises:
        LoadFailed: a call was not answered with OK.
        WrongCount: not everything that was acknowledged is in the logs, or more than that.
    """
    await running.settle()
    head = await running.total_head()
    method = "AppendEvents" if batch > 1 else "AppendEvent"
    groups = [
        Group("unary", target, _CALLERS // len(targets), headers, method=method, events_per_call=batch)
        for target in targets
    ]
    result = await load_program.run(
        groups, run_id=uuid.uuid4().hex[:8], seconds=seconds, warmup_seconds=_WARMUP_SECONDS
    )
    grown = await running.total_head() - head
    if grown != result.acknowledged:
        raise WrongCount(f"{result.acknowledged} events were acknowledged and the logs grew by {grown}")
    return sum(group.events_per_second for group in result.groups)


async def _measure(repeats: int, seconds: float, console: Console) -> None:
    await load_program.build()
    async with stack.running(servers=2) as running:
        both = [running.service, *running.others]
        headers = {"a tenant each": await running.tenants(_CALLERS), "one tenant": await running.tenants(1)}
        console.print(f"load of the machine before: {machine.load_average()}")
        for batch in (1, _BATCH):
            for name, of_tenants in headers.items():
                one: list[float] = []
                two: list[float] = []
                # In turns, so that what disturbs the machine for a while disturbs both alike.
                for _ in range(repeats):
                    for targets, runs in ((both[:1], one), (both, two)):
                        runs.append(
                            await _events_per_second(running, targets, of_tenants, batch=batch, seconds=seconds)
                        )
                ratio = statistics.median(b / a for a, b in zip(one, two, strict=True))
                console.print(
                    f"{batch:>4} events a call, {name:<14} one server {_spread(one)}  two {_spread(two)}  "
                    f"ratio {ratio:.2f}"
                )
        console.print(f"load of the machine after: {machine.load_average()}")


def _spread(runs: Sequence[float]) -> str:
    return f"{statistics.median(runs):7,.0f} ({min(runs):,.0f} to {max(runs):,.0f})"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.two_servers", description="Measure appends through one server and through two."
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs of each case; medians are told (default: 3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured time of each run (default: 5)")
    arguments = parser.parse_args()
    asyncio.run(_measure(arguments.repeats, arguments.seconds, Console(highlight=False, markup=False, width=160)))


if __name__ == "__main__":
    main()
