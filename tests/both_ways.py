"""One call by REST and by gRPC, and everything that a caller is told by either way, in the same terms."""

import asyncio
import base64
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

import grpc
import httpx
from google.protobuf import json_format, message_factory

from tests.calling import BOTH_WAYS, METHODS, Callers, as_json, refusal_of, route, texts
from tests.fuzz.refusals import TABLE

_TIME: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
FORMS: Final = {
    **dict.fromkeys(
        (
            "recorded_at",
            "requested_at",
            "started_at",
            "finished_at",
            "created_at",
            "disabled_at",
            "expires_at",
            "last_used_at",
            "revoked_at",
            "moved_at",
        ),
        _TIME,
    ),
    "job_id": r"job-[0-9a-f]{16}",
    "key_id": r"[0-9a-f]{16}",
    "prefix": r"dgk_[0-9a-f]{4,16}",
    "secret": r"dgk_[0-9a-f]{16}_[\w-]{43}",
    "token": r"[\w-]+\.[\w-]+\.[\w-]+",
    "event_id": r"evt_[0-9a-f]{40}",
}
"""What a value looks like that no two calls have in common, by the name of its field."""


@dataclass(frozen=True)
class Told:
    """What a caller was told; equal if both ways tell the same."""

    messages: Sequence[str]
    """Canonical JSON: of a call without a stream one, or none if it was refused."""
    error: str
    """`google.rpc.Status` as canonical JSON; empty if there was none."""
    headers: Mapping[str, str]
    """Those that the contract names, of an answer that has come to its end."""

    @property
    def reason(self) -> str:
        """`ErrorInfo.reason`; empty if it was not refused."""
        details = json.loads(self.error)["details"] if self.error else []
        return str(next((d["reason"] for d in details if d["@type"].endswith("google.rpc.ErrorInfo")), ""))

    @property
    def fields(self) -> list[str]:
        """The fields that are named as violated."""
        details = json.loads(self.error)["details"] if self.error else []
        return [violation["field"] for detail in details for violation in detail.get("field_violations", [])]

    @property
    def message(self) -> str:
        """What the error says in words."""
        return str(json.loads(self.error)["message"])

    def without_seconds(self, seconds: int) -> "Told":
        """The same refusal without the seconds to wait, which go by."""
        texts_of_it = (f"wait {seconds} s", f'"retry_delay": "{seconds}s"')
        assert all(text in self.error for text in texts_of_it), self.error
        error = self.error
        for text in texts_of_it:
            error = error.replace(text, text.replace(str(seconds), "<seconds>"))
        return replace(self, error=error, headers={**self.headers, "retry-after": "<seconds>"})

    def without_time_of_check(self) -> "Told":
        """The same landing page without the time at which the checks were made, which goes by."""
        page = json.loads(self.messages[0])
        html, found = re.subn(
            r"checked at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC",
            "checked at <time>",
            base64.b64decode(page["data"]).decode(),
        )
        assert found == 1, html
        return replace(self, messages=(_file(page["content_type"], html.encode()),))

    def with_message(self, message: str) -> "Told":
        """The same refusal in other words."""
        return replace(self, error=canonical({**json.loads(self.error), "message": message}))


def canonical(value: Any) -> str:
    """JSON text that is the same for the same value: 0 and 0.0 are one number, true and 1 are two values."""

    def plain(part: Any) -> Any:
        if isinstance(part, float) and part.is_integer():
            return int(part)
        if isinstance(part, dict):
            return {key: plain(member) for key, member in part.items()}
        return [plain(member) for member in part] if isinstance(part, list) else part

    return json.dumps(plain(value), sort_keys=True, ensure_ascii=False)


async def told(
    callers: Callers, way: str, rpc: str, request: Mapping[str, Any], headers: Mapping[str, str], *, events: int = 0
) -> Told:
    """Call, and give what came back. A stream is read to its end, or until it has brought so many `events`."""
    by = _by_rest if way == "rest" else _by_grpc
    async with asyncio.timeout(60):  # a watch that should have been refused has no end
        return await by(callers, rpc, request, headers, events)


async def both(
    callers: Callers, rpc: str, request: Mapping[str, Any], headers: Mapping[str, str], *, events: int = 0
) -> Told:
    """What both ways tell, after it was found to be the same."""
    by_rest, by_grpc = [await told(callers, way, rpc, request, headers, events=events) for way in BOTH_WAYS]
    assert_same(by_rest, by_grpc)
    return by_rest


def assert_same(by_rest: Told, by_grpc: Told) -> None:
    """Both ways tell the same; if not, what differs is named."""
    assert by_rest.error == by_grpc.error, f"the errors differ:\nREST {by_rest.error}\ngRPC {by_grpc.error}"
    for number, pair in enumerate(zip(by_rest.messages, by_grpc.messages, strict=False)):
        assert pair[0] == pair[1], f"message {number} differs:\nREST {pair[0]}\ngRPC {pair[1]}"
    assert len(by_rest.messages) == len(by_grpc.messages), f"REST {by_rest.messages}\ngRPC {by_grpc.messages}"
    assert by_rest.headers == by_grpc.headers


