"""Measures what row-level security costs readers.

`python -m bench.row_security` starts the stack of `bench.queries`, asks the same questions with the policies on and off
by turns, and prints both. See docs/benchmarks/QUERIES.md.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from rich.console import Console

from bench import query_cases, stack
from bench.queries import make_log
from bench.query_calls import CallFailed, GrpcCaller, timed
from bench.query_cases import Case
from bench.query_log import Shape
from bench.stack import Stack

_TABLES: Final = "SELECT polrelid::regclass::text AS name FROM pg_policy"
_WITHOUT_PLACES: Final = "edges-later"
"""Needs page tokens of a walk of its own."""


async def _switch(running: Stack, *, on: bool) -> None:
    for row in await running.connection.fetch(_TABLES):
        await running.connection.execute(
            f"ALTER TABLE {row['name']} {'ENABLE' if on else 'DISABLE'} ROW LEVEL SECURITY"
        )


def _asks(caller: GrpcCaller, case: Case) -> Callable[[int], Awaitable[object]]:
    async def ask(number: int) -> object:
        return caller.ask(case.rpc, case.request(number))

    return ask


async def _measure(
    running: Stack, headers: Mapping[str, str], shape: Shape, arguments: argparse.Namespace, console: Console
) -> None:
    cases = [case for case in query_cases.build(shape, []) if case.name != _WITHOUT_PLACES]
    found: dict[str, dict[bool, list[float]]] = {case.name: {True: [], False: []} for case in cases}
    with contextlib.closing(GrpcCaller(running.service, headers)) as caller:
        for repeat in range(arguments.repeats):
            for on in (True, False) if repeat % 2 else (False, True):
                await _switch(running, on=on)
                for case in cases:
                    first = repeat * (arguments.calls + 10) + 10
                    taken = await timed(
                        _asks(caller, case), first=first, warmup=10, calls=arguments.calls, most_seconds=20
                    )
                    found[case.name][on].append(statistics.median(taken))
            console.print(f"{repeat + 1}/{arguments.repeats}", highlight=False)
    await _switch(running, on=True)
    out = Console(width=120, highlight=False)
    ratios = []
    for name, of_case in found.items():
        with_it, without = (statistics.median(of_case[on]) for on in (True, False))
        ratios.append(with_it / without)
        out.print(f"{name:16} p50 with {with_it:6.2f} ms, without {without:6.2f} ms, ratio {ratios[-1]:.2f}")
    out.print(f"median ratio {statistics.median(ratios):.2f}, greatest {max(ratios):.2f}")


async def _bench(arguments: argparse.Namespace, console: Console) -> None:
    shape = Shape.of(arguments.events)
    async with stack.running() as running:
        tenant_id, headers = await running.tenant()
        await make_log(running, tenant_id, shape, lambda text: console.print(text, highlight=False))
        await _measure(running, headers, shape, arguments, console)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.row_security", description="Measure what row-level security costs readers."
    )
    parser.add_argument("--events", type=int, default=100_000, help="length of the log (default: 100000)")
    parser.add_argument("--calls", type=int, default=100, help="measured calls of a case (default: 100)")
    parser.add_argument("--repeats", type=int, default=5, help="turns of both (default: 5)")
    console = Console(stderr=True)
    try:
        asyncio.run(_bench(parser.parse_args(), console))
    except (CallFailed, RuntimeError, ValueError) as error:
        console.print(f"error: {error}", highlight=False, markup=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
