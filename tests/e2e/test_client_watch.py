"""Watching the log with the Python client: each event once, in order, over restarts, refused tokens and broken ends."""

import asyncio
import threading
from typing import Any

import pytest
from tests.accounts import WHY, done, make_account, make_key
from tests.calling import Callers, Service, Tenant
from tests.clients import KINDS, Kind, client_of, record_trace, taken, token_of, types_of
from tests.stoppable_server import StoppableServer, stoppable_server
from tests.tcp_proxy import tcp_proxy

from decisiongraph_client import Client, errors
from decisiongraph_client._async.session import _Issued


@pytest.mark.parametrize("kind", KINDS)
async def test_history_and_then_what_comes(service: Service, tenant: Tenant, kind: Kind) -> None:
    async with client_of(kind, service, tenant) as client:
        await record_trace(client, steps=3)
        watch = client.watch(since_log_seq=0)
        watching = asyncio.create_task(taken(watch, 10))
        await asyncio.sleep(0.3)
        await record_trace(client, steps=3)
        events = await watching
        assert [event.log_seq for event in events] == list(range(1, 11))
        assert watch.position >= 10
        assert [event.log_seq for event in await taken(client.watch(since_log_seq=7), 3)] == [8, 9, 10]


@pytest.mark.parametrize("kind", KINDS)
async def test_only_new_ones(service: Service, tenant: Tenant, kind: Kind) -> None:
    async with client_of(kind, service, tenant) as client:
        await record_trace(client)
        watch = client.watch()
        watching = asyncio.create_task(taken(watch, 3))
        async with asyncio.timeout(10):
            while watch.position is None:  # noqa: ASYNC110 - the other kind has no event to wait for
                await asyncio.sleep(0.02)
        await record_trace(client)
        assert [event.log_seq for event in await watching] == [4, 5, 6]


async def test_only_what_matches(service: Service, tenant: Tenant) -> None:
    async with client_of("asyncio", service, tenant) as client:
        trace_id = await record_trace(client, steps=2)
        await record_trace(client)
        found = await taken(client.watch(since_log_seq=0, event_types=["TraceFinished"]), 2)
        assert types_of(found) == ["TraceFinished"] * 2
        assert len(await taken(client.watch(since_log_seq=0, trace_id=trace_id), 4)) == 4


@pytest.mark.parametrize("way", ["direct", "envoy"])
async def test_a_watch_that_is_left_ends_at_the_server(service: Service, tenant: Tenant, way: str) -> None:
    """Else the tenant would run out of watches: it may have a hundred."""
    server = service.grpc if way == "direct" else service.rest
    async with client_of("asyncio", service, tenant, server=server) as client:
        await record_trace(client)
        for _ in range(120):
            assert len(await taken(client.watch(since_log_seq=0), 1)) == 1


def test_a_blocking_watch_that_is_left_ends_at_the_server(service: Service, tenant: Tenant) -> None:
    threads = threading.active_count()
    with Client(service.grpc, token=token_of(service, tenant), producer="p") as client:
        with client.trace(workflow="w", title="t", primary_entity=("order", "1")):
            pass
        for _ in range(120):
            assert next(iter(client.watch(since_log_seq=0))).log_seq == 1
    assert threading.active_count() <= threads + 5, "threads of left watches are still there"


async def test_what_is_refused_ends_the_watch(service: Service, tenant: Tenant) -> None:
    async with client_of("asyncio", service, tenant) as client:
        with pytest.raises(errors.InvalidArgument):
            await taken(client.watch(since_log_seq=99), 1)
        with pytest.raises(errors.Unauthenticated):
            async with client_of("asyncio", service, tenant, token="no token") as other:
                await taken(other.watch(), 1)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_end_of_the_client_ends_the_watch(service: Service, tenant: Tenant, kind: Kind) -> None:
    async with client_of(kind, service, tenant) as client:
        watching = asyncio.create_task(taken(client.watch(), 1))
        await asyncio.sleep(0.5)
        await client.close()
        with pytest.raises(errors.ClientClosed):
            await watching


async def test_the_end_of_the_client_ends_a_watch_that_waits_for_the_service(service: Service, tenant: Tenant) -> None:
    async with client_of("asyncio", service, tenant, server="127.0.0.1:1") as client:
        watching = asyncio.create_task(taken(client.watch(), 1))
        await asyncio.sleep(2.5)
        await client.close()
        async with asyncio.timeout(1):
            with pytest.raises(errors.ClientClosed):
                await watching


