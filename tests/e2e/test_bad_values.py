"""Values that cannot be stored as sent are refused by both ways with the same category, and write nothing."""

import json
import math

import pytest
from google.protobuf import struct_pb2
from tests.appending import (
    append,
    append_bytes,
    append_json,
    changed,
    event_message,
    field,
    head,
    request_bytes,
    started,
    with_payload_value,
)
from tests.calling import BOTH_WAYS, Answer, Callers
from tests.golden_files import SCENARIOS

from decisiongraph_service.domain import payload_rules
from decisiongraph_service.storage.database import Database

# Unicode's White_Space, and two that look like it and are not.
_WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2003\u200a\u2028\u2029\u202f\u205f\u3000"
_NOT_WHITE_SPACE = "\x1c\x1f\u200b\ufeff"

ENVELOPE_TEXTS = (
    "event_id",
    "trace_id",
    "source.producer_id",
    "source.system",
    "source.subsystem",
    "actor.actor_id",
    "idempotency_key",
    "correlation_id",
    "causation_event_id",
)
MUST_NOT_BE_BLANK = ("event_id", "trace_id", "source.producer_id", "source.system", "actor.actor_id")


async def assert_refused_by_both(callers: Callers, database: Database, path: str, value: object, category: str) -> None:
    """The event with this value is refused by both ways, named by its field, and leaves the log as it was."""
    before = await head(callers, database)
    for way in BOTH_WAYS:
        answer = await append(callers, way, changed(started(), path, value))
        assert (answer.ok, answer.category) == (False, category), f"{way}: {answer.body}"
        named = {name.split("[")[0] for name in answer.fields}
        assert named == {path}, f"{way}: {answer.body}"
    assert await head(callers, database) == before


async def assert_accepted_by_both(callers: Callers, path: str, value: object) -> None:
    for way in BOTH_WAYS:
        answer = await append(callers, way, changed(started(), path, value))
        assert answer.ok, f"{way}: {answer.body}"


def assert_refused_at_the_edge(answer: Answer) -> None:
    assert (answer.http_status, answer.reason) == (400, "INVALID_ARGUMENT"), answer.body


@pytest.mark.parametrize("literal", ["9007199254740992", "-9007199254740992", "1e300", "0.1", "123456789012345678901"])
async def test_a_number_that_a_double_does_not_hold_as_integer_is_a_schema_violation(
    callers: Callers, database: Database, literal: str
) -> None:
    text = json.dumps(changed(started(), "payload.n", "@")).replace('"@"', literal)
    number = struct_pb2.Value(number_value=float(literal))
    for answer in (await append_json(callers, text), await append_bytes(callers, with_payload_value(number))):
        assert answer.category == "schema_violation", answer.body
        assert answer.fields in (["payload.n"], ["payload.extra"])
    assert await head(callers, database) == 0


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
async def test_a_number_that_json_does_not_have_is_a_schema_violation(
    callers: Callers, database: Database, number: float
) -> None:
    answer = await append_bytes(callers, with_payload_value(struct_pb2.Value(number_value=number)))
    assert (answer.category, answer.fields) == ("schema_violation", ["payload.extra"])
    assert await head(callers, database) == 0


@pytest.mark.parametrize("literal", ["1e400", "-1e400", "NaN", "Infinity", "01", "0x10", "+1", ".5"])
async def test_a_number_that_is_not_json_or_no_double_is_refused_at_the_edge(
    callers: Callers, database: Database, literal: str
) -> None:
    text = json.dumps(changed(started(), "payload.n", "@")).replace('"@"', literal)
    assert_refused_at_the_edge(await append_json(callers, text))
    assert await head(callers, database) == 0


@pytest.mark.parametrize(
    ("literal", "stored"), [("9007199254740991", 2**53 - 1), ("1.0", 1), ("1e2", 100), ("-0", 0), ("-0.0", 0)]
)
async def test_an_integral_number_comes_back_as_integer(callers: Callers, literal: str, stored: int) -> None:
    event = started(event_id="e")
    text = json.dumps(changed(event, "payload.n", "@")).replace('"@"', literal)
    answer = await append_json(callers, text)
    assert answer.ok, answer.body
    for way in BOTH_WAYS:
        read = await callers.call(way, "GetEvent", {"event_id": "e"})
        number = read.body["event"]["payload"]["n"]
        assert (number, math.copysign(1, number)) == (stored, 1)
    assert str(answer.body["event"]["payload"]["n"]) == str(stored), "the answer of the append differs from the log"


async def test_a_value_without_a_kind_is_not_json(callers: Callers, database: Database) -> None:
    for value in (struct_pb2.Value(), struct_pb2.Value(list_value=struct_pb2.ListValue(values=[struct_pb2.Value()]))):
        answer = await append_bytes(callers, with_payload_value(value))
        assert answer.category == "invalid_argument", answer.body
        assert answer.fields[0].startswith("payload.extra")
    assert await head(callers, database) == 0


