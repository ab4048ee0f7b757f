"""Text that is SQL, a header or a format string elsewhere is only text here: in every field of every rpc."""

import asyncio
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, Final

import pytest
from google.protobuf.descriptor import FieldDescriptor
from tests import samples
from tests.calling import METHODS, Callers, Service
from tests.rpc_examples import PRIVATE, example

from decisiongraph.v1 import event_pb2
from decisiongraph_service.access import tokens
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage.database import Database

_TEXTS: Final = (
    "' OR '1'='1",
    "'; DROP TABLE events; --",
    "$1; SELECT pg_sleep(9)",
    "\\'; RESET ROLE; --",
    "%s %(tenant)s {0} {tenant_id} ${jndi:ldap://x}",
    "a\r\nx-tenant-id: other\r\n\r\n",
    "../../etc/passwd",
)
_NOT_ASKED: Final = {"IngestEvents", "WatchEvents", "WatchReplay"}
"""Streams: what they are asked is what other rpcs are asked."""
_HEADERS: Final = (
    *product(("rest", "grpc"), ("x-tenant-id", "x-request-id", "authorization", "x-forwarded-for")),
    ("rest", "grpc-timeout"),
)
"""The client's own library refuses to send a `grpc-timeout` over gRPC that is none."""


def _texts(message: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all fields of text, lists of text included."""
    for field in message.fields:
        here = (*path, field.name)
        if field.type == FieldDescriptor.TYPE_STRING:
            yield here
        elif (
            field.type == FieldDescriptor.TYPE_MESSAGE
            and field.message_type.file.package == "decisiongraph.v1"
            and not field.is_repeated
            and len(path) < 2
        ):
            yield from _texts(field.message_type, here)


def _with(request: Mapping[str, Any], path: tuple[str, ...], value: object) -> dict[str, Any]:
    name, *rest = path
    inner = request.get(name)
    return {**request, name: _with(inner if isinstance(inner, dict) else {}, tuple(rest), value) if rest else value}


def _example(rpc: str, path: tuple[str, ...]) -> dict[str, Any]:
    """A request that breaks no rule. An event has one content: without its payload if the path leads to another."""
    # It must come to be looked for, and not wait for a position that the log has not reached.
    request = {name: value for name, value in example(rpc).items() if name != "min_log_seq"}
    contents = event_pb2.Event.DESCRIPTOR.oneofs_by_name["content"]
    if path[0] == "event" and len(path) > 1 and path[1] in {field.name for field in contents.fields}:
        return {**request, "event": {name: value for name, value in request["event"].items() if name != "payload"}}
    return request


def _is_list(message: Any, path: tuple[str, ...]) -> bool:
    field = message.fields_by_name[path[0]]
    return _is_list(field.message_type, path[1:]) if len(path) > 1 else bool(field.is_repeated)


async def _written(database: Database, tenant_id: TenantId) -> list[tuple[Any, ...]]:
    """The log of a tenant: place and digest of each event."""
    async with database.tenant_statements(tenant_id) as statements:
        rows = await statements.fetch("SELECT log_seq, digest FROM events WHERE tenant_id = $1 ORDER BY log_seq")
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("rpc", sorted(set(PRIVATE) - _NOT_ASKED))
async def test_no_text_of_a_request_is_anything_but_text(
    callers: Callers, service: Service, database: Database, rpc: str
) -> None:
    token = service.token(tenant_ids=[callers.tenant.tenant_id], roles=tokens.ROLES)
    message = METHODS[rpc][1].input_type
    stands = {"event": samples.json_event("TraceStarted", key="stands", trace_id="stands")}
    appended = await callers.call("grpc", "AppendEvent", stands)
    assert appended.ok, appended.body
    written_before = await _written(database, callers.tenant.tenant_id)
    wrong = {}
    asked = 0
    for path in _texts(message):
        for text in _TEXTS:
            value = [text] if _is_list(message, path) else text
            request = _with(_example(rpc, path), path, value)
            answer = await callers.by_grpc(rpc, request, {"authorization": f"Bearer {token}"})
            asked += 1
            if not answer.ok and answer.reason in ("", "INTERNAL", "STORAGE_UNAVAILABLE", "UNAUTHENTICATED"):
                wrong[path, text] = answer.body
    assert not wrong
    assert asked or rpc in ("AppendEvents", "GetProjectionHealth"), "the rpc has no text of its own"
    written_after = await _written(database, callers.tenant.tenant_id)
    assert written_before, "there is something to lose"
    assert written_after[: len(written_before)] == written_before, "the log lost or changed an event"


@pytest.mark.parametrize("text", [text for text in _TEXTS if "\n" not in text])
@pytest.mark.parametrize(("way", "header"), _HEADERS)
async def test_no_header_is_anything_but_a_header(callers: Callers, way: str, header: str, text: str) -> None:
    headers = {"authorization": f"Bearer {callers.tenant.tokens['reader']}", header: text}
    call = callers.by_rest if way == "rest" else callers.by_grpc
    answer = await call("GetEvent", {"event_id": "none"}, headers)
    expected = {"x-tenant-id": {"INVALID_ARGUMENT"}, "authorization": {"UNAUTHENTICATED"}}
    assert answer.reason in expected.get(header, {"NOT_FOUND"}), answer.body
    if " " in text or header != "x-request-id":
        assert text not in str(answer.metadata), "it is not sent back"


async def _raw(callers: Callers, request: bytes) -> bytes:
    host, _, port = callers.client.base_url.netloc.decode().partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    await writer.drain()
    async with asyncio.timeout(10):
        answer = await reader.read(65_536)
    writer.close()
    return answer


async def test_a_line_break_does_not_make_a_header(callers: Callers) -> None:
    token = callers.tenant.tokens["reader"]
    answer = await _raw(
        callers,
        b"GET /api/v1/events/none HTTP/1.1\r\nhost: x\r\nx-request-id: a\rx-evil: 1\r\nauthorization: Bearer "
        + token.encode()
        + b"\r\nconnection: close\r\n\r\n",
    )
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404"))
    assert b"x-evil" not in answer
