"""The programs of examples/, started as their readers start them, from a copy of the folder."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import event_log
from decisiongraph_service.storage.database import Database
from tests.calling import Service
from tests.logs import stored_keys

NAMES: Final = ("rest_curl", "rest_httpx", "grpc_python", "typescript")
NUMBER: Final = "47/ü 11+%"
"""The number of the refund: ids may be any text, and a program that builds paths by hand shows it."""
DECISION: Final = (
    ("start", "TraceStarted", "refund-bot"),
    ("policy", "PolicyEvaluated", "refund-bot"),
    ("exception", "ExceptionRequested", "refund-bot"),
    ("approval", "ApprovalRecorded", "m.huber"),
    ("proposal", "ActionProposed", "refund-bot"),
    ("payment", "ActionCommitted", "refund-bot"),
    ("end", "TraceFinished", "refund-bot"),
)
"""Key, type and actor of the events that every example records."""

_SMALL_DECISION: Final = (("start", "TraceStarted", "refund-bot"), ("end", "TraceFinished", "refund-bot"))
_SMALL_DECISIONS: Final = 100
_ROOT: Final = Path(__file__).parents[1]
_RUN_SECONDS: Final = 120
_INSTALL_SECONDS: Final = 240
_NO_REGISTRY: Final = re.compile(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ENETUNREACH|ETIMEDOUT")


@dataclass(frozen=True)
class Ran:
    """What became of a program."""

    code: int
    out: str
    err: str

    @property
    def stored(self) -> list[tuple[int, int]]:
        """What it says of each of its appends: how many events were stored, how many reused."""
        return [(int(stored), int(reused)) for stored, reused in re.findall(r"stored (\d+), reused (\d+)", self.out)]

    def assert_done(self) -> None:
        """It ended well."""
        assert self.code == 0, f"{self.out}\n{self.err}"

    def assert_refused(self, *words: str) -> None:
        """It ended with an error of a few lines that says this, and not with a stack trace."""
        assert self.code == 1, self.out + self.err
        assert all(word in self.err for word in words), self.err
        assert not re.search(r"Traceback|^\s+at ", self.err, re.MULTILINE), self.err
        assert len(self.err.splitlines()) <= 4, self.err


@dataclass(frozen=True)
class Example:
    """How to start one."""

    name: str
    command: tuple[str, ...]
    folder: Path
    address: str
    """The variable that names the service."""

    def at(self, service: Service, address: str = "") -> dict[str, str]:
        """The variables that name this service, or that way to it."""
        if self.address == "DG_REST":
            return {"DG_REST": f"http://{address}" if address else service.rest}
        return {"DG_SERVER": address or service.grpc}

    async def run(self, *, number: str = NUMBER, **variables: str) -> Ran:
        """Run it to its end with no variables of ours but these."""
        return await run((*self.command, number), self.folder, variables)

    def events(self, number: str = NUMBER) -> list[tuple[str, str, str, str]]:
        """Trace, key, type and actor of all events that it records, in the order of the log."""
        decisions = [(f"refund-{number}", list(DECISION))]
        if self.name == "grpc_python":
            decisions += [(f"refund-{number}-small-{i}", list(_SMALL_DECISION)) for i in range(_SMALL_DECISIONS)]
        return [(trace, f"{trace}/{key}", kind, actor) for trace, events in decisions for key, kind, actor in events]


async def run(command: tuple[str, ...], folder: Path, variables: dict[str, str]) -> Ran:
    """Run a program to its end."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DG_")}
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**inherited, "NO_PROXY": "127.0.0.1", **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_RUN_SECONDS):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ran(process.returncode or 0, out.decode(), err.decode())


async def recorded(database: Database, tenant_id: TenantId) -> list[tuple[str, str, str, str]]:
    """Trace, key, type and actor of what the log holds, after it was found whole."""
    await stored_keys(database, tenant_id)
    async with database.tenant_snapshot(tenant_id) as snapshot:
        events = await event_log.fetch_events_after(snapshot, 0, limit=10_000)
    assert [event.log_seq for event in events] == list(range(1, len(events) + 1))
    return [(event.trace_id, event.idempotency_key, event.event_type, event.actor.actor_id) for event in events]


class Examples:
    """All of them, in a copy of what their reader has, without what a run leaves there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        leftovers = shutil.ignore_patterns("node_modules", "gen", "dist", "__pycache__")
        shutil.copytree(_ROOT / "examples", root / "examples", ignore=leftovers)
        (root / "generated").mkdir()
        shutil.copy(_ROOT / "generated" / "decisiongraph.binpb", root / "generated")
        self._compiled = False

    def get(self, name: str) -> Example:
        """The one of that name; skips the test if what it needs is not on this machine."""
        folder = self.root / "examples" / name
        if name == "typescript":
            if not self._compiled:
                _compile_typescript(folder)
                self._compiled = True
            return Example(name, ("node", "dist/src/refund.js"), folder, "DG_SERVER")
        if name == "rest_curl":
            _require("jq")
            return Example(name, (str(folder / "refund.sh"),), self.root, "DG_REST")
        address = "DG_REST" if name == "rest_httpx" else "DG_SERVER"
        return Example(name, (sys.executable, str(folder / "refund.py")), self.root, address)


def _require(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not on this machine, and this example needs it")


def _compile_typescript(folder: Path) -> None:
    """Install, generate, type-check and compile, by the commands of the example's README."""
    _require("node", "npm")
    version = _said("node", "--version", folder=folder).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < 20:
        pytest.skip(f"Node.js is {version}, and this example needs 20 or newer")
    install = _said("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", folder=folder)
    if install.returncode and _NO_REGISTRY.search(install.stderr):
        pytest.skip(f"the npm registry cannot be reached: {install.stderr.strip().splitlines()[-1]}")
    assert install.returncode == 0, install.stderr
    for script in ("generate", "check", "build"):
        done = _said("npm", "run", script, folder=folder)
        assert done.returncode == 0, f"{script}:\n{done.stdout}{done.stderr}"


def _said(*command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_SECONDS)
