"""The pages for people over HTTP: what they are answered with, and what stays shut around them."""

import hashlib
import re
from importlib import metadata
from pathlib import Path
from typing import Final

import pytest
from google.api import httpbody_pb2
from tests.calling import METHODS, Callers, rest_answer

from decisiongraph.v1 import system_service_pb2

_POLICIES: Final = {
    "/": "default-src 'none'; style-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "/docs": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}
_SHUT: Final = "default-src 'none'; frame-ancestors 'none'"
_CONTENT_TYPES: Final = {
    "explorer.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "pages.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui-bundle.js.LICENSE.txt": "text/plain; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
}
_IN_EVERY_ANSWER: Final = {
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def swagger_ui(name: str) -> bytes:
    """A file of the build that is installed."""
    folder = "drf_spectacular_sidecar/static/drf_spectacular_sidecar/swagger-ui-dist"
    return Path(str(metadata.distribution("drf-spectacular-sidecar").locate_file(f"{folder}/{name}"))).read_bytes()


@pytest.mark.parametrize("path", _POLICIES)
async def test_a_page_is_html_that_nobody_keeps_or_frames(callers: Callers, path: str) -> None:
    response = await callers.client.get(path)
    assert response.status_code == 200
    expected = {
        **_IN_EVERY_ANSWER,
        "content-type": "text/html; charset=utf-8",
        "cache-control": "no-store",
        "content-security-policy": _POLICIES[path],
    }
    assert {name: response.headers.get_list(name) for name in expected} == {k: [v] for k, v in expected.items()}
    assert response.headers["x-request-id"]
    assert response.text.startswith("<!doctype html>")


async def test_the_landing_page_says_how_the_service_is(callers: Callers) -> None:
    page = (await callers.client.get("/")).text
    version = (await callers.client.get("/api/healthz")).json()["version"]
    assert "This service is <strong>ready</strong>." in page
    assert f"Version {version}, checked at 20" in page
    assert re.findall(r'<li class="ok">(\w+): ok</li>', page) == ["database", "migrations", "projector"]


async def test_every_link_of_the_landing_page_answers(callers: Callers) -> None:
    page = (await callers.client.get("/")).text
    links = re.findall(r'href="([^"]+)"', page)
    assert {"/docs", "/api/openapi.yaml", "/api/healthz", "/api/readyz", "/.well-known/jwks.json"} <= set(links)
    assert {link: (await callers.client.get(link)).status_code for link in links} == dict.fromkeys(links, 200)


@pytest.mark.parametrize("path", _POLICIES)
async def test_a_page_repeats_nothing_of_the_request(callers: Callers, path: str) -> None:
    hostile = '"><script>alert(1)</script>'
    headers = {"host": "alert.example", "x-request-id": hostile, "x-tenant-id": hostile, "referer": hostile}
    response = await callers.client.get(path, headers=headers)
    assert (response.status_code, "alert" in response.text) == (200, False)


@pytest.mark.parametrize("name", _CONTENT_TYPES)
async def test_an_asset_has_its_type_and_may_be_kept(callers: Callers, name: str) -> None:
    response = await callers.client.get(f"/docs/{name}")
    assert response.status_code == 200
    assert response.headers["content-type"] == _CONTENT_TYPES[name]
    assert re.fullmatch(r"public, max-age=(60|3600)", response.headers["cache-control"])
    expected = {**_IN_EVERY_ANSWER, "content-security-policy": _SHUT}
    assert {key: response.headers.get_list(key) for key in expected} == {k: [v] for k, v in expected.items()}


@pytest.mark.parametrize("accept_encoding", ["gzip", "identity"])
@pytest.mark.parametrize("name", [name for name in _CONTENT_TYPES if name.startswith("swagger-ui")])
async def test_swagger_ui_arrives_as_its_makers_built_it(callers: Callers, name: str, accept_encoding: str) -> None:
    response = await callers.client.get(f"/docs/{name}", headers={"accept-encoding": accept_encoding})
    assert hashlib.sha256(response.content).digest() == hashlib.sha256(swagger_ui(name)).digest()
    assert response.headers.get("content-encoding", "identity") == accept_encoding
    assert response.headers["vary"] == "accept-encoding"
    if accept_encoding == "gzip":
        assert int(response.headers["content-length"]) < len(response.content) / 2


async def test_the_largest_asset_fits_a_message_of_grpc(callers: Callers) -> None:
    path, _ = METHODS["GetDocsAsset"]
    call = callers.channel.unary_unary(
        path,
        request_serializer=system_service_pb2.GetDocsAssetRequest.SerializeToString,
        response_deserializer=httpbody_pb2.HttpBody.FromString,
    )
    body = await call(system_service_pb2.GetDocsAssetRequest(name="swagger-ui-bundle.js"), timeout=30)
    assert body.data == swagger_ui("swagger-ui-bundle.js")


@pytest.mark.parametrize(
    "path",
    [
        "/docs/nothing.js",
        "/docs/explorer.html",
        "/docs/landing_page.html",
        "/docs/swagger-ui-bundle.js.map",
        "/docs/..%2Fexplorer.html",
        "/docs/%2e%2e%2f%2e%2e%2fpyproject.toml",
        "/docs/%2Fetc%2Fpasswd",
        "/docs/a/b",
        "/docs/%3Cscript%3E",
    ],
)
async def test_there_are_no_other_assets(callers: Callers, path: str) -> None:
    response = await callers.client.get(path)
    answer = rest_answer(response)
    assert (answer.http_status, answer.reason, answer.category) == (404, "NOT_FOUND", "not_found"), answer.body
    assert answer.metadata["content-type"] == "application/json"
    assert answer.metadata["content-security-policy"] == _SHUT
    assert answer.metadata["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/pages.css"])
async def test_pages_answer_get_only(callers: Callers, path: str) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
        response = await callers.client.request(method, path)
        assert response.status_code == 404, f"{method}: {response.text}"
        assert response.headers["content-type"] == "application/json"
    # Swagger UI of older versions took the address of a document, of any origin, from here.
    answer = rest_answer(await callers.client.get(f"{path}?url=https://elsewhere.example/openapi.yaml"))
    assert (answer.http_status, answer.reason) == (400, "INVALID_ARGUMENT")


async def test_the_document_that_the_explorer_reads_is_of_the_same_origin(callers: Callers) -> None:
    response = await callers.client.get("/api/openapi.yaml")
    assert response.headers["content-type"] == "application/yaml"
    assert response.headers["content-security-policy"] == _SHUT
    assert "\nservers:\n  - url: /\n" in response.text
    assert 'url: "/api/openapi.yaml"' in (await callers.client.get("/docs/explorer.js")).text
