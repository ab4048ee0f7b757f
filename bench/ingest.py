"""Measures ingestion beside the ceilings that it is judged by.

`python -m bench.ingest` starts a Postgres, the service, an empty server and Envoy of its own, sends events by every
way in, and prints medians and goals. Needs Go for the load program. See docs/benchmarks/INGEST.md.
"""

import argparse
import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import cases, events, load_program, machine, report, stack
from bench.cases import Bench

_WIDTH = 200
_OUTPUT = Path(__file__).parent.parent / ".run" / "bench" / "ingest.json"


def _arguments() -> argparse.Namespace:
    names = "\n".join(f"  {case.name:7} {case.title}" for case in cases.CASES)
    parser = argparse.ArgumentParser(
        prog="python -m bench.ingest",
        description="Measure ingestion beside the ceilings that it is judged by.",
        epilog=f"cases:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repeats", type=int, default=5, help="runs of each case; medians are told (default: 5)")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured time of each run (default: 5)")
    parser.add_argument("--only", metavar="CASES", help="some cases, with commas between; a letter: all of that letter")
    parser.add_argument("--memory", action="store_true", help="also watch the server's memory over 200,000 events")
    parser.add_argument(
        "--json", type=Path, default=_OUTPUT, metavar="FILE", help=f"where to write (default: {_OUTPUT})"
    )
    arguments = parser.parse_args()
    try:
        arguments.cases = cases.chosen(arguments.only)
    except ValueError as error:
        parser.error(str(error))
    if arguments.repeats < 1 or arguments.seconds <= 0:
        parser.error("--repeats and --seconds must be greater than 0")
    return arguments


async def _bench(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    def note(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    note("building the load program, starting Postgres, server and Envoy ...")
    await load_program.build()
    async with stack.running() as running:
        bench = Bench(running, arguments.seconds)
        result: dict[str, Any] = {
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
            "repeats": arguments.repeats,
            "seconds": arguments.seconds,
            "payload_bytes": events.payload_bytes(),
            "machine": await machine.describe(running),
            "load_average_before": machine.load_average(),
        }
        runs = await cases.repeated(bench, arguments.cases, arguments.repeats, note)
        result["cases"] = report.summary(runs)
        result["goals"] = report.judged(runs)
        result["runs"] = runs
        if arguments.memory:
            samples = await cases.memory(bench, note)
            result["server_memory_bytes_after_events"] = samples
            result["goals"].append(report.judged_memory(samples))
        head, stored = await running.total_head(), await running.count_events()
        if head != stored:
            raise cases.WrongCount(f"the positions add up to {head}, and the logs hold {stored} events")
        result["events_stored"] = stored
        result["load_average_after"] = machine.load_average()
    tables = Console(width=_WIDTH)
    tables.print(report.figures_table(runs))
    tables.print(report.goals_table(result["goals"]))
    return result


def main() -> None:
    """Run the command line."""
    arguments = _arguments()
    console = Console(stderr=True)
    try:
        result = asyncio.run(_bench(arguments, console))
    except (load_program.LoadFailed, cases.WrongCount) as error:
        console.print(f"error: {error}", highlight=False, markup=False)
        sys.exit(1)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    console.print(f"written to {arguments.json}", highlight=False, markup=False)


if __name__ == "__main__":
    main()
