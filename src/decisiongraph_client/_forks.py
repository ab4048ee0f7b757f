"""What happens around a fork: what must not be open during it is closed, and the child makes locks and threads anew.

A child has no thread but the one that forked, and locks that other threads held would be held in it for ever.
"""

import os
import weakref
from typing import Protocol


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
    for known in _held:
        getattr(known, "before_fork", _nothing)()


def _in_parent() -> None:
    for known in reversed(_held):
        getattr(known, "after_fork", _nothing)()
    _held.clear()


def _in_child() -> None:
    for known in _held:
        known.forked()
    _held.clear()


def _nothing() -> None:
    pass


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
