"""Calling the service both ways, and comparing what comes back: an answer is the same whichever way it came.

The gRPC way uses the generated stubs; the REST way takes method and path from the contract's own routes.
"""

import asyncio
import json
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
from google.api import annotations_pb2
from google.protobuf import json_format, message_factory
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from decisiongraph_service.access import tokens
from decisiongraph_service.access.keys import SigningKey
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.rpc import contract
from decisiongraph_service.runtime.children import Children

ISSUER: Final = "decisiongraph-development"
AUDIENCE: Final = "decisiongraph"
_ = error_details_pb2  # details are printed by their types
METHODS: Final = {method.name: (path, method) for path, method in contract.methods()}
BOTH_WAYS: Final = ("rest", "grpc")
# By default the library waits up to two minutes before it tries again, and up to 20 seconds for a connection.
_SOON_AGAIN: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 2_000),
)


@dataclass(frozen=True)
class Service:
    """A running service and the key that its tokens are signed with."""

    rest: str
    grpc: str
    key: SigningKey
    folder: Path
    processes: Children
    admin: str = ""
    """Envoy's own interface."""

    def token(
        self,
        *,
        tenant_ids: Sequence[str],
        roles: Sequence[str],
        permissions: Sequence[str] | None = None,
        account_id: str | None = None,
        issuer: str = ISSUER,
        audience: str = AUDIENCE,
        begins: int | None = None,
        lifetime_seconds: int = 3600,
    ) -> str:
        """A token of the service's own issuer."""
        if permissions is None:
            permissions = tokens.PERMISSIONS if "admin" in roles else ()
        return tokens.issue(
            self.key,
            issuer=issuer,
            audience=audience,
            account_id=account_id or "-".join(("test", *roles)),
            tenant_ids=tenant_ids,
            roles=roles,
            permissions=permissions,
            now=int(time.time()) if begins is None else begins,
            lifetime_seconds=lifetime_seconds,
        )


@dataclass(frozen=True)
class Tenant:
    """A tenant and a token per role."""

    tenant_id: TenantId
    tokens: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """What came back, in the terms of REST: a gRPC answer is written as the JSON that Envoy would write."""

    ok: bool
    body: dict[str, Any]
    http_status: int | None = None
    """Only over REST."""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def code(self) -> int:
        """The gRPC code of an error."""
        return int(self.body["code"])

    def detail(self, kind: str) -> dict[str, Any]:
        """The error detail of that type, e.g. `ErrorInfo`; empty if there is none."""
        found = [d for d in self.body.get("details", []) if d["@type"].endswith(f"google.rpc.{kind}")]
        return dict(found[0]) if found else {}

    @property
    def reason(self) -> str:
        """`ErrorInfo.reason`."""
        return str(self.detail("ErrorInfo").get("reason", ""))

    @property
    def category(self) -> str:
        """The semantic category."""
        return str(self.detail("ErrorInfo").get("metadata", {}).get("category", ""))

    @property
    def fields(self) -> list[str]:
        """The fields that are named as violated."""
        return [violation["field"] for violation in self.detail("BadRequest").get("field_violations", [])]