@pytest.mark.parametrize("path", [*ENVELOPE_TEXTS, "tags"])
async def test_nul_in_the_envelope_is_refused(callers: Callers, database: Database, path: str) -> None:
    value = ["a", "b\0"] if path == "tags" else "a\0b"
    await assert_refused_by_both(callers, database, path, value, "invalid_argument")


async def test_nul_in_occurred_at_and_event_type_is_refused(callers: Callers, database: Database) -> None:
    await assert_refused_by_both(callers, database, "occurred_at", "2026-03-02T09:00:00Z\0", "invalid_argument")
    await assert_refused_by_both(callers, database, "event_type", "TraceStarted\0", "schema_violation")
    await assert_refused_by_both(callers, database, "actor.actor_type", "agent\0", "invalid_argument")


@pytest.mark.parametrize("path", payload_rules.PROJECTED_TEXT["TraceStarted"])
async def test_nul_in_a_projected_payload_text_is_refused(callers: Callers, database: Database, path: str) -> None:
    await assert_refused_by_both(callers, database, f"payload.{path}", "a\0b", "invalid_argument")


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_nul_in_other_payload_texts_comes_back_exactly(callers: Callers, way: str) -> None:
    event = changed(started(event_id="e"), "payload.context", {"note\0": "a\0b", "\0": "\0"})
    assert (await append(callers, way, event)).ok
    for reading in BOTH_WAYS:
        read = await callers.call(reading, "GetEvent", {"event_id": "e"})
        assert read.body["event"]["payload"] == event["payload"]


@pytest.mark.parametrize("escape", ["\\ud800", "\\udc00", "\\ud800\\ud800", "a\\udfffb"])
@pytest.mark.parametrize("path", ["trace_id", "payload.note"])
async def test_an_unpaired_surrogate_is_refused_at_the_edge(
    callers: Callers, database: Database, path: str, escape: str
) -> None:
    text = json.dumps(changed(started(), path, "@")).replace('"@"', f'"{escape}"')
    assert_refused_at_the_edge(await append_json(callers, text))
    assert await head(callers, database) == 0


