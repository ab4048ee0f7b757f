"""How far an append is: a bar on a terminal, otherwise a line now and then, and nothing if it is soon over."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from decisiongraph_service.cli.append_batches import Counts

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_SILENT_SECONDS: Final = 2.0
_BETWEEN_LINES_SECONDS: Final = 10.0


class AppendProgress:
    """Shown on standard error while its block runs."""

    def __init__(self, total_bytes: int | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`total_bytes`: of the whole input; None: not known."""
        self._total_bytes = total_bytes
        self._clock = clock
        self._began = clock()
        self._next_line = self._began + _SILENT_SECONDS
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, counts: Counts, done_bytes: int) -> None:
        """Show what is done, if it is time."""
        now = self._clock()
        if now < self._next_line:
            return
        if sys.stderr.isatty():
            self._show(counts, done_bytes)
        else:
            self._next_line = now + _BETWEEN_LINES_SECONDS
            share = f" ({done_bytes / self._total_bytes:.0%})" if self._total_bytes else ""
            print(f"{summary(counts)}{share}, {counts.lines / (now - self._began):,.0f} lines/s", file=sys.stderr)

    def _show(self, counts: Counts, done_bytes: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        if self._bar is None or self._task is None:
            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=self._total_bytes)
            self._bar.start()
        self._bar.update(self._task, completed=done_bytes, description=summary(counts))


def summary(counts: Counts) -> str:
    """What became of the lines, in a sentence."""
    refused = f", {counts.refused:,} refused" if counts.refused else ""
    return f"{counts.lines:,} lines: {counts.stored:,} stored, {counts.reused:,} reused{refused}"
