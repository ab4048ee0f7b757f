"""Requests that are broken or too large as a whole: each gets a typed answer that names what, and writes nothing."""

import asyncio
import json
import time
from typing import Any

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
    varint,
    with_payload_value,
)
from tests.calling import BOTH_WAYS, METHODS, Answer, Callers

from decisiongraph_service.storage.database import Database

_LIMIT = 4 * 1024 * 1024


def nested(levels: int, kind: type) -> Any:
    """`levels` objects or lists inside each other."""
    value: Any = kind()
    for _ in range(levels - 1):
        value = {"a": value} if kind is dict else [value]
    return value


def nested_value(levels: int, kind: type) -> bytes:
    """The same as a google.protobuf.Value, which no library writes at every depth."""
    inner = b""
    for level in range(levels):
        if level:
            inner = field(1, field(1, b"a") + field(2, inner)) if kind is dict else field(1, inner)
        inner = field(5 if kind is dict else 6, inner)
    return inner


def with_nested_payload(levels: int, kind: type) -> bytes:
    """A request whose payload has so many levels, its own included."""
    message = event_message(started())
    payload = message.payload.SerializeToString() + field(
        1, field(1, b"deep") + field(2, nested_value(levels - 1, kind))
    )
    message.ClearField("payload")
    return field(1, message.SerializeToString() + field(9, payload))


def assert_invalid(answer: Answer, *fields: str) -> None:
    assert answer.category == "invalid_argument", answer.body
    assert answer.fields == list(fields), answer.body


@pytest.mark.parametrize("kind", [dict, list])
async def test_a_payload_of_32_levels_is_stored_and_read(callers: Callers, kind: type) -> None:
    event = changed(started(event_id="e"), "payload.deep", nested(31, kind))
    assert (await append(callers, "rest", event)).ok
    assert (await append_bytes(callers, with_nested_payload(32, kind))).ok
    for way in BOTH_WAYS:
        read = await callers.call(way, "GetEvent", {"event_id": "e"})
        assert read.body["event"]["payload"] == event["payload"]


@pytest.mark.parametrize("levels", [33, 34, 40, 60, 200, 5000])
@pytest.mark.parametrize("kind", [dict, list])
async def test_a_deeper_payload_is_an_invalid_argument_that_names_it(
    callers: Callers, database: Database, kind: type, levels: int
) -> None:
    opening, closing = ('{"a":', "}") if kind is dict else ("[", "]")
    middle = "{}" if kind is dict else "[]"
    deep = opening * (levels - 2) + middle + closing * (levels - 2)
    text = json.dumps(changed(started(), "payload.deep", "@")).replace('"@"', deep)
    by_rest = await append_json(callers, text)
    by_grpc = await append_bytes(callers, with_nested_payload(levels, kind))
    for answer in (by_rest, by_grpc):
        assert answer.category == "invalid_argument", answer.body
    assert by_grpc.fields[0].startswith("payload"), by_grpc.body
    # Beyond 100 levels the transcoder refuses the JSON by itself and can only say that it is too deep.
    assert by_rest.fields[0].startswith("payload") if levels < 100 else "too deep" in by_rest.body["message"]
    assert await head(callers, database) == 0


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_payload_has_at_most_ten_thousand_values(callers: Callers, database: Database, way: str) -> None:
    # The payload of `started` has six values, and the list is one more.
    answer = await append(callers, way, changed(started(), "payload.many", [0] * 9_994))
    assert_invalid(answer, "payload")
    assert "10000" in answer.body["message"]
    assert await head(callers, database) == 0
    answer = await append(callers, way, changed(started(), "payload.many", [0] * 9_993))
    assert answer.ok, answer.body


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_payload_has_at_most_256_kib_of_canonical_json(callers: Callers, database: Database, way: str) -> None:
    event = started()
    room = 262_144 - len(json.dumps({**event["payload"], "text": ""}, separators=(",", ":")))
    answer = await append(callers, way, changed(event, "payload.text", "a" * (room + 1)))
    assert_invalid(answer, "payload")
    assert "262145" in answer.body["message"]
    assert "262144" in answer.body["message"]
    assert await head(callers, database) == 0
    answer = await append(callers, way, changed(event, "payload.text", "a" * room))
    assert answer.ok, answer.body


async def test_a_message_over_4_mib_is_an_invalid_argument_that_names_its_size(
    callers: Callers, database: Database
) -> None:
    request = field(1, field(2, b"a" * _LIMIT))
    answer = await append_bytes(callers, request)
    assert_invalid(answer, "request")
    assert str(len(request)) in answer.body["message"]
    assert str(_LIMIT) in answer.body["message"]
    assert await head(callers, database) == 0


async def test_a_body_over_4_mib_is_refused_with_413(callers: Callers, database: Database) -> None:
    answer = await append_json(callers, b'{"trace_id":"' + b"a" * _LIMIT + b'"}')
    assert (answer.http_status, answer.reason) == (413, "INVALID_ARGUMENT")
    assert str(_LIMIT) in answer.body["message"]
    assert await head(callers, database) == 0


