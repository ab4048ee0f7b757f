"""RFC 3339 timestamps as integers: microseconds since 1970-01-01T00:00:00Z, exact for every accepted text.

Source: docs/reference/EVENT_ENVELOPE_CONTRACT.md, Time. No clock is read here and no floating point is used.
"""

import re
from datetime import date

_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)
_WITHOUT_OFFSET = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?")

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_MICROS_PER_SECOND = 1_000_000
_MICROS_PER_DAY = 86_400 * _MICROS_PER_SECOND
_FIRST_MICROS = (1 - _EPOCH_DAY) * _MICROS_PER_DAY
_END_MICROS = (date(9999, 12, 31).toordinal() + 1 - _EPOCH_DAY) * _MICROS_PER_DAY


def parse_rfc3339(text: str) -> int:
    """Return the instant of a timestamp in microseconds since 1970-01-01T00:00:00Z, negative before it.

    The rules are those of EVENT_ENVELOPE_CONTRACT.md, Time: upper-case `T` and `Z`, an explicit offset, a
    real calendar date of the years 0001 to 9999, no leap second. Digits beyond the sixth are ignored. An
    offset may lead outside the years 0001 to 9999; such an instant compares correctly but cannot be given to
    `format_micros`.

    Raises:
        ValueError: The text is no such timestamp. The message says what to send; it does not repeat the text.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(_explain(text))
    year, month, day, hour, minute, second, fraction, sign, offset_hour, offset_minute = match.groups()
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    except ValueError:
        raise ValueError("must be a real calendar date; check year (0001 to 9999), month and day") from None
    if hour > "23" or minute > "59" or second > "59":
        raise ValueError("must have hour 00 to 23, minute 00 to 59 and second 00 to 59 (no leap second)")
    seconds = days * 86_400 + int(hour) * 3600 + int(minute) * 60 + int(second)
    if sign is not None:
        seconds -= _offset_seconds(sign, offset_hour, offset_minute)
    micros = int(fraction[:6].ljust(6, "0")) if fraction else 0
    return seconds * _MICROS_PER_SECOND + micros


def _offset_seconds(sign: str, hour: str, minute: str) -> int:
    if hour > "23" or minute > "59":
        raise ValueError("must have an offset from -23:59 to +23:59")
    seconds = int(hour) * 3600 + int(minute) * 60
    return -seconds if sign == "-" else seconds


def _explain(text: str) -> str:
    if _WITHOUT_OFFSET.fullmatch(text):
        return "must end with an offset: add `Z` for UTC, or `+hh:mm` or `-hh:mm`"
    return (
        "must be an RFC 3339 timestamp with an offset, e.g. `2026-03-02T10:00:05.120+01:00` or `2026-03-02T09:00:05Z`"
    )


def format_micros(micros: int) -> str:
    """Write an instant in UTC with six fractional digits, e.g. `2026-01-01T12:00:00.000000Z`.

    Args:
        micros: Microseconds since 1970-01-01T00:00:00Z, within the years 0001 to 9999.

    Raises:
        ValueError: The instant lies outside these years.
    """
    if not _FIRST_MICROS <= micros < _END_MICROS:
        raise ValueError("an instant outside the years 0001 to 9999 cannot be written as RFC 3339")
    days, rest = divmod(micros, _MICROS_PER_DAY)
    seconds, fraction = divmod(rest, _MICROS_PER_SECOND)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    day = date.fromordinal(days + _EPOCH_DAY).isoformat()
    return f"{day}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z"
