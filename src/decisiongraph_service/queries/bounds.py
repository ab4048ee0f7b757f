"""Bounds of filters: times as instants, and a lower bound that is not above its upper bound."""

from decisiongraph_service.domain import errors, timestamps


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


def require_order(name: str, since: int | None, until: int | None) -> None:
    """Check the bounds `since_<name>` and `until_<name>`.

    Raises:
        InvalidArgument: the lower one is above the upper one.
    """
    if since is not None and until is not None and since > until:
        raise errors.InvalidArgument(
            [errors.Violation(f"since_{name}", "ABOVE_UPPER_BOUND", f"is above until_{name}; swap or widen the bounds")]
        )
