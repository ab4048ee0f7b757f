"""Envoy's spans: one REST call is one trace, the caller's if it has one, and a collector that is away stops nobody."""

import asyncio
import re
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from tests import commands
from tests.another_server import another_server, callers_of
from tests.appending import started
from tests.calling import Answer, Service, Tenant
from tests.collector import Collector

from decisiongraph_service.runtime import envoy

_APPEND: Final = "decisiongraph.v1.IngestionService/AppendEvent"
_ENVOY: Final = "decisiongraph-envoy"
_SERVER: Final = "decisiongraph"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture(scope="module")
async def all_traced(service: Service, database_url: str, collector: Collector) -> AsyncIterator[Service]:
    """A server and an Envoy that trace every call, unless the caller says no."""
    async with another_server(
        service, database_url, DG_OTLP_ENDPOINT=collector.url, DG_OTLP_SAMPLE_RATIO="1"
    ) as server:
        yield server


@pytest.fixture(scope="module")
async def none_traced(service: Service, database_url: str, collector: Collector) -> AsyncIterator[Service]:
    """A server and an Envoy that trace no call, unless the caller says yes."""
    async with another_server(
        service, database_url, DG_OTLP_ENDPOINT=collector.url, DG_OTLP_SAMPLE_RATIO="0"
    ) as server:
        yield server


async def append(
    server: Service, tenant: Tenant, headers: Mapping[str, str] | None = None, *, grpc: bool = False
) -> Answer:
    """Append over REST, or over gRPC through Envoy."""
    metadata = {"authorization": f"Bearer {tenant.tokens['writer']}", **(headers or {})}
    through_envoy = replace(server, grpc=server.rest.removeprefix("http://"))
    async with callers_of(through_envoy, tenant) as callers:
        by = callers.by_grpc if grpc else callers.by_rest
        return await by("AppendEvent", {"event": started()}, metadata)


async def of_call(collector: Collector, request_id: str) -> tuple[Span, Span]:
    """Envoy's span and the server's of the call with this id, when both have arrived."""
    async with asyncio.timeout(30):
        while True:
            spans = list(collector.spans)
            server = [span for span in spans if attributes(span).get("decisiongraph.request_id") == request_id]
            edge = [span for span in spans if attributes(span).get("guid:x-request-id") == request_id]
            if server and edge:
                assert (len(server), len(edge)) == (1, 1)
                return edge[0], server[0]
            await asyncio.sleep(0.1)


def attributes(span: Span) -> dict[str, str]:
    return {one.key: one.value.string_value for one in span.attributes}


@pytest.mark.parametrize("grpc", [False, True], ids=["rest", "grpc"])
async def test_a_call_is_one_trace(all_traced: Service, tenant: Tenant, collector: Collector, *, grpc: bool) -> None:
    request_id = secrets.token_hex(8)
    assert (await append(all_traced, tenant, {"x-request-id": request_id}, grpc=grpc)).ok

    edge, server = await of_call(collector, request_id)

    assert [collector.services[span.span_id] for span in (edge, server)] == [_ENVOY, _SERVER]
    assert (edge.parent_span_id, edge.kind) == (b"", Span.SPAN_KIND_SERVER)
    assert (server.name, server.trace_id, server.parent_span_id) == (_APPEND, edge.trace_id, edge.span_id)
    assert edge.start_time_unix_nano <= server.start_time_unix_nano
    assert edge.name == "POST"


async def test_the_callers_trace_is_continued(
    all_traced: Service, none_traced: Service, tenant: Tenant, collector: Collector
) -> None:
    for servers in (all_traced, none_traced):
        trace_id, span_id, request_id = secrets.token_hex(16), secrets.token_hex(8), secrets.token_hex(8)
        headers = {"traceparent": f"00-{trace_id}-{span_id}-01", "tracestate": "corp=1", "x-request-id": request_id}
        assert (await append(servers, tenant, headers)).ok

        edge, server = await of_call(collector, request_id)

        assert (edge.trace_id.hex(), edge.parent_span_id.hex(), edge.trace_state) == (trace_id, span_id, "corp=1")
        assert (server.trace_id, server.parent_span_id) == (edge.trace_id, edge.span_id)


