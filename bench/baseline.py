"""Measures the finished service end to end: `make bench`.

`python -m bench.baseline` starts stacks of its own and measures, one part after another, ingestion beside its ceilings,
latency under an open load, what an event costs, what the stack holds in memory, what ten times the data does, and what
it costs to be observed. It writes JSON and prints tables. `--check` compares the ratios of the run with the accepted
ones (bench/accepted_ratios.json) and fails if one has become worse. Needs Go for the load program. What was seen is in
docs/benchmarks/API_BASELINE.md.
"""

import argparse
import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from bench import baseline_parts, load_program, machine
from bench.baseline_parts import PARTS, Part, Run
from bench.cases import WrongCount
from bench.query_calls import CallFailed
from bench.ratios import ACCEPTED, Ratios

_OUTPUT: Final = Path(__file__).parent.parent / ".run" / "bench" / "baseline.json"
_WIDTH: Final = 200
_QUIET_LOAD: Final = 0.5
"""Of the machine, before a run; above it figures are told to be doubtful."""


def _arguments() -> argparse.Namespace:
    names = "\n".join(f"  {part.name:14} {part.title}" for part in PARTS)
    parser = argparse.ArgumentParser(
        prog="python -m bench.baseline",
        description="Measure the finished service end to end.",
        epilog=f"parts:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs of each case; medians are told (default: 3)")
    parser.add_argument("--seconds", type=float, default=4.0, help="measured time of each run (default: 4)")
    parser.add_argument("--only", metavar="PARTS", help="some parts, with commas between")
    parser.add_argument("--check", action="store_true", help="compare the ratios with the accepted ones")
    parser.add_argument("--accept", action="store_true", help=f"make them the accepted ones ({ACCEPTED.name})")
    parser.add_argument(
        "--json", type=Path, default=_OUTPUT, metavar="FILE", help=f"where to write (default: {_OUTPUT})"
    )
    arguments = parser.parse_args()
    if arguments.repeats < 1 or arguments.seconds <= 0:
        parser.error("--repeats and --seconds must be greater than 0")
    if arguments.accept and arguments.only:
        parser.error("--accept needs all parts; leave --only out")
    try:
        arguments.parts = baseline_parts.chosen(arguments.only)
    except ValueError as error:
        parser.error(str(error))
    return arguments


async def _measure(arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Any], Ratios, list[str]]:
    def note(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    load = machine.load_average()
    if load[0] > _QUIET_LOAD:
        note(f"the machine is busy with other things (load {load[0]:.1f}): rates and latencies will tell little")
    note("building the load program ...")
    await load_program.build()
    run = Run(arguments.repeats, arguments.seconds, note)
    result: dict[str, Any] = {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "repeats": arguments.repeats,
        "seconds": arguments.seconds,
        "load_average_before": load,
    }
    ratios, told = Ratios(), []
    chosen: list[Part] = arguments.parts
    for number, part in enumerate(chosen, 1):
        note(f"part {number} of {len(chosen)}: {part.title}")
        found = await part.measure(run)
        result[part.name] = found.figures
        ratios.update({f"{part.name}: {name}": ratio for name, ratio in found.ratios.items()})
        told += [f"-- {part.title}", *found.lines, ""]
    result["machine"] = run.machine
    result["ratios"] = {name: ratio.value for name, ratio in ratios.items()}
    result["load_average_after"] = machine.load_average()
    return result, ratios, told


def _check(ratios: Ratios, parts: list[Part], console: Console) -> int:
    try:
        accepted = Ratios.read()
    except (OSError, ValueError) as error:
        console.print(f"error: there is nothing to compare with: {error}; see --accept", highlight=False, markup=False)
        return 1
    regressions = accepted.regressions(ratios, measured=[part.name for part in parts])
    for regression in regressions:
        console.print(f"worse: {regression.line()}", highlight=False, markup=False, soft_wrap=True)
    if not regressions:
        console.print("no ratio is worse than accepted", highlight=False, markup=False)
    return 1 if regressions else 0


def main() -> None:
    """Run the command line."""
    arguments = _arguments()
    console = Console(stderr=True)
    try:
        result, ratios, told = asyncio.run(_measure(arguments, console))
    except (load_program.LoadFailed, CallFailed, WrongCount, RuntimeError) as error:
        console.print(f"error: {error}", highlight=False, markup=False)
        sys.exit(1)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    tables = Console(width=_WIDTH)
    for line in told:
        tables.print(line, highlight=False, markup=False)
    tables.print("-- ratios")
    for name, ratio in ratios.items():
        tables.print(f"{ratio.value:10.3f}  {name} ({ratio.better} is better)", highlight=False, markup=False)
    console.print(f"written to {arguments.json}", highlight=False, markup=False)
    if arguments.accept:
        ratios.write()
        console.print(f"accepted: {ACCEPTED}", highlight=False, markup=False)
    if arguments.check:
        sys.exit(_check(ratios, arguments.parts, console))


if __name__ == "__main__":
    main()
