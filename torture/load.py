"""Callers of all kinds under load: writers, readers and watchers, by REST and gRPC, noting what they are told."""

import asyncio
import itertools
import random
from collections.abc import Sequence
from typing import Any, Final

import grpc
import httpx
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2

from decisiongraph.v1 import admin_service_pb2, ingestion_service_pb2, query_service_pb2
from decisiongraph_client import AsyncClient
from torture.history import History, Place, Scope
from torture.stack import TENANTS, Stack

_CALL_SECONDS: Final = 8.0
_PAUSE_SECONDS: Final = 0.05
_SINGLES: Final = 3
_BATCH: Final = 5
_CHANNEL: Final = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500))
_CODES: Final = {code.value[0]: code.name for code in grpc.StatusCode}


class CallFailed(Exception):
    """A call was not answered with OK; says code and reason."""


class Caller:
    """Calls one address, by gRPC or by REST."""

    def __init__(self, stack: Stack, way: str, target: str) -> None:
        self.way = way
        self._metadata = {"authorization": f"Bearer {stack.token(['reader', 'writer', 'admin'])}"}
        self._channel = grpc.aio.insecure_channel(target, options=_CHANNEL) if way == "grpc" else None
        self._client = httpx.AsyncClient(base_url=target, timeout=_CALL_SECONDS) if way == "rest" else None

    async def close(self) -> None:
        """End all connections."""
        if self._channel is not None:
            await self._channel.close()
        if self._client is not None:
            await self._client.aclose()

    async def append(self, tenant: str, events: Sequence[dict[str, Any]]) -> list[Place]:
        """Append one event, or several as a batch, and return where they are.

        Raises:
            CallFailed: there was no answer, or a refusal.
        """
        if len(events) == 1:
            answer = await self._call(
                tenant, "IngestionService/AppendEvent", "POST", "/api/v1/events", {"event": events[0]}
            )
            receipts = [answer["event"]]
        else:
            answer = await self._call(
                tenant, "IngestionService/AppendEvents", "POST", "/api/v1/events:batch", {"events": list(events)}
            )
            receipts = answer["receipts"]
        return [Place(int(one["log_seq"]), one["event_id"], one["trace_id"], int(one["trace_seq"])) for one in receipts]

    async def read(self, tenant: str, trace_id: str) -> dict[str, Any]:
        """A trace as it stands.

        Raises:
            CallFailed: there was no answer, or a refusal.
        """
        request = {"trace_id": trace_id}
        return await self._call(tenant, "QueryService/GetTrace", "GET", f"/api/v1/traces/{trace_id}", request)

    async def start_replay(self, tenant: str, mode: str) -> str:
        """Start a job for all projections and return its id.

        Raises:
            CallFailed: there was no answer, or a refusal.
        """
        request = {"projection": "all", "mode": mode, "reason": "torture"}
        answer = await self._call(tenant, "AdminService/StartReplay", "POST", "/api/v1/admin/replays", request)
        return str(answer["job"]["job_id"])

    async def replay(self, tenant: str, job_id: str) -> dict[str, Any]:
        """A job as it stands.

        Raises:
            CallFailed: there was no answer, or a refusal.
        """
        path = f"/api/v1/admin/replays/{job_id}"
        answer = await self._call(tenant, "AdminService/GetReplay", "GET", path, {"job_id": job_id})
        return dict(answer["job"])

    async def _call(self, tenant: str, rpc: str, verb: str, path: str, request: dict[str, Any]) -> dict[str, Any]:
        metadata = {**self._metadata, "x-tenant-id": tenant}
        if self._client is not None:
            return await _by_rest(self._client, verb, path, request, metadata)
        if self._channel is None:
            raise AssertionError("a caller has a channel or a client")
        return await _by_grpc(self._channel, rpc, request, metadata)