async def test_what_is_not_sampled_has_no_span_on_either_side(
    all_traced: Service, none_traced: Service, tenant: Tenant, collector: Collector
) -> None:
    refused, request_id = secrets.token_hex(16), secrets.token_hex(8)
    not_sampled = {"traceparent": f"00-{refused}-{secrets.token_hex(8)}-00"}
    sampled = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    assert (await append(all_traced, tenant, not_sampled)).ok
    assert (await append(none_traced, tenant, {"x-request-id": "by-the-ratio"})).ok
    for server in (all_traced, none_traced):
        # What is asked later leaves later.
        assert (await append(server, tenant, {"x-request-id": request_id, "traceparent": sampled})).ok
        await of_call(collector, request_id)
        request_id = secrets.token_hex(8)

    assert refused not in {span.trace_id.hex() for span in collector.spans}
    assert "by-the-ratio" not in {value for span in collector.spans for value in attributes(span).values()}


async def test_a_traceparent_that_is_none_disturbs_nobody(all_traced: Service, tenant: Tenant) -> None:
    for broken in (
        "00",
        "00-" + "0" * 32 + "-" + "0" * 16 + "-01",
        "zz" * 40,
        "ff-" + "1" * 32 + "-" + "1" * 16 + "-01",
    ):
        assert (await append(all_traced, tenant, {"traceparent": broken})).ok


async def test_paths_and_queries_stay_here(all_traced: Service, tenant: Tenant, collector: Collector) -> None:
    request_id = secrets.token_hex(8)
    async with httpx.AsyncClient(base_url=all_traced.rest, timeout=30) as client:
        headers = {"authorization": f"Bearer {tenant.tokens['reader']}", "x-request-id": request_id}
        answer = await client.get("/api/v1/precedents?query=hush-hush", headers=headers)
        assert answer.status_code == 200, answer.text

    edge, _ = await of_call(collector, request_id)

    assert not [one for one in attributes(edge).items() if "hush" in one[1] or "precedents" in one[1]]
    assert tenant.tokens["reader"] not in str(edge)


async def test_a_collector_that_goes_away_stops_no_call(service: Service, database_url: str, tenant: Tenant) -> None:
    collector = Collector()
    async with another_server(
        service, database_url, DG_OTLP_ENDPOINT=collector.url, DG_OTLP_SAMPLE_RATIO="1"
    ) as server:
        request_id = secrets.token_hex(8)
        assert (await append(server, tenant, {"x-request-id": request_id})).ok
        await of_call(collector, request_id)
        collector.close()
        async with asyncio.timeout(30):
            while not await failed_connections(server):
                for grpc in (False, True):
                    assert (await append(server, tenant, grpc=grpc)).ok
        for grpc in (False, True):
            assert (await append(server, tenant, grpc=grpc)).ok


async def failed_connections(server: Service) -> int:
    """How often Envoy did not reach the collector."""
    async with httpx.AsyncClient(base_url=server.admin, timeout=30) as admin:
        text = (await admin.get("/stats?filter=cluster.collector.upstream_cx_connect_fail")).text
    return int((re.search(r": (\d+)", text) or ["", "0"])[1])


@pytest.mark.parametrize("endpoint", ["http://collector:4318", "https://collector.example.com"])
@pytest.mark.parametrize("by", ["option", "setting"])
def test_envoy_takes_what_envoy_config_writes(tmp_path: Path, endpoint: str, by: str) -> None:
    folder = tmp_path / "envoy"
    options = ("--otlp-endpoint", endpoint, "--otlp-sample-ratio", "0.5") if by == "option" else ()
    variables = {"DG_OTLP_ENDPOINT": endpoint, "DG_OTLP_SAMPLE_RATIO": "0.5"} if by == "setting" else {}
    ended = commands.run("envoy-config", str(folder), "--server", "127.0.0.1:1", *options, **variables)
    assert (ended.returncode, ended.stderr) == (0, "")
    text = (folder / "envoy.yaml").read_text()
    assert f"{endpoint}/v1/traces" in text
    assert "numerator: 500000" in text
    checked = subprocess.run(
        [*envoy.command(folder / "envoy.yaml"), "--mode", "validate"],
        capture_output=True,
        text=True,
        timeout=commands.SECONDS,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_without_a_collector_envoy_config_writes_no_tracer(tmp_path: Path) -> None:
    ended = commands.run("envoy-config", str(tmp_path), "--server", "127.0.0.1:1", "--otlp-sample-ratio", "0.5")
    assert (ended.returncode, ended.stderr) == (0, "")
    text = (tmp_path / "envoy.yaml").read_text()
    assert "opentelemetry" not in text
    assert "name: collector" not in text
