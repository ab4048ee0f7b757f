"""What Envoy answers by itself has the shape of the service's own errors, and what it adds or takes away is known."""

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from tests.appending import append_json, changed, started, writer
from tests.calling import AUDIENCE, ISSUER, Answer, Callers, Service, rest_answer
from tests.conftest import envoy_config
from tests.own_ports import own_port

from decisiongraph_service.runtime import children, envoy
from decisiongraph_service.runtime.assets import asset


def assert_shaped(answer: Answer, status: int, code: int, reason: str, category: str) -> None:
    """The body is a google.rpc.Status in JSON with the details that every error has."""
    assert (answer.http_status, answer.body["code"]) == (status, code), answer.body
    assert answer.metadata["content-type"] == "application/json"
    assert answer.body["message"]
    info = answer.detail("ErrorInfo")
    assert (info["reason"], info["domain"], info["metadata"]["category"]) == (reason, "decisiongraph", category)
    named = {answer.detail("RequestInfo").get("request_id", "none"), answer.metadata.get("x-request-id", "none")}
    assert len(named) == 1, f"header and details must name the same call, or none: {named}"


async def ask(callers: Callers, method: str, path: str, **options: Any) -> Answer:
    role = "writer" if method == "POST" else "reader"
    headers = {"authorization": f"Bearer {callers.tenant.tokens[role]}", **options.pop("headers", {})}
    return rest_answer(await callers.client.request(method, path, headers=headers, **options))


@pytest.mark.parametrize("text", ["{", "nonsense", '{"trace_id": }', "[]", "5", '"text"', '{"trace_id": "a",}', "{}}"])
async def test_a_body_that_is_no_json_object_is_an_invalid_argument(callers: Callers, text: str) -> None:
    assert_shaped(await append_json(callers, text), 400, 3, "INVALID_ARGUMENT", "invalid_argument")


async def test_a_list_as_body_is_an_invalid_argument(callers: Callers) -> None:
    answer = await append_json(callers, json.dumps([started()]))
    assert_shaped(answer, 400, 3, "INVALID_ARGUMENT", "invalid_argument")


@pytest.mark.parametrize("key", ["workflow", "primary_entity"])
async def test_duplicate_keys_in_a_payload_are_refused(callers: Callers, key: str) -> None:
    text = json.dumps(started()).replace(f'"{key}":', f'"{key}": "other", "{key}":')
    assert_shaped(await append_json(callers, text), 400, 3, "INVALID_ARGUMENT", "invalid_argument")


@pytest.mark.parametrize("path", ["/nothing", "/api/v1/nothing", "/api/v2/events", "/api/v1", "/api/v1/events/a/b"])
async def test_an_unknown_path_is_not_found(callers: Callers, path: str) -> None:
    assert_shaped(await ask(callers, "GET", path), 404, 5, "NOT_FOUND", "not_found")


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", "/api/v1/events/e"), ("PUT", "/api/v1/events"), ("POST", "/api/v1/traces/t")]
)
async def test_a_method_that_a_path_does_not_have_is_not_found(callers: Callers, method: str, path: str) -> None:
    assert_shaped(await ask(callers, method, path), 404, 5, "NOT_FOUND", "not_found")


@pytest.mark.parametrize(
    "query",
    [
        "unknown=1",
        "page_size=ten",
        "page_size=99999999999",
        "page_size=1&page_size=2",
        "trace_id.x=1",
        "since_trace_seq=",
    ],
)
async def test_a_query_parameter_that_does_not_fit_is_an_invalid_argument(callers: Callers, query: str) -> None:
    answer = await ask(callers, "GET", f"/api/v1/traces/t/events?{query}")
    assert_shaped(answer, 400, 3, "INVALID_ARGUMENT", "invalid_argument")


async def test_a_body_that_is_too_large_is_refused(callers: Callers) -> None:
    assert_shaped(await append_json(callers, b" " * 4_194_305), 413, 3, "INVALID_ARGUMENT", "invalid_argument")


@pytest.mark.parametrize("size", [9_000, 20_000, 50_000, 70_000])
async def test_headers_that_are_too_long_are_refused_with_431(callers: Callers, size: int) -> None:
    answer = await ask(callers, "GET", "/api/v1/events/e", headers={"x-long": "a" * size})
    assert_shaped(answer, 431, 3, "INVALID_ARGUMENT", "invalid_argument")


async def test_many_short_headers_are_refused_as_one_long_one(callers: Callers) -> None:
    answer = await ask(callers, "GET", "/api/v1/events/e", headers={f"x-{number}": "a" for number in range(90)})
    assert answer.http_status == 404, "ninety short headers fit"
    answer = await ask(callers, "GET", "/api/v1/events/e", headers={f"x-{n}": "a" * 100 for n in range(90)})
    assert_shaped(answer, 431, 3, "INVALID_ARGUMENT", "invalid_argument")


