"""Recording into an outbox and delivering to the real service: nothing waits for it, nothing is lost or there twice."""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.accounts import make_account, make_key
from tests.calling import Callers, Service, Tenant
from tests.clients import KINDS, Kind, all_of, client_of, make_client, record_trace, token_of, types_of
from tests.stoppable_server import StoppableServer, stoppable_server
from tests.tcp_proxy import tcp_proxy

from decisiongraph.v1 import payload_pb2
from decisiongraph_client import Client, RefusedEvent, errors


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
async def server(service: Service, database_url: str) -> AsyncIterator[StoppableServer]:
    """One that does not run yet."""
    async with stoppable_server(service, database_url) as made:
        yield made


async def log_of(service: Service, tenant: Tenant) -> list[Any]:
    async with client_of("asyncio", service, tenant) as client:
        return await all_of(client.list_events())


async def assert_whole(service: Service, tenant: Tenant, traces: list[str], length: int = 3) -> None:
    """These traces are in the log, each event once and in its place, and nothing else."""
    events = await log_of(service, tenant)
    assert sorted({event.trace_id for event in events}) == sorted(traces)
    for trace_id in traces:
        found = [event for event in events if event.trace_id == trace_id]
        assert [event.trace_seq for event in found] == list(range(length)), trace_id
        assert types_of(found)[0] == "TraceStarted"
        assert types_of(found)[-1] == "TraceFinished"


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_recorded_is_delivered(service: Service, tenant: Tenant, kind: Kind, path: Path) -> None:
    async with client_of(kind, service, tenant, outbox=path) as client:
        async with client.trace(workflow="w", title="t", primary_entity=("order", "1")) as trace:
            recorded = await trace.observe_input("crm", "order", "1")
            assert recorded.receipt is None
            assert recorded.subject_id
        traces = [trace.trace_id, *[await record_trace(client) for _ in range(30)]]
        assert await client.flush(20)
        assert await client.get_event(recorded.event_id)
        assert (client.outbox_status().waiting, client.delivery_error(), client.refused_events()) == (0, None, [])
        # What was delivered is read at once, whoever delivered it.
        assert (await client.get_trace(traces[-1])).summary.outcome == "success"
    await assert_whole(service, tenant, traces)


async def test_reads_with_an_outbox_are_the_latest(service: Service, tenant: Tenant, path: Path) -> None:
    """The other client delivers; this one does not know how far its own events are."""
    async with (
        client_of("asyncio", service, tenant, outbox=path) as other,
        client_of("asyncio", service, tenant, outbox=path, reads="own_writes") as client,
    ):
        await record_trace(other)
        assert await other.flush(20)
        for _ in range(3):
            trace_id = await record_trace(client)
            assert await client.flush(20)
            assert (await client.get_trace(trace_id)).summary.outcome == "success"


@pytest.mark.parametrize("kind", KINDS)
async def test_recording_does_not_wait_for_the_service(
    service: Service, tenant: Tenant, kind: Kind, path: Path, server: StoppableServer
) -> None:
    async with client_of(kind, service, tenant, server=server.address, outbox=path) as client:
        traces = [await record_trace(client) for _ in range(5)]
        assert not await client.flush(0.5)
        assert isinstance(client.delivery_error(), errors.Unreachable)
        assert client.outbox_status().waiting == 15
        await server.start()
        assert await client.flush(30)
        assert client.delivery_error() is None
        await server.kill()
        traces += [await record_trace(client) for _ in range(5)]
        await server.start()
        assert await client.close(30)
    await assert_whole(service, tenant, traces)


async def test_recording_and_restarts_at_the_same_time(
    service: Service, tenant: Tenant, path: Path, server: StoppableServer
) -> None:
    await server.start()
    traces: list[str] = []
    stop = asyncio.Event()
    async with client_of("asyncio", service, tenant, server=server.address, outbox=path) as client:

        async def record() -> None:
            while not stop.is_set():
                traces.append(await record_trace(client))
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(record())
            for end in (server.kill, server.stop):
                await asyncio.sleep(0.5)
                await end()
                await server.start()
            stop.set()
        assert await client.close(30)
    await assert_whole(service, tenant, traces)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_client_has_left_is_delivered_by_the_next_one(
    service: Service, tenant: Tenant, kind: Kind, path: Path
) -> None:
    async with client_of(kind, service, tenant, server="127.0.0.1:1", outbox=path) as client:
        traces = [await record_trace(client) for _ in range(3)]
        assert await client.close(0) is False
        assert await client.close(0) is False
    async with client_of(kind, service, tenant, outbox=path) as client:
        # Nothing is recorded, nobody waits: it delivers by itself.
        async with asyncio.timeout(20):
            while client.outbox_status().waiting:  # noqa: ASYNC110 - another thread
                await asyncio.sleep(0.05)
    await assert_whole(service, tenant, traces)


