"""What `decisiongraph run` shows: progress while it starts, what went wrong, and how to go on when it is ready."""

import asyncio
import contextlib
import json
import shlex
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console

if TYPE_CHECKING:
    from rich.status import Status


class Screen:
    """What the user sees: progress on standard output, what went wrong on standard error."""

    def __init__(self) -> None:
        # Nothing may be wrapped, cut or styled inside: tokens and commands are there to be copied.
        self._out = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
        self._err = Console(soft_wrap=True, highlight=False, markup=False, emoji=False, stderr=True)

    def say(self, text: str = "") -> None:
        """Print a line."""
        self._print(self._out, text)

    def complain(self, text: str, lines: tuple[str, ...] = ()) -> None:
        """Print what went wrong, and the last lines of whom it happened to."""
        self._print(self._err, f"decisiongraph: {text}", "bold")
        for line in lines:
            self._print(self._err, "  | " + "".join(c if c.isprintable() else " " for c in line))

    @contextlib.asynccontextmanager
    async def step(self, title: str) -> AsyncIterator[None]:
        """Show that a step works, and how long it took when it is done."""
        started = time.monotonic()
        with self._out.status(title, spinner="line") if self._out.is_terminal else contextlib.nullcontext() as status:
            ticking = asyncio.create_task(self._tick(title, status))
            try:
                yield
            finally:
                ticking.cancel()
        self.say(f"{title:<32}{time.monotonic() - started:6.1f} s")

    async def _tick(self, title: str, status: "Status | None") -> NoReturn:
        seconds = 0
        while True:
            await asyncio.sleep(1)
            seconds += 1
            if status is not None:
                status.update(f"{title}, {seconds} s")
            elif seconds == 2 or seconds % 10 == 0:
                self.say(f"{title} ... {seconds} s")

    def _print(self, console: "Console", text: str, style: str | None = None) -> None:
        # The terminal may be gone, which must not keep the children from being stopped.
        with contextlib.suppress(OSError):
            console.print(text, style=style)


def welcome(rest: str, grpc: str, tenant: str, trace: str, tokens: Mapping[str, str]) -> str:
    """Addresses, tokens, and three command lines that work when pasted, as often as one likes."""
    # A new trace for each start: who pastes the lines again after a restart gets no conflict with the old one.
    trial = f"first-steps-{int(time.time())}"
    event = {
        "trace_id": trial,
        "event_type": "TraceStarted",
        "occurred_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "source": {"producer_id": "curl", "system": "terminal"},
        "actor": {"actor_type": "person", "actor_id": "me"},
        "idempotency_key": f"{trial}/0",
        "payload": {
            "workflow": "first-steps",
            "title": "My first decision",
            "primary_entity": {"entity_type": "order", "entity_id": "A-1"},
        },
    }
    reader, writer = (f"curl -sS -w '\\n' -H 'authorization: Bearer {tokens[role]}'" for role in ("reader", "writer"))
    body = f"-H 'content-type: application/json' -d {shlex.quote(json.dumps(event, separators=(',', ':')))}"
    return "\n".join(
        (
            f"REST    {rest}",
            f"docs    {rest}/docs",
            f"gRPC    {grpc}",
            f"tenant  {tenant}",
            "",
            *(f"{role} token:\n{token}\n" for role, token in tokens.items()),
            f"Read the demo decision:\n{reader} {rest}/api/v1/traces/{trace}\n",
            f"Append an event:\n{writer} {body} {rest}/api/v1/events\n",
            f"Read it back:\n{reader} {rest}/api/v1/traces/{trial}/events\n",
            "Ctrl-C stops everything.",
        )
    )
