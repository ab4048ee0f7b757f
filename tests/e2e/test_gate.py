"""The gate: Envoy refuses by itself who has no token that it can verify, and says so as the server would."""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import grpc
import httpx
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from tests.bad_tokens import BAD_HEADERS, BAD_TOKENS, signed
from tests.calling import BOTH_WAYS, METHODS, Answer, Callers, Service

_REALM: Final = 'Bearer realm="decisiongraph"'
_LEFT_TO_THE_SERVER: Final = {
    "no subject",
    "roles are text",
    "roles are an object",
    "roles hold a number",
    "tenants are text",
}
"""What Envoy does not look at."""


async def get_event(through_envoy: Callers, way: str, headers: Mapping[str, str]) -> Answer:
    """Call through Envoy with these headers."""
    call = through_envoy.by_rest if way == "rest" else through_envoy.by_grpc
    return await call("GetEvent", {"event_id": "e"}, headers)


async def denied(service: Service) -> int:
    """How many requests Envoy's gate has refused."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        response = await client.get(f"{service.admin}/stats", params={"filter": "^http.public.jwt_authn.denied$"})
    return int(response.text.rpartition(":")[2])


async def seen_by_the_server(service: Service, request_id: str) -> bool:
    """Whether the server logged the request. Its refusals are logged before they are answered."""
    return request_id in await asyncio.to_thread((service.folder / "logs" / "server.log").read_text)


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_what_the_gate_refuses_does_not_reach_the_server(
    service: Service, through_envoy: Callers, way: str
) -> None:
    refused = {"no token": ""}
    refused |= BAD_HEADERS | {fault: f"Bearer {make(service)}" for fault, make in BAD_TOKENS.items()}
    reached = set()
    before = await denied(service)
    for fault, header in refused.items():
        request_id = uuid.uuid4().hex
        authorization = {"authorization": header} if header else {}
        answer = await get_event(through_envoy, way, {"x-request-id": request_id, **authorization})
        assert (answer.code, answer.reason) == (16, "UNAUTHENTICATED"), f"{fault}: {answer.body}"
        if await seen_by_the_server(service, request_id):
            reached.add(fault)
    assert reached == _LEFT_TO_THE_SERVER
    assert await denied(service) - before == len(refused) - len(reached)


_SAID: Final[dict[str, tuple[Callable[[Service], str], str]]] = {
    "no token": (lambda s: "", "send a token as `authorization: Bearer <token>`"),
    "no scheme": (lambda s: "token", "send a token as `authorization: Bearer <token>`"),
    "malformed": (lambda s: "Bearer a.b", "not in the form of Header.Payload.Signature"),
    "expired": (lambda s: f"Bearer {BAD_TOKENS['expired'](s)}", "has expired; get a new one"),
    "early": (lambda s: f"Bearer {BAD_TOKENS['not yet valid'](s)}", "not valid yet"),
    "audience": (lambda s: f"Bearer {BAD_TOKENS['wrong audience'](s)}", "(`aud`)"),
    "issuer": (lambda s: f"Bearer {BAD_TOKENS['wrong issuer'](s)}", "not made by an issuer that this service knows"),
    "key": (lambda s: f"Bearer {BAD_TOKENS['unknown key id'](s)}", "not ours, or not any more"),
    "signature": (lambda s: f"Bearer {BAD_TOKENS['tampered claims'](s)}", "signature"),
    "another algorithm": (lambda s: f"Bearer {BAD_TOKENS['HS256 with the raw public key'](s)}", "key that is not ours"),
    "claims": (lambda s: f"Bearer {BAD_TOKENS['expiry is text'](s)}", "[exp] field is not an integer"),
}


@pytest.mark.parametrize("fault", _SAID)
async def test_a_refusal_says_what_is_wrong_by_either_way(service: Service, through_envoy: Callers, fault: str) -> None:
    make, said = _SAID[fault]
    header = make(service)
    for way in BOTH_WAYS:
        # Whatever a request id may hold comes back, in JSON too.
        request_id = 'a"b\\c{d}%REQ(X)%'
        headers = {"x-request-id": request_id, **({"authorization": header} if header else {})}
        answer = await get_event(through_envoy, way, headers)
        message = answer.body["message"]
        assert said in message
        assert message.startswith("authorization: ")
        assert answer.body["details"] == [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "UNAUTHENTICATED",
                "domain": "decisiongraph",
                "metadata": {"category": "unauthorized"},
            },
            {
                "@type": "type.googleapis.com/google.rpc.RequestInfo",
                "request_id": request_id,
                "serving_data": "",
            },
        ]
        assert answer.metadata["x-request-id"] == request_id
        if way == "rest":
            assert answer.http_status == 401
            assert answer.metadata["content-type"] == "application/json"
            missing = said.startswith("send a token")
            assert answer.metadata["www-authenticate"] == (_REALM if missing else f'{_REALM}, error="invalid_token"')
            assert answer.metadata["cache-control"] == "no-store"
        else:
            assert "www-authenticate" not in answer.metadata


async def test_what_the_server_refuses_is_challenged_as_well(service: Service, callers: Callers) -> None:
    token = BAD_TOKENS["no subject"](service)
    answer = await callers.call("rest", "GetEvent", {"event_id": "e"}, token=token)
    assert (answer.http_status, answer.metadata["www-authenticate"]) == (401, _REALM)


async def test_grpc_status_and_message_stand_beside_the_details(through_envoy: Callers) -> None:
    call: Any = through_envoy.channel.unary_unary(METHODS["GetEvent"][0])
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(b"", timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert refused.value.details() == "authorization: send a token as `authorization: Bearer <token>`"


@pytest.mark.parametrize("path", ["/nothing", "/api/v1/events/e?unknown=1", "/api/v1/traces/t/events?page_size=ten"])
async def test_without_a_token_nothing_else_of_a_request_is_looked_at(callers: Callers, path: str) -> None:
    assert (await callers.client.get(path)).status_code == 401
    token = {"authorization": f"Bearer {callers.tenant.tokens['reader']}"}
    assert (await callers.client.get(path, headers=token)).status_code == (404 if path == "/nothing" else 400)
    assert (await callers.client.post("/api/v1/events", content=b"{")).status_code == 401


async def test_a_public_path_is_open_for_its_own_method_alone(callers: Callers) -> None:
    for method in ("POST", "DELETE", "OPTIONS"):
        assert (await callers.client.request(method, "/api/healthz")).status_code == 401
    for path in ("/api/healthz/", "/api/healthz/x", "/api//healthz", "/API/healthz", "/api/%68ealthz"):
        assert (await callers.client.get(path)).status_code == 401, path
    assert (await callers.client.get("/api/healthz?")).status_code == 200


async def test_the_body_of_a_refused_request_is_not_waited_for(service: Service) -> None:
    host, _, port = service.rest.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /api/v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: 4194304\r\n\r\n")
    async with asyncio.timeout(5):
        assert b" 401 " in await reader.readline()
    writer.close()


async def test_a_token_is_taken_from_its_header_alone(callers: Callers) -> None:
    token = callers.tenant.tokens["reader"]
    for path, headers in (
        (f"/api/v1/events/e?access_token={token}", {}),
        ("/api/v1/events/e", {"cookie": f"access_token={token}"}),
        ("/api/v1/events/e", {"proxy-authorization": f"Bearer {token}"}),
    ):
        assert (await callers.client.get(path, headers=headers)).status_code == 401


async def test_a_good_token_does_not_open_the_gate_for_a_bad_one(service: Service, callers: Callers) -> None:
    good, bad = callers.tenant.tokens["reader"], BAD_TOKENS["expired"](service)
    for first, second in ((good, bad), (bad, good)):
        headers = [("authorization", f"Bearer {first}"), ("authorization", f"Bearer {second}")]
        assert (await callers.client.get("/api/v1/events/e", headers=headers)).status_code == 401


async def test_the_leeway_of_clocks_is_that_of_the_server(service: Service, through_envoy: Callers) -> None:
    await get_event(through_envoy, "grpc", {})  # connects
    for claim, seconds, passes in (("exp", -1, True), ("exp", -8, False), ("nbf", 3, True), ("nbf", 30, False)):
        for way in BOTH_WAYS:
            moment = int(time.time()) + seconds
            claims: dict[str, Any] = {"tenants": [through_envoy.tenant.tenant_id], claim: moment}
            token = signed(service, **claims)
            answer = await get_event(through_envoy, way, {"authorization": f"Bearer {token}"})
            assert answer.reason == ("NOT_FOUND" if passes else "UNAUTHENTICATED"), (claim, answer.body)


async def test_grpc_health_is_open_and_reflection_is_not(through_envoy: Callers) -> None:
    stub: Any = health_pb2_grpc.HealthStub(through_envoy.channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflect: Any = through_envoy.channel.unary_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await reflect(request, timeout=10).read()
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    token = through_envoy.tenant.tokens["reader"]
    answered = await reflect(request, metadata=(("authorization", f"Bearer {token}"),), timeout=10).read()
    assert answered.list_services_response.service


async def test_the_listener_for_keys_serves_keys_and_nothing_else(service: Service) -> None:
    config = yaml.safe_load((service.folder / "envoy.yaml").read_text())
    (keys,) = [one for one in config["static_resources"]["listeners"] if one["name"] == "keys"]
    address = keys["address"]["socket_address"]
    assert address["address"] == "127.0.0.1"
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{address['port_value']}", trust_env=False, timeout=30
    ) as client:
        published = await client.get("/.well-known/jwks.json")
        assert [key["kid"] for key in published.json()["keys"]] == [service.key.key_id]
        assert (await client.get("/api/healthz")).status_code == 404
        assert (await client.get("/api/v1/events")).status_code == 404
        assert (await client.post("/api/v1/auth/token", json={"api_key": "x"})).status_code == 404