async def test_headers_that_fit_leave_room_for_the_largest_token(callers: Callers, service: Service) -> None:
    tenants = [f"{'t' * 50}-{number}" for number in range(45)]
    token = service.token(tenant_ids=[callers.tenant.tenant_id, *tenants], roles=["reader"])
    assert 3_500 < len(token) <= 4_096
    headers = {"authorization": f"Bearer {token}", "x-tenant-id": callers.tenant.tenant_id}
    answer = rest_answer(await callers.client.get("/api/v1/events/e", headers=headers))
    assert answer.reason == "NOT_FOUND", answer.body


async def test_a_long_query_reaches_the_service(callers: Callers) -> None:
    long = "%C3%A9" * 4_096  # 8,192 bytes in UTF-8, the most that the contract takes
    answer = await ask(callers, "GET", f"/api/v1/precedents?policy_id={long}&workflow={long}&unknown_not=")
    assert_shaped(answer, 400, 3, "INVALID_ARGUMENT", "invalid_argument")
    answer = await ask(callers, "GET", f"/api/v1/precedents?policy_id={long}a&entity_type=%C3%A9")
    assert answer.fields == ["policy_id"], f"the service did not see the query: {answer.body}"


async def test_a_header_with_an_underscore_is_refused_in_json(callers: Callers) -> None:
    answer = await ask(callers, "GET", "/api/healthz", headers={"x_tenant_id": "a"})
    assert (answer.http_status, answer.reason, answer.category) == (400, "INVALID_ARGUMENT", "invalid_argument")
    assert "underscore" in answer.body["message"]
    assert answer.detail("RequestInfo") == {}, "what is refused before it is read has no id"


@pytest.mark.parametrize("name", ["x!y", "a*", "it's", "b~c", "x-trace-bin", "grpc-encoding", "grpc-retry-pushback-ms"])
async def test_a_header_that_grpc_does_not_take_is_not_passed_on(callers: Callers, name: str) -> None:
    for method, path in (("GET", "/api/healthz"), ("GET", "/api/v1/events"), ("POST", "/api/v1/events")):
        body = {"json": started()} if method == "POST" else {}
        answer = await ask(callers, method, path, headers={name: "x"}, **body)
        assert answer.ok, f"{method} {path} with {name}: {answer.body}"


@contextlib.asynccontextmanager
async def envoy_before(port: int, *, waits: str = "30s") -> AsyncIterator[httpx.AsyncClient]:
    """REST through an Envoy in front of this port, which waits so long for answers."""
    rest = own_port()
    admin = own_port()
    folder = Path(tempfile.mkdtemp(prefix="decisiongraph-test-"))
    config = folder / "envoy.yaml"
    config.write_text(envoy_config(rest, port, admin).replace("timeout: 30s", f"timeout: {waits}"))
    running = children.Children(folder / "logs", folder / "children.json")
    try:
        await running.start(children.ChildSpec("envoy", envoy.command(config, concurrency=1)))
        await running.during(envoy.wait_ready(admin, timeout_seconds=20))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{rest}", timeout=30) as client:
            yield client
    finally:
        await running.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def nothing_behind() -> AsyncIterator[httpx.AsyncClient]:
    """An Envoy whose server is not there."""
    async with envoy_before(own_port()) as client:
        yield client


async def test_a_server_that_is_not_there_is_storage_unavailable(nothing_behind: httpx.AsyncClient) -> None:
    for path in ("/api/healthz", "/api/readyz", "/.well-known/jwks.json"):
        answer = rest_answer(await nothing_behind.get(path))
        assert_shaped(answer, 503, 14, "STORAGE_UNAVAILABLE", "storage")
        assert answer.metadata["retry-after"] == "1"
        assert answer.detail("RetryInfo")["retry_delay"] == "1s"
        assert "127.0.0.1" not in json.dumps(answer.body)
    # What Envoy refuses by itself it refuses without a server too.
    unknown = rest_answer(await nothing_behind.get("/api/healthz?unknown=1"))
    assert_shaped(unknown, 400, 3, "INVALID_ARGUMENT", "invalid_argument")
    no_token = rest_answer(await nothing_behind.post("/api/v1/events", json=started()))
    assert_shaped(no_token, 401, 16, "UNAUTHENTICATED", "unauthorized")


async def test_a_server_that_does_not_answer_in_time_is_told_apart() -> None:
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            await reader.read()

    silent = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with silent, envoy_before(silent.sockets[0].getsockname()[1], waits="1s") as client:
        answer = rest_answer(await client.get("/api/healthz"))
    assert_shaped(answer, 504, 4, "DEADLINE_EXCEEDED", "storage")
    assert answer.metadata["retry-after"] == "1"


