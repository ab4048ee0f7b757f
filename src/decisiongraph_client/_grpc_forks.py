"""Forks and the gRPC library, as found with grpcio 1.85.

A forked child can use the library if no call was under way at that moment, if it opens a connection of its own, and if
the library was not being wound up. With a call under way the child's calls hang, fail or crash the process.

So blocking calls are held back while the process forks, and those that run get a moment to end before they are cut off
(they are repeated afterwards). Calls of asyncio cannot be held back: a child that was forked among them is told so. A
child is told too where the library's own care for forks is switched off by GRPC_ENABLE_FORK_SUPPORT=0.
"""

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Final, Protocol

import grpc

from decisiongraph_client import _forks
from decisiongraph_client.errors import ConfigurationError

_END_BY_ITSELF_SECONDS: Final = 0.25
_END_CUT_OFF_SECONDS: Final = 2.0
_SUPPORT_IS_OFF: Final = os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "").lower() in ("0", "f", "false", "n", "no")


class _Connected(Protocol):
    def disconnect_for_fork(self) -> None: ...


class _Calls:
    """The calls of this process."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.blocking = 0
        self.of_asyncio = 0
        self.forks = False
        self.were_any = False
        self.unusable = ""
        """Why the library cannot be used in this process."""
        self.connected: weakref.WeakSet[_Connected] = weakref.WeakSet()
        self.kept: list[object] = []
        _forks.watch(self)

    def before_fork(self) -> None:
        """Let no blocking call be under way."""
        with self.changed:
            self.forks = True
            if self.changed.wait_for(lambda: not self.blocking, _END_BY_ITSELF_SECONDS):
                return
        for connected in list(self.connected):
            connected.disconnect_for_fork()
        with self.changed:
            self.changed.wait_for(lambda: not self.blocking, _END_CUT_OFF_SECONDS)

    def after_fork(self) -> None:
        """In the parent: go on."""
        with self.changed:
            self.forks = False
            self.changed.notify_all()

    def forked(self) -> None:
        """In a forked child: whether the library can be used here."""
        if self.of_asyncio:
            self.unusable = "when calls of an AsyncClient were under way"
        elif self.blocking:
            self.unusable = "when a call was under way that could not be cut off"
        elif self.were_any and _SUPPORT_IS_OFF:
            self.unusable = "after calls, and GRPC_ENABLE_FORK_SUPPORT=0 switches off what makes that possible"
        self.changed = threading.Condition()
        self.blocking = self.of_asyncio = 0
        self.forks = False


_calls: Final = _Calls()


def connects(connected: _Connected) -> None:
    """Let the calls of `connected` be cut off when the process forks among them."""
    _calls.connected.add(connected)


def keep(channel: object) -> None:
    """Never let go of a channel: it is the parent's, and taking it apart in a child would be a use of it."""
    _calls.kept.append(channel)


def open_library() -> None:
    """Keep the library from being wound up when the last channel is closed: a fork at that moment hangs the child."""
    with _calls.changed:
        if not _calls.kept:
            # Connects to nothing: no call is made on it.
            _calls.kept.append(grpc.insecure_channel("localhost:1"))


@contextlib.contextmanager
def calling() -> Iterator[None]:
    """A blocking call; waits while the process forks."""
    with _calls.changed:
        while _calls.forks:
            _calls.changed.wait()
        _calls.blocking += 1
        _calls.were_any = True
    try:
        yield
    finally:
        with _calls.changed:
            _calls.blocking -= 1
            _calls.changed.notify_all()


@contextlib.contextmanager
def under_way() -> Iterator[None]:
    """A call of asyncio."""
    pid = os.getpid()
    with _calls.changed:
        _calls.of_asyncio += 1
        _calls.were_any = True
    try:
        yield
    finally:
        # What a child inherits ends there too, and is not of its calls.
        if pid == os.getpid():
            with _calls.changed:
                _calls.of_asyncio -= 1


def require_usable() -> None:
    """Return if the gRPC library can be used in this process.

    Raises:
        ConfigurationError: it was forked at a moment that makes it impossible; the message says what to do.
    """
    if _calls.unusable:
        raise ConfigurationError(
            f"this process was forked {_calls.unusable}: the gRPC library does not work here. Fork before, or start "
            "processes anew (multiprocessing's spawn or forkserver)"
        )