class Callers:
    """Calls rpcs by name, by either way."""

    def __init__(self, tenant: Tenant, channel: grpc.aio.Channel, client: httpx.AsyncClient) -> None:
        self.tenant = tenant
        self.channel = channel
        self.client = client

    async def call(
        self, way: str, rpc: str, request: Mapping[str, Any], *, role: str | None = None, token: str | None = None
    ) -> Answer:
        """Call an rpc with a request in JSON, as the role that it needs unless told otherwise."""
        path, _ = METHODS[rpc]
        needed = role or contract.authorization_rules()[path].role
        token = token if token is not None else (self.tenant.tokens[needed] if needed else "")
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return await (self.by_rest(rpc, request, headers) if way == "rest" else self.by_grpc(rpc, request, headers))

    async def by_grpc(self, rpc: str, request: Mapping[str, Any], metadata: Mapping[str, str]) -> Answer:
        """Call over gRPC with the generated messages."""
        _, method = METHODS[rpc]
        message = message_factory.GetMessageClass(method.input_type)()
        json_format.ParseDict(dict(request), message)
        return await self.by_grpc_bytes(rpc, message.SerializeToString(), metadata)

    async def by_grpc_bytes(self, rpc: str, request: bytes, metadata: Mapping[str, str]) -> Answer:
        """Call over gRPC with a request that is already encoded, or broken."""
        path, method = METHODS[rpc]
        answer_type = message_factory.GetMessageClass(method.output_type)
        pairs = tuple(metadata.items())
        try:
            if method.server_streaming:
                stream: Any = self.channel.unary_stream(path, response_deserializer=answer_type.FromString)
                async for first in stream(request, metadata=pairs, timeout=30):
                    return Answer(True, as_json(first))
                return Answer(True, {})
            unary: Any = self.channel.unary_unary(path, response_deserializer=answer_type.FromString)
            call = unary(request, metadata=pairs, timeout=30)
            return Answer(True, as_json(await call), metadata=texts(await call.trailing_metadata()))
        except grpc.aio.AioRpcError as error:
            return refusal_of(error)

    async def by_rest(self, rpc: str, request: Mapping[str, Any], headers: Mapping[str, str]) -> Answer:
        """Call over REST by the route that the contract gives the rpc."""
        verb, path, query, body = route(rpc, request)
        content = None if body is None else json.dumps(body).encode()
        response = await self.client.request(
            verb, path, params=query, content=content, headers={"content-type": "application/json", **headers}
        )
        return rest_answer(response)


def rest_answer(response: httpx.Response) -> Answer:
    """An HTTP response as an answer; its body must be JSON."""
    return Answer(response.is_success, json.loads(response.content), response.status_code, dict(response.headers))


def as_json(message: Message) -> dict[str, Any]:
    """A message as Envoy writes it."""
    return dict(
        json_format.MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    )


def refusal_of(error: grpc.aio.AioRpcError) -> Answer:
    """A gRPC error as an answer."""
    metadata = texts(error.trailing_metadata())
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    if not isinstance(details, bytes):
        number: int = error.code().value[0]
        return Answer(False, {"code": number, "message": error.details(), "details": []}, metadata=metadata)
    return Answer(False, as_json(status_pb2.Status.FromString(details)), metadata=metadata)


def texts(metadata: Any) -> dict[str, str]:
    """The metadata that are not binary."""
    return {key: value for key, value in metadata or () if isinstance(value, str)}


def route(rpc: str, request: Mapping[str, Any]) -> tuple[str, str, dict[str, Any], Any]:
    """Verb, path, query and body of an rpc's REST call."""
    _, method = METHODS[rpc]
    options: Any = method.GetOptions()
    rule = options.Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    rest = dict(request)
    parts = []
    for part in getattr(rule, verb).split("{"):
        name, closing, tail = part.partition("}")
        parts.append(urllib.parse.quote(str(rest.pop(name, "x")), safe="") + tail if closing else part)
    body = None
    if rule.body == "*":
        body, rest = rest, {}
    elif rule.body:
        body = rest.pop(rule.body, {})
    return verb.upper(), "".join(parts), rest, body


async def wait_until_serving(address: str) -> None:
    """Return when the server reports SERVING.

    Raises:
        TimeoutError: it does not within 30 seconds; the message says what it did last.
    """
    said: object = "no answer"
    try:
        async with asyncio.timeout(30), grpc.aio.insecure_channel(address, options=_SOON_AGAIN) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            while True:
                try:
                    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                    said = answer
                except grpc.aio.AioRpcError as error:
                    said = error.details()
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise TimeoutError(f"{address} does not serve: {said}") from None
