"""Ends a stream on which nothing comes."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator


class Watchdog:
    """Ends a stream on which nothing comes for so many seconds while somebody waits for it."""

    def __init__(self, silence: float, end: Callable[[], object]) -> None:
        """`end` ends the stream; it is called on another thread."""
        self.barked = False
        """Whether it ended the stream."""
        self._silence = silence
        self._end = end
        self._since: float | None = None
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="decisiongraph-watchdog", daemon=True).start()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Somebody waits inside this block."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = None

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(self._silence / 4):
            since = self._since
            if since is not None and time.monotonic() - since > self._silence:
                self.barked = True
                self._end()
                return
