"""On what it is measured: the machine, the versions, and how long its disk takes to keep a write."""

import asyncio
import os
import platform
import re
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil

from bench.stack import Stack
from decisiongraph_service.runtime import envoy, postgres_placement

_PACKAGES: Final = ("grpcio", "protobuf", "asyncpg", "uvloop", "orjson", "protovalidate")


async def describe(stack: Stack) -> dict[str, Any]:
    """Everything that a reader needs to compare figures."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "postgres": await stack.connection.fetchval("SHOW server_version"),
        "envoy": await _envoy_version(),
        "go": (await _output("go", "version")).removeprefix("go version ").strip(),
        "sync_microseconds": await _sync_microseconds(),
    }


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.processor()


async def _envoy_version() -> str:
    binary = envoy.command(Path("unused"))[0]
    found = re.search(r"version: \w+/([\w.-]+)/", await _output(binary, "--version"))
    return found[1] if found else "unknown"


async def _sync_microseconds() -> dict[str, float]:
    """What one 8 KiB write and its sync take in the folder where the database is, by pg_test_fsync."""
    binary = postgres_placement.Install.find().binary("pg_test_fsync")
    with tempfile.TemporaryDirectory(prefix="decisiongraph-bench-") as folder:
        output = await _output(binary, "-s", "1", "-f", str(Path(folder, "probe")))
    first = output.split("using two")[0]
    return {
        name: float(microseconds)
        for name, microseconds in re.findall(r"^\s*(\w+)\s+[\d.]+ ops/sec\s+([\d.]+) usecs/op", first, re.MULTILINE)
    }


async def _output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    output, _ = await process.communicate()
    return output.decode(errors="replace")


def load_average() -> Sequence[float]:
    """How many processes wanted to run lately: 1, 5 and 15 minutes."""
    return [round(number, 2) for number in os.getloadavg()]
