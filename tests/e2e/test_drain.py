"""A server that is told to stop says so first, takes calls until balancers have noticed, and hands its streams on."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.another_server import another_server
from tests.appending import started
from tests.calling import Service, Tenant

from decisiongraph.v1 import (
    event_pb2,
    ingestion_service_pb2,
    ingestion_service_pb2_grpc,
    query_service_pb2,
    query_service_pb2_grpc,
    system_service_pb2,
    system_service_pb2_grpc,
)
from decisiongraph_service.runtime import ports

_DRAIN_SECONDS = 8


class Draining:
    """A server on its way out, and a channel to it that was open before."""

    def __init__(self, server: Service, channel: grpc.aio.Channel, tenant: Tenant) -> None:
        self.channel = channel
        self._server = server
        self._tenant = tenant

    def metadata(self, role: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._tenant.tokens[role]}"),)

    def ask_to_stop(self) -> None:
        pid = ports.holder(int(self._server.grpc.rpartition(":")[2])).pid
        assert pid is not None
        os.kill(pid, signal.SIGTERM)

    async def stops_reporting(self) -> None:
        """Return when its health is NOT_SERVING."""
        stub: Any = health_pb2_grpc.HealthStub(self.channel)
        async with asyncio.timeout(10):
            while True:
                status = (await stub.Check(health_pb2.HealthCheckRequest())).status
                if status == health_pb2.HealthCheckResponse.NOT_SERVING:
                    return
                await asyncio.sleep(0.05)

    async def append(self) -> Any:
        stub: Any = ingestion_service_pb2_grpc.IngestionServiceStub(self.channel)
        event = json_format.ParseDict(started(), event_pb2.Event())
        request = ingestion_service_pb2.AppendEventRequest(event=event)
        return await stub.AppendEvent(request, metadata=self.metadata("writer"), timeout=10)


@pytest.fixture
async def draining(service: Service, database_url: str, tenant: Tenant) -> AsyncIterator[Draining]:
    async with (
        another_server(
            service, database_url, DG_DRAIN_SECONDS=str(_DRAIN_SECONDS), DG_SHUTDOWN_GRACE_SECONDS="10"
        ) as server,
        grpc.aio.insecure_channel(server.grpc) as channel,
    ):
        yield Draining(server, channel, tenant)


async def read_to_the_end(call: Any) -> tuple[list[Any], str, bool]:
    """What still came, the code with which it ended, and whether a retry was hinted at."""
    messages = []
    try:
        while (message := await call.read()) is not grpc.aio.EOF:
            messages.append(message)
    except grpc.aio.AioRpcError as error:
        trailers = dict(error.trailing_metadata() or ())
        details = status_pb2.Status.FromString(trailers["grpc-status-details-bin"]).details
        return messages, error.code().name, any(detail.type_url.endswith("RetryInfo") for detail in details)
    return messages, "OK", False


async def test_it_says_that_it_stops_and_still_takes_calls(draining: Draining) -> None:
    draining.ask_to_stop()
    await draining.stops_reporting()

    stub: Any = system_service_pb2_grpc.SystemServiceStub(draining.channel)
    with pytest.raises(grpc.aio.AioRpcError, match="this server is stopping"):
        await stub.GetReadiness(system_service_pb2.GetReadinessRequest())
    assert (await stub.GetLiveness(system_service_pb2.GetLivenessRequest())).status == "live"
    assert (await draining.append()).event.log_seq == 1


async def test_watches_are_told_to_go_on_elsewhere(draining: Draining) -> None:
    stub: Any = query_service_pb2_grpc.QueryServiceStub(draining.channel)
    watch = stub.WatchEvents(
        query_service_pb2.WatchEventsRequest(since_log_seq=0), metadata=draining.metadata("reader")
    )
    assert (await watch.read()).HasField("heartbeat")
    draining.ask_to_stop()
    await draining.stops_reporting()
    await draining.append()

    messages, code, retry = await read_to_the_end(watch)

    assert "event" in [message.WhichOneof("message") for message in messages]
    assert (code, retry) == ("UNAVAILABLE", True)


async def test_what_was_read_of_a_stream_is_acknowledged(draining: Draining) -> None:
    stub: Any = ingestion_service_pb2_grpc.IngestionServiceStub(draining.channel)
    call = stub.IngestEvents(metadata=draining.metadata("writer"))
    for _ in range(50):
        event = json_format.ParseDict(started(), event_pb2.Event())
        await call.write(ingestion_service_pb2.IngestEventsRequest(event=event))
    first = await call.read()
    draining.ask_to_stop()

    acknowledged, code, retry = await read_to_the_end(call)

    assert [answer.index for answer in (first, *acknowledged)] == list(range(50))
    assert all(answer.HasField("receipt") for answer in (first, *acknowledged))
    assert (code, retry) == ("UNAVAILABLE", True)


async def test_a_stream_that_begins_while_it_drains_is_ended_with_the_others(draining: Draining) -> None:
    stub: Any = query_service_pb2_grpc.QueryServiceStub(draining.channel)
    draining.ask_to_stop()
    await draining.stops_reporting()

    watch = stub.WatchEvents(query_service_pb2.WatchEventsRequest(), metadata=draining.metadata("reader"))

    messages, code, retry = await read_to_the_end(watch)
    assert len(messages) >= 1
    assert (code, retry) == ("UNAVAILABLE", True)
