"""`decisiongraph append`: events from a file or from standard input."""

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final, Literal, NoReturn

import typer

from decisiongraph_service.cli import failure, output, service_connection
from decisiongraph_service.cli.options import AsJson, Server, Tenant

if TYPE_CHECKING:
    from decisiongraph_client import Client
    from decisiongraph_service.cli.append_batches import Appending, Counts
    from decisiongraph_service.cli.append_lines import Completion, Line, ReadEvent, Refusal
    from decisiongraph_service.cli.append_progress import AppendProgress
    from decisiongraph_service.cli.service_connection import Place

SOME_REFUSED: Final = 3
"""Exit code: everything was read, and some lines were refused."""
_CALL_SECONDS: Final = 60.0
_READ_AHEAD_LINES: Final = 64
_ATTEMPTS: Final = 10
_LONGEST_DELAY_SECONDS: Final = 10.0
_MOST_WARNINGS: Final = 10
_IDLE_SECONDS: Final = 0.3
"""After so long without a further line the events read so far are sent: a producer may be slow."""


class _Stopped(Exception):
    """A line was refused, and that ends the appending."""

    def __init__(self, refusal: "Refusal") -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def append(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="JSON lines, one event a line; - is standard input.", allow_dash=True, dir_okay=False
        ),
    ] = Path("-"),
    batch: Annotated[int, typer.Option(min=1, max=1000, help="Most events of a request.")] = 100,
    on_refused: Annotated[
        Literal["stop", "skip"], typer.Option(help="What to do when a line is refused: end there, or go on.")
    ] = "stop",
    refused: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", dir_okay=False, help="With skip: write refused lines to this file. Unset: standard error."
        ),
    ] = None,
    producer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Complete events: those without `source` come from this producer, those without `idempotency_key` get "
            "one made of their line.",
        ),
    ] = None,
    system: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --producer: its system. Unset: called like it.")
    ] = None,
    server: Server = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Append events from JSON lines, from a file or from standard input.

    Each line is an event in the contract's JSON form (docs/reference/EVENT_ENVELOPE_CONTRACT.md). Lines are sent in
    their order, many in a request. Everything before a refused line is in the log. Whatever ends the command, run it
    again with the same lines: what is in the log already is reused by its idempotency key. What
    `decisiongraph tail --json` prints can be appended elsewhere. Needs the role writer.

    With --on-refused skip each refused line is printed as a JSON object: line, reason, message, violations, event. An
    event that was refused for a secret is left out of it.

    Exit codes: 0 all lines are in the log; 1 ended before the last line; 2 wrong usage; 3 all lines were read and some
    refused; 130 interrupted.
    """
    from decisiongraph_service.cli.append_batches import Appending
    from decisiongraph_service.cli.append_lines import Completion
    from decisiongraph_service.cli.append_progress import AppendProgress

    if refused is not None and on_refused != "skip":
        raise typer.BadParameter("goes with --on-refused skip.", param_hint="--refused")
    if system is not None and producer is None:
        raise typer.BadParameter("goes with --producer.", param_hint="--system")
    completion = None if producer is None else Completion(producer, system or producer)
    place = service_connection.find(server)
    with (
        _opened(file) as (stream, size),
        _told(on_refused, refused) as tell,
        _client(place, tenant) as client,
        AppendProgress(size) as progress,
    ):
        appending = Appending(client.append_all, tell, batch=batch)
        ended = _append_all(_arriving(stream), appending, completion, progress)
    _print(appending.counts, as_json)
    if ended is not None:
        _end(ended, appending.counts, place.name)
    if appending.counts.refused:
        raise typer.Exit(SOME_REFUSED)


def _append_all(
    lines: "Iterator[Line | None]", appending: "Appending", completion: "Completion | None", progress: "AppendProgress"
) -> BaseException | None:
    """Append to the end of the lines; returns what ended it before, if something did."""
    from decisiongraph_client import errors
    from decisiongraph_service.cli import append_lines

    done_bytes = 0
    warned: set[str] = set()
    try:
        for line in lines:
            if line is None:
                appending.flush()
                continue
            done_bytes += len(line.content or b"")
            try:
                read = append_lines.parse(line, completion)
            except append_lines.LineRefused as error:
                appending.refuse(error.refusal)
            else:
                _warn(read, warned)
                appending.add(read)
            progress.update(appending.counts, done_bytes)
        appending.flush()
    except (errors.DecisionGraphError, _Stopped, OSError, KeyboardInterrupt) as error:
        return error
    return None


def _arriving(stream: BinaryIO) -> "Iterator[Line | None]":
    """The lines of the input, and None whenever the next one is long in coming."""
    from decisiongraph_service.cli import append_lines

    arrived: queue.Queue[Line | OSError | None] = queue.Queue(_READ_AHEAD_LINES)

    def read() -> None:
        end: OSError | None = None
        try:
            for line in append_lines.read(stream):
                arrived.put(line)
        except OSError as error:
            end = error
        arrived.put(end)

    # A daemon: nothing can end a read that waits for a terminal.
    threading.Thread(target=read, name="read-lines", daemon=True).start()
    idle = False
    while True:
        try:
            # Never for ever: a signal that comes right before does not end a wait, and is heard after it only.
            line = arrived.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            if not idle:
                idle = True
                yield None
            continue
        idle = False
        if line is None:
            return
        if isinstance(line, OSError):
            raise line
        yield line


def _warn(read: "ReadEvent", warned: set[str]) -> None:
    for name in read.unknown:
        if name not in warned and len(warned) < _MOST_WARNINGS:
            warned.add(name)
            output.print_failure(f"line {read.number}: events have no field {name!r}; it is not stored")


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[tuple[BinaryIO, int | None]]:
    """The input and, if it is known, its size in bytes."""
    if str(file) == "-":
        if sys.stdin.isatty():
            print("reading events from the terminal, one JSON object a line; Ctrl-D ends", file=sys.stderr)
        # Of its own: a thread may still read from it when the process ends, and sys.stdin is locked meanwhile.
        yield os.fdopen(os.dup(sys.stdin.fileno()), "rb"), None
        return
    try:
        stream = file.open("rb")
    except OSError as error:
        failure.exit_with(f"{file} cannot be read: {error.strerror}")
    with stream:
        yield stream, os.fstat(stream.fileno()).st_size or None


@contextlib.contextmanager
def _told(on_refused: str, file: Path | None) -> "Iterator[Callable[[Refusal], None]]":
    """What is done with a refused line."""

    def stop(refusal: "Refusal") -> None:
        raise _Stopped(refusal)

    if on_refused == "stop":
        yield stop
        return
    with contextlib.ExitStack() as files:
        out = sys.stderr
        if file is not None:
            try:
                # Refused lines may hold what nobody else shall read.
                out = files.enter_context(os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w"))
            except OSError as error:
                failure.exit_with(f"{file} cannot be written: {error.strerror}")
        yield lambda refusal: output.print_json_line(refusal.as_dict(), out)


@contextlib.contextmanager
def _client(place: "Place", tenant: str | None) -> "Iterator[Client]":
    from decisiongraph_client import RetryPolicy

    patient = RetryPolicy(attempts=_ATTEMPTS, longest_delay=_LONGEST_DELAY_SECONDS)
    with service_connection.client(place, "writer", tenant, timeout=_CALL_SECONDS, retries=patient) as client:
        yield client


def _print(counts: "Counts", as_json: bool) -> None:
    from decisiongraph_service.cli.append_progress import summary

    if as_json:
        numbers = {"lines": counts.lines, "stored": counts.stored, "reused": counts.reused, "refused": counts.refused}
        output.print_json({**numbers, "last_log_seq": str(counts.last_log_seq)})
    else:
        print(summary(counts))


def _end(ended: BaseException, counts: "Counts", address: str) -> NoReturn:
    """Say what ended the appending before the last line."""
    from decisiongraph_client import errors

    again = "run the same command again to go on: what is in the log is reused"
    if isinstance(ended, KeyboardInterrupt):
        output.print_failure(f"interrupted; {again}")
        raise typer.Exit(130)
    if isinstance(ended, _Stopped):
        refusal = ended.refusal
        what = f"line {refusal.line}: {refusal.reason}: {refusal.message}"
        failure.exit_with(f"{what}; everything before it is in the log, mend it and {again}")
    if isinstance(ended, errors.ServiceError):
        failure.exit_with(f"{failure.of_service(ended, address)}; {again}")
    if isinstance(ended, OSError):
        failure.exit_with(f"the input cannot be read: {ended.strerror}; {again}")
    failure.exit_with(str(ended))