async def test_a_watch_may_last_longer_than_other_calls(service: Service, callers: Callers) -> None:
    headers = {"authorization": f"Bearer {callers.tenant.tokens['reader']}"}
    async with (
        envoy_before(int(service.grpc.rpartition(":")[2]), waits="1s") as client,
        client.stream("GET", "/api/v1/events:watch", headers=headers) as response,
    ):
        lines = response.aiter_lines()
        # There are two a second.
        heartbeats = [json.loads(await anext(lines)) for _ in range(5)]
    assert all("heartbeat" in one for one in heartbeats)


async def test_a_caller_cannot_pose_as_another_transport(callers: Callers) -> None:
    for transport in ("grpc", "rest", "other"):
        headers = {"x-decisiongraph-transport": transport}
        answer = await ask(callers, "GET", "/api/v1/nothing", headers=headers)
        assert_shaped(answer, 404, 5, "NOT_FOUND", "not_found")


@pytest.mark.parametrize("name", ["x-http-status", "x-decisiongraph-edge", "x-decisiongraph-denied"])
async def test_a_caller_cannot_choose_the_status(callers: Callers, name: str) -> None:
    for status in ("200", "500", "abc"):
        answer = await ask(callers, "GET", "/api/v1/events/e", headers={name: status})
        assert_shaped(answer, 404, 5, "NOT_FOUND", "not_found")
        assert (await ask(callers, "GET", "/api/healthz", headers={name: status})).http_status == 200


async def test_what_the_service_and_envoy_tell_each_other_stays_inside(callers: Callers) -> None:
    answers = [
        await append_json(callers, json.dumps(changed(started(), "payload.n", 0.5))),
        await append_json(callers, "{"),
        await ask(callers, "GET", "/api/healthz"),
        rest_answer(await callers.client.get("/api/v1/events")),
    ]
    assert [answer.http_status for answer in answers] == [422, 400, 200, 401]
    for answer in answers:
        inside = {
            "x-http-status",
            "x-decisiongraph-edge",
            "x-decisiongraph-denied",
            "x-decisiongraph-transport",
            "grpc-status-details-bin",
        }
        assert not inside & set(answer.metadata), answer.metadata


async def test_the_content_type_does_not_matter(callers: Callers) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8"):
        headers = {**writer(callers), "content-type": kind}
        answer = rest_answer(await callers.client.post("/api/v1/events", json=started(), headers=headers))
        assert answer.ok, f"{kind}: {answer.body}"


async def test_the_openapi_document_is_the_committed_one(callers: Callers) -> None:
    response = await callers.client.get("/api/openapi.yaml")
    assert response.headers["content-type"] == "application/yaml"
    assert response.content == asset("generated/openapi.yaml").read_bytes()


async def test_the_published_keys_verify_a_token(callers: Callers) -> None:
    token = callers.tenant.tokens["reader"]
    keys = (await callers.client.get("/.well-known/jwks.json")).json()["keys"]
    used = next(key for key in keys if key["kid"] == jwt.get_unverified_header(token)["kid"])
    assert "d" not in used, "the private part is published"
    verified = jwt.decode(token, jwt.PyJWK(used), algorithms=["EdDSA"], audience=AUDIENCE, issuer=ISSUER)
    assert verified["tenants"] == [callers.tenant.tenant_id]


async def test_the_probes_answer(callers: Callers) -> None:
    live = await callers.client.get("/api/healthz")
    ready = await callers.client.get("/api/readyz")
    assert (live.status_code, live.json()["status"]) == (200, "live")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert {check["status"] for check in ready.json()["checks"]} == {"ok"}
    assert "database" in {check["name"] for check in ready.json()["checks"]}


@pytest.mark.parametrize("path", ["/api/v1/events/none", "/api/healthz", "/no/such/path"])
async def test_browsers_are_told_to_do_nothing_with_answers(callers: Callers, path: str) -> None:
    headers = {"authorization": f"Bearer {callers.tenant.tokens['reader']}"}
    response = await callers.client.get(path, headers=headers)
    expected = {
        "cache-control": "no-store",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
    }
    assert {name: response.headers.get(name) for name in expected} == expected


async def test_no_page_of_another_origin_may_read_answers(callers: Callers) -> None:
    origin = {"origin": "https://elsewhere.example", "access-control-request-method": "GET"}
    for response in (
        await callers.client.get("/api/healthz", headers=origin),
        await callers.client.request("OPTIONS", "/api/v1/events/none", headers=origin),
    ):
        assert not [name for name in response.headers if name.startswith("access-control-")]
