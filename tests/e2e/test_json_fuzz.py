"""Whatever bodies, queries and content types a REST call has, the answer is a success or an error of the contract."""

import json
import urllib.parse
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.calling import METHODS, Answer, Callers, Service, route
from tests.fuzz.effort import fuzzed
from tests.fuzz.own_service import fuzzed_callers
from tests.fuzz.refusals import faults, told
from tests.fuzz.values import JSON, SCALARS, TEXTS, as_utf8, documents, near
from tests.rpc_examples import OVER_REST, RULES, example, http_rule

_WITH_BODY: Final = sorted(rpc for rpc in OVER_REST if http_rule(METHODS[rpc][1]).body)
_WITH_QUERY: Final = sorted(OVER_REST - set(_WITH_BODY))
_TYPES: Final = (
    "application/json",
    "application/json; charset=utf-16",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/xml",
    "application/grpc-web",
    "application/grpc+json",
    "application/octet-stream",
    "nonsense",
    "",
)
_ODD_QUERIES: Final = (
    "%",
    "%zz",
    "%ff",
    "%ed%a0%80",
    "%00",
    "=",
    "&&&",
    "?",
    "a=1&a=2",
    "page_size",
    "page_size[]=1",
    "page_size=1&page_size=2",
    "page_size=1.0",
    "page_size=1e1",
    "page_size=NaN",
    "page_size=99999999999999999999",
    "page_size=0x10",
    "page_token.x=1",
    "min_log_seq=-9223372036854775809",
    "allow_stale=maybe",
    "view=99",
    "event_types=a&event_types=b",
    "metadata.a=1",
    "metadata[a]=1",
    "primary_entity.entity_type=x",
    "$alt=proto",
    "@type=x",
    "é=é",
    "a" * 5_000,
)


@pytest.fixture(scope="module")
async def callers(service: Service, database_url: str) -> AsyncIterator[Callers]:
    async with fuzzed_callers(service, database_url) as calling:
        yield calling


def _good_body(rpc: str) -> Any:
    _, _, _, body = route(rpc, example(rpc))
    return body


async def _answer(
    callers: Callers, rpc: str, *, body: bytes | None = None, query: str = "", content_type: str = "application/json"
) -> Answer:
    """What is answered; of a stream, whether it began."""
    verb, path, _, _ = route(rpc, example(rpc))
    role = RULES[rpc].role
    headers = {"content-type": content_type} if body is not None else {}
    if role:
        headers["authorization"] = f"Bearer {callers.tenant.tokens[role]}"
    url = httpx.URL(f"{callers.client.base_url}".rstrip("/") + path, query=query.encode() or None)
    async with callers.client.stream(verb, url, content=body, headers=headers) as response:
        # What calls itself gRPC is answered as gRPC: 200, and the code in a header.
        assert response.headers.get("grpc-status", "0") not in ("2", "13"), response.headers
        if response.is_success:
            return Answer(True, {}, response.status_code)
        content = await response.aread()
    assert response.headers["content-type"] == "application/json", (response.status_code, content[:500])
    answer = Answer(False, json.loads(content), response.status_code, dict(response.headers))
    assert (
        not answer.detail("RequestInfo")
        or answer.detail("RequestInfo")["request_id"] == response.headers["x-request-id"]
    )
    return answer


def _members(value: Any) -> st.SearchStrategy[Any]:
    """The value with another one somewhere in it."""
    if isinstance(value, dict) and value:
        return st.sampled_from(sorted(value)).flatmap(
            lambda name: (_members(value[name]) | SCALARS | JSON).map(lambda changed: {**value, name: changed})
        ) | st.builds(lambda name, more: {**value, name: more}, TEXTS, JSON)
    if isinstance(value, list) and value:
        return _members(value[0]).map(lambda changed: [changed, *value[1:]])
    return SCALARS


def _bodies(rpc: str) -> st.SearchStrategy[bytes]:
    good = _good_body(rpc)
    text = json.dumps(good)
    twice = st.sampled_from(sorted(good)).map(lambda name: f"{text[:-1]}, {json.dumps(name)}: null}}".encode())
    trailing = st.sampled_from(["x", "}", "{}", "\0", ",", "\n\n", "//", "\ufeff"]).map(
        lambda more: as_utf8(text + more)
    )
    changed = _members(good)
    return st.one_of(
        changed.map(lambda value: json.dumps(value).encode()),
        changed.map(lambda value: as_utf8(json.dumps(value, ensure_ascii=False))),
        documents(good),
        twice,
        trailing,
        st.sampled_from([b"", b"null", b"[]", text.encode("utf-16"), b"\xef\xbb\xbf" + text.encode(), b"[" * 5_000]),
    )


@pytest.mark.parametrize("rpc", _WITH_BODY)
@given(data=st.data())
@fuzzed(15)
async def test_a_changed_body_gets_a_success_or_an_error_of_the_contract(
    callers: Callers, rpc: str, data: st.DataObject
) -> None:
    body = data.draw(_bodies(rpc))
    assert faults(await _answer(callers, rpc, body=body)) == [], told(body)


@pytest.mark.parametrize("content_type", _TYPES)
@given(st.sampled_from(_WITH_BODY))
@fuzzed(4)
async def test_another_content_type_gets_a_success_or_an_error_of_the_contract(
    callers: Callers, content_type: str, rpc: str
) -> None:
    body = json.dumps(_good_body(rpc)).encode()
    assert faults(await _answer(callers, rpc, body=body, content_type=content_type)) == []


def _queries(rpc: str) -> st.SearchStrategy[str]:
    _, _, left, _ = route(rpc, example(rpc))
    names = st.sampled_from([field.name for field in METHODS[rpc][1].input_type.fields] or ["none"])
    text = urllib.parse.urlencode({name: str(value) for name, value in left.items()})
    pairs = st.lists(st.tuples(names | TEXTS, TEXTS | st.integers().map(str)), max_size=3)
    escaped = pairs.map(
        lambda given: "&".join(
            f"{urllib.parse.quote(as_utf8(name), safe='.[]')}={urllib.parse.quote(as_utf8(value))}"
            for name, value in given
        )
    )
    damaged = near(text, _ODD_QUERIES).map(lambda query: urllib.parse.quote(as_utf8(query), safe="%=&?.[]@$+;,:/"))
    return (
        st.sampled_from(_ODD_QUERIES).map(lambda query: urllib.parse.quote(query, safe="%=&?.[]@$")) | escaped | damaged
    )


@pytest.mark.parametrize("rpc", _WITH_QUERY)
@given(data=st.data())
@fuzzed(12)
async def test_a_changed_query_gets_a_success_or_an_error_of_the_contract(
    callers: Callers, rpc: str, data: st.DataObject
) -> None:
    query = data.draw(_queries(rpc))
    assert faults(await _answer(callers, rpc, query=query)) == [], told(query)


@pytest.mark.parametrize("rpc", _WITH_QUERY)
async def test_a_body_where_none_is_wanted_gets_a_success_or_an_error_of_the_contract(
    callers: Callers, rpc: str
) -> None:
    for body in (b"", b"{}", b"x", b"\xff" * 100):
        assert faults(await _answer(callers, rpc, body=body)) == [], told(body)
