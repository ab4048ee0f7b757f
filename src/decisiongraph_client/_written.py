"""How far the log is by what a client wrote itself, and what its reads therefore ask for."""

import threading
from typing import Literal, TypeAlias, get_args

from decisiongraph_client import _forks
from decisiongraph_client.errors import ConfigurationError

Freshness: TypeAlias = Literal["latest", "own_writes"]
"""`latest`: reads include everything that was committed before them, by whomever. `own_writes`: at least what this
client has written; they wait for less, and may miss what others wrote in the last milliseconds."""


class Written:
    """The newest log position of a client's own events. Any thread may tell and ask."""

    def __init__(self, freshness: Freshness) -> None:
        """Nothing is written yet.

        Raises:
            ConfigurationError: there is no such freshness.
        """
        if freshness not in get_args(Freshness):
            raise ConfigurationError(f"reads={freshness!r} must be one of {', '.join(get_args(Freshness))}")
        self._freshness = freshness
        self._lock = threading.Lock()
        _forks.watch(self)
        self.log_seq = 0
        """0: nothing was written yet."""

    def saw(self, log_seq: int) -> None:
        """An event of the client stands at this position."""
        with self._lock:
            self.log_seq = max(self.log_seq, log_seq)

    def forked(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.Lock()

    def needed(self, min_log_seq: int | None, allow_stale: bool) -> int | None:
        """`min_log_seq` of a read for which the caller gave this."""
        if min_log_seq is not None or allow_stale or self._freshness == "latest":
            return min_log_seq
        return self.log_seq
