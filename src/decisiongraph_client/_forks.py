"""What a forked child must make anew: locks that another thread of the parent held, and threads, which it has not."""

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """Something with locks or threads."""

    def forked(self) -> None:
        """Is called in the child, before anything else runs there."""


_known: "weakref.WeakSet[Forked]" = weakref.WeakSet()


def watch(known: Forked) -> None:
    """Call `known.forked` in every child that is forked, for as long as `known` exists."""
    _known.add(known)


def _in_child() -> None:
    for known in list(_known):
        known.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
