"""The Python client on bad networks and beside servers that stop: calls end in time, and go on where that is safe."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.calling import Service, Tenant
from tests.certificates import Authority
from tests.clients import KINDS, Kind, all_of, client_of, record_trace, taken
from tests.own_ports import own_port
from tests.stoppable_server import StoppableServer, stoppable_server
from tests.tcp_proxy import TcpProxy, tcp_proxy

from decisiongraph_client import RetryPolicy, Tls, _settings, errors


@pytest.fixture
async def proxy(service: Service) -> AsyncIterator[tuple[TcpProxy, str]]:
    async with tcp_proxy(service.grpc) as made:
        yield made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("when", ["from the beginning", "in the middle"])
async def test_a_connection_that_swallows_everything_ends_the_call_in_time(
    service: Service, tenant: Tenant, proxy: tuple[TcpProxy, str], kind: Kind, when: str
) -> None:
    async with client_of(kind, service, tenant, server=proxy[1], timeout=1.0) as client:
        if when == "in the middle":
            await client.get_readiness(timeout=20)
        proxy[0].swallows = True
        for call in (lambda: client.get_trace("t"), lambda: record_trace(client), lambda: all_of(client.list_events())):
            begin = time.monotonic()
            with pytest.raises(errors.DeadlineExceeded):
                await call()
            assert 0.7 < time.monotonic() - begin < 3.5
        begin = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded):
            await client.get_readiness(timeout=0.3)
        assert time.monotonic() - begin < 2


@pytest.mark.parametrize("kind", KINDS)
async def test_the_exchange_of_the_key_is_bounded_too_and_holds_nobody_up_beyond_his_time(
    service: Service, tenant: Tenant, proxy: tuple[TcpProxy, str], kind: Kind
) -> None:
    proxy[0].swallows = True
    async with client_of(kind, service, tenant, server=proxy[1], token=None, api_key="key", timeout=4.0) as client:
        patient = asyncio.create_task(client.get_event("e"))
        await asyncio.sleep(0.3)
        begin = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded):
            await client.get_event("e", timeout=0.5)
        assert time.monotonic() - begin < 2, "it waited for the other one"
        with pytest.raises(errors.DeadlineExceeded):
            await patient


@pytest.mark.parametrize("kind", KINDS)
async def test_a_port_that_nobody_listens_on_is_unreachable(service: Service, tenant: Tenant, kind: Kind) -> None:
    server = f"127.0.0.1:{own_port()}"
    async with client_of(kind, service, tenant, server=server, timeout=1.0) as client:
        begin = time.monotonic()
        with pytest.raises(errors.Unreachable) as raised:
            await client.get_trace("t")
        assert time.monotonic() - begin < 2
        assert raised.value.request_id is None


async def test_a_slow_way_needs_no_second_try(service: Service, tenant: Tenant, proxy: tuple[TcpProxy, str]) -> None:
    """Far away a connection takes several times 300 ms until it stands."""
    proxy[0].delay = 0.3
    async with client_of(
        "asyncio", service, tenant, server=proxy[1], retries=RetryPolicy(attempts=1), timeout=20
    ) as client:
        assert await client.get_readiness()
        assert proxy[0].connections == 1


@pytest.fixture
def _dead_connections_are_noticed_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    # Only in the tries: an answer of a living one may be late on a busy machine.
    sooner = {"grpc.keepalive_time_ms": 500, "grpc.keepalive_timeout_ms": 2_000, "grpc.http2.ping_timeout_ms": 2_000}
    assert sooner.keys() <= dict(_settings._OPTIONS).keys()
    monkeypatch.setattr(_settings, "_OPTIONS", [(name, sooner.get(name, value)) for name, value in _settings._OPTIONS])


@pytest.mark.usefixtures("_dead_connections_are_noticed_sooner")
@pytest.mark.parametrize("kind", KINDS)
async def test_a_dead_connection_is_replaced(
    service: Service, tenant: Tenant, proxy: tuple[TcpProxy, str], kind: Kind
) -> None:
    async with client_of(kind, service, tenant, server=proxy[1], timeout=20) as client:
        await record_trace(client)
        proxy[0].swallow_on_open_ones()
        await record_trace(client)
        assert len(await all_of(client.list_events())) == 6
    assert proxy[0].connections == 2


@pytest.mark.usefixtures("_dead_connections_are_noticed_sooner")
async def test_a_watch_leaves_a_dead_connection(service: Service, tenant: Tenant, proxy: tuple[TcpProxy, str]) -> None:
    async with client_of("asyncio", service, tenant, server=proxy[1]) as client:
        watch = client.watch(since_log_seq=0)
        events = aiter(watch)
        await record_trace(client)
        found = [await anext(events) for _ in range(3)]
        proxy[0].swallow_on_open_ones()
        async with asyncio.timeout(20):
            await record_trace(client)
            found += [await anext(events) for _ in range(3)]
        await events.aclose()
    assert [event.log_seq for event in found] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_watch_that_hears_nothing_begins_anew(
    service: Service, tenant: Tenant, proxy: tuple[TcpProxy, str], kind: Kind
) -> None:
    """Also where the connection is alive and somebody between keeps the answers to himself."""
    async with client_of(kind, service, tenant, server=proxy[1]) as client:
        watch = client.watch(since_log_seq=0)
        watch._silence = 1.5
        if kind == "blocking":
            watch._blocking._silence = 1.5
        await record_trace(client)
        proxy[0].swallows = True
        watching = asyncio.create_task(taken(watch, 3, seconds=30))
        await asyncio.sleep(3)
        proxy[0].cut()
        proxy[0].swallows = False
        assert [event.log_seq for event in await watching] == [1, 2, 3]


@pytest.mark.parametrize("kind", KINDS)
async def test_broken_connections_are_not_noticed(
    service: Service, tenant: Tenant, proxy: tuple[TcpProxy, str], kind: Kind
) -> None:
    async def break_again_and_again() -> None:
        cut_in = -1
        while True:
            await asyncio.sleep(0.15)
            if traces > cut_in:
                cut_in = traces
                proxy[0].cut()

    breaking = asyncio.create_task(break_again_and_again())
    traces = 0
    async with client_of(kind, service, tenant, server=proxy[1], timeout=20) as client:
        while traces < 15 or proxy[0].connections < 4:
            await record_trace(client, steps=3)
            traces += 1
        breaking.cancel()
        assert len(await all_of(client.list_events())) == traces * 5


@pytest.fixture(scope="module")
async def limited(service: Service, database_url: str) -> AsyncIterator[StoppableServer]:
    async with stoppable_server(service, database_url, DG_LIMIT_WRITE="8/second", DG_LIMIT_READ="3/year") as made:
        await made.start()
        yield made


@pytest.mark.parametrize(("kind", "how"), [("blocking", "kill"), ("asyncio", "stop")])
async def test_recording_goes_on_over_a_restart(
    service: Service, tenant: Tenant, database_url: str, kind: Kind, how: str
) -> None:
    async with (
        stoppable_server(service, database_url) as server,
        client_of(kind, service, tenant, server=server.address, timeout=30) as client,
    ):
        await server.start()
        done: list[str] = []
        stop = asyncio.Event()

        async def record() -> None:
            while not stop.is_set():
                done.append(await record_trace(client, steps=3))

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(record())
            await asyncio.sleep(0.5)
            await (server.stop() if how == "stop" else server.kill())
            before = len(done)
            await server.start()
            await asyncio.sleep(1)
            stop.set()
        assert len(done) > before
        events = await all_of(client.list_events())
    assert {event.trace_id for event in events} == set(done)
    assert len(events) == 5 * len(done), "an event is there twice or missing"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_limit_is_waited_for(
    service: Service, tenant: Tenant, limited: StoppableServer, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    refusals: list[errors.RateLimited] = []
    delay = RetryPolicy.delay

    def noticing(policy: RetryPolicy, error: errors.ServiceError, *rest: Any, **given: Any) -> float | None:
        wait = delay(policy, error, *rest, **given)
        if isinstance(error, errors.RateLimited) and wait is not None:
            refusals.append(error)
            waits.append(wait)
        return wait

    monkeypatch.setattr(RetryPolicy, "delay", noticing)
    account = service.token(tenant_ids=[tenant.tenant_id], roles=["writer"], account_id=f"limited-{tenant.tenant_id}")
    async with client_of(kind, service, tenant, server=limited.address, token=account, timeout=30) as client:
        await asyncio.gather(*(record_trace(client) for _ in range(12)))
    assert refusals
    for error, wait in zip(refusals, waits, strict=True):
        assert error.retry_after is not None
        assert wait >= error.retry_after >= 1


async def test_a_limit_that_lasts_longer_is_told_at_once(
    service: Service, tenant: Tenant, limited: StoppableServer
) -> None:
    async with client_of("asyncio", service, tenant, server=limited.address, timeout=30) as client:
        begin = time.monotonic()
        with pytest.raises(errors.RateLimited) as raised:
            await asyncio.gather(*(all_of(client.list_events()) for _ in range(10)))
        assert time.monotonic() - begin < 10
        assert raised.value.retry_after is not None
        assert raised.value.retry_after > 60


@pytest.mark.parametrize("kind", KINDS)
async def test_tls_with_certificates_on_both_sides(
    service: Service, tenant: Tenant, database_url: str, kind: Kind, tmp_path: Path
) -> None:
    authority, stranger = Authority(tmp_path / "a", "authority"), Authority(tmp_path / "b", "stranger")
    pem, own = authority.sign("server"), authority.sign("client")
    async with stoppable_server(
        service,
        database_url,
        DG_TLS_CERT_FILE=str(pem.cert),
        DG_TLS_KEY_FILE=str(pem.key),
        DG_TLS_CLIENT_CA_FILE=str(authority.file),
    ) as server:
        await server.start(until_serving=False)
        tls = Tls(ca_file=authority.file, cert_file=own.cert, key_file=own.key)
        async with client_of(kind, service, tenant, server=server.address, tls=tls, timeout=30) as client:
            await client.get_readiness()
            assert await record_trace(client)
        for wrong in (Tls(ca_file=stranger.file, cert_file=own.cert, key_file=own.key), Tls(ca_file=authority.file)):
            async with client_of(kind, service, tenant, server=server.address, tls=wrong, timeout=1) as client:
                with pytest.raises(errors.TryAgain):
                    await client.get_readiness()
        async with client_of(kind, service, tenant, server=server.address, timeout=1) as client:
            with pytest.raises(errors.TryAgain):
                await client.get_readiness()
