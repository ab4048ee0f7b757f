"""An outbox in a file, and programs of their own that use one."""

import subprocess
import sys
import textwrap
from typing import Final

from decisiongraph.v1.event_pb2 import Event
from decisiongraph_client._outbox import Outbox

BIG: Final = 100 * 1024 * 1024


def event_of(number: int, filling: int = 0) -> Event:
    return Event(event_id=str(number), trace_id="x" * filling)


def ids(outbox: Outbox) -> list[str]:
    return [one.event.event_id for one in outbox.first(events=100_000, size_bytes=BIG)]


def run(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A program of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended_well(program: "subprocess.Popen[str]") -> str:
    out, err = program.communicate(timeout=60)
    assert program.returncode == 0, err
    return out
