"""What a tenant is told when it asks for what another one has: the same as when nobody has it."""

import json
import uuid
from dataclasses import dataclass
from typing import Any, Final

import pytest
from tests.calling import Answer, Callers, Service, as_json
from tests.traces import event_of_trace

from decisiongraph.v1 import query_service_pb2, query_service_pb2_grpc
from decisiongraph_service.access import tenancy
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.runtime import server
from decisiongraph_service.storage.database import Database

_RPCS: Final = query_service_pb2.DESCRIPTOR.services_by_name["QueryService"].methods
_PAGED: Final = {rpc.name for rpc in _RPCS if "page_token" in rpc.input_type.fields_by_name}
_SHARED: Final = "shared"
"""A trace that both tenants have under the same names."""


def named_trace(name: str) -> list[dict[str, Any]]:
    """A finished trace whose every text has the name in it."""
    policy = {"policy_id": f"{name} policy", "policy_version": f"{name} version"}
    entity = {"entity_type": f"{name} kind", "entity_id": f"{name} entity"}
    payloads: list[tuple[str, dict[str, Any]]] = [
        ("TraceStarted", {"workflow": f"{name} workflow", "title": f"{name} title", "primary_entity": entity}),
        ("PolicyEvaluated", {"policy": policy, "inputs": [], "decision": "allow"}),
        ("ExceptionRequested", {"exception_id": f"{name} exception", "policy": policy, "reason": f"{name} reason"}),
        ("TraceFinished", {"outcome": "success", "summary": f"{name} summary"}),
    ]
    return [
        event_of_trace(
            name,
            position,
            event_type=event_type,
            payload=payload,
            event_id=f"{name} event {position}",
            source={"producer_id": f"{name} producer", "system": f"{name} system"},
            actor={"actor_type": "agent", "actor_id": f"{name} actor"},
            correlation_id=f"{name} correlation",
            tags=[f"{name} tag"],
        )
        for position, (event_type, payload) in enumerate(payloads)
    ]


def questions(name: str) -> dict[str, list[dict[str, Any]]]:
    """By rpc, requests for what has the name. Every rpc of the service must be here."""
    nodes = [
        {"node_type": "trace", "node_id": name},
        {"node_type": "entity", "node_id": f"{name} kind:{name} entity"},
        {"node_type": "policy", "node_id": f"{name} policy:{name} version"},
    ]
    policy = {"policy_id": f"{name} policy", "policy_version": f"{name} version"}
    return {
        "GetTrace": [
            {"trace_id": name},
            {"trace_id": name, "as_of_log_seq": "2"},
            {"trace_id": name, "view": "SUMMARY"},
        ],
        "ListTraces": [
            {"workflow": f"{name} workflow"},
            {"primary_entity_type": f"{name} kind"},
            {"primary_entity_type": f"{name} kind", "primary_entity_id": f"{name} entity"},
            {"query": name},
        ],
        "ListTraceEvents": [{"trace_id": name}, {"trace_id": name, "since_trace_seq": "1"}],
        "GetEvent": [{"event_id": f"{name} event {position}"} for position in range(4)],
        "ListEvents": [
            {"trace_id": name},
            {"producer_id": f"{name} producer"},
            {"actor_type": "agent", "actor_id": f"{name} actor"},
            {"tag": f"{name} tag"},
            {"correlation_id": f"{name} correlation"},
        ],
        "WatchEvents": [{"since_log_seq": "0", "trace_id": name}],
        "GetContextGraph": [
            {**node, **more} for node in nodes for more in ({}, {"max_depth": 3}, {"as_of_log_seq": "4"})
        ],
        "ListNodeEdges": [
            *({**nodes[0], "direction": direction} for direction in ("", "both", "outgoing")),
            *({**node, "direction": direction} for node in nodes[1:] for direction in ("", "both", "incoming")),
        ],
        "FindPrecedents": [
            policy,
            {"policy_id": policy["policy_id"]},
            {"entity_type": f"{name} kind"},
            {"entity_type": f"{name} kind", "entity_id": f"{name} entity"},
            {"workflow": f"{name} workflow", "outcome": "success"},
            {"query": name},
            {"like_trace_id": name},
        ],
        # It names nothing; what it tells is below.
        "GetProjectionHealth": [],
    }


@dataclass(frozen=True)
class Two:
    """Two tenants with a log each."""

    callers: Callers
    mine: str
    """The name of the first one's trace."""
    other_token: str
    other_head: int

    async def ask(self, rpc: str, request: dict[str, Any], *, as_other: bool) -> Answer:
        token = self.other_token if as_other else self.callers.tenant.tokens["reader"]
        if rpc == "WatchEvents":
            return await watched(self.callers, request, token)
        return await self.callers.call("grpc", rpc, request, token=token)