class _Writers:
    """Record traces through another client until they are told to stop, whatever happens to the server."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._stop = asyncio.Event()
        self.traces = 0

    async def write(self) -> None:
        while not self._stop.is_set():
            await record_trace(self._client, steps=2)
            self.traces += 1
            await asyncio.sleep(0.01)

    def stop(self) -> None:
        self._stop.set()


async def _restart_while_watching(server: StoppableServer, client: Any, writers: _Writers) -> list[int]:
    """Restart in order, then kill, while one watches; the positions that he saw."""
    seen: list[int] = []
    watch = client.watch(since_log_seq=0)

    async def look() -> None:
        async for event in watch:
            seen.append(event.log_seq)  # noqa: PERF401 - others look at it meanwhile

    looking = asyncio.create_task(look())
    writing = asyncio.create_task(writers.write())
    for end in (server.stop, server.kill):
        await asyncio.sleep(1)
        before = len(seen)
        await end()
        await server.start()
        async with asyncio.timeout(30):
            while len(seen) <= before + 20:  # noqa: ASYNC110 - other threads
                await asyncio.sleep(0.05)
    writers.stop()
    await writing
    async with asyncio.timeout(20):
        while len(seen) < 4 * writers.traces:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await client.close()
    with pytest.raises(errors.ClientClosed):
        await looking
    return seen


@pytest.mark.parametrize("kind", KINDS)
async def test_it_goes_on_over_restarts(service: Service, tenant: Tenant, database_url: str, kind: Kind) -> None:
    async with (
        stoppable_server(service, database_url) as server,
        client_of(kind, service, tenant, server=server.address) as watcher,
        client_of("asyncio", service, tenant, server=server.address, timeout=60) as writer,
    ):
        await server.start()
        writers = _Writers(writer)
        seen = await _restart_while_watching(server, watcher, writers)
    assert seen == list(range(1, 4 * writers.traces + 1))


@pytest.mark.parametrize("way", ["direct", "envoy"])
async def test_it_goes_on_over_broken_connections(service: Service, tenant: Tenant, way: str) -> None:
    server = service.grpc if way == "direct" else service.rest.removeprefix("http://")
    async with (
        tcp_proxy(server) as (proxy, address),
        client_of("asyncio", service, tenant, server=address) as watcher,
        client_of("asyncio", service, tenant) as writer,
    ):
        watching = asyncio.create_task(taken(watcher.watch(since_log_seq=0), 200, seconds=60))
        for _ in range(50):
            await record_trace(writer, steps=2)
            if proxy.connections:
                proxy.cut()
        assert [event.log_seq for event in await watching] == list(range(1, 201))
    assert proxy.connections > 2


@pytest.mark.parametrize("kind", KINDS)
async def test_it_goes_on_when_the_token_has_expired(
    callers: Callers, service: Service, tenant: Tenant, kind: Kind
) -> None:
    """A connection may outlive the token that it began with; what comes after needs another."""
    account = await make_account(callers, roles=["ROLE_READER", "ROLE_WRITER"])
    _, secret = await make_key(callers, account)
    expired = service.token(tenant_ids=[tenant.tenant_id], roles=["reader"], begins=1_700_000_000)
    async with (
        tcp_proxy(service.grpc) as (proxy, address),
        client_of(kind, service, tenant, server=address, token=None, api_key=secret) as client,
    ):
        await record_trace(client)
        watching = asyncio.create_task(taken(client.watch(since_log_seq=0), 6))
        await asyncio.sleep(0.5)
        session = client._session
        session._issued = _Issued(expired, session._issued.refresh_at, session._issued.ends_at)
        proxy.cut()
        await asyncio.sleep(0.5)
        await record_trace(client)
        assert [event.log_seq for event in await watching] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_revoked_key_ends_the_watch(callers: Callers, service: Service, tenant: Tenant, kind: Kind) -> None:
    account = await make_account(callers)
    key_id, secret = await make_key(callers, account)
    async with client_of(kind, service, tenant, token=None, api_key=secret) as client:
        watching = asyncio.create_task(taken(client.watch(since_log_seq=0), 1, seconds=15))
        await asyncio.sleep(0.5)
        await done(callers, "RevokeApiKey", account_id=account, key_id=key_id, reason=WHY)
        with pytest.raises(errors.Unauthenticated):
            await watching
