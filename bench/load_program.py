"""The load program of `bench/load`: building it, and running it with a plan."""

import asyncio
import base64
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from bench import events

_SOURCE: Final = Path(__file__).parent / "load"
_BINARY: Final = Path(__file__).parent.parent / ".run" / "bench" / "load"

SERVICE: Final = "/decisiongraph.v1.IngestionService"


class LoadFailed(Exception):
    """The load program could not be built or run, or a call was not answered with OK."""


@dataclass(frozen=True, slots=True)
class Group:
    """Callers that do the same: each sends the events of one trace after another."""

    kind: Literal["unary", "stream", "rest"]
    target: str
    callers: int
    headers: Sequence[Mapping[str, str]]
    method: str = "AppendEvent"
    """Of IngestionService; with a slash before it the whole path of any."""
    events_per_call: int = 1
    interval_ms: float = 0.0
    """From one call of a caller to its next; 0: as soon as it is answered."""
    calls_per_second: float = 0.0
    """Of all callers together, due at even distances whether answers come or not, each call's time counted from when it
    was due; 0: see `interval_ms`."""
    requests: Sequence[bytes] | None = None
    """Encoded requests of the method, instead of the events of traces."""
    connections: int | None = None
    name: str = "load"

    def plan(self, template: events.TraceTemplate) -> dict[str, Any]:
        """What the load program is told."""
        encoded = self.requests or (template.json if self.kind == "rest" else template.protobuf)
        return {
            "name": self.name,
            "kind": self.kind,
            "target": self.target,
            "method": self.method if self.method.startswith("/") else f"{SERVICE}/{self.method}",
            "callers": self.callers,
            # Few enough to be a client's, and enough that no connection is the limit.
            "connections": self.connections or min(self.callers, 8),
            "events_per_call": self.events_per_call,
            "interval_ms": self.interval_ms,
            "calls_per_second": self.calls_per_second,
            "spread": self.requests is not None,
            "events": [base64.b64encode(event).decode() for event in encoded],
            "headers": list(self.headers),
        }


@dataclass(frozen=True, slots=True)
class Figures:
    """What a group saw in the measured time."""

    events_per_second: float
    calls: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    acknowledged: int
    """Events of all its calls, those before the measured time included."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What a run of the load program saw."""

    client_cpu_seconds: float
    wall_seconds: float
    groups: Sequence[Figures] = field(default_factory=tuple)

    @property
    def acknowledged(self) -> int:
        """Events that were acknowledged in all."""
        return sum(group.acknowledged for group in self.groups)


async def build() -> None:
    """Build the program; takes a minute the first time.

    Raises:
        LoadFailed: Go is missing, or the build failed.
    """
    if shutil.which("go") is None:
        raise LoadFailed("Go is needed to build the load program (bench/load); see https://go.dev/dl/")
    _BINARY.parent.mkdir(parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec("go", "build", "-o", str(_BINARY), ".", cwd=_SOURCE)
    if await process.wait() != 0:
        raise LoadFailed("the load program cannot be built; what Go said stands above")


async def run(groups: Sequence[Group], *, run_id: str, seconds: float, warmup_seconds: float) -> LoadResult:
    """Send events for so long and return what was seen.

    Raises:
        LoadFailed: a call was not answered with OK.
    """
    template = events.trace_template(run_id)
    plan = {
        "warmup_seconds": warmup_seconds,
        "seconds": seconds,
        "placeholder": events.PLACEHOLDER,
        "groups": [group.plan(template) for group in groups],
    }
    process = await asyncio.create_subprocess_exec(
        str(_BINARY), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate(json.dumps(plan).encode())
    if process.returncode != 0:
        raise LoadFailed("the load program failed; what it said stands above")
    answer = json.loads(output)
    for group in answer["groups"]:
        if group["error"] is not None:
            raise LoadFailed(f"a call failed: {group['error']}")
    return LoadResult(
        answer["client_cpu_seconds"],
        answer["wall_seconds"],
        [
            Figures(**{name: group[name] for name in Figures.__dataclass_fields__ if name in group})
            for group in answer["groups"]
        ],
    )