@pytest.mark.parametrize("raw", [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\x80"])
async def test_json_that_is_not_utf8_is_refused_at_the_edge(callers: Callers, database: Database, raw: bytes) -> None:
    text = json.dumps(changed(started(), "payload.note", "@")).encode().replace(b'"@"', b'"' + raw + b'"')
    assert_refused_at_the_edge(await append_json(callers, text))
    assert await head(callers, database) == 0


@pytest.mark.parametrize("path", MUST_NOT_BE_BLANK)
async def test_blank_is_what_unicode_calls_white_space(callers: Callers, database: Database, path: str) -> None:
    for character in _WHITE_SPACE if path == "trace_id" else "\u3000":
        await assert_refused_by_both(callers, database, path, character, "schema_violation")
    await assert_refused_by_both(callers, database, path, _WHITE_SPACE, "schema_violation")
    for character in _NOT_WHITE_SPACE:
        message = event_message(changed(started(), path, f"\u3000{character}"))
        answer = await append_bytes(callers, request_bytes(message))
        assert answer.ok or answer.category in ("conflict", "event_sequence_invalid"), answer.body


async def test_blank_tags_are_refused_and_blank_keys_are_not(callers: Callers, database: Database) -> None:
    await assert_refused_by_both(callers, database, "tags", ["a", "\u2003"], "schema_violation")
    await assert_refused_by_both(callers, database, "tags", [""], "schema_violation")
    answer = await append(callers, "grpc", started(idempotency_key="\u2003"))
    assert answer.ok, answer.body


@pytest.mark.parametrize("path", ENVELOPE_TEXTS)
async def test_ids_are_measured_in_bytes(callers: Callers, database: Database, path: str) -> None:
    for text in ("a" * 201, "é" * 100 + "a", "👟" * 50 + "a"):
        await assert_refused_by_both(callers, database, path, text, "invalid_argument")
    for way in BOTH_WAYS:
        longest = way[0] + "é" * 99 + "a"
        answer = await append(callers, way, changed(started(), path, longest))
        assert answer.ok, f"200 bytes over {way}: {answer.body}"


async def test_tags_are_limited_in_number_and_size(callers: Callers, database: Database) -> None:
    await assert_refused_by_both(callers, database, "tags", ["a"] * 65, "invalid_argument")
    await assert_refused_by_both(callers, database, "tags", ["é" * 50 + "a"], "invalid_argument")
    await assert_accepted_by_both(callers, "tags", ["é" * 50] * 64)


@pytest.mark.parametrize("value", [-1, -(2**63)])
async def test_a_negative_trace_seq_is_an_invalid_argument(callers: Callers, database: Database, value: int) -> None:
    await assert_refused_by_both(callers, database, "trace_seq", value, "invalid_argument")


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_the_largest_trace_seq_is_only_out_of_sequence(callers: Callers, database: Database, way: str) -> None:
    answer = await append(callers, way, started(trace_seq=2**63 - 1))
    assert answer.category == "event_sequence_invalid", answer.body
    assert answer.detail("ErrorInfo")["metadata"]["expected_trace_seq"] == "0"
    assert await head(callers, database) == 0


@pytest.mark.parametrize(
    ("path", "literal"),
    [
        ("trace_seq", "9223372036854775808"),
        ("trace_seq", '"9223372036854775808"'),
        ("trace_seq", "1.5"),
        ("trace_seq", "true"),
        ("trace_seq", '"one"'),
        ("schema_version", "2147483648"),
        ("schema_version", "-2147483649"),
        ("trace_id", "5"),
        ("payload", "[]"),
        ("payload", '"text"'),
        ("payload", "5"),
        ("source", "[]"),
        ("tags", "5"),
        ("tags", "[5]"),
        ("tags", '{"a": "b"}'),
    ],
)
async def test_a_value_that_the_field_cannot_hold_is_refused_at_the_edge(
    callers: Callers, database: Database, path: str, literal: str
) -> None:
    text = json.dumps(changed(started(), path, "@")).replace('"@"', literal)
    assert_refused_at_the_edge(await append_json(callers, text))
    assert await head(callers, database) == 0


@pytest.mark.parametrize("value", [0, -1])
async def test_a_schema_version_below_one_is_a_schema_violation(
    callers: Callers, database: Database, value: int
) -> None:
    await assert_refused_by_both(callers, database, "schema_version", value, "schema_violation")


@pytest.mark.parametrize("value", ["tracestarted", "TraceStarted ", "", "WorkflowReviewRequested", "Tra\u0441e"])
async def test_an_unknown_event_type_is_a_schema_violation(callers: Callers, database: Database, value: str) -> None:
    await assert_refused_by_both(callers, database, "event_type", value, "schema_violation")


@pytest.mark.parametrize(
    "value",
    [
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59.999999999-23:59",
        "2026-03-02T09:00:00.12345678901234567890Z",
        "2024-02-29T00:00:00Z",
    ],
)
async def test_an_extreme_timestamp_comes_back_character_by_character(callers: Callers, value: str) -> None:
    for way in BOTH_WAYS:
        answer = await append(callers, way, started(event_id=way, occurred_at=value))
        assert answer.ok, answer.body
        for reading in BOTH_WAYS:
            read = await callers.call(reading, "GetEvent", {"event_id": way})
            assert read.body["event"]["occurred_at"] == value


@pytest.mark.parametrize(
    "value",
    [
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-03-02T24:00:00Z",
        "2026-03-02T09:00:60Z",
        "2026-03-02T09:00:00+24:00",
        "2026-03-02t09:00:00z",
        "2026-03-02 09:00:00Z",
        "2026-03-02T09:00:00",
        "2026-03-02T09:00:00.Z",
        "\uff12026-03-02T09:00:00Z",
        "2026-03-02T09:00:00Z\n",
        "2026-03-02T09:00:00." + "1" * 60 + "Z",
    ],
)
async def test_another_timestamp_is_an_invalid_argument(callers: Callers, database: Database, value: str) -> None:
    await assert_refused_by_both(callers, database, "occurred_at", value, "invalid_argument")


@pytest.mark.parametrize("path", ["source", "actor", "payload", "occurred_at", "idempotency_key", "trace_id"])
async def test_a_required_field_that_is_missing_is_named(callers: Callers, database: Database, path: str) -> None:
    for way in BOTH_WAYS:
        answer = await append(callers, way, {k: v for k, v in started().items() if k != path})
        assert answer.category == (
            "invalid_argument" if path in ("occurred_at", "idempotency_key") else "schema_violation"
        )
        assert {name.split(".")[0] for name in answer.fields} == {path}
    assert await head(callers, database) == 0


async def test_text_that_is_not_utf8_is_named_by_its_path(callers: Callers, database: Database) -> None:
    # Number of the field in the message, and of the field inside it.
    for path, numbers in {
        "event_id": (1,),
        "trace_id": (2,),
        "event_type": (4,),
        "occurred_at": (5,),
        "source.producer_id": (6, 1),
        "source.system": (6, 2),
        "source.subsystem": (6, 3),
        "actor.actor_type": (7, 1),
        "actor.actor_id": (7, 2),
        "idempotency_key": (8,),
        "correlation_id": (10,),
        "causation_event_id": (11,),
        "tags": (13,),
        "trace_started.title": (20, 2),
        "trace_started.primary_entity.entity_id": (20, 3, 2),
        "trace_started.context": (20, 4, 2),
        "payload": (9, 1, 1),
        "action_proposed.changes.new_value.value": (27, 5, 3, 2),
    }.items():
        broken = b"a\xff"
        for number in reversed(numbers):
            broken = field(number, broken)
        answer = await append_bytes(callers, field(1, event_message(started()).SerializeToString() + broken))
        assert (answer.category, answer.fields) == ("invalid_argument", [path]), answer.body
    assert await head(callers, database) == 0


async def test_the_golden_events_are_accepted_by_either_way_alike(callers: Callers) -> None:
    for event in SCENARIOS["loan"]["events"]:
        first, again = [await append(callers, way, event) for way in ("rest", "grpc")]
        assert first.ok, first.body
        assert again.body == {**first.body, "reused": True}
