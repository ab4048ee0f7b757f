"""Tenants: which one a call acts in, that none sees another, and what answers beside the contract's own services."""

from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from tests.appending import started
from tests.calling import BOTH_WAYS, METHODS, Answer, Callers, Service
from tests.rpc_examples import PRIVATE, RULES, calls, example

from decisiongraph_service.access import tenancy
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.runtime import server
from decisiongraph_service.storage.database import Database

_REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
_ROLES = ["reader", "writer", "admin"]
_IN_TENANT = tuple(rpc for rpc in PRIVATE if not RULES[rpc].installation_wide)


@pytest.fixture
async def second(database: Database, tenant_id: TenantId) -> TenantId:
    """Another tenant."""
    other = TenantId(f"{tenant_id}-second")
    await tenancy.create_tenant(database, other, clock=server.clock_micros)
    return other


async def call(callers: Callers, way: str, rpc: str, request: dict[str, Any], headers: dict[str, str]) -> Answer:
    return await (callers.by_rest if way == "rest" else callers.by_grpc)(rpc, request, headers)


def headers(service: Service, *tenant_ids: str, chosen: str | None = None) -> dict[str, str]:
    token = service.token(tenant_ids=tenant_ids, roles=_ROLES)
    tenant = {} if chosen is None else {"x-tenant-id": chosen}
    return {"authorization": f"Bearer {token}", **tenant}


async def test_no_rpc_acts_in_a_tenant_that_the_token_does_not_name(
    callers: Callers, service: Service, second: TenantId
) -> None:
    foreign = headers(service, second, chosen=callers.tenant.tenant_id)
    for way, rpc in calls(_IN_TENANT):
        answer = await call(callers, way, rpc, example(rpc), foreign)
        assert answer.reason == "FORBIDDEN", f"{rpc} over {way}: {answer.body}"
        assert answer.http_status in (None, 403)


async def test_a_token_without_tenants_acts_in_none(callers: Callers, service: Service) -> None:
    for chosen in (None, callers.tenant.tenant_id):
        for way, rpc in calls(_IN_TENANT):
            answer = await call(callers, way, rpc, example(rpc), headers(service, chosen=chosen))
            assert answer.reason == "FORBIDDEN", f"{rpc} over {way}: {answer.body}"


async def test_with_several_tenants_and_no_header_the_header_is_asked_for(
    callers: Callers, service: Service, second: TenantId
) -> None:
    both = headers(service, callers.tenant.tenant_id, second)
    for way, rpc in calls(_IN_TENANT):
        answer = await call(callers, way, rpc, example(rpc), both)
        assert (answer.reason, answer.fields) == ("INVALID_ARGUMENT", ["x-tenant-id"]), f"{rpc} over {way}"
        assert answer.http_status in (None, 400)


async def test_rpcs_for_the_whole_installation_need_no_tenant(
    callers: Callers, service: Service, second: TenantId
) -> None:
    both = headers(service, callers.tenant.tenant_id, second)
    for rpc in PRIVATE:
        if RULES[rpc].installation_wide and rpc.startswith("List"):
            answer = await callers.by_grpc(rpc, {"account_id": "a"} if rpc == "ListApiKeys" else {}, both)
            assert "x-tenant-id" not in answer.fields, f"{rpc}: {answer.body}"


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize("chosen", ["", "A", "a_b", "-a", "a/b", "a b", "a" * 64, "'", "%61"])
async def test_a_tenant_header_that_is_no_tenant_id_is_an_invalid_argument(
    callers: Callers, service: Service, way: str, chosen: str
) -> None:
    answer = await call(
        callers, way, "GetEvent", {"event_id": "e"}, headers(service, callers.tenant.tenant_id, chosen=chosen)
    )
    assert (answer.reason, answer.fields) == ("INVALID_ARGUMENT", ["x-tenant-id"])
    assert answer.http_status in (None, 400)


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_the_header_chooses_among_several_tenants(
    callers: Callers, service: Service, second: TenantId, way: str
) -> None:
    tenants = (callers.tenant.tenant_id, second)
    event = started(event_id="same id")
    for chosen in tenants:
        answer = await call(callers, way, "AppendEvent", {"event": event}, headers(service, *tenants, chosen=chosen))
        assert answer.ok, answer.body
        assert (answer.body["event"]["log_seq"], answer.body["reused"]) == ("1", False)


async def test_tenants_do_not_see_each_other(callers: Callers, service: Service, second: TenantId) -> None:
    event = started(event_id="mine")
    await callers.call("grpc", "AppendEvent", {"event": event})
    elsewhere = headers(service, second)
    for way in BOTH_WAYS:
        for rpc, request in (
            ("GetTrace", {"trace_id": event["trace_id"]}),
            ("ListTraceEvents", {"trace_id": event["trace_id"]}),
            ("GetEvent", {"event_id": "mine"}),
        ):
            answer = await call(callers, way, rpc, request, elsewhere)
            assert answer.reason == "NOT_FOUND", f"{rpc} over {way}: {answer.body}"
            assert answer.http_status in (None, 404)


async def test_the_same_ids_and_keys_mean_different_things_in_two_tenants(
    callers: Callers, service: Service, second: TenantId
) -> None:
    event = started(event_id="same", trace_seq=0)
    other = {**event, "payload": {**event["payload"], "title": "Another"}}
    elsewhere = headers(service, second)
    first = await callers.call("grpc", "AppendEvent", {"event": event})
    stored = await call(callers, "rest", "AppendEvent", {"event": other}, elsewhere)
    assert first.ok, first.body
    assert stored.ok, f"another tenant's event stood in the way: {stored.body}"
    assert not stored.body["reused"]
    for way in BOTH_WAYS:
        mine = await callers.call(way, "GetTrace", {"trace_id": event["trace_id"]})
        theirs = await call(callers, way, "GetTrace", {"trace_id": event["trace_id"]}, elsewhere)
        assert (mine.body["summary"]["title"], theirs.body["summary"]["title"]) == ("Refund", "Another")


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_tenant_that_does_not_exist_is_not_found(callers: Callers, service: Service, way: str) -> None:
    nowhere = headers(service, f"{callers.tenant.tenant_id}-nowhere")
    answer = await call(callers, way, "AppendEvent", {"event": started()}, nowhere)
    assert answer.reason == "NOT_FOUND", answer.body


async def reflected(callers: Callers, metadata: dict[str, str]) -> set[str]:
    # With one message in the batch that opens the call: a refusal that comes first would fail a later one.
    stream = callers.channel.unary_stream(
        _REFLECTION,
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async for response in stream(request, metadata=tuple(metadata.items()), timeout=10):
        return {service.name for service in response.list_services_response.service}
    return set()


@pytest.mark.parametrize("header", ["", "Bearer garbage"])
async def test_reflection_does_not_answer_without_a_token(callers: Callers, header: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reflected(callers, {"authorization": header} if header else {})
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_reflection_answers_to_any_token(callers: Callers, service: Service) -> None:
    token = service.token(tenant_ids=[], roles=[])
    services = await reflected(callers, {"authorization": f"Bearer {token}"})
    assert {path.split("/")[1] for path, _ in METHODS.values()} <= services


async def test_health_answers_without_a_token(callers: Callers) -> None:
    stub: Any = health_pb2_grpc.HealthStub(callers.channel)
    for name in ("", "decisiongraph.v1.IngestionService"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
