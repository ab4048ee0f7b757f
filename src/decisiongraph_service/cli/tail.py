"""`decisiongraph tail`: the log as it grows."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Annotated, Final, Self

import typer

from decisiongraph_service.cli import options, output, service_connection
from decisiongraph_service.cli.options import AsJson, Server, Tenant
from decisiongraph_service.domain import vocabulary

if TYPE_CHECKING:
    from rich.text import Text

    from decisiongraph.v1.event_pb2 import StoredEvent

_INTERRUPTED: Final = 130

EventTypes = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        metavar="TYPE",
        help=f"Only events of this type; repeat for several. {', '.join(vocabulary.EVENT_TYPES)}.",
        callback=options.one_of(*vocabulary.EVENT_TYPES),
        autocompletion=options.completes(*vocabulary.EVENT_TYPES),
    ),
]


def tail(
    since: Annotated[
        int | None,
        typer.Option(min=0, metavar="LOG_SEQ", help="Begin after this log position; 0: at its beginning. Unset: now."),
    ] = None,
    trace: Annotated[str | None, typer.Option(metavar="TRACE", help="Only events of this trace.")] = None,
    event_type: EventTypes = None,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many events. Unset: go on.")] = None,
    server: Server = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Follow the log: print each event as it is committed, in order, until Ctrl-C.

    Goes on by itself after broken connections and restarts of the service, without losing or repeating an event. When
    it ends it says on standard error from which position to go on. With --json each event is one line. Needs the role
    reader.

    Exit codes: 0 after --limit events; 130 interrupted.
    """
    from decisiongraph_client import errors

    place = service_connection.find(server)
    printed: StoredEvent | None = None
    with service_connection.client(place, "reader", tenant) as client:
        # A watch would wait for a service that is not there; who mistyped its address shall hear of it.
        client.get_liveness()
        watch = client.watch(since_log_seq=since, trace_id=trace, event_types=event_type or ())
        try:
            with _Interrupts() as interrupts:
                for count, event in enumerate(watch, start=1):
                    with interrupts.held():
                        _print(event, as_json)
                        printed = event
                    if count == limit:
                        return
        except (KeyboardInterrupt, errors.ServiceError) as error:
            # Of the watch only before the first event: it may have read one that was not printed.
            position = printed.log_seq if printed is not None else since if since is not None else watch.position
            if position is not None:
                print(f"go on with: decisiongraph tail --since {position}", file=sys.stderr)
            if isinstance(error, KeyboardInterrupt):
                raise typer.Exit(_INTERRUPTED) from None
            raise


def _print(event: "StoredEvent", as_json: bool) -> None:
    if as_json:
        output.print_json_line(output.as_dict(event))
    else:
        output.console().print(_line(event))


class _Interrupts:
    """SIGINT and SIGTERM raise KeyboardInterrupt; while an event is printed they wait, unless they come again."""

    def __init__(self) -> None:
        self._held = False
        self._came = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._received) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A block that is not interrupted."""
        self._held = True
        yield
        self._held = False
        if self._came:
            raise KeyboardInterrupt

    def _received(self, number: int, frame: FrameType | None) -> None:
        if not self._held or self._came:
            raise KeyboardInterrupt
        self._came = True


def _line(event: "StoredEvent") -> "Text":
    from rich.text import Text

    from decisiongraph_service.cli import event_text

    place = f"{output.plain(event.trace_id)}#{event.trace_seq}"
    return Text.assemble(
        (f"{event.log_seq:>8}", "dim"),
        f"  {output.plain(event.occurred_at)}  ",
        (place, "cyan"),
        "  ",
        (event.event_type, "bold"),
        "  ",
        event_text.describe(event.event_type, output.as_dict(event.payload)),
        (f"  {output.plain(event.actor.actor_type)} {output.plain(event.actor.actor_id)}", "dim"),
    )
