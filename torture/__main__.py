"""`python -m torture`: faults under load, and a table of what held and what did not."""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from torture import disk
from torture.checks import CHECKS, MOST_NAMED
from torture.faults import FAULTS, SHORT, SMALL_DISK, Fault
from torture.run import Outcome, torture
from torture.server import BUGS

_KNOWN: Final = {fault.name: fault for fault in FAULTS}


def _arguments() -> argparse.Namespace:
    listed = "\n".join(f"  {fault.name:22} {fault.what}" for fault in FAULTS)
    parser = argparse.ArgumentParser(
        prog="python -m torture",
        description="Torture Postgres, two servers and Envoy under load, and check what was promised.",
        epilog=f"faults:\n{listed}\n\nplanted bugs:\n  {', '.join(BUGS)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, help="repeat a run; by default one is chosen and printed")
    parser.add_argument("--only", metavar="FAULTS", help="some faults, with commas between; by default all")
    parser.add_argument("--short", action="store_true", help=f"only {', '.join(SHORT)}")
    parser.add_argument("--rounds", type=int, default=1, help="all of them so often (default: 1)")
    parser.add_argument(
        "--planted",
        choices=[*BUGS, "all"],
        help="plant a bug; the run passes if it is found, by default under the faults that show it",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was told and found")
    arguments = parser.parse_args()
    arguments.names = _names(arguments)
    if unknown := [name for name in arguments.names or () if name not in _KNOWN]:
        parser.error(f"there is no fault {', '.join(unknown)}")
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    if SMALL_DISK in (arguments.names or ()) and (why := disk.why_not_small()):
        parser.error(f"{SMALL_DISK}: {why}")
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1_000_000)
    return arguments


def _names(arguments: argparse.Namespace) -> Sequence[str] | None:
    """Of the faults that were asked for; None: nobody asked for some."""
    if arguments.short:
        return SHORT
    return arguments.only.split(",") if arguments.only else None


def _faults(arguments: argparse.Namespace, console: Console) -> list[Fault]:
    """All faults of a run without a bug."""
    names = arguments.names
    if names is None:
        names = list(_KNOWN)
        if why := disk.why_not_small():
            names.remove(SMALL_DISK)
            console.print(f"{SMALL_DISK} is left out: {why}")
    rounds: int = arguments.rounds
    return [_KNOWN[name] for name in names] * rounds


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
    faults = _faults(arguments, console)
    outcome = await torture(faults, seed=arguments.seed, note=console.print)
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
        _write(arguments.json, arguments.seed, faults, outcome)
    return outcome.passed


async def _planted(bugs: list[str], arguments: argparse.Namespace, console: Console) -> bool:
    """Whether every planted bug was found."""
    table = Table("planted bug", "found by", box=box.SIMPLE)
    missed = []
    for bug in bugs:
        console.print(f"planting {bug} ...")
        names = arguments.names or BUGS[bug].shown_by
        faults = [_KNOWN[name] for name in names] * arguments.rounds
        outcome = await torture(faults, seed=arguments.seed, note=console.print, planted=bug)
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
