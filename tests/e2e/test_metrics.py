"""/metrics of a running server: what was done is counted, and no label can grow by what callers send."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.accounts import owner_of
from tests.another_server import another_server, callers_of
from tests.appending import changed, started
from tests.calling import Service, Tenant
from tests.jobs import keep_projector_out, let_projector_in
from tests.own_ports import own_port

from decisiongraph_service.domain import vocabulary

_WITHIN_SECONDS = 20


class Scraper:
    """Reads /metrics of one server."""

    def __init__(self, server: Service, port: int) -> None:
        self.server = server
        self._url = f"http://127.0.0.1:{port}/metrics"

    async def text(self) -> str:
        async with httpx.AsyncClient(timeout=30) as client:
            return (await client.get(self._url)).raise_for_status().text

    async def value(self, name: str, **labels: str) -> float:
        """The sum of all samples of that name with these labels."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(await self.text())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def becomes(self, name: str, wanted: float, **labels: str) -> None:
        async with asyncio.timeout(_WITHIN_SECONDS):
            while (found := await self.value(name, **labels)) != wanted:  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.2)
        assert found == wanted

    async def reaches(self, name: str, least: float, **labels: str) -> None:
        async with asyncio.timeout(_WITHIN_SECONDS):
            while (found := await self.value(name, **labels)) < least:  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.2)
        assert found >= least


@pytest.fixture(scope="module")
async def scraper(service: Service, database_url: str) -> AsyncIterator[Scraper]:
    port = own_port()
    async with another_server(
        service,
        database_url,
        DG_METRICS_PORT=str(port),
        DG_DATABASE_POOL_SIZE="7",
        DG_TENANT_CLASSES='{"decisiongraph-system": "own"}',
    ) as server:
        yield Scraper(server, port)


async def test_appends_are_counted_by_what_became_of_them(scraper: Scraper, tenant: Tenant) -> None:
    names = [("decisiongraph_events_total", {"outcome": outcome}) for outcome in ("stored", "reused")]
    before = [await scraper.value(name, **labels) for name, labels in names]
    commits = await scraper.value("decisiongraph_commit_seconds_count")
    event = started()
    async with callers_of(scraper.server, tenant) as callers:
        for _ in range(3):
            assert (await callers.call("grpc", "AppendEvent", {"event": event})).ok

    after = [await scraper.value(name, **labels) for name, labels in names]

    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 2]
    assert await scraper.value("decisiongraph_commit_seconds_count") == commits + 3
    assert await scraper.value("decisiongraph_commit_events_sum") == after[0]


async def test_refusals_are_counted_by_reason(scraper: Scraper, tenant: Tenant) -> None:
    labels = {"method": "AppendEvent", "reason": "SCHEMA_VIOLATION", "tenant_class": "standard"}
    before = await scraper.value("decisiongraph_refusals_total", **labels)
    async with callers_of(scraper.server, tenant) as callers:
        answer = await callers.call("grpc", "AppendEvent", {"event": changed(started(), "payload.workflow", 1)})

    assert answer.reason == "SCHEMA_VIOLATION"
    assert await scraper.value("decisiongraph_refusals_total", **labels) == before + 1
    assert await scraper.value("decisiongraph_rpc_seconds_count", method="AppendEvent", code="INVALID_ARGUMENT") >= 1


async def test_what_callers_make_up_is_no_label(scraper: Scraper, tenant: Tenant) -> None:
    async with grpc.aio.insecure_channel(scraper.server.grpc) as channel:
        for number in range(20):
            for metadata in ((), (("authorization", f"Bearer {tenant.tokens['reader']}"),)):
                call: Any = channel.unary_unary(f"/made.up.Service{number}/Method{number}")
                with pytest.raises(grpc.aio.AioRpcError):
                    await call(b"", metadata=metadata, timeout=10)

    text = await scraper.text()

    assert "made.up" not in text
    assert tenant.tenant_id not in text
    assert await scraper.value("decisiongraph_rpc_seconds_count", service="unknown", method="unknown") >= 40


async def test_what_stands_is_told_with_the_scrape(scraper: Scraper, tenant: Tenant) -> None:
    async with callers_of(scraper.server, tenant) as callers:
        watching = callers.call("rest", "WatchEvents", {})
        task = asyncio.create_task(watching)
        await scraper.becomes("decisiongraph_watches", 1)
        assert await scraper.value("decisiongraph_calls_at_work", kind="streams") == 1
        task.cancel()

    await scraper.becomes("decisiongraph_watches", 0)
    assert await scraper.value("decisiongraph_database_connections") >= 1
    assert await scraper.value("decisiongraph_database_connections_limit") == 7
    await scraper.becomes("decisiongraph_append_queue_events", 0)


async def test_projections_are_measured_from_the_database(scraper: Scraper, tenant: Tenant, database_url: str) -> None:
    async with callers_of(scraper.server, tenant) as callers, owner_of(database_url) as owner:
        await keep_projector_out(owner, callers)
        assert (await callers.call("grpc", "AppendEvent", {"event": started()})).ok
        # At least: other tests hold up projections of their tenants in the same database.
        for projection in vocabulary.PROJECTIONS:
            for name in ("lagging_tenants", "lag_events", "largest_lag_events", "lag_seconds"):
                await scraper.reaches(f"decisiongraph_projection_{name}", 1, projection=projection)
        await let_projector_in(owner, callers)

    await scraper.reaches("decisiongraph_database_reachable", 1)
    for projection in vocabulary.PROJECTIONS:
        assert f'decisiongraph_projection_stopped_tenants{{projection="{projection}"}}' in await scraper.text()
