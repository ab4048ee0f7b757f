"""Whatever bytes an rpc is sent, the answer is a success or a refusal of the contract, and the server lives on."""

from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import pytest
from google.protobuf import json_format, message_factory
from hypothesis import given
from hypothesis import strategies as st
from tests.calling import METHODS, Callers, Service, refusal_of
from tests.fuzz import wire
from tests.fuzz.effort import fuzzed
from tests.fuzz.own_service import fuzzed_callers
from tests.fuzz.refusals import REASONS, faults, told
from tests.rpc_examples import RULES, example

_FURTHER: Final = (
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)


@pytest.fixture(scope="module")
async def callers(service: Service, database_url: str) -> AsyncIterator[Callers]:
    async with fuzzed_callers(service, database_url) as calling:
        yield calling


def _encoded(rpc: str) -> bytes:
    """A request that breaks no rule, encoded."""
    message = message_factory.GetMessageClass(METHODS[rpc][1].input_type)()
    return bytes(json_format.ParseDict(example(rpc), message).SerializeToString())


def _metadata(callers: Callers, rpc: str) -> dict[str, str]:
    role = RULES[rpc].role
    return {"authorization": f"Bearer {callers.tenant.tokens[role]}"} if role else {}


async def _assert_contract(callers: Callers, rpc: str, request: bytes) -> None:
    answer: Any = await callers.by_grpc_bytes(rpc, request, _metadata(callers, rpc))
    assert faults(answer) == [], told(request)


@pytest.mark.parametrize("rpc", METHODS)
@given(data=st.data())
@fuzzed(10)
async def test_a_changed_request_gets_a_success_or_a_refusal_of_the_contract(
    callers: Callers, rpc: str, data: st.DataObject
) -> None:
    await _assert_contract(callers, rpc, data.draw(wire.mutated(_encoded(rpc))))


@given(
    st.sampled_from(sorted(METHODS)), st.binary(max_size=80) | st.sampled_from([wire.nested(1, 5_000), b"\x0a" * 9_999])
)
@fuzzed(100)
async def test_any_bytes_get_a_success_or_a_refusal_of_the_contract(
    callers: Callers, rpc: str, request_: bytes
) -> None:
    await _assert_contract(callers, rpc, request_)


@given(st.sampled_from(sorted(METHODS)), st.sampled_from(sorted(METHODS)))
@fuzzed(50)
async def test_a_request_of_another_rpc_is_answered_like_any_other(callers: Callers, rpc: str, other: str) -> None:
    await _assert_contract(callers, rpc, _encoded(other))


@pytest.mark.parametrize("path", _FURTHER)
@given(request_=st.binary(max_size=20) | st.sampled_from([b"\xff", b"\x0a\x02\xff\xfe", b"\x0a\x05"]))
@fuzzed(15)
async def test_rpcs_beside_the_contract_refuse_bytes_likewise(callers: Callers, path: str, request_: bytes) -> None:
    metadata = (("authorization", f"Bearer {callers.tenant.tokens['reader']}"),)
    call: Any = callers.channel.unary_stream(path)
    try:
        async for _ in call(request_, metadata=metadata, timeout=30):
            break
    except grpc.aio.AioRpcError as error:
        assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), (request_, error)
        if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
            assert faults(refusal_of(error)) == []


def test_the_contract_names_what_refuses_bad_bytes() -> None:
    assert REASONS["INVALID_ARGUMENT"].code == 3
    assert "INTERNAL" not in REASONS
