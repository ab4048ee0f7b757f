"""Measures how much memory the whole stack holds, at rest and under load.

`python -m bench.resting` starts `decisiongraph run` (Postgres, one server, Envoy) in a temporary folder, looks at its
processes when nobody calls, appends from 64 callers for a while, and looks again. Memory is the proportional set size:
what processes share is counted once. Needs Go for the load program. What it printed is in
docs/benchmarks/API_BASELINE.md.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
from rich.console import Console

from bench import load_program
from bench.load_program import Group

_START_SECONDS: Final = 90
_REST_SECONDS: Final = 10
_LOOK_SECONDS: Final = 0.5
_CALLERS: Final = 64
_MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB by part of the stack."""

    at_rest: Mapping[str, float]
    under_load: Mapping[str, float]
    """When it was the most in all."""
    afterwards: Mapping[str, float]
    """At rest again."""
    events: int
    """How many were appended between."""

    def lines(self) -> list[str]:
        """What was found, for reading."""
        return [
            f"{when:<12} {sum(parts.values()):>6.0f} MiB: "
            + ", ".join(f"{name} {held:.0f}" for name, held in parts.items())
            for when, parts in (
                ("at rest", self.at_rest),
                ("under load", self.under_load),
                (f"after {self.events:,}", self.afterwards),
            )
        ]


async def measure(*, seconds: float, note: Callable[[str], None]) -> Memory:
    """Start the stack, load it for so long, and stop it.

    Raises:
        LoadFailed: it does not start, or a call was not answered with OK.
    """
    async with _run() as (pid, service):
        note(f"memory: the stack runs; waiting {_REST_SECONDS} s ...")
        await asyncio.sleep(_REST_SECONDS)
        at_rest = _held(pid)
        headers = {"authorization": f"Bearer {service['tokens']['writer']}"}
        group = Group("unary", service["grpc"], _CALLERS, [headers])
        note(f"memory: appending from {_CALLERS} callers for {seconds:.0f} s ...")
        load = asyncio.create_task(
            load_program.run([group], run_id=uuid.uuid4().hex[:8], seconds=seconds, warmup_seconds=0)
        )
        most = at_rest
        while not load.done():
            await asyncio.sleep(_LOOK_SECONDS)
            now = _held(pid)
            most = max(most, now, key=lambda parts: sum(parts.values()))
        await asyncio.sleep(_REST_SECONDS)
        return Memory(at_rest, most, _held(pid), (await load).acknowledged)


@contextlib.asynccontextmanager
async def _run() -> AsyncIterator[tuple[int, dict[str, Any]]]:
    """`decisiongraph run` and what it says of itself in its folder."""
    data = Path(tempfile.mkdtemp(prefix="decisiongraph-bench-"))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DG_")},
        "DG_DATA_DIR": str(data),
        "DG_REST_PORT": "0",
        "DG_GRPC_PORT": "0",
        "DG_LIMIT_WRITE": "off",
        "DG_LIMIT_EVENTS": "off",
        "DG_LIMIT_BYTES": "off",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "decisiongraph_service.cli.main", "run"),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        told = data / "service.json"
        try:
            async with asyncio.timeout(_START_SECONDS):
                while not told.exists():
                    if process.returncode is not None:
                        raise load_program.LoadFailed("`decisiongraph run` ended while it started")
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise load_program.LoadFailed(f"`decisiongraph run` does not start within {_START_SECONDS} s") from None
        yield process.pid, json.loads(told.read_text())
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.wait()
        shutil.rmtree(data, ignore_errors=True)


def _held(pid: int) -> dict[str, float]:
    """MiB that each part holds now."""
    held: Counter[str] = Counter()
    supervisor = psutil.Process(pid)
    for process in (supervisor, *supervisor.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            held[_part(process, supervisor)] += process.memory_full_info().pss
    return {name: count / _MIB for name, count in sorted(held.items())}


def _part(process: psutil.Process, supervisor: psutil.Process) -> str:
    words = " ".join(process.cmdline()).lower()
    if process == supervisor:
        return "supervisor"
    return next((part for part in ("postgres", "envoy", "serve") if part in words), process.name())


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.resting", description="Measure how much memory the whole stack holds."
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="how long it is under load (default: 20)")
    arguments = parser.parse_args()
    console = Console(highlight=False, markup=False, width=160)

    async def run() -> Memory:
        await load_program.build()
        return await measure(seconds=arguments.seconds, note=console.print)

    for line in asyncio.run(run()).lines():
        console.print(line)


if __name__ == "__main__":
    main()
