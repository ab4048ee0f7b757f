"""Servers behind Envoy are stopped one after the other, and no call fails."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tests.another_server import another_server
from tests.appending import started
from tests.calling import AUDIENCE, ISSUER, Service, Tenant
from tests.own_ports import own_port

from decisiongraph_service.runtime import children, edge_config, envoy, ports
from decisiongraph_service.runtime.edge_config import EdgeTls
from decisiongraph_service.runtime.gate import Gate


@pytest.fixture
async def one_of_two(service: Service, database_url: str) -> AsyncIterator[tuple[str, int]]:
    """The address of an Envoy before two servers, and the gRPC port of the one that may be stopped."""
    folder = Path(tempfile.mkdtemp(prefix="decisiongraph-test-"))
    rest_port = own_port()
    admin_port = own_port()
    keys_port = own_port()
    running = children.Children(folder / "logs", folder / "children.json")
    async with another_server(service, database_url, DG_DRAIN_SECONDS="5") as second:
        addresses = [(host, int(port)) for host, _, port in (one.grpc.rpartition(":") for one in (service, second))]
        files = edge_config.render(
            folder,
            listen=("127.0.0.1", rest_port),
            servers=addresses,
            admin_port=admin_port,
            gate=Gate(ISSUER, AUDIENCE, keys_port),
            tls=EdgeTls(),
        )
        for name, text in files.items():
            (folder / name).write_text(text)
        try:
            await running.start(children.ChildSpec("envoy", envoy.command(folder / edge_config.CONFIG, concurrency=1)))
            await running.during(envoy.wait_ready(admin_port, timeout_seconds=20))
            yield f"http://127.0.0.1:{rest_port}", addresses[1][1]
        finally:
            await running.stop()
            shutil.rmtree(folder, ignore_errors=True)


async def test_no_call_fails_while_one_of_two_servers_stops(one_of_two: tuple[str, int], tenant: Tenant) -> None:
    rest, port = one_of_two
    pid = ports.holder(port).pid
    assert pid is not None
    headers = {"authorization": f"Bearer {tenant.tokens['writer']}"}
    answered: list[int] = []
    async with httpx.AsyncClient(base_url=rest, headers=headers, timeout=30, trust_env=False) as client:

        async def call() -> None:
            answer = await client.post("/api/v1/events", json=started())
            assert answer.status_code == 200, answer.text
            answered.append(answer.status_code)

        # Until Envoy has fetched the servers' keys it lets nobody in.
        async with asyncio.timeout(20):
            while (await client.post("/api/v1/events", json=started())).status_code == 503:  # noqa: ASYNC110 - Envoy fetches them
                await asyncio.sleep(0.1)
        for _ in range(20):
            await call()
        os.kill(pid, signal.SIGTERM)
        async with asyncio.timeout(60):
            while ports.holder(port).pid == pid:
                await call()
        for _ in range(20):
            await call()
    assert len(answered) > 40
