"""A request id is taken if it is sane and made if not, and comes back on every answer by every way."""

import httpx
import pytest
from tests.appending import event_message, request_bytes, started, writer
from tests.calling import Answer, Callers

_SANE = ["1", "a" * 128, "!~\"#$%&'()*+,-./:;<=>?@[]^_`{|}", "0af7651916cd43dd8448eb211c80319c"]
_INSANE_HEADERS = [b"a" * 129, b"a b", b"a\tb", b"\xc3\xbc", b"\xff", b""]


async def rest_ids(callers: Callers, sent: bytes, path: str) -> tuple[httpx.Response, str]:
    headers = [
        (b"authorization", f"Bearer {callers.tenant.tokens['reader']}".encode()),
        (b"x-request-id", sent),
    ]
    response = await callers.client.get(path, headers=headers)
    return response, response.headers["x-request-id"]


@pytest.mark.parametrize("sent", _SANE)
async def test_a_sane_id_comes_back_over_rest(callers: Callers, sent: str) -> None:
    for path in ("/api/healthz", "/api/v1/events/e", "/api/v1/nothing", "/api/v1/events/e?unknown=1"):
        response, echoed = await rest_ids(callers, sent.encode(), path)
        assert echoed == sent, path
        if not response.is_success:
            answer = Answer(False, response.json())
            assert answer.detail("RequestInfo")["request_id"] == sent, path


@pytest.mark.parametrize("sent", _INSANE_HEADERS)
async def test_another_id_is_replaced_over_rest(callers: Callers, sent: bytes) -> None:
    for path in ("/api/healthz", "/api/v1/events/e", "/api/v1/nothing"):
        response, echoed = await rest_ids(callers, sent, path)
        assert echoed.encode() != sent
        assert 16 <= len(echoed) <= 128
        assert echoed.isascii()
        if not response.is_success:
            assert Answer(False, response.json()).detail("RequestInfo")["request_id"] == echoed


@pytest.mark.parametrize("sent", _SANE)
async def test_a_sane_id_comes_back_over_grpc(callers: Callers, through_envoy: Callers, sent: str) -> None:
    for way in (callers, through_envoy):
        metadata = {**writer(callers), "x-request-id": sent}
        stored = await way.by_grpc("AppendEvent", {"event": started()}, metadata)
        refused = await way.by_grpc("AppendEvent", {"event": started(event_type="x")}, metadata)
        assert (stored.ok, refused.ok) == (True, False)
        assert refused.detail("RequestInfo")["request_id"] == sent
        assert [answer.metadata.get("x-request-id") for answer in (stored, refused)] == [sent, sent]


@pytest.mark.parametrize("sent", ["a" * 129, "a b"])
async def test_another_id_is_replaced_over_grpc(callers: Callers, through_envoy: Callers, sent: str) -> None:
    for way in (callers, through_envoy):
        answer = await way.by_grpc("GetLiveness", {}, {"x-request-id": sent})
        echoed = answer.metadata["x-request-id"]
        assert echoed != sent
        assert 16 <= len(echoed) <= 128


async def test_ids_that_are_made_differ(callers: Callers) -> None:
    over_rest = {(await callers.client.get("/api/healthz")).headers["x-request-id"] for _ in range(20)}
    over_grpc = {(await callers.by_grpc("GetLiveness", {}, {})).metadata["x-request-id"] for _ in range(20)}
    replaced = {(await rest_ids(callers, b"a b", "/api/healthz"))[1] for _ in range(20)}
    assert len(over_rest | over_grpc | replaced) == 60


async def test_grpc_through_envoy_answers_as_grpc_without_it(callers: Callers, through_envoy: Callers) -> None:
    event = started(event_id="e")
    stored = await through_envoy.by_grpc("AppendEvent", {"event": event}, writer(callers))
    assert stored.ok, stored.body
    refused = [
        await way.by_grpc_bytes("AppendEvent", request_bytes(event_message(started(tags=[""] * 65))), writer(callers))
        for way in (callers, through_envoy)
    ]
    direct, through = ({**answer.body, "details": answer.body["details"][:1]} for answer in refused)
    assert direct == through
    assert refused[1].fields == refused[0].fields
    assert (refused[1].reason, refused[1].code) == ("INVALID_ARGUMENT", 3)


async def test_grpc_through_envoy_needs_a_token_too(through_envoy: Callers) -> None:
    answer = await through_envoy.by_grpc("GetEvent", {"event_id": "e"}, {})
    assert (answer.code, answer.reason) == (16, "UNAUTHENTICATED")
