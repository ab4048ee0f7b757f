"""What cannot be decoded is named by field and fault, quickly, and never raises."""

import time
from typing import Any

import pytest
from google.protobuf import message_factory
from hypothesis import given
from hypothesis import strategies as st
from tests.appending import event_message, field, request_bytes, started, varint

from decisiongraph.v1 import ingestion_service_pb2, query_service_pb2
from decisiongraph_service.rpc import contract, decoding

APPEND = decoding.tolerant_decoder(ingestion_service_pb2.AppendEventRequest, 100_000)
BATCH = decoding.tolerant_decoder(ingestion_service_pb2.AppendEventsRequest, 100_000)
BAD = b"a\xff"


def found(decoded: Any) -> tuple[str, str]:
    """Field and code of what is wrong."""
    assert isinstance(decoded, decoding.Undecodable), "it was decoded"
    assert decoded.error().category == "invalid_argument"
    return decoded.violation.field, decoded.violation.code


def test_a_good_request_is_the_message() -> None:
    data = request_bytes(event_message(started()))
    assert APPEND(data) == ingestion_service_pb2.AppendEventRequest.FromString(data)
    assert APPEND(b"") == ingestion_service_pb2.AppendEventRequest()


@pytest.mark.parametrize(
    ("numbers", "path"),
    [
        ((2,), "trace_id"),
        ((6, 1), "source.producer_id"),
        ((13,), "tags"),
        ((9, 1, 1), "payload"),
        ((9, 1, 2, 3), "payload"),
        ((9, 1, 2, 5, 1, 1), "payload"),
        ((20, 3, 1), "trace_started.primary_entity.entity_type"),
        ((20, 4, 1), "trace_started.context"),
        ((23, 4, 3, 1, 1), "policy_evaluated.violations.details"),
    ],
)
def test_text_that_is_not_utf8_is_named_by_its_path(numbers: tuple[int, ...], path: str) -> None:
    data = BAD
    for number in reversed(numbers):
        data = field(number, data)
    assert found(APPEND(field(1, data))) == (path, "INVALID_UTF8")


def test_paths_of_other_requests_begin_at_the_request() -> None:
    assert found(BATCH(field(1, field(2, BAD)))) == ("events.trace_id", "INVALID_UTF8")
    get_event = decoding.tolerant_decoder(query_service_pb2.GetEventRequest, 1_000)
    assert found(get_event(field(1, BAD))) == ("event_id", "INVALID_UTF8")


def test_the_first_broken_text_is_named() -> None:
    assert found(APPEND(field(1, field(2, b"ok") + field(8, BAD) + field(13, BAD)))) == (
        "idempotency_key",
        "INVALID_UTF8",
    )


@pytest.mark.parametrize("levels", [50, 200, 5_000])
def test_too_many_levels_are_named_by_the_field_that_holds_them(levels: int) -> None:
    value = b""
    for _ in range(levels):
        value = field(5, field(1, field(1, b"a") + field(2, value)))
    data = field(1, field(9, field(1, field(1, b"deep") + field(2, value))))
    assert found(APPEND(data)) == ("payload", "TOO_DEEP")


@pytest.mark.parametrize("data", [b"\xff\xff", b"\x0a\x05", b"\x0b", b"{}", varint(1 << 3 | 7)])
def test_broken_bytes_are_malformed(data: bytes) -> None:
    assert found(APPEND(data)) == ("request", "MALFORMED")


def test_a_request_that_is_too_long_is_told_both_sizes() -> None:
    decoded = APPEND(bytes(100_001))
    assert found(decoded) == ("request", "TOO_LONG")
    assert isinstance(decoded, decoding.Undecodable)
    assert "100001" in decoded.violation.description
    assert "100000" in decoded.violation.description


@pytest.mark.parametrize("filler", [field(13, b""), varint(3 << 3) + b"\x00", field(9, field(1, b""))], ids=bytes.hex)
def test_the_search_for_the_fault_is_bounded(filler: bytes) -> None:
    decode = decoding.tolerant_decoder(ingestion_service_pb2.AppendEventRequest, 10_000_000)
    data = field(1, filler * (4_000_000 // len(filler)) + field(2, BAD))
    began = time.process_time()
    assert found(decode(data)) == ("request", "MALFORMED")
    assert time.process_time() - began < 1.0


@given(st.binary(max_size=300))
def test_no_bytes_make_the_decoder_raise(data: bytes) -> None:
    for _, method in contract.methods():
        message = message_factory.GetMessageClass(method.input_type)
        decoded = decoding.tolerant_decoder(message, 1_000)(data)
        assert isinstance(decoded, (message, decoding.Undecodable))


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
def test_no_damage_makes_the_decoder_raise(position: int, damage: bytes) -> None:
    whole = request_bytes(event_message(started(tags=["a"], trace_seq=0)))
    at = position % len(whole)
    APPEND(whole[:at] + damage + whole[at + len(damage) :])
