"""Payloads from plain values: every digit is kept, what cannot be kept is refused, and the contract's rules take it."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import protovalidate
import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from decisiongraph.v1.event_pb2 import Event
from decisiongraph.v1.payload_pb2 import Fact, TypedValue
from decisiongraph_client import _events, payloads
from decisiongraph_client.errors import ConfigurationError
from decisiongraph_service.domain import timestamps

ORIGIN: Final = _events.Origin("agent", "desk", None, None)
SAFE: Final = 2**53 - 1
JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-SAFE, SAFE) | st.text(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(), values, max_size=4),
    max_leaves=20,
)


class Colour(StrEnum):
    RED = "red"


def json_event(payload: Any) -> Event:
    return _events.make(ORIGIN, "t", payload, event_type="InputObserved")


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        ("", "string", ""),
        ("Größe", "string", "Größe"),
        (Colour.RED, "string", "red"),
        (True, "bool", "true"),
        (False, "bool", "false"),
        (0, "int", "0"),
        (-(10**30), "int", "-1000000000000000000000000000000"),
        (Decimal("240.00"), "decimal", "240.00"),
        (Decimal("-1E+3"), "decimal", "-1000"),
        (Decimal("1E-7"), "decimal", "0.0000001"),
        (date(2026, 3, 2), "date", "2026-03-02"),
        (datetime(2026, 3, 2, 9, tzinfo=UTC), "datetime", "2026-03-02T09:00:00.000000Z"),
        ([1, "a", None, True], "json", '[1,"a",null,true]'),
        ({"ö": {"b": [1]}}, "json", '{"ö":{"b":[1]}}'),
    ],
    ids=repr,
)
def test_values_have_types(value: payloads.Value, kind: str, text: str) -> None:
    made = payloads.typed(value)
    assert (made.type, made.value) == (kind, text)
    protovalidate.validate(made)


def test_a_typed_value_is_taken_as_it_is() -> None:
    given_value = TypedValue(type="decimal", value="1.50")
    assert payloads.typed(given_value) is given_value


@pytest.mark.parametrize(
    "value",
    [1.5, float("nan"), None, b"bytes", {1, 2}, (1, 2), timedelta(1), object()],
    ids=lambda value: type(value).__name__,
)
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        payloads.typed(value)


@pytest.mark.parametrize("value", [[1.5], {"a": [{"b": float("nan")}]}, [Decimal(1)], {"a": b"x"}, {1: "a"}], ids=repr)
def test_what_json_cannot_keep_is_refused_inside_lists_too(value: Any) -> None:
    with pytest.raises(TypeError):
        payloads.typed(value)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "sNaN"])
def test_a_decimal_that_is_no_number_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="number"):
        payloads.typed(Decimal(value))


@given(st.decimals(allow_nan=False, allow_infinity=False, places=5, min_value=-(10**20), max_value=10**20))
def test_decimals_keep_every_digit(value: Decimal) -> None:
    assert Decimal(payloads.typed(value).value).as_tuple() == value.as_tuple()


@given(JSON.filter(lambda value: isinstance(value, list | dict)))
def test_json_comes_back(value: Any) -> None:
    assert json.loads(payloads.typed(value).value) == value


@given(
    st.datetimes(
        timezones=st.none() | st.just(UTC) | st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
    )
)
def test_moments_are_written_as_the_contract_takes_them(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    try:
        aware.astimezone(UTC)
    except OverflowError:
        return
    text = payloads.timestamp(moment)
    micros = timestamps.parse_rfc3339(text)
    assert micros == (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def test_an_offset_stays_as_it_is() -> None:
    berlin = timezone(timedelta(hours=1))
    assert payloads.timestamp(datetime(2026, 3, 2, 9, tzinfo=berlin)) == "2026-03-02T09:00:00.000000+01:00"


def test_facts_are_a_mapping_or_messages() -> None:
    known: dict[str, payloads.Value] = {"amount": Decimal("1.5"), "vip": True}
    made = payloads.facts_of(known)
    assert [(one.key, one.value.type, one.value.value) for one in made] == [
        ("amount", "decimal", "1.5"),
        ("vip", "bool", "true"),
    ]
    assert payloads.facts_of([Fact(key="k")]) == [Fact(key="k")]
    since = payloads.fact("k", "v", as_of=datetime(2026, 1, 1, tzinfo=UTC))
    assert (since.as_of, payloads.fact("k", "v", as_of="yesterday").as_of) == (
        "2026-01-01T00:00:00.000000Z",
        "yesterday",
    )
    assert not payloads.fact("k", "v").HasField("as_of")


@pytest.mark.parametrize(
    ("make", "pair"),
    [(payloads.entity_of, ("order", "A")), (payloads.policy_of, ("p", "1")), (payloads.actor_of, ("person", "ann"))],
)
def test_pairs_and_messages_mean_the_same(make: Callable[[Any], Any], pair: tuple[str, str]) -> None:
    assert make(make(pair)) == make(pair)


def test_parts_hold_what_they_are_told() -> None:
    assert MessageToDict(payloads.entity("order", "A", system="shop")) == {
        "entityType": "order",
        "entityId": "A",
        "system": "shop",
    }
    changed = payloads.change("status", "paid", old_value="open")
    assert (changed.old_value.value, changed.new_value.value) == ("open", "paid")
    assert not payloads.change("status", "paid").HasField("old_value")
    assert payloads.evidence("mail", "1", excerpt_redacted="…").excerpt_redacted == "…"
    assert payloads.violation("over", "too much").code == "over"


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_a_dictionary_is_sent_as_it_is(payload: dict[str, Any]) -> None:
    assert MessageToDict(json_event(payload).payload) == payload


def test_other_kinds_of_mappings_and_sequences_are_taken() -> None:
    payload = MappingProxyType({"a": MappingProxyType({"b": (1, Colour.RED)})})
    assert MessageToDict(json_event(payload).payload) == {"a": {"b": [1, "red"]}}


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"amount": 1.5}, "payload.amount"),
        ({"amount": 1.0}, "payload.amount"),
        ({"a": [{"b": float("nan")}]}, r"payload.a\[0\].b"),
        ({"when": date(2026, 1, 1)}, "payload.when"),
        ({"amount": Decimal(1)}, "payload.amount"),
        ({"a": b"x"}, "payload.a"),
        ({"a": {1: "x"}}, "payload.a"),
    ],
    ids=str,
)
def test_what_the_contract_cannot_hold_is_refused_with_its_path(payload: Any, path: str) -> None:
    with pytest.raises(TypeError, match=path):
        json_event(payload)


@pytest.mark.parametrize("number", [SAFE + 1, -SAFE - 1, 10**400])
def test_a_number_that_would_lose_digits_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match=r"payload\.n"):
        json_event({"n": number})


def test_a_payload_without_end_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    with pytest.raises(ValueError, match="32"):
        json_event(endless)
    deep: dict[str, Any] = {}
    for _ in range(31):
        deep = {"d": deep}
    assert json_event(deep).SerializeToString()


def test_a_dictionary_needs_its_event_type() -> None:
    with pytest.raises(ConfigurationError, match="event_type"):
        _events.make(ORIGIN, "t", {"a": 1})
