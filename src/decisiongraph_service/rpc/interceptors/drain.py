"""What a stopping server says to streams: their callers go on at another server where they were.

Calls end by themselves; streams would not. A watch is ended at once. A stream of events is read no further, what was
read is committed and acknowledged, and then it ends. Each gets UNAVAILABLE with a retry hint.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

from decisiongraph_service.domain import errors

_RETRY_SECONDS: Final = 1


class Drain:
    """Of one server: begins once, and does not end."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self._interrupts: list[Callable[[], None]] = []

    def begin(self) -> None:
        """End all streams, and take no new ones."""
        self._begun.set()
        for interrupt in list(self._interrupts):
            interrupt()

    @contextlib.contextmanager
    def calls(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Inside this block `interrupt` is called when it begins; at once, if it has begun."""
        self._interrupts.append(interrupt)
        try:
            if self.has_begun:
                interrupt()
            yield
        finally:
            self._interrupts.remove(interrupt)

    @property
    def has_begun(self) -> bool:
        """Whether streams are being ended."""
        return self._begun.is_set()

    async def begins_within(self, seconds: float) -> bool:
        """Wait for it, so long at most."""
        try:
            async with asyncio.timeout(seconds):
                await self._begun.wait()
        except TimeoutError:
            return False
        return True

    def refusal(self) -> errors.StorageUnavailable:
        """What callers of streams are told."""
        return errors.StorageUnavailable(
            "this server is stopping; open the stream again, where it ended: another server goes on with it",
            _RETRY_SECONDS,
        )

    def require_not_begun(self) -> None:
        """Return if streams may begin.

        Raises:
            StorageUnavailable: the server is stopping.
        """
        if self.has_begun:
            raise self.refusal()


class DrainedRequests:
    """The requests of a stream, until its caller ends it or the server stops."""

    def __init__(self, requests: AsyncIterator[Any], drain: Drain) -> None:
        self._cut = False
        self._requests = requests
        self._drain = drain

    def is_cut(self) -> bool:
        """Whether the server stopped before the caller had ended the stream."""
        return self._cut

    async def __aiter__(self) -> AsyncIterator[Any]:
        task = asyncio.current_task()
        waiting = False

        def interrupt() -> None:
            self._cut = True
            if waiting and task is not None:
                task.cancel()

        with self._drain.calls(interrupt):
            while not self.is_cut():
                waiting = True
                try:
                    request = await anext(self._requests, None)
                except asyncio.CancelledError:
                    if task is None or not self.is_cut():
                        raise
                    # One that was just read may be lost with this: it is not acknowledged, and will be sent again.
                    task.uncancel()
                    return
                finally:
                    waiting = False
                if request is None:
                    return
                yield request
