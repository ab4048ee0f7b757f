"""A program that records into an outbox, life after life, and is killed in each: by its parent, or by itself somewhere.

    python outbox_recorder.py OUTBOX JOURNAL SERVER TOKEN SEED LIVES

The journal has a line for every event that the client has accepted, synced before the next one. Each life is a fork of
a process that has everything imported and nothing opened. In the end it says what killed it, and how often.
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from decisiongraph_client import Client, _outbox

BY_PARENT: Final = "by its parent, at any moment"
POINTS: Final = (
    "in put, before it is on the disk",
    "in put, after it is on the disk",
    "between append and removal",
    "in removal, before it is on the disk",
    "after removal",
)
_LONGEST_LIFE_SECONDS: Final = 0.6


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at(point: str, after: int) -> None:
    """Kill this process when it comes to the point for the nth time."""
    left = [after]

    def passing() -> None:
        left[0] -= 1
        if left[0] <= 0:
            _die()

    outbox: Any = _outbox.Outbox
    if point == POINTS[0]:
        _inside(outbox, "put", passing)
    elif point == POINTS[1]:
        _around(outbox, "put", after=passing)
    elif point == POINTS[2]:
        _around(outbox, "delivered", before=passing)
    elif point == POINTS[3]:
        _inside(outbox, "delivered", passing)
    elif point == POINTS[4]:
        _around(outbox, "delivered", after=passing)


def _around(
    outbox: Any, name: str, *, before: Callable[[], None] | None = None, after: Callable[[], None] | None = None
) -> None:
    method = getattr(outbox, name)

    def wrapped(*arguments: Any) -> Any:
        if before is not None:
            before()
        result = method(*arguments)
        if after is not None:
            after()
        return result

    setattr(outbox, name, wrapped)


def _inside(outbox: Any, name: str, passing: Callable[[], None]) -> None:
    """Pass in the middle of the method's transaction: at its last statement, which counts the size."""
    method = getattr(outbox, name)

    def wrapped(self: Any, *arguments: Any) -> Any:
        # Opened first, so that the connection of this very call can be watched.
        self.waits()
        self._connection.set_trace_callback(lambda statement: passing() if statement == "COMMIT" else None)
        try:
            return method(self, *arguments)
        finally:
            if self._connection is not None:
                self._connection.set_trace_callback(None)

    setattr(outbox, name, wrapped)


def _live(outbox: str, journal: str, server: str, token: str, name: str, chance: random.Random) -> None:
    """Record traces until the end."""
    file = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    client = Client(server, token=token, producer="recorder", outbox=outbox)

    def accepted(trace_id: str, event_id: str) -> None:
        os.write(file, f"{trace_id} {event_id}\n".encode())
        os.fdatasync(file)

    for number in range(1_000_000):
        trace = client.trace(
            workflow="w",
            title="t",
            primary_entity=("order", "1"),
            trace_id=f"{name}/{number}",
            idempotency_key=f"{name}/{number}",
        )
        sink = trace._sink

        def noting(event: Any, sink: Any = sink) -> Any:
            receipt = sink(event)
            accepted(event.trace_id, event.event_id)
            return receipt

        trace._sink = noting
        with trace:
            for step in range(chance.randrange(4)):
                trace.evaluate_policy((f"p{step}", "1"), "allow")
                time.sleep(chance.random() * 0.004)


def main() -> None:
    outbox, journal, server, token, seed, lives = sys.argv[1:]
    chance = random.Random(seed)  # noqa: S311 - to be repeated
    died: Counter[str] = Counter()
    for life in range(int(lives)):
        point = chance.choice((BY_PARENT, BY_PARENT, *POINTS))
        after, seconds = chance.randrange(1, 12), chance.random() * _LONGEST_LIFE_SECONDS
        if point in POINTS[2:]:
            after = chance.randrange(1, 4)
        own = random.Random(chance.random())  # noqa: S311 - likewise
        child = os.fork()
        if child == 0:
            try:
                _die_at(point, after)
                _live(outbox, journal, server, token, f"{Path(outbox).stem}-{life}", own)
            finally:
                os._exit(1)
        died[_wait(child, point, seconds)] += 1
    sys.stdout.write(json.dumps(died))


def _wait(child: int, point: str, seconds: float) -> str:
    """What killed it in the end: a point that is not reached, for instance because the service is away, is no end."""
    ends = time.monotonic() + (seconds if point == BY_PARENT else 2 * _LONGEST_LIFE_SECONDS)
    while time.monotonic() < ends:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
                raise SystemExit(f"a life ended by itself: {status}")
            return point
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return BY_PARENT


if __name__ == "__main__":
    main()
