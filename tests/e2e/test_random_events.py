"""Whatever is done to a valid event, both ways agree on what becomes of it, and the service never fails."""

import copy
import json
from collections.abc import Iterator
from typing import Any, Final

import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.appending import append_bytes, append_json, event_message, request_bytes, started
from tests.calling import Answer, Callers

from decisiongraph_service.domain import errors

_CATEGORIES: Final = {
    errors.InvalidArgument.category,
    errors.SchemaViolation.category,
    errors.PiiPolicyViolation.category,
    errors.IdempotencyConflict.category,
    errors.EventSequenceInvalid.category,
    errors.TraceFinished.category,
    errors.EventIdConflict.category,
}

_EVENT: Final = started(
    event_id="e",
    trace_id="t",
    idempotency_key="k",
    trace_seq=0,
    correlation_id="c",
    causation_event_id="p",
    schema_version=1,
    tags=["a", "b"],
) | {
    "source": {"producer_id": "p", "system": "s", "subsystem": "u"},
    "payload": {
        "workflow": "w",
        "title": "t",
        "primary_entity": {"entity_type": "order", "entity_id": "1", "system": "shop"},
        "context": {"a": "b"},
        "list": [1, "two", None, True, {"three": []}],
    },
}


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if path:
        yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield from _paths(member, (*path, key))


_TEXTS: Final = [
    "",
    " ",
    "\0",
    "a\0b",
    "\u3000",
    "\ufeff",
    "x" * 201,
    "👟" * 60,
    "TraceStarted",
    "TraceFinished",
    "agent",
]
_SECRETS: Final = ["sk" + "-abcdefghijkl12345", "password" + "=hunter22"]
_VALUES: Final[st.SearchStrategy[Any]] = st.one_of(
    st.sampled_from([*_TEXTS, *_SECRETS, "2026-01-01T00:00:00Z", "\ud800"]),
    st.sampled_from([0, -1, 1, 2**31, 2**53, -(2**53), 2**63, 10**30, 0.5, 1e300, True, None]),
    st.text(max_size=8),
    st.integers(-5, 5),
    st.sampled_from([[], {}, [""], [None], {"a": 1}, {"": None}, [[[0.1]]], ["x"] * 65]),
)
_CHANGES: Final = st.lists(
    st.tuples(st.sampled_from(list(_paths(_EVENT))), st.sampled_from(["set", "remove", "rename"]), _VALUES),
    min_size=1,
    max_size=3,
)


def _change(event: dict[str, Any], path: tuple[Any, ...], action: str, value: Any) -> None:
    holder: Any = event
    for step in path[:-1]:
        try:
            holder = holder[step]
        except (KeyError, IndexError, TypeError):
            return
    if not isinstance(holder, dict | list):
        return
    try:
        if action == "set":
            holder[path[-1]] = value
        elif action == "remove":
            del holder[path[-1]]
        elif isinstance(holder, dict) and isinstance(value, str):
            holder[value] = holder.pop(path[-1])
    except (KeyError, IndexError, TypeError):
        return


def _as_bytes(event: dict[str, Any]) -> bytes | None:
    """The event as a message; None if it cannot be written as one."""
    try:
        return request_bytes(event_message(event))
    except (json_format.ParseError, UnicodeError, ValueError, AttributeError, TypeError, SystemError):
        return None


def _outcome(answer: Answer) -> str:
    return "stored" if answer.ok else answer.category


def _edge_refused(answer: Answer) -> bool:
    """The transcoder refused the JSON itself: it names no field."""
    return answer.http_status == 400 and answer.category == "invalid_argument" and not answer.fields


@given(changes=_CHANGES)
@settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_a_changed_event_has_the_same_outcome_by_both_ways(
    callers: Callers, changes: list[tuple[tuple[str | int, ...], str, Any]]
) -> None:
    event = copy.deepcopy(_EVENT)
    for path, action, value in changes:
        _change(event, path, action, value)
    by_rest = await append_json(callers, json.dumps(event))
    assert by_rest.ok or by_rest.category in _CATEGORIES, by_rest.body
    request = _as_bytes(event)
    if request is None:
        return
    by_grpc = await append_bytes(callers, request)
    assert by_grpc.ok or by_grpc.category in _CATEGORIES, by_grpc.body
    if not _edge_refused(by_rest):
        assert _outcome(by_rest) == _outcome(by_grpc), f"{by_rest.body}\n{by_grpc.body}"
        assert by_rest.ok or by_rest.fields == by_grpc.fields


@given(data=st.binary(max_size=200))
@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_any_bytes_get_a_typed_answer(callers: Callers, data: bytes) -> None:
    for answer in (await append_bytes(callers, data), await append_json(callers, data)):
        assert not answer.ok
        assert answer.category in _CATEGORIES, answer.body


@pytest.mark.parametrize("position", range(0, 240, 7))
async def test_a_flipped_byte_gets_a_typed_answer(callers: Callers, position: int) -> None:
    whole = bytearray(request_bytes(event_message(_EVENT)))
    for bits in (0x01, 0x80, 0xFF):
        broken = bytes(whole[:position]) + bytes([whole[position] ^ bits]) + bytes(whole[position + 1 :])
        answer = await append_bytes(callers, broken)
        assert answer.ok or answer.category in _CATEGORIES, answer.body
