"""`python -m torture`: faults under load, and a table of what held and what did not."""

import argparse
import asyncio
import json
import random
import sys
import time
from dataclasses import astuple
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from torture.checks import CHECKS, MOST_NAMED
from torture.faults import FAULTS, SHORT, Fault
from torture.run import Outcome, torture
from torture.server import BUGS


def _arguments() -> argparse.Namespace:
    listed = "\n".join(f"  {fault.name:22} {fault.what}" for fault in FAULTS)
    parser = argparse.ArgumentParser(
        prog="python -m torture",
        description="Torture Postgres, two servers and Envoy under load, and check what was promised.",
        epilog=f"faults:\n{listed}\n\nplanted bugs:\n  {', '.join(BUGS)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, help="repeat a run; by default one is chosen and printed")
    parser.add_argument("--only", metavar="FAULTS", help="some faults, with commas between")
    parser.add_argument("--short", action="store_true", help=f"only {', '.join(SHORT)}")
    parser.add_argument("--rounds", type=int, default=1, help="all of them so often (default: 1)")
    parser.add_argument("--planted", choices=[*BUGS, "all"], help="plant a bug; the run passes if it is found")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was told and found")
    arguments = parser.parse_args()
    names = SHORT if arguments.short else arguments.only.split(",") if arguments.only else [one.name for one in FAULTS]
    known = {fault.name: fault for fault in FAULTS}
    if unknown := [name for name in names if name not in known]:
        parser.error(f"there is no fault {', '.join(unknown)}")
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    arguments.faults = [known[name] for name in names] * arguments.rounds
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1_000_000)
    return arguments


def _table(outcome: Outcome) -> Table:
    table = Table(box=box.SIMPLE, show_header=True)
    for column in ("check", "verdict", "first findings"):
        table.add_column(column, overflow="fold")
    about = {check.__name__: check.__doc__ or "" for check in CHECKS}
    for name, found in outcome.verdicts.items():
        text = "\n".join(
            [*found[:MOST_NAMED], *([f"… and {len(found) - MOST_NAMED} more"] if len(found) > MOST_NAMED else [])]
        )
        table.add_row(about[name].rstrip("."), "holds" if not found else "BROKEN", text)
    return table


def _write(path: Path, seed: int, faults: list[Fault], outcome: Outcome) -> None:
    history = outcome.history
    told = {
        "seed": seed,
        "faults": [one.name for one in faults],
        "verdicts": outcome.verdicts,
        "errors": history.errors,
        "recoveries": history.recoveries,
        "acknowledged": [[*scope, *astuple(place)] for scope, place in history.acknowledged.items()],
        "unanswered": history.unanswered,
        "watched": history.watched,
    }
    path.write_text(json.dumps(told, indent=1))


async def _healthy(arguments: argparse.Namespace, console: Console) -> bool:
    began = time.monotonic()
    outcome = await torture(arguments.faults, seed=arguments.seed, note=console.print)
    history = outcome.history
    console.print(_table(outcome))
    console.print(
        f"{len(history.acknowledged)} events acknowledged, {history.reads} reads, "
        f"{sum(map(len, history.watched.values()))} watched, errors: {dict(history.errors)}"
    )
    console.print(
        f"seed {arguments.seed}, {time.monotonic() - began:.0f} s: " + ("passed" if outcome.passed else "FAILED")
    )
    if arguments.json:
        _write(arguments.json, arguments.seed, arguments.faults, outcome)
    return outcome.passed


async def _planted(bugs: list[str], arguments: argparse.Namespace, console: Console) -> bool:
    """Whether every planted bug was found."""
    table = Table("planted bug", "found by", box=box.SIMPLE)
    missed = []
    for bug in bugs:
        console.print(f"planting {bug} ...")
        outcome = await torture(arguments.faults, seed=arguments.seed, note=console.print, planted=bug)
        found = [name for name, findings in outcome.verdicts.items() if findings]
        table.add_row(bug, ", ".join(found) or "NOTHING")
        missed += [] if found else [bug]
    console.print(table)
    console.print(f"seed {arguments.seed}: " + (f"not found: {', '.join(missed)}" if missed else "all were found"))
    return not missed


def main() -> None:
    """Run the command line."""
    arguments = _arguments()
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"seed {arguments.seed}")
    if arguments.planted is None:
        passed = asyncio.run(_healthy(arguments, console))
    else:
        bugs = list(BUGS) if arguments.planted == "all" else [arguments.planted]
        passed = asyncio.run(_planted(bugs, arguments, console))
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
