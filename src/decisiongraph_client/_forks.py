"""What happens around a fork: what must not be open during it is closed, and the child makes locks and threads anew.

A child has no thread but the one that forked, and locks that other threads held would be held in it for ever.
"""

import logging
import os
import weakref
from collections.abc import Callable, Iterable
from typing import Protocol

_log = logging.getLogger("decisiongraph.client")


class Forked(Protocol):
    """Something with locks or threads."""

    def forked(self) -> None:
        """Is called in the child, before anything else runs there."""


_known: "weakref.WeakSet[Forked]" = weakref.WeakSet()
_held: list[Forked] = []
"""What was told of the fork that is under way."""


def watch(known: Forked) -> None:
    """Call `known.forked` in every child that is forked, for as long as `known` exists.

    If it has them, `before_fork` is called before, and `after_fork` in the parent afterwards.
    """
    _known.add(known)


def _before() -> None:
    _held[:] = list(_known)
    _call(getattr(known, "before_fork", None) for known in _held)


def _in_parent() -> None:
    held = _held[::-1]
    _held.clear()
    _call(getattr(known, "after_fork", None) for known in held)


def _in_child() -> None:
    # Programs that fork by themselves may tell of the child only.
    held = _held[:] or list(_known)
    _held.clear()
    _call(known.forked for known in held)


def _call(methods: Iterable[Callable[[], None] | None]) -> None:
    """Call all of them, whatever becomes of one: each has something that would be held for ever."""
    for method in methods:
        if method is not None:
            try:
                method()
            except Exception:  # noqa: BLE001 - whatever it is, the others must be told
                _log.exception("a fork went wrong")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
