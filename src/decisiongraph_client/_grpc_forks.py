"""Forks and the gRPC library, as found with grpcio 1.85.

A forked child can use the library if no call was under way at that moment, if it opens a connection of its own, and if
the library was not being wound up. With a call under way the child's calls hang, fail or crash the process.

So blocking calls are held back while the process forks; streams are cut off, and calls that run get a moment to end
before they are cut off too (they are repeated afterwards). With asyncio the library works on a thread of its own that
cannot be held back: if a child that is forked while an AsyncClient is connected does not crash, its calls are told so,
and a warning is logged before. Calls are told so too where the library's own care for forks is switched off by
GRPC_ENABLE_FORK_SUPPORT=0.
"""

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import grpc

from decisiongraph_client import _forks
from decisiongraph_client.errors import ConfigurationError

_END_BY_ITSELF_SECONDS: Final = 0.25
_END_CUT_OFF_SECONDS: Final = 2.0
_SUPPORT_IS_OFF: Final = os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "").lower() in ("0", "f", "false", "n", "no")

_log = logging.getLogger("decisiongraph.client")


class _Blocking(Protocol):
    @property
    def has_streams(self) -> bool: ...

    def disconnect_for_fork(self) -> None: ...


class _OfAsyncio(Protocol):
    @property
    def is_connected(self) -> bool: ...


class _Calls:
    """The calls and connections of this process."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.running = 0
        self.forks = False
        self.is_among_asyncio = False
        self.were_any = False
        self.unusable = ""
        """Why the library cannot be used in this process."""
        self.blocking: weakref.WeakSet[_Blocking] = weakref.WeakSet()
        self.of_asyncio: weakref.WeakSet[_OfAsyncio] = weakref.WeakSet()
        self.kept: list[object] = []
        _forks.watch(self)

    def before_fork(self) -> None:
        """Let no blocking call be under way."""
        self.is_among_asyncio = any(one.is_connected for one in self.of_asyncio)
        if self.is_among_asyncio:
            _log.warning(
                "this process forks while an AsyncClient is connected: the gRPC library does not work in the child and "
                "may crash it. Close the client before, or start processes anew (multiprocessing's spawn or forkserver)"
            )
        with self.changed:
            self.forks = True
        self._cut_off([one for one in self.blocking if one.has_streams])
        if not self._all_ended(_END_BY_ITSELF_SECONDS):
            self._cut_off(list(self.blocking))
            self._all_ended(_END_CUT_OFF_SECONDS)
        # What a thread was opening while the others were cut off: the library waits in the child for the end of calls.
        self._cut_off([one for one in self.blocking if one.has_streams or self.running])

    def after_fork(self) -> None:
        """In the parent: go on."""
        with self.changed:
            self.forks = False
            self.changed.notify_all()

    def forked(self) -> None:
        """In a forked child: whether the library can be used here."""
        if self.is_among_asyncio:
            self.unusable = "while an AsyncClient was connected"
        elif self.running:
            self.unusable = "when a call was under way that could not be cut off"
        elif self.were_any and _SUPPORT_IS_OFF:
            self.unusable = "after calls, and GRPC_ENABLE_FORK_SUPPORT=0 switches off what makes that possible"
        self.changed = threading.Condition()
        self.running = 0
        self.forks = False

    @staticmethod
    def _cut_off(blocking: Iterable[_Blocking]) -> None:
        for one in blocking:
            one.disconnect_for_fork()

    def _all_ended(self, seconds: float) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: not self.running, seconds)


_calls: Final = _Calls()


def blocks(transport: _Blocking) -> None:
    """Let the calls of `transport` be cut off when the process forks among them."""
    _calls.blocking.add(transport)


def awaits(transport: _OfAsyncio) -> None:
    """Let a child be told if `transport` was connected when the process forked."""
    _calls.of_asyncio.add(transport)


def keep(channel: object) -> None:
    """Never let go of a channel: it is the parent's, and taking it apart in a child would be a use of it."""
    _calls.kept.append(channel)


def open_library() -> None:
    """Keep the library from being wound up when the last channel is closed: a fork at that moment hangs the child."""
    with _calls.changed:
        _calls.were_any = True
        if not _calls.kept:
            # Connects to nothing: no call is made on it.
            _calls.kept.append(grpc.insecure_channel("localhost:1"))


@contextlib.contextmanager
def calling() -> Iterator[None]:
    """A blocking call; waits while the process forks."""
    with _calls.changed:
        while _calls.forks:
            _calls.changed.wait()
        _calls.running += 1
        _calls.were_any = True
    try:
        yield
    finally:
        with _calls.changed:
            _calls.running -= 1
            _calls.changed.notify_all()


def require_usable() -> None:
    """Return if the gRPC library can be used in this process.

    Raises:
        ConfigurationError: it was forked at a moment that makes it impossible; the message says what to do.
    """
    if _calls.unusable:
        raise ConfigurationError(
            f"this process was forked {_calls.unusable}: the gRPC library does not work here. Fork earlier or close "
            "the client first, or start processes anew (multiprocessing's spawn or forkserver)"
        )
