"""Spans of a running server, as a collector receives them: an append, its commit and its projection are linked."""

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.another_server import another_server, callers_of
from tests.appending import changed, started
from tests.calling import Service, Tenant
from tests.collector import Collector

_APPEND = "decisiongraph.v1.IngestionService/AppendEvent"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture(scope="module")
async def traced(service: Service, database_url: str, collector: Collector) -> AsyncIterator[Service]:
    """A server that traces what its callers trace."""
    async with another_server(
        service, database_url, DG_OTLP_ENDPOINT=collector.url, DG_OTLP_SAMPLE_RATIO="0"
    ) as server:
        yield server


def traceparent(*, sampled: bool = True) -> tuple[str, str, dict[str, str]]:
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    return trace_id, span_id, {"traceparent": f"00-{trace_id}-{span_id}-0{int(sampled)}"}


async def test_an_append_is_linked_with_its_commit(traced: Service, tenant: Tenant, collector: Collector) -> None:
    trace_id, span_id, header = traceparent()
    async with callers_of(traced, tenant) as callers:
        metadata = {"authorization": f"Bearer {tenant.tokens['writer']}", "x-request-id": "traced-1", **header}
        answer = await callers.by_grpc("AppendEvent", {"event": started()}, metadata)
    assert answer.ok

    spans = await collector.of_trace(trace_id, {_APPEND, "group commit"})

    append, commit = spans[_APPEND], spans["group commit"]
    assert append.parent_span_id.hex() == span_id
    assert commit.parent_span_id == append.span_id
    assert [link.span_id for link in append.links] == [commit.span_id]
    attributes = {one.key: one.value.string_value for one in append.attributes}
    assert attributes["decisiongraph.request_id"] == "traced-1"
    assert attributes["decisiongraph.tenant"] == tenant.tenant_id


async def test_a_call_over_rest_continues_the_callers_trace(
    traced: Service, tenant: Tenant, collector: Collector
) -> None:
    trace_id, _, header = traceparent()
    async with callers_of(traced, tenant) as callers:
        metadata = {"authorization": f"Bearer {tenant.tokens['writer']}", **header}
        assert (await callers.by_rest("AppendEvent", {"event": started()}, metadata)).ok

    assert _APPEND in await collector.of_trace(trace_id, {_APPEND})


async def test_a_refusal_is_an_error_with_its_reason(traced: Service, tenant: Tenant, collector: Collector) -> None:
    trace_id, _, header = traceparent()
    broken = changed(started(), "payload.workflow", 1)
    async with callers_of(traced, tenant) as callers:
        metadata = {"authorization": f"Bearer {tenant.tokens['writer']}", **header}
        assert not (await callers.by_grpc("AppendEvent", {"event": broken}, metadata)).ok

    span = (await collector.of_trace(trace_id, {_APPEND}))[_APPEND]

    assert span.status.code == 2
    assert span.status.message == "SCHEMA_VIOLATION"


async def test_what_a_caller_does_not_trace_is_not_traced(
    traced: Service, tenant: Tenant, collector: Collector
) -> None:
    untraced, _, not_sampled = traceparent(sampled=False)
    traced_id, _, sampled = traceparent()
    async with callers_of(traced, tenant) as callers:
        for header in (not_sampled, sampled):
            metadata = {"authorization": f"Bearer {tenant.tokens['writer']}", **header}
            assert (await callers.by_grpc("AppendEvent", {"event": started()}, metadata)).ok

    await collector.of_trace(traced_id, {_APPEND})

    assert untraced not in {span.trace_id.hex() for span in collector.spans}
