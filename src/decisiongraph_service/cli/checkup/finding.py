"""What one look has found."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Status: TypeAlias = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    status: Status
    """`warn`: something may be missing, depending on what the set-up is for. `fail`: something will not work."""
    message: str
    """What was seen."""
    hint: str = ""
    """What to do; empty if nothing is to be done."""


def ok(name: str, message: str) -> Finding:
    """It is as it should be."""
    return Finding(name, "ok", message)


def warn(name: str, message: str, hint: str) -> Finding:
    """It may be a lack."""
    return Finding(name, "warn", message, hint)


def fail(name: str, message: str, hint: str) -> Finding:
    """Something will not work."""
    return Finding(name, "fail", message, hint)