async def test_a_program_that_never_closes_ends_and_loses_nothing(service: Service, tenant: Tenant, path: Path) -> None:
    program = """
        import sys
        from decisiongraph_client import Client

        client = Client(sys.argv[1], token=sys.argv[2], producer="p", outbox=sys.argv[3])
        for n in range(20):
            with client.trace(workflow="w", title="t", primary_entity=("order", "1"), trace_id=f"trace {n}"):
                pass
    """
    command = [sys.executable, "-c", textwrap.dedent(program), service.grpc, token_of(service, tenant), str(path)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    async with client_of("asyncio", service, tenant, outbox=path) as client:
        assert await client.flush(20)
    await assert_whole(service, tenant, [f"trace {n}" for n in range(20)], length=2)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_the_service_refuses_is_put_aside(service: Service, tenant: Tenant, kind: Kind, path: Path) -> None:
    told: list[RefusedEvent] = []
    async with client_of(kind, service, tenant, outbox=path, on_refused=told.append) as client:
        async with client.trace(workflow="w", title="t", primary_entity=("order", "1")) as good:
            await good.record(payload_pb2.PolicyEvaluatedPayload(decision="maybe"))
            await good.evaluate_policy(("p", "1"), "allow")
        # Its first event is refused, and so is everything that follows it.
        async with client.trace(workflow="w", title="AKIA" + "A" * 16, primary_entity=("order", "1")) as bad:
            await bad.evaluate_policy(("p", "1"), "allow")
        last = await record_trace(client)
        assert await client.flush(20)
        aside = client.refused_events()
        assert [(one.event.trace_id, one.reason) for one in aside] == [
            (good.trace_id, "SCHEMA_VIOLATION"),
            (bad.trace_id, "PII_POLICY_VIOLATION"),
            (bad.trace_id, "EVENT_SEQUENCE_INVALID"),
            (bad.trace_id, "EVENT_SEQUENCE_INVALID"),
        ]
        assert told == aside
        assert client.outbox_status().refused == 4
        client.forget_refused_events(aside)
        assert (client.outbox_status().refused, client.outbox_status().size_bytes) == (0, 0)
    await assert_whole(service, tenant, [good.trace_id, last])


async def test_an_event_that_is_too_large_does_not_hold_up_the_others(
    service: Service, tenant: Tenant, path: Path
) -> None:
    """The service does not even read so much at once, and cannot say which event it was."""
    async with client_of("asyncio", service, tenant, outbox=path) as client:
        traces = [await record_trace(client)]
        for size in (300_000, 5_000_000, 20_000_000):
            async with client.resume_trace(traces[0]) as trace:
                await trace.evaluate_policy(("p", "1"), "allow", explanation="x" * size)
            traces.append(await record_trace(client))
        assert await client.flush(30)
        assert [one.reason for one in client.refused_events()] == ["INVALID_ARGUMENT"] * 3
    await assert_whole(service, tenant, traces)


async def test_wrong_credentials_hold_events_until_they_are_mended(
    callers: Callers, service: Service, tenant: Tenant, path: Path
) -> None:
    several = service.token(tenant_ids=[tenant.tenant_id, "another"], roles=["writer"])
    unknown = service.token(tenant_ids=["there-is-no-such-tenant"], roles=["writer"])
    account = await make_account(callers, roles=["ROLE_WRITER"])
    _, secret = await make_key(callers, account)
    wrong: list[tuple[dict[str, Any], type[errors.ServiceError]]] = [
        ({"token": "nonsense"}, errors.Unauthenticated),
        ({"token": tenant.tokens["reader"]}, errors.Forbidden),
        ({"token": several}, errors.InvalidArgument),
        ({"token": unknown}, errors.NotFound),
        ({"token": None, "api_key": "nonsense"}, errors.Unauthenticated),
    ]
    traces: list[str] = []
    for given, error in wrong:
        async with client_of("asyncio", service, tenant, outbox=path, **given) as client:
            traces.append(await record_trace(client))
            assert not await client.flush(1.0)
            async with asyncio.timeout(20):
                while client.delivery_error() is None:  # noqa: ASYNC110 - a thread makes it so
                    await asyncio.sleep(0.05)
            assert type(client.delivery_error()) is error
            assert (client.outbox_status().waiting, client.outbox_status().refused) == (3 * len(traces), 0)
            await client.close(0)
    async with client_of("asyncio", service, tenant, outbox=path, token=None, api_key=secret) as client:
        assert await client.flush(20)
    await assert_whole(service, tenant, traces)


async def test_delivery_goes_on_when_the_token_is_mended(service: Service, tenant: Tenant, path: Path) -> None:
    current = ["nonsense"]
    async with client_of("asyncio", service, tenant, outbox=path, token=lambda: current[0]) as client:
        trace_id = await record_trace(client)
        assert not await client.flush(1.0)
        current[0] = token_of(service, tenant)
        assert await client.flush(20)
    await assert_whole(service, tenant, [trace_id])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trouble", ["refused", "swallowed", "locked"])
async def test_the_end_comes_in_time_whatever_the_trouble(
    service: Service, tenant: Tenant, kind: Kind, trouble: str, path: Path
) -> None:
    async with tcp_proxy(service.grpc) as (proxy, address):
        proxy.swallows = True
        server = "127.0.0.1:1" if trouble == "refused" else address
        for timeout in (0.0, 0.05, 0.3, 1.0, 2.0):
            client = make_client(kind, server, token=token_of(service, tenant), outbox=path)
            await record_trace(client)
            recording = None
            with contextlib.ExitStack() as held:
                if trouble == "locked":
                    # Another process holds the file, and a thread of ours waits for it.
                    other = held.enter_context(contextlib.closing(sqlite3.connect(path, isolation_level=None)))
                    other.execute("BEGIN IMMEDIATE")
                    recording = asyncio.create_task(record_trace(client))
                await asyncio.sleep(0.2)
                begin = time.monotonic()
                assert await client.close(timeout) is False
                assert time.monotonic() - begin < timeout + 0.75
            if recording is not None:
                with contextlib.suppress(errors.ClientClosed):
                    await recording


async def test_the_end_comes_in_time_when_all_threads_are_busy(service: Service, tenant: Tenant, path: Path) -> None:
    client = make_client("asyncio", "127.0.0.1:1", token=token_of(service, tenant), outbox=path)
    await record_trace(client)
    release = threading.Event()
    busy = [asyncio.create_task(asyncio.to_thread(release.wait, 30)) for _ in range(40)]
    await asyncio.sleep(0.2)
    begin = time.monotonic()
    assert await client.close(0.3) is False
    assert time.monotonic() - begin < 1
    release.set()
    await asyncio.gather(*busy)


async def test_clients_share_an_outbox(service: Service, tenant: Tenant, path: Path) -> None:
    async with (
        client_of("asyncio", service, tenant, outbox=path) as one,
        client_of("blocking", service, tenant, outbox=path) as other,
    ):
        both = await asyncio.gather(*(record_trace(client) for client in (one, other) for _ in range(20)))
        assert await one.flush(20)
        assert await other.flush(20)
    await assert_whole(service, tenant, list(both))


async def test_a_step_that_is_recorded_again_is_in_the_log_once(service: Service, tenant: Tenant, path: Path) -> None:
    async def run() -> str:
        async with client_of("asyncio", service, tenant, outbox=path) as client:
            async with client.trace(
                workflow="w", title="t", primary_entity=("order", "1"), idempotency_key="refund/A-1"
            ) as trace:
                seen = await trace.observe_input("crm", "order", "1", idempotency_key="refund/A-1/input")
            assert await client.flush(20)
            assert client.refused_events() == []
            assert (await client.get_event(seen.event_id)).trace_seq == 1
        return str(trace.trace_id)

    first = await run()
    assert await run() == first
    await assert_whole(service, tenant, [first])


async def test_what_answers_for_all_events_at_once_is_not_for_an_outbox(
    service: Service, tenant: Tenant, path: Path
) -> None:
    async with client_of("asyncio", service, tenant, outbox=path) as client:
        with pytest.raises(errors.ConfigurationError, match="outbox"):
            await client.append_all([])


async def test_after_its_end_nothing_is_taken(service: Service, tenant: Tenant, path: Path) -> None:
    client = Client(service.grpc, token=token_of(service, tenant), producer="p", outbox=path)
    trace = client.trace(workflow="w", title="t", primary_entity=("order", "1"))
    assert client.close()
    with pytest.raises(errors.ClientClosed):
        trace.__enter__()
    with pytest.raises(errors.ClientClosed):
        client.flush()


async def test_memory_and_disk_stay_bounded_while_the_service_is_away(path: Path) -> None:
    """Fifty thousand events, of which the outbox takes as many as it may hold. (Not synced: it is not about that.)"""
    program = """
        import gc, os, sys
        from pathlib import Path
        import psutil
        from decisiongraph_client import Client, _outbox_file, errors

        opened = _outbox_file._opened

        def unsynced(path):
            connection = opened(path)
            connection.execute("PRAGMA synchronous = OFF")
            return connection

        _outbox_file._opened = unsynced
        most = 12 * 1024 * 1024
        path = Path(sys.argv[1])
        client = Client("127.0.0.1:1", token="t", producer="p", outbox=path, outbox_max_bytes=most)
        trace = client.trace(workflow="w", title="t", primary_entity=("order", "1"))
        trace.__enter__()
        process, begin, full, files = psutil.Process(), 0, 0, 0
        for number in range(50_000):
            try:
                trace.evaluate_policy(("p", "1"), "allow", explanation="x" * 200)
            except errors.OutboxFull:
                full += 1
            if number == 5_000:
                gc.collect()
                begin = process.memory_info().rss
            if number % 5_000 == 0:
                files = max(files, sum(file.stat().st_size for file in path.parent.iterdir()))
        gc.collect()
        status = client.outbox_status()
        print(process.memory_info().rss - begin, full, files, status.waiting, status.size_bytes, most)
        assert client.close(0) is False
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    grown, full, files, waiting, size, most = (int(number) for number in done.stdout.split())
    assert full > 1_000
    assert waiting == 50_001 - full
    assert most - 1_000 < size <= most
    assert grown < 16 * 1024 * 1024, "memory grows with what waits"
    assert files < 2 * most + 16 * 1024 * 1024, "the files are much larger than what they hold"
