"""Whether two clocks tell the same time."""

from typing import Final

from decisiongraph_service.cli.checkup.finding import Finding, ok, warn

LEEWAY_SECONDS: Final = 5.0
"""Servers take tokens that are so much too early or too late."""


def compare(name: str, theirs: float, before: float, after: float) -> Finding:
    """How far another clock is from ours.

    Args:
        name: Of the finding.
        theirs: What it told, in seconds since 1970.
        before: Ours before it was asked.
        after: Ours when it had answered.
    """
    ahead = theirs - min(max(theirs, before), after)
    if abs(ahead) <= LEEWAY_SECONDS:
        return ok(name, "tells the same time as here")
    return warn(
        name,
        f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine",
        "set the clocks by NTP: tokens are refused that are more than five seconds early or late",
    )