async def watched(callers: Callers, request: dict[str, Any], token: str) -> Answer:
    """What a watch tells of the log as it is now: all between its first heartbeat and its second."""
    stub = query_service_pb2_grpc.QueryServiceStub(callers.channel)
    message = query_service_pb2.WatchEventsRequest(since_log_seq=0, trace_id=request.get("trace_id", ""))
    call: Any = stub.WatchEvents(message, metadata=(("authorization", f"Bearer {token}"),), timeout=30)
    events: list[Any] = []
    beats: list[dict[str, Any]] = []
    while len(beats) < 2:
        told_next = as_json(await call.read())
        if "heartbeat" in told_next:
            beats.append(told_next["heartbeat"])
        else:
            events.append(told_next["event"])
    call.cancel()
    return Answer(True, {"events": events, **beats[-1]})


@pytest.fixture
async def two(callers: Callers, service: Service, database: Database) -> Two:
    other = TenantId(f"{callers.tenant.tenant_id}-other")
    await tenancy.create_tenant(database, other, clock=server.clock_micros)
    token = service.token(tenant_ids=[other], roles=["reader", "writer"])
    mine, theirs = (f"{word}-{uuid.uuid4().hex[:8]}" for word in ("alpha", "betas"))
    own_writer = callers.tenant.tokens["writer"]
    for name, writer in ((mine, own_writer), (_SHARED, own_writer), (_SHARED, token), (theirs, token)):
        answer = await callers.call("grpc", "AppendEvents", {"events": named_trace(name)}, token=writer)
        assert answer.ok, answer.body
    # Only the first tenant has these, so that the heads of the two logs differ.
    answer = await callers.call("grpc", "AppendEvents", {"events": named_trace(f"{mine} again")})
    assert answer.ok, answer.body
    return Two(callers, mine, token, other_head=8)


def told(answer: Answer) -> str:
    """The answer as text, without what the caller said itself or what differs from call to call."""
    details = [detail for detail in answer.body.get("details", []) if "request_id" not in detail]
    return json.dumps({**answer.body, "details": details, "center": None}, sort_keys=True)


def items(answer: Answer) -> list[Any]:
    """Everything that an answer lists."""
    return [item for value in answer.body.values() if isinstance(value, list) for item in value if value]


def heads(value: Any) -> set[int]:
    """Every head of a log that is told anywhere in an answer."""
    if isinstance(value, list):
        return {head for item in value for head in heads(item)}
    if not isinstance(value, dict):
        return set()
    own = {int(value["head_log_seq"])} if "head_log_seq" in value else set()
    return own | heads(list(value.values()))


def test_every_query_rpc_is_asked() -> None:
    assert set(questions("")) == {rpc.name for rpc in _RPCS}
    assert set(paged_requests()) == _PAGED


@pytest.mark.parametrize("rpc", questions(""))
async def test_what_another_tenant_has_is_as_what_nobody_has(two: Two, rpc: str) -> None:
    nobody = f"omega-{uuid.uuid4().hex[:8]}"
    for mine, nobodys in zip(questions(two.mine)[rpc], questions(nobody)[rpc], strict=True):
        own = await two.ask(rpc, mine, as_other=False)
        other = await two.ask(rpc, mine, as_other=True)
        assert own.ok, own.body
        assert two.mine in told(own), f"the question does not find what it should: {mine}"
        assert (other.ok, items(other)) == (True, []) or other.reason == "NOT_FOUND", f"{mine}: {other.body}"
        assert heads(other.body) <= {two.other_head}
        absent = await two.ask(rpc, nobodys, as_other=True)
        assert told(other).replace(two.mine, nobody) == told(absent)


@pytest.mark.parametrize("rpc", ["ListTraces", "ListEvents", "WatchEvents", "FindPrecedents", "GetProjectionHealth"])
async def test_everything_is_everything_of_the_own_tenant(two: Two, rpc: str) -> None:
    answer = await two.ask(rpc, {}, as_other=True)
    assert answer.ok, answer.body
    assert items(answer), "nothing was told at all"
    assert two.mine not in told(answer)
    assert max(heads(answer.body)) == two.other_head
    if rpc == "GetProjectionHealth":
        assert (answer.body["event_count"], answer.body["trace_count"]) == (str(two.other_head), "2")


def paged_requests() -> dict[str, dict[str, Any]]:
    """By rpc with pages, a request that has further pages in both tenants."""
    return {
        "ListTraces": {},
        "ListTraceEvents": {"trace_id": _SHARED},
        "ListEvents": {},
        "ListNodeEdges": {"node_type": "trace", "node_id": _SHARED},
        "FindPrecedents": {},
    }


@pytest.mark.parametrize("rpc", sorted(_PAGED))
async def test_a_page_token_of_another_tenant_is_refused(two: Two, rpc: str) -> None:
    request = {**paged_requests()[rpc], "page_size": 1}
    own = await two.ask(rpc, request, as_other=False)
    token = own.body["next_page_token"]
    followed = await two.ask(rpc, {**request, "page_token": token}, as_other=False)
    assert items(followed), followed.body
    refused = await two.ask(rpc, {**request, "page_token": token}, as_other=True)
    assert (refused.reason, refused.fields) == ("INVALID_ARGUMENT", ["page_token"]), refused.body
