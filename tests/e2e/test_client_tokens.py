"""API keys: exchanged once for many calls, refreshed in time, and refused at once when they are revoked."""

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from tests.accounts import UNKNOWN_SECRET, WHY, done, expire, make_account, make_key, make_tenant
from tests.calling import Callers, Service, Tenant
from tests.clients import KINDS, Kind, client_of, record_trace, taken, token_of

from decisiongraph_client import Client, _methods, errors
from decisiongraph_client._async import session as async_session
from decisiongraph_client._async.session import _Issued
from decisiongraph_client._sync import session as sync_session


@pytest.fixture
async def key(callers: Callers) -> tuple[str, str, str]:
    """Account, id and secret of a key that may read and write."""
    account = await make_account(callers, roles=["ROLE_READER", "ROLE_WRITER"])
    return (account, *await make_key(callers, account))


def exchanges_of(client: Any, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the client exchanged its key."""
    times: list[float] = []
    transport = client._session._transport
    unary = transport.unary

    def noticing(method: Any, *rest: Any) -> Any:
        if method is _methods.ISSUE_TOKEN:
            times.append(time.monotonic())
        return unary(method, *rest)

    monkeypatch.setattr(transport, "unary", noticing)
    return times


def refuse_exchanges(client: Any, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """From now on the client gets no token."""
    transport = client._session._transport
    unary = transport.unary

    def refusing(method: Any, *rest: Any) -> Any:
        if method is _methods.ISSUE_TOKEN:
            raise error
        return unary(method, *rest)

    monkeypatch.setattr(transport, "unary", refusing)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_is_exchanged_once_for_many_calls(
    service: Service, tenant: Tenant, key: tuple[str, str, str], kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client_of(kind, service, tenant, token=None, api_key=key[2]) as client:
        times = exchanges_of(client, monkeypatch)
        await asyncio.gather(*(record_trace(client) for _ in range(10)))
        assert len(times) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_is_refreshed_before_it_ends(
    service: Service, tenant: Tenant, key: tuple[str, str, str], kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = async_session if kind == "asyncio" else sync_session
    # Of the fifteen minutes that a token is valid.
    monkeypatch.setattr(module, "_REFRESH_SHARE", 1 / 900)
    async with client_of(kind, service, tenant, token=None, api_key=key[2]) as client:
        times = exchanges_of(client, monkeypatch)
        begin = time.monotonic()
        while time.monotonic() - begin < 3.5:
            await asyncio.gather(*(client.get_projection_health() for _ in range(5)))
        assert 2 <= len(times) <= 1 + time.monotonic() - begin, "not once a second"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_refused_token_is_renewed_once(
    service: Service, tenant: Tenant, key: tuple[str, str, str], kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired = service.token(tenant_ids=[tenant.tenant_id], roles=["reader"], begins=1_700_000_000)
    async with client_of(kind, service, tenant, token=None, api_key=key[2]) as client:
        await client.get_projection_health()
        times = exchanges_of(client, monkeypatch)
        session = client._session
        session._issued = _Issued(expired, session._issued.refresh_at, session._issued.ends_at)
        # All of them are refused, and one of them gets a new one for all.
        await asyncio.gather(*(client.get_projection_health() for _ in range(20)))
        assert len(times) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_watch_outlives_its_token(service: Service, tenant: Tenant, kind: Kind) -> None:
    # It expired two seconds ago, and is taken for three more.
    ending = service.token(
        tenant_ids=[tenant.tenant_id], roles=["reader"], begins=int(time.time()) - 62, lifetime_seconds=60
    )
    given: list[str] = []

    def token() -> str:
        given.append(token_of(service, tenant) if given else ending)
        return given[-1]

    async with client_of(kind, service, tenant) as writer, client_of(kind, service, tenant, token=token) as client:
        await record_trace(writer)
        watching = asyncio.create_task(taken(client.watch(since_log_seq=0), 6, seconds=60))
        while len(given) < 2:
            assert not watching.done()
            await asyncio.sleep(0.1)
        await record_trace(writer)
        assert [event.log_seq for event in await watching] == [1, 2, 3, 4, 5, 6]
    assert given[0] == ending


@pytest.mark.parametrize("kind", KINDS)
async def test_a_valid_token_is_used_while_no_new_one_is_to_be_had(
    service: Service, tenant: Tenant, key: tuple[str, str, str], kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client_of(kind, service, tenant, token=None, api_key=key[2], timeout=3) as client:
        await client.get_projection_health()
        refuse_exchanges(client, monkeypatch, errors.RateLimited("too many", code=grpc.StatusCode.RESOURCE_EXHAUSTED))
        session = client._session
        valid = session._issued
        session._issued = _Issued(valid.token, 0.0, time.monotonic() + 60)
        assert await client.get_projection_health()
        session._issued = _Issued(valid.token, 0.0, 0.0)
        with pytest.raises(errors.RateLimited):
            await client.get_projection_health()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("clock", [-7_200, 7_200], ids=["slow", "fast"])
async def test_a_wrong_clock_does_not_matter(
    service: Service,
    tenant: Tenant,
    key: tuple[str, str, str],
    kind: Kind,
    clock: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = async_session if kind == "asyncio" else sync_session
    wrong = SimpleNamespace(time=lambda: time.time() + clock, monotonic=time.monotonic)
    monkeypatch.setattr(module, "time", wrong)
    async with client_of(kind, service, tenant, token=None, api_key=key[2]) as client:
        times = exchanges_of(client, monkeypatch)
        for _ in range(10):
            await client.get_projection_health()
        assert len(times) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_that_does_not_work_is_refused_at_once(
    callers: Callers, service: Service, tenant: Tenant, database_url: str, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = await make_account(callers)
    key_id, secret = await make_key(callers, account)
    await expire(database_url, key_id)
    for wrong in (UNKNOWN_SECRET, "nonsense", secret):
        async with client_of(kind, service, tenant, token=None, api_key=wrong, timeout=30) as client:
            times = exchanges_of(client, monkeypatch)
            with pytest.raises(errors.Unauthenticated) as raised:
                await client.get_projection_health()
            assert len(times) == 1
            assert wrong not in str(raised.value)


async def _ask_for_ever(client: Any) -> None:
    while True:
        await client.get_projection_health()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_revoked_key_is_refused_at_once_and_without_end_of_tries(
    callers: Callers,
    service: Service,
    tenant: Tenant,
    key: tuple[str, str, str],
    kind: Kind,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with client_of(kind, service, tenant, token=None, api_key=key[2], timeout=30) as client:
        await client.get_projection_health()
        await done(callers, "RevokeApiKey", account_id=key[0], key_id=key[1], reason=WHY)
        times = exchanges_of(client, monkeypatch)
        with pytest.raises(errors.Unauthenticated):
            await asyncio.wait_for(_ask_for_ever(client), 10)
        assert len(times) == 1
        begin = time.monotonic()
        with pytest.raises(errors.Unauthenticated):
            await client.get_projection_health()
        assert time.monotonic() - begin < 3
        assert len(times) == 2


@pytest.mark.parametrize("kind", KINDS)
async def test_a_fixed_token_that_is_refused_is_not_tried_again(service: Service, tenant: Tenant, kind: Kind) -> None:
    expired = service.token(tenant_ids=[tenant.tenant_id], roles=["reader"], begins=1_700_000_000)
    async with client_of(kind, service, tenant, token=expired, timeout=30) as client:
        begin = time.monotonic()
        with pytest.raises(errors.Unauthenticated):
            await client.get_projection_health()
        assert time.monotonic() - begin < 3


@pytest.mark.parametrize("kind", KINDS)
async def test_a_function_gives_tokens(service: Service, tenant: Tenant, kind: Kind) -> None:
    expired = service.token(tenant_ids=[tenant.tenant_id], roles=["reader"], begins=1_700_000_000)
    tokens = [expired, tenant.tokens["reader"] + "\n", tenant.tokens["reader"]]
    async with client_of(kind, service, tenant, token=lambda: tokens.pop(0)) as client:
        await client.get_projection_health()
        await client.get_projection_health()
        assert tokens == []


@pytest.mark.parametrize("kind", KINDS)
async def test_the_tenant_is_named_where_there_are_several(
    callers: Callers, service: Service, tenant: Tenant, kind: Kind
) -> None:
    other = await make_tenant(callers, "other")
    token = service.token(tenant_ids=[tenant.tenant_id, other], roles=["reader", "writer"])
    async with client_of(kind, service, tenant, token=token, tenant=other) as client:
        trace_id = await record_trace(client)
        assert (await client.get_trace(trace_id)).summary.trace_id == trace_id
    async with client_of(kind, service, tenant, token=token, tenant=tenant.tenant_id) as client:
        with pytest.raises(errors.NotFound):
            await client.get_trace(trace_id)
    async with client_of(kind, service, tenant, token=token) as client:
        with pytest.raises(errors.InvalidArgument, match="x-tenant-id"):
            await client.get_trace(trace_id)
    async with client_of(kind, service, tenant, tenant=other) as client:
        with pytest.raises(errors.Forbidden):
            await client.get_trace(trace_id)


async def test_threads_exchange_the_key_once(service: Service, key: tuple[str, str, str]) -> None:
    with Client(service.grpc, api_key=key[2], producer="p") as client, pytest.MonkeyPatch.context() as monkeypatch:
        times = exchanges_of(client, monkeypatch)
        threads = [threading.Thread(target=client.get_projection_health) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert len(times) == 1