def without_what_differs(text: str, name: str, differing: Sequence[str]) -> str:
    """A message with its own `name` and the fields `differing` replaced, once they are found to be well formed."""
    missing = set(differing)

    def visit(value: Any, key: str = "") -> Any:
        if key in differing and isinstance(value, str):
            assert re.fullmatch(FORMS[key], value), f"{key} is malformed: {value}"
            missing.discard(key)
            return f"<{key}>"
        if isinstance(value, dict):
            return {inner: visit(member, inner) for inner, member in value.items()}
        if isinstance(value, list):
            return [visit(member, key) for member in value]
        return value.replace(name, "<name>") if isinstance(value, str) else value

    visited = visit(json.loads(text))
    assert not missing, f"not in the answer: {sorted(missing)}"
    return canonical(visited)


async def _by_rest(
    callers: Callers, rpc: str, request: Mapping[str, Any], headers: Mapping[str, str], events: int
) -> Told:
    verb, path, query, body = route(rpc, request)
    content = None if body is None else json.dumps(body).encode()
    sent = {"content-type": "application/json", **headers}
    async with callers.client.stream(verb, path, params=query, content=content, headers=sent) as response:
        if not response.is_success:
            return _rest_refusal(response, json.loads(await response.aread()))
        if METHODS[rpc][1].server_streaming:
            assert response.headers["content-type"] == "application/json", response.headers
            messages, ended = await _read((json.loads(line) async for line in response.aiter_lines()), events)
            return Told(messages, "", named(response.headers) if ended else {})
        body = await response.aread()
        assert response.status_code == 200, f"{response.status_code} {body!r}"
        if is_file(rpc):
            kind = response.headers["content-type"]
            return Told((_file(kind, body),), "", named(response.headers))
        assert response.headers["content-type"] == "application/json", response.headers
        return Told((canonical(json.loads(body)),), "", named(response.headers))


def _rest_refusal(response: httpx.Response, error: dict[str, Any]) -> Told:
    refusal = Told((), canonical(error), named(response.headers))
    allowed = TABLE[refusal.reason]
    assert (error["code"], (response.status_code,)) == (allowed.code, allowed.http), f"{response.status_code}: {error}"
    assert response.headers["content-type"] == "application/json", response.headers
    return refusal


async def _by_grpc(
    callers: Callers, rpc: str, request: Mapping[str, Any], headers: Mapping[str, str], events: int
) -> Told:
    path, method = METHODS[rpc]
    message = json_format.ParseDict(dict(request), message_factory.GetMessageClass(method.input_type)())
    answer_type = message_factory.GetMessageClass(method.output_type)
    begin: Any = callers.channel.unary_stream if method.server_streaming else callers.channel.unary_unary
    call: Any = begin(path, response_deserializer=answer_type.FromString)(
        message.SerializeToString(), metadata=tuple(headers.items()), timeout=60
    )
    try:
        if method.server_streaming:
            messages, ended = await _read((as_json(one) async for one in call), events)
            if not ended:
                call.cancel()
                return Told(messages, "", {})
            return Told(messages, "", named(texts(await call.trailing_metadata())))
        answer = await call
    except grpc.aio.AioRpcError as error:
        return _grpc_refusal(error)
    body = _file(answer.content_type, answer.data) if is_file(rpc) else canonical(as_json(answer))
    return Told((body,), "", named(texts(await call.trailing_metadata())))


def _grpc_refusal(error: grpc.aio.AioRpcError) -> Told:
    answer = refusal_of(error)
    refusal = Told((), canonical(answer.body), named(answer.metadata))
    number: int = error.code().value[0]
    assert number == answer.code == TABLE[refusal.reason].code, f"{error.code()}: {answer.body}"
    assert error.details() == answer.body["message"], "the status and its details do not say the same"
    return refusal


async def _read(stream: Any, events: int) -> tuple[list[str], bool]:
    """Canonical messages, and whether the stream came to its end.

    Heartbeats behind the first message are left out: when they come depends on the clock.
    """
    found: list[str] = []
    async with aclosing(stream) as messages:
        async for message in messages:
            if not found or "heartbeat" not in message:
                found.append(canonical(message))
            if events and sum("heartbeat" not in text for text in found) == events:
                return found, False
    return found, True


def is_file(rpc: str) -> bool:
    """Whether the answer is a document as it is."""
    return bool(METHODS[rpc][1].output_type.full_name == "google.api.HttpBody")


def _file(content_type: str, content: bytes) -> str:
    return canonical({"content_type": content_type, "data": base64.b64encode(content).decode()})


def named(headers: Mapping[str, str]) -> dict[str, str]:
    """Those headers, or metadata, that the contract names for answers by both ways."""
    return {name: headers[name] for name in ("x-request-id", "retry-after") if name in headers}