@pytest.mark.parametrize(
    "request_",
    [
        b"\xff\xff\xff",
        b"\x0a\x05",
        b"\x0b",
        b"\x00",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"{}",
    ],
    ids=bytes.hex,
)
async def test_broken_bytes_are_an_invalid_argument_of_every_rpc(callers: Callers, request_: bytes) -> None:
    for rpc in ("AppendEvent", "GetTrace", "GetEvent", "ListTraceEvents"):
        role = "writer" if rpc == "AppendEvent" else "reader"
        metadata = {"authorization": f"Bearer {callers.tenant.tokens[role]}"}
        answer = await callers.by_grpc_bytes(rpc, request_, metadata)
        assert answer.category == "invalid_argument", f"{rpc}: {answer.body}"
        assert answer.fields, f"{rpc}: {answer.body}"


async def test_every_cut_of_a_valid_message_gets_a_typed_answer(callers: Callers, database: Database) -> None:
    message = event_message(started())
    message.ClearField("idempotency_key")  # the last field, so that no cut is complete
    whole = request_bytes(message)
    for end in range(len(whole)):
        answer = await append_bytes(callers, whole[:end])
        assert answer.category == "invalid_argument", f"cut after {end} bytes: {answer.body}"
    assert await head(callers, database) == 0


async def test_an_empty_message_is_told_what_is_required(callers: Callers) -> None:
    for answer in (await append_bytes(callers, b""), await append_json(callers, "{}"), await append_json(callers, "")):
        assert_invalid(answer, "idempotency_key")


async def test_looking_for_what_is_wrong_does_not_hold_up_others(callers: Callers) -> None:
    # Two million fields before the one that is broken, from somebody without a token.
    tags = field(13, b"") * 1_900_000
    request = field(1, tags + field(2, b"\xff"))
    refusal = asyncio.create_task(callers.by_grpc_bytes("AppendEvent", request, {}))
    await asyncio.sleep(0.05)
    began = time.perf_counter()
    await callers.by_grpc("GetLiveness", {}, {})
    waited = time.perf_counter() - began
    assert (await refusal).reason == "UNAUTHENTICATED"
    assert waited < 1.5, f"another call waited {waited:.1f} s"


async def test_thousands_of_violations_fit_the_answer(callers: Callers, database: Database) -> None:
    fractions = event_message(started())
    for number in range(5000):
        fractions.payload.fields[f"{number} 👟"].number_value = 0.5
    answer = await append_bytes(callers, request_bytes(fractions))
    assert answer.category == "schema_violation", answer.body
    assert answer.detail("BadRequest")["field_violations"][-1]["reason"] == "MORE_VIOLATIONS"
    assert len(answer.fields) > 5
    assert await head(callers, database) == 0


async def test_of_far_too_many_tags_none_is_looked_at(callers: Callers, database: Database) -> None:
    tags = event_message(started(tags=[" \u2003"] * 500_000))
    answer = await append_bytes(callers, request_bytes(tags))
    assert (answer.category, answer.fields) == ("invalid_argument", ["tags"])
    assert await head(callers, database) == 0


@pytest.mark.parametrize("character", ["👟", "%", "é", "\n", "a"])
async def test_a_path_of_long_keys_fits_the_answer(callers: Callers, database: Database, character: str) -> None:
    value = struct_pb2.Value(number_value=0.5)
    for _ in range(29):
        outer = struct_pb2.Value()
        outer.struct_value.fields[character * 1_000].CopyFrom(value)
        value = outer
    answer = await append_bytes(callers, with_payload_value(value))
    assert answer.category == "schema_violation", answer.body
    assert answer.fields[0].startswith("payload.extra"), answer.body
    by_rest = await append_json(callers, json.dumps(changed(started(), "payload.extra", _deep(character))))
    assert by_rest.category == "schema_violation", by_rest.body
    assert await head(callers, database) == 0


def _deep(character: str) -> Any:
    value: Any = 0.5
    for _ in range(29):
        value = {character * 1_000: value}
    return value


async def test_the_longest_unknown_ids_fit_the_answer(callers: Callers) -> None:
    for way in BOTH_WAYS:
        for rpc, name in (("GetEvent", "event_id"), ("GetTrace", "trace_id")):
            answer = await callers.call(way, rpc, {name: "👟" * 50})
            assert answer.category == "not_found", answer.body


async def test_every_rpc_refuses_text_that_is_not_utf8(callers: Callers) -> None:
    for rpc, name in (("GetEvent", "event_id"), ("GetTrace", "trace_id"), ("ListTraceEvents", "trace_id")):
        number = METHODS[rpc][1].input_type.fields_by_name[name].number
        metadata = {"authorization": f"Bearer {callers.tenant.tokens['reader']}"}
        assert_invalid(await callers.by_grpc_bytes(rpc, field(number, b"\xff"), metadata), name)


async def test_unknown_fields_of_the_wire_format_are_ignored(callers: Callers) -> None:
    message = request_bytes(event_message(started()))
    answer = await append_bytes(callers, message + varint(1000 << 3) + varint(5) + field(1001, b"x"))
    assert answer.ok, answer.body
