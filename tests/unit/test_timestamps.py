"""RFC 3339 timestamps: what is accepted, which instant it is, and how the service writes instants."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisiongraph_service.domain import timestamps

DAY = 86_400_000_000

INSTANTS = {
    "1970-01-01T00:00:00Z": 0,
    "1970-01-01T00:00:00.000001Z": 1,
    "1969-12-31T23:59:59.999999Z": -1,
    "1970-01-01T01:00:00+01:00": 0,
    "1969-12-31T22:30:00-01:30": 0,
    "1970-01-01T00:00:00-00:00": 0,
    "1970-01-01T00:00:00.5Z": 500_000,
    "1970-01-01T00:00:00.1234569999Z": 123_456,
    "1970-01-01T00:00:00.0000009Z": 0,
    "2024-02-29T00:00:00Z": 1_709_164_800_000_000,
    "0001-01-01T00:00:00Z": -62_135_596_800_000_000,
    "0001-01-01T00:00:00+23:59": -62_135_596_800_000_000 - DAY + 60_000_000,
    "9999-12-31T23:59:59-23:59": 253_402_300_799_000_000 + DAY - 60_000_000,
}

NOT_TIMESTAMPS = [
    "",
    "now",
    "2026-03-02",
    "2026-03-02T10:00:05",
    "2026-03-02T10:00Z",
    "2026-03-02 10:00:05Z",
    "2026-03-02t10:00:05Z",
    "2026-03-02T10:00:05z",
    "2026-03-02T10:00:05Z\n",
    " 2026-03-02T10:00:05Z",
    "2026-03-02T10:00:05.Z",
    "2026-03-02T10:00:05,5Z",
    "2026-03-02T10:00:05+0100",
    "2026-03-02T10:00:05+01",
    "2026-03-02T10:00:05+24:00",
    "2026-03-02T10:00:05+01:60",
    "2026-03-02T10:00:05\u221201:00",
    "2026-03-02T24:00:00Z",
    "2026-03-02T10:60:00Z",
    "2026-03-02T10:00:60Z",
    "2016-12-31T23:59:60Z",
    "2026-02-30T00:00:00Z",
    "2025-02-29T00:00:00Z",
    "1900-02-29T00:00:00Z",
    "2026-13-01T00:00:00Z",
    "2026-00-01T00:00:00Z",
    "2026-01-00T00:00:00Z",
    "0000-01-01T00:00:00Z",
    "10000-01-01T00:00:00Z",
    "-0001-01-01T00:00:00Z",
    "\u0662\u0660\u0662\u0666-03-02T10:00:05Z",
    "2026-03-02T10:00:05.\u0665Z",
    "2026-03-02T10:00:05\x00Z",
    "\ud800",
]


@pytest.mark.parametrize(("text", "micros"), INSTANTS.items())
def test_a_timestamp_is_parsed_to_its_instant(text: str, micros: int) -> None:
    assert timestamps.parse_rfc3339(text) == micros


@pytest.mark.parametrize("text", NOT_TIMESTAMPS)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        timestamps.parse_rfc3339(text)


def test_a_missing_offset_is_named() -> None:
    with pytest.raises(ValueError, match="must end with an offset"):
        timestamps.parse_rfc3339("2026-03-02T10:00:05")


def test_an_impossible_date_is_named() -> None:
    with pytest.raises(ValueError, match="real calendar date"):
        timestamps.parse_rfc3339("2026-02-30T00:00:00Z")


@given(st.datetimes(timezones=st.just(UTC)))
def test_what_the_service_writes_it_reads_back(instant: datetime) -> None:
    micros = (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    text = timestamps.format_micros(micros)
    assert text == instant.strftime(f"{instant.year:04}-%m-%dT%H:%M:%S.%fZ")
    assert timestamps.parse_rfc3339(text) == micros


@given(st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)), st.integers(-1439, 1439))
def test_an_offset_is_subtracted(local: datetime, minutes: int) -> None:
    instant = local.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    micros = (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert timestamps.parse_rfc3339(instant.isoformat(timespec="microseconds")) == micros


@given(st.text(max_size=40))
def test_any_text_parses_or_is_a_value_error(text: str) -> None:
    message = None
    try:
        timestamps.parse_rfc3339(text)
    except ValueError as error:
        message = str(error)
    assert message is None or message.startswith("must ")


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_767_268_800_000_000, "2026-01-01T12:00:00.000000Z"),
        (-62_135_596_800_000_000, "0001-01-01T00:00:00.000000Z"),
        (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_instants_are_written_in_utc_with_six_digits(micros: int, text: str) -> None:
    assert timestamps.format_micros(micros) == text


@pytest.mark.parametrize("micros", [-62_135_596_800_000_001, 253_402_300_800_000_000, 10**30])
def test_instants_outside_the_calendar_are_not_written(micros: int) -> None:
    with pytest.raises(ValueError, match="0001 to 9999"):
        timestamps.format_micros(micros)