_MESSAGES: Final[dict[str, tuple[Any, Any]]] = {
    "IngestionService/AppendEvent": (
        ingestion_service_pb2.AppendEventRequest,
        ingestion_service_pb2.AppendEventResponse,
    ),
    "IngestionService/AppendEvents": (
        ingestion_service_pb2.AppendEventsRequest,
        ingestion_service_pb2.AppendEventsResponse,
    ),
    "AdminService/StartReplay": (admin_service_pb2.StartReplayRequest, admin_service_pb2.StartReplayResponse),
    "AdminService/GetReplay": (admin_service_pb2.GetReplayRequest, admin_service_pb2.GetReplayResponse),
    "QueryService/GetTrace": (query_service_pb2.GetTraceRequest, query_service_pb2.GetTraceResponse),
}


async def _by_grpc(
    channel: grpc.aio.Channel, rpc: str, request: dict[str, Any], metadata: dict[str, str]
) -> dict[str, Any]:
    request_type, answer_type = _MESSAGES[rpc]
    call: Any = channel.unary_unary(
        f"/decisiongraph.v1.{rpc}", lambda message: message.SerializeToString(), answer_type.FromString
    )
    message = json_format.ParseDict(request, request_type())
    try:
        answer = await call(message, metadata=tuple(metadata.items()), timeout=_CALL_SECONDS)
    except grpc.aio.AioRpcError as error:
        raise CallFailed(f"{error.code().name} {_reason(error)}") from error
    return dict(
        json_format.MessageToDict(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    )


def _reason(error: grpc.aio.AioRpcError) -> str:
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    if isinstance(details, bytes):
        for detail in status_pb2.Status.FromString(details).details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                return info.reason
    return ""


async def _by_rest(
    client: httpx.AsyncClient, verb: str, path: str, request: dict[str, Any], headers: dict[str, str]
) -> dict[str, Any]:
    body = None if verb == "GET" else request.get("event", request)
    try:
        response = await client.request(verb, path, json=body, headers=headers)
    except httpx.TimeoutException as error:
        raise CallFailed("DEADLINE_EXCEEDED ") from error
    except httpx.TransportError as error:
        raise CallFailed("UNAVAILABLE ") from error
    try:
        answer: dict[str, Any] = response.json()
    except ValueError as error:
        raise CallFailed(f"HTTP {response.status_code} without JSON") from error
    if response.is_success:
        return answer
    reasons = [one.get("reason", "") for one in answer.get("details", []) if one["@type"].endswith("ErrorInfo")]
    raise CallFailed(f"{_CODES.get(answer.get('code', -1), answer.get('code'))} {reasons[0] if reasons else ''}")


class Writer:
    """Appends trace after trace, each event until it is told where it is, or, one in four, gives batches up."""

    def __init__(self, number: int, caller: Caller, history: History) -> None:
        self._tenant = TENANTS[number % len(TENANTS)]
        self._name = f"w{number}"
        self._gives_up = number % 4 == 3
        self._caller = caller
        self._history = history
        self._numbers = itertools.count()

    async def run(self, stop: asyncio.Event) -> None:
        """Write until it is told to stop; the trace that is begun is ended."""
        while not stop.is_set():
            trace_id = f"{self._tenant}-{self._name}-{next(self._numbers)}"
            events = [_event(trace_id, number) for number in range(_SINGLES + _BATCH)]
            told = True
            for event in events[:_SINGLES]:
                told = told and await self._send([event], stop)
            if told:
                await self._send(events[_SINGLES:], stop)
                # Programs repeat what was answered, because they did not get the answer or forgot it.
                await self._send(events[:1], stop)
            await asyncio.sleep(0)

    async def _send(self, events: list[dict[str, Any]], stop: asyncio.Event) -> bool:
        scopes: list[Scope] = [(self._tenant, event["idempotency_key"]) for event in events]
        self._history.sent.update((scope, event["trace_id"]) for scope, event in zip(scopes, events, strict=True))
        while True:
            try:
                places = await self._caller.append(self._tenant, events)
            except CallFailed as error:
                self._history.errors[str(error)] += 1
                if self._gives_up or stop.is_set():
                    self._history.unanswered.append(scopes)
                    return False
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                for scope, place in zip(scopes, places, strict=True):
                    self._history.told(scope, place)
                return True


class Reader:
    """Reads traces that were acknowledged, and asks for what belongs to others."""

    def __init__(self, caller: Caller, history: History, chance: random.Random) -> None:
        self._caller = caller
        self._history = history
        self._chance = chance

    async def run(self, stop: asyncio.Event) -> None:
        """Read until it is told to stop."""
        while not stop.is_set():
            await asyncio.sleep(_PAUSE_SECONDS)
            scopes = list(self._history.acknowledged)
            if scopes:
                # Every other time what was acknowledged last: a read that does not wait misses it.
                back = 1 if self._chance.random() < 0.5 else self._chance.randint(1, min(20, len(scopes)))
                await self._read(*scopes[-back])

    async def _read(self, tenant: str, key: str) -> None:
        place = self._history.acknowledged[tenant, key]
        foreign = self._chance.random() < 0.2
        asked = next(one for one in TENANTS if one != tenant) if foreign else tenant
        try:
            answer = await self._caller.read(asked, place.trace_id)
        except CallFailed as error:
            if str(error) == "NOT_FOUND NOT_FOUND":
                if not foreign:
                    self._history.faults.append(f"{tenant} {place.trace_id}: was acknowledged and is not found")
            else:
                self._history.errors[str(error)] += 1
            return
        self._history.reads += 1
        if foreign:
            self._history.faults.append(f"{asked} was shown the trace {place.trace_id} of {tenant}")
        elif int(answer["summary"]["event_count"]) <= place.trace_seq:
            self._history.faults.append(
                f"{tenant} {place.trace_id}: event {place.trace_seq} was acknowledged, and a read after that saw "
                f"{answer['summary']['event_count']} events"
            )
        strangers = {event["trace_id"] for event in answer["events"]} - {place.trace_id}
        if strangers:
            self._history.faults.append(f"{tenant} {place.trace_id}: a read showed events of {strangers}")


async def watch(stack: Stack, tenant: str, history: History) -> None:
    """Follow a tenant's log through everything, by the client as it is given to users. Ends when it is cancelled."""
    name = f"{tenant}/client"
    history.watched[name] = []
    client = AsyncClient(f"http://{stack.grpc}", token=stack.token(["reader"]), tenant=tenant, timeout=_CALL_SECONDS)
    async with client:
        async for event in client.watch(since_log_seq=0):
            history.watched[name].append((event.log_seq, event.event_id))


def event_for_a_burst(tenant: str, name: str) -> dict[str, Any]:
    """The only event of a trace of its own."""
    return _event(f"{tenant}-burst-{name}", 0)


def _event(trace_id: str, number: int) -> dict[str, Any]:
    kind, payload = _KINDS[number]
    return {
        "trace_id": trace_id,
        "trace_seq": number,
        "event_type": kind,
        "occurred_at": "2026-01-01T00:00:00Z",
        "source": {"producer_id": "torture", "system": "torture"},
        "actor": {"actor_type": "agent", "actor_id": "a"},
        "idempotency_key": f"{trace_id}/{number}",
        "payload": payload,
    }


_ORDER: Final = {"entity_type": "order", "entity_id": "1"}
_POLICY: Final = {"policy_id": "limit", "policy_version": "1"}
_KINDS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("TraceStarted", {"workflow": "w", "title": "a decision", "primary_entity": _ORDER}),
    ("PolicyEvaluated", {"policy": _POLICY, "inputs": [], "decision": "require_exception"}),
    ("ExceptionRequested", {"exception_id": "e", "policy": _POLICY, "reason": "good reason"}),
    ("PrecedentCited", {"cited_trace_id": "c", "reason": "r"}),
    ("EntityObserved", {"entity": {"entity_type": "customer", "entity_id": "2"}, "role": "related", "facts": []}),
    (
        "ActionProposed",
        {"action_id": "a", "action_type": "t", "target_entity": _ORDER, "target_system": "s", "changes": []},
    ),
    ("ActionCommitted", {"action_id": "a", "status": "success"}),
    ("TraceFinished", {"outcome": "success"}),
)
