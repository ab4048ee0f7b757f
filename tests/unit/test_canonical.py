"""Canonical JSON, hashes, digest text, and the checks that make a payload fit for them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisiongraph_service.domain import canonical
from decisiongraph_service.domain.events import JsonValue
from decisiongraph_service.domain.limits import EventLimits

LIMITS = EventLimits()
GOLDEN = Path(__file__).parents[1] / "golden"

HASHES = [
    ("{}", "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"),
    ('{"outcome":"success"}', "sha256:3863ee0a9a320461c866f2b3b4b746e6acf6251770f062fec4136d31ff1c0f99"),
    (
        '{"workflow":"w","title":"Größe 😀","primary_entity":{"entity_type":"account","entity_id":"42"}}',
        "sha256:6932dfe75f49dc2c3443dcc176df066e3bdb91c77b328ef9f059bb1d9a155232",
    ),
    (
        '{"policy":{"policy_id":"cap","policy_version":"1"},"inputs":[],"decision":"allow"}',
        "sha256:8277e7b5a47db2b487790c952c6e65aaf1cda5d724440cd79e6655ba80966097",
    ),
]

SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}

texts = st.text(st.characters(exclude_categories=["Cs"]))
integers = st.integers(-canonical.MAX_INTEGER, canonical.MAX_INTEGER)
json_values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | integers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def slow_text(text: str) -> str:
    written = (SHORT_ESCAPES.get(c) or (f"\\u{ord(c):04x}" if c < " " else c) for c in text)
    return '"' + "".join(written) + '"'


def slow_canonical(value: JsonValue) -> str:
    """Canonical JSON, written after the contract and not after the service."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return slow_text(value)
    if isinstance(value, Mapping):
        members = sorted(value.items(), key=lambda member: [ord(c) for c in member[0]])
        return "{" + ",".join(f"{slow_text(key)}:{slow_canonical(member)}" for key, member in members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(slow_canonical, value)) + "]"
    return str(value)


@given(json_values)
def test_canonical_json_equals_a_slow_implementation(value: JsonValue) -> None:
    assert canonical.canonical_json(value) == slow_canonical(value)


@given(json_values)
def test_canonical_json_reads_back_as_the_same_value(value: JsonValue) -> None:
    assert json.loads(canonical.canonical_json(value)) == value


@pytest.mark.parametrize(("payload", "expected"), HASHES)
def test_payload_hashes_of_the_contract(payload: str, expected: str) -> None:
    assert canonical.payload_hash(canonical.canonical_json(json.loads(payload))) == expected


def test_every_kind_of_character_of_the_contract() -> None:
    text = 'tab\t slash/ quote" back\\ del\x7f nul\x00 us\x1f ls\u2028'
    written = canonical.canonical_json({"z": [1, True, None, -5], "a": {"é": text}, "A": ""})
    assert written == (
        '{"A":"","a":{"é":"tab\\t slash/ quote\\" back\\\\ del\x7f nul\\u0000 us\\u001f ls\u2028"},'
        '"z":[1,true,null,-5]}'
    )
    assert canonical.payload_hash(written) == (
        "sha256:81481a66ba3afecbd06670692ff1bf4f7551285510fe4c95574bf39fdde374b6"
    )


def test_keys_are_sorted_by_code_point_not_by_utf16() -> None:
    assert canonical.canonical_json({"😀": 1, "\uffff": 2}) == '{"\uffff":2,"😀":1}'


@pytest.mark.parametrize("name", ["refunds", "loan"])
def test_every_golden_event_has_its_hash(name: str) -> None:
    golden: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    hashes = [canonical.payload_hash(canonical.canonical_json(event["payload"])) for event in golden["events"]]
    assert hashes == [stored["payload_hash"] for stored in golden["stored"]]


def nested(levels: int) -> JsonValue:
    value: JsonValue = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def found(value: Any, limits: EventLimits = LIMITS) -> list[tuple[str, str]]:
    return [(violation.field, violation.code) for violation in canonical.check_json(value, limits)]


@given(json_values)
def test_json_passes(value: JsonValue) -> None:
    assert found(value) == []
    assert canonical.check_numbers(value) == []


