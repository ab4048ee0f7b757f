"""Accounts and tenants are held to their limits: by scope, in requests, and for appends in events and bytes."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import psutil
import pytest
from tests.another_server import another_server, callers_of
from tests.calling import BOTH_WAYS, Answer, Callers, Service, Tenant
from tests.traces import event_of_trace, message, whole_trace

from decisiongraph.v1 import ingestion_service_pb2, ingestion_service_pb2_grpc
from decisiongraph_service.access import tenancy
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.runtime import server
from decisiongraph_service.storage.database import Database

_HURRIED: Final = "hurried-tenant"
"""The tenant that has limits of its own."""


_ACCOUNTS: Final = map("limited-{}".format, itertools.count())


@pytest.fixture(scope="module")
async def limited(service: Service, database: Database, database_url: str) -> AsyncIterator[Service]:
    """A server with small limits."""
    await tenancy.create_tenant(database, TenantId(_HURRIED), clock=server.clock_micros)
    async with another_server(
        service,
        database_url,
        DG_LIMIT_READ="20/day",
        DG_LIMIT_WRITE="30/day",
        DG_LIMIT_ADMIN="5/day",
        DG_LIMIT_PUBLIC="5/day",
        DG_LIMIT_EVENTS="1000/day",
        DG_LIMIT_BYTES="8388608/day",
        DG_LIMIT_OVERRIDES=json.dumps({_HURRIED: {"read": "3/day"}}),
    ) as running:
        yield running


@pytest.fixture
async def limited_callers(limited: Service, tenant: Tenant) -> AsyncIterator[Callers]:
    """Both ways to call it, with an account that nobody else has used."""
    account_id = next(_ACCOUNTS)
    tokens = {
        role: limited.token(tenant_ids=[tenant.tenant_id], roles=[role], account_id=account_id)
        for role in ("reader", "writer", "admin")
    }
    async with callers_of(limited, Tenant(tenant.tenant_id, tokens)) as both:
        yield both


async def until_refused(callers: Callers, way: str, rpc: str, request: dict[str, Any], most: int) -> tuple[int, Answer]:
    """How many calls were not refused for a limit, and the first that was."""
    for number in range(most):
        answer = await callers.call(way, rpc, request)
        if answer.reason == "RATE_LIMITED":
            return number, answer
    raise AssertionError(f"{most} calls of {rpc} were let through")


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_reads_beyond_the_limit_are_refused_and_told_when_to_come_back(
    limited_callers: Callers, way: str
) -> None:
    let_through, refused = await until_refused(limited_callers, way, "GetEvent", {"event_id": "e"}, 30)
    assert let_through == 20
    assert refused.code == 8
    assert refused.http_status == (429 if way == "rest" else None)
    (violation,) = refused.detail("QuotaFailure")["violations"]
    assert "scope read" in violation["subject"]
    assert "20 per 1 day" in violation["description"]
    seconds = int(refused.metadata["retry-after"])
    assert 1 <= seconds <= 24 * 3600
    assert refused.detail("RetryInfo")["retry_delay"] == f"{seconds}s"


async def test_scopes_are_counted_apart(limited_callers: Callers) -> None:
    await until_refused(limited_callers, "grpc", "GetEvent", {"event_id": "e"}, 30)
    answer = await limited_callers.call("grpc", "AppendEvent", {"event": event_of_trace("t", 0)})
    assert answer.ok, answer.body
    answer = await limited_callers.call("grpc", "ListReplays", {})
    assert answer.ok, answer.body


async def test_refused_acts_are_limited_as_well(limited_callers: Callers) -> None:
    let_through, _ = await until_refused(
        limited_callers, "grpc", "CancelReplay", {"job_id": "none", "reason": "to see"}, 10
    )
    assert let_through == 5


async def test_another_account_of_the_tenant_shares_the_limit_of_the_tenant(
    limited: Service, limited_callers: Callers
) -> None:
    await until_refused(limited_callers, "grpc", "GetEvent", {"event_id": "e"}, 30)
    token = limited.token(tenant_ids=[limited_callers.tenant.tenant_id], roles=["reader"], account_id=next(_ACCOUNTS))
    answer = await limited_callers.call("grpc", "GetEvent", {"event_id": "e"}, token=token)
    assert answer.reason == "RATE_LIMITED"
    assert "tenant" in answer.detail("QuotaFailure")["violations"][0]["subject"]


async def test_another_tenant_is_served_meanwhile(
    limited: Service, limited_callers: Callers, database: Database
) -> None:
    await until_refused(limited_callers, "grpc", "GetEvent", {"event_id": "e"}, 30)
    other = TenantId(f"{limited_callers.tenant.tenant_id}-other")
    await tenancy.create_tenant(database, other, clock=server.clock_micros)
    token = limited.token(tenant_ids=[other], roles=["reader"], account_id=next(_ACCOUNTS))
    answer = await limited_callers.call("grpc", "GetEvent", {"event_id": "e"}, token=token)
    assert answer.reason == "NOT_FOUND"


async def test_a_tenant_may_have_limits_of_its_own(limited: Service, limited_callers: Callers) -> None:
    token = limited.token(tenant_ids=[_HURRIED], roles=["reader"], account_id=next(_ACCOUNTS))
    reasons = [
        (await limited_callers.call("grpc", "GetEvent", {"event_id": "e"}, token=token)).reason for _ in range(4)
    ]
    assert reasons == ["NOT_FOUND"] * 3 + ["RATE_LIMITED"]


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_the_events_of_a_batch_are_counted_one_by_one(limited_callers: Callers, way: str) -> None:
    first = await limited_callers.call(way, "AppendEvents", {"events": whole_trace("t", 600)})
    assert first.ok, first.body
    second = await limited_callers.call(way, "AppendEvents", {"events": whole_trace("u", 600)})
    assert second.reason == "RATE_LIMITED"
    assert "1000 events per 1 day" in second.detail("QuotaFailure")["violations"][0]["description"]
    events = (await limited_callers.call("grpc", "ListEvents", {"page_size": 1000})).body["events"]
    assert len(events) == 600, "a refused batch leaves nothing behind"


async def test_the_bytes_of_appends_are_counted(limited_callers: Callers) -> None:
    payload = {"action_id": "a", "status": "success", "note": "x" * 200_000}
    big = [event_of_trace("t", 0), *(event_of_trace("t", n, payload=payload) for n in range(1, 19))]
    answers = [
        await limited_callers.call("grpc", "AppendEvents", {"events": [{**one, "trace_id": f"{n}"} for one in big]})
        for n in range(3)
    ]
    assert [answer.reason for answer in answers] == ["", "IDEMPOTENCY_CONFLICT", "RATE_LIMITED"]
    assert "bytes" in answers[2].detail("QuotaFailure")["violations"][0]["description"]


async def test_token_exchanges_are_limited(limited_callers: Callers) -> None:
    await until_refused(limited_callers, "grpc", "IssueToken", {"api_key": "dgk_nothing"}, 10)
    assert (await limited_callers.call("rest", "GetReadiness", {})).ok, "nothing else that is public is held up"


async def test_a_stream_is_held_back_and_loses_nothing(service: Service, database_url: str, tenant: Tenant) -> None:
    async with (
        another_server(service, database_url, DG_LIMIT_EVENTS="1000/second") as slow,
        callers_of(slow, tenant) as callers,
    ):
        stub: Any = ingestion_service_pb2_grpc.IngestionServiceStub(callers.channel)

        async def requests() -> AsyncIterator[ingestion_service_pb2.IngestEventsRequest]:
            for event in whole_trace("t", 2500):
                yield ingestion_service_pb2.IngestEventsRequest(event=message(event))

        began = time.monotonic()
        async with asyncio.timeout(60):
            metadata = (("authorization", f"Bearer {tenant.tokens['writer']}"),)
            answers = [answer async for answer in stub.IngestEvents(requests(), metadata=metadata)]
        assert [answer.receipt.trace_seq for answer in answers] == list(range(2500))
        assert time.monotonic() - began > 1, "2,500 events at 1,000 a second take more than a second"


async def test_a_flood_stays_flat_in_memory_and_leaves_other_tenants_served(
    limited: Service, limited_callers: Callers, database: Database
) -> None:
    (pid,) = [one["pid"] for one in _children(limited) if one["name"] == "server"]
    other = TenantId(f"{limited_callers.tenant.tenant_id}-calm")
    await tenancy.create_tenant(database, other, clock=server.clock_micros)

    async def flood(calls: int) -> set[str]:
        reasons = await asyncio.gather(
            *(_flood(limited_callers, limited, f"flooding-{worker}", calls // 20) for worker in range(20))
        )
        return set().union(*reasons)

    await flood(2_000)
    before = psutil.Process(pid).memory_info().rss
    flooding = asyncio.create_task(flood(6_000))
    slowest = 0.0
    for _ in range(3):
        token = limited.token(tenant_ids=[other], roles=["reader"], account_id=next(_ACCOUNTS))
        began = time.monotonic()
        answer = await limited_callers.call("grpc", "GetEvent", {"event_id": "e"}, token=token)
        slowest = max(slowest, time.monotonic() - began)
        assert answer.reason == "NOT_FOUND", answer.body
        await asyncio.sleep(0.3)
    assert await flooding == {"RATE_LIMITED"}
    assert psutil.Process(pid).memory_info().rss < before * 1.1
    assert slowest < 5


async def _flood(callers: Callers, limited: Service, account_id: str, calls: int) -> set[str]:
    """Reasons of the refusals of so many calls of an account, those behind its limit."""
    token = limited.token(tenant_ids=[callers.tenant.tenant_id], roles=["reader"], account_id=account_id)
    answers = [await callers.call("grpc", "GetEvent", {"event_id": "e"}, token=token) for _ in range(calls)]
    return {answer.reason for answer in answers} - {"NOT_FOUND"}


def _children(running: Service) -> list[dict[str, Any]]:
    children: list[dict[str, Any]] = json.loads((running.folder / "children.json").read_text())["children"]
    return children
