"""Bounds of filters: times as instants, and a lower bound that is not above its upper bound."""

from typing import Final

from decisiongraph_service.domain import errors, timestamps

_END_OF_YEAR_9999: Final = timestamps.parse_rfc3339("9999-12-31T23:59:59.999999Z") + 1


def instant(field: str, text: str) -> int | None:
    """The instant of a time filter in microseconds since 1970-01-01T00:00:00Z; None for an empty text.

    Raises:
        InvalidArgument: the text is no timestamp with an offset.
    """
    if not text:
        return None
    try:
        return timestamps.parse_rfc3339(text)
    except ValueError as error:
        raise errors.InvalidArgument([errors.Violation(field, "TIMESTAMP", str(error))]) from error


def end(field: str, text: str) -> int:
    """The instant at which something ends, as `instant` reads it.

    Raises:
        InvalidArgument: the text is empty, no timestamp with an offset, or beyond the year 9999.
    """
    found = instant(field, text)
    if found is None or found >= _END_OF_YEAR_9999:
        raise errors.InvalidArgument(
            [errors.Violation(field, "TIMESTAMP", "must be a time up to the year 9999; leave it out for no end")]
        )
    return found


def require_order(name: str, since: int | None, until: int | None) -> None:
    """Check the bounds `since_<name>` and `until_<name>`.

    Raises:
        InvalidArgument: the lower one is above the upper one.
    """
    if since is not None and until is not None and since > until:
        raise errors.InvalidArgument(
            [errors.Violation(f"since_{name}", "ABOVE_UPPER_BOUND", f"is above until_{name}; swap or widen the bounds")]
        )