NOT_JSON: list[tuple[Any, list[tuple[str, str]]]] = [
    ({"a": [{"b": {1, 2}}]}, [("payload.a[0].b", "NOT_JSON")]),
    ({"a": (1, 2), "b": b"x"}, [("payload.a", "NOT_JSON"), ("payload.b", "NOT_JSON")]),
    ({"a": {1: "x"}}, [("payload.a", "NOT_JSON")]),
    ({"a": {"k": object()}}, [("payload.a.k", "NOT_JSON")]),
    ({"a": ["\ud800"]}, [("payload.a[0]", "UNPAIRED_SURROGATE")]),
    ({"\udc00": 1}, [('payload["\\udc00"]', "UNPAIRED_SURROGATE")]),
    ("\ud800", [("payload", "UNPAIRED_SURROGATE")]),
]


@pytest.mark.parametrize(("value", "violations"), NOT_JSON)
def test_every_place_that_is_not_json_is_listed(value: Any, violations: list[tuple[str, str]]) -> None:
    assert found(value) == violations


def test_thirty_two_levels_pass_and_one_more_is_named() -> None:
    assert found(nested(32)) == []
    assert found(nested(33)) == [("payload" + ".a" * 32, "TOO_DEEP")]


def test_lists_count_as_levels() -> None:
    assert found({"a": [[[]]]}, EventLimits(max_payload_depth=4)) == []
    assert found({"a": [[[]]]}, EventLimits(max_payload_depth=3)) == [("payload.a[0][0]", "TOO_DEEP")]


def test_ten_thousand_levels_are_refused_without_exhausting_the_stack() -> None:
    assert [code for _, code in found(nested(10_000))] == ["TOO_DEEP"]
    assert canonical.check_numbers(nested(10_000)) == []
    assert len(list(canonical.walk(nested(10_000)))) == 10_000


def test_ten_thousand_values_pass_and_one_more_is_refused() -> None:
    assert found({"a": [0] * 9_998}) == []
    assert found({"a": [0] * 9_999}) == [("payload", "TOO_MANY")]


def test_size_and_limit_are_named() -> None:
    (violation,) = canonical.check_json({"a": [0] * 20_000}, LIMITS)
    assert "20002" in violation.description
    assert "10000" in violation.description


NUMBERS: list[tuple[JsonValue, list[tuple[str, str]]]] = [
    ({"a": 2**53 - 1, "b": -(2**53) + 1, "c": True, "d": 0}, []),
    ({"a": 2**53}, [("payload.a", "NUMBER_OUT_OF_RANGE")]),
    ({"a": [-(2**53)]}, [("payload.a[0]", "NUMBER_OUT_OF_RANGE")]),
    ({"a": 10**5000}, [("payload.a", "NUMBER_OUT_OF_RANGE")]),
    ({"a": 0.5, "b": [{"c": 1.5}]}, [("payload.a", "FRACTIONAL_NUMBER"), ("payload.b[0].c", "FRACTIONAL_NUMBER")]),
    ({"a": float("nan"), "b": float("-inf")}, [("payload.a", "FRACTIONAL_NUMBER"), ("payload.b", "FRACTIONAL_NUMBER")]),
]


@pytest.mark.parametrize(("value", "violations"), NUMBERS)
def test_numbers_that_would_be_rounded_are_listed(value: JsonValue, violations: list[tuple[str, str]]) -> None:
    broken = canonical.check_numbers(value)
    assert [(violation.field, violation.code) for violation in broken] == violations
    assert all("as text" in violation.description for violation in broken)


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("a", "payload.a"),
        ("_A9", "payload._A9"),
        ("", 'payload[""]'),
        ("9a", 'payload["9a"]'),
        ("weird key", 'payload["weird key"]'),
        ('q"\n', 'payload["q\\"\\n"]'),
        ("Größe", 'payload["Größe"]'),
        ("\ud800", 'payload["\\ud800"]'),
        ("a\n", 'payload["a\\n"]'),
        ("a" * 64, "payload." + "a" * 64),
        ("a" * 65, 'payload["' + "a" * 64 + '…"]'),
    ],
)
def test_keys_are_written_so_that_they_can_be_found(key: str, written: str) -> None:
    assert canonical.format_path((None, key)) == written


def test_values_are_walked_in_document_order() -> None:
    paths = [canonical.format_path(path) for path, _ in canonical.walk({"b": [1, {"c": 2}], "a": None})]
    assert paths == ["payload", "payload.b", "payload.b[0]", "payload.b[1]", "payload.b[1].c", "payload.a"]
