"""A server with little patience: streams that nobody reads end with a typed error, and watches are counted."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2
from tests import samples
from tests.calling import Service, Tenant, wait_until_serving
from tests.own_ports import own_port

from decisiongraph.v1 import (
    ingestion_service_pb2,
    ingestion_service_pb2_grpc,
    query_service_pb2,
    query_service_pb2_grpc,
)
from decisiongraph_service.runtime import children

_LARGE = 60
"""Events of 200 kB: far more than what the connection itself takes while nobody reads."""


@dataclass
class Impatient:
    """A server that waits two seconds for a reader and allows two watches of a tenant; calls to it as one tenant."""

    channel: grpc.aio.Channel
    tenant: Tenant

    def metadata(self, role: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.tenant.tokens[role]}"),)

    def watch(self, **request: Any) -> Any:
        stub = query_service_pb2_grpc.QueryServiceStub(self.channel)
        message = query_service_pb2.WatchEventsRequest(**request)
        return stub.WatchEvents(message, metadata=self.metadata("reader"), timeout=30)

    async def append_large_events(self) -> None:
        stub = ingestion_service_pb2_grpc.IngestionServiceStub(self.channel)
        events = samples.json_trace(_LARGE)
        for event in events:
            event["payload"] = {**event["payload"], "note": "x" * 200_000}
        for begin in range(0, _LARGE, 15):
            batch = {"events": events[begin : begin + 15]}
            request = json_format.ParseDict(batch, ingestion_service_pb2.AppendEventsRequest())
            await stub.AppendEvents(request, metadata=self.metadata("writer"))


@pytest.fixture(scope="module")
async def address(service: Service, database_url: str) -> AsyncIterator[str]:
    folder = service.folder / "impatient"
    port = own_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DG_")},
        "DG_DATABASE_URL": database_url,
        "DG_DATA_DIR": str(service.folder),
        "DG_GRPC_PORT": str(port),
        "DG_SHUTDOWN_GRACE_SECONDS": "1",
        "DG_SLOW_READER_SECONDS": "2",
        "DG_MAX_WATCHERS_PER_TENANT": "2",
        "DG_HEARTBEAT_SECONDS": "0.2",
        "DG_ALLOW_UNSAFE_DATABASE": "true",
    }
    folder.mkdir()
    running = children.Children(folder / "logs", folder / "children.json")
    try:
        command = (sys.executable, "-m", "decisiongraph_service.cli.main", "serve")
        await running.start(children.ChildSpec("impatient", command, env=environment))
        await running.during(wait_until_serving(f"127.0.0.1:{port}"))
        yield f"127.0.0.1:{port}"
    finally:
        await running.stop()


@pytest.fixture
async def impatient(address: str, tenant: Tenant) -> AsyncIterator[Impatient]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield Impatient(channel, tenant)


def reason(error: grpc.aio.AioRpcError) -> str:
    details = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    info = error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(details).details:
        if detail.Unpack(info):
            break
    return str(info.reason)


async def read_to_the_end(call: Any) -> tuple[list[int], grpc.aio.AioRpcError]:
    """The positions of the events of a watch, and the error that ended it."""
    positions: list[int] = []
    try:
        while (message := await call.read()) is not grpc.aio.EOF:
            if message.HasField("event"):
                positions.append(int(message.event.log_seq))
    except grpc.aio.AioRpcError as error:
        return positions, error
    raise AssertionError("a watch has no end of its own")


async def begun(call: Any) -> Any:
    """A watch that was admitted: it sends a heartbeat at once."""
    assert (await call.read()).HasField("heartbeat")
    return call


async def test_a_watch_that_is_not_read_ends_with_a_typed_error(impatient: Impatient) -> None:
    await impatient.append_large_events()
    call = await begun(impatient.watch(since_log_seq=0))
    await asyncio.sleep(5)
    positions, error = await read_to_the_end(call)
    assert (error.code(), reason(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert positions == list(range(1, len(positions) + 1)), "what came before the end is complete"
    assert len(positions) < _LARGE


async def test_a_watch_can_be_resumed_where_a_slow_reader_was(impatient: Impatient) -> None:
    await impatient.append_large_events()
    call = await begun(impatient.watch(since_log_seq=0))
    await asyncio.sleep(5)
    positions, _ = await read_to_the_end(call)
    call = await begun(impatient.watch(since_log_seq=len(positions)))
    while len(positions) < _LARGE:
        message = await call.read()
        if message.HasField("event"):
            positions.append(int(message.event.log_seq))
    call.cancel()
    assert positions == list(range(1, _LARGE + 1))


async def test_a_watch_that_is_not_read_gives_its_place_back(impatient: Impatient) -> None:
    await impatient.append_large_events()
    unread = [await begun(impatient.watch(since_log_seq=0)) for _ in range(2)]
    await asyncio.sleep(5)
    others = [await begun(impatient.watch()) for _ in range(2)]
    for call in (*unread, *others):
        call.cancel()


async def test_a_watch_that_is_read_slowly_but_steadily_goes_on(impatient: Impatient) -> None:
    await impatient.append_large_events()
    call = await begun(impatient.watch(since_log_seq=0))
    positions: list[int] = []
    while len(positions) < _LARGE:
        message = await call.read()
        if message.HasField("event"):
            positions.append(int(message.event.log_seq))
            await asyncio.sleep(0.02)
    call.cancel()
    assert positions == list(range(1, _LARGE + 1))


async def test_more_watches_than_allowed_are_refused(impatient: Impatient) -> None:
    calls = [await begun(impatient.watch()) for _ in range(2)]
    _, error = await read_to_the_end(impatient.watch())
    assert (error.code(), reason(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    for call in calls:
        call.cancel()


async def test_a_watch_whose_client_goes_gives_its_place_back(impatient: Impatient, address: str) -> None:
    for _ in range(5):
        async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(5):
            # The last round's places come back a moment after its client has gone.
            other = Impatient(channel, impatient.tenant)
            calls: list[Any] = []
            while len(calls) < 2:
                try:
                    calls.append(await begun(other.watch()))
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.05)
            # Closing the channel is what a client that dies does.
