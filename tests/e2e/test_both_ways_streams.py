"""Streams, and refusals that need a server of their own: REST and gRPC are one contract there too."""

import asyncio
import base64
import contextlib
import json
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any

import grpc
import h11
import pytest
from google.rpc import status_pb2
from tests.accounts import done
from tests.another_server import another_server, callers_of
from tests.both_ways import assert_same, both, canonical, named, told
from tests.calling import BOTH_WAYS, Service, Tenant, as_json, refusal_of, texts
from tests.rpc_cases import Case
from tests.rpc_examples import example
from tests.rpc_refusals import REFUSALS
from tests.rpc_stages import REFUNDS, Stage
from tests.traces import message

from decisiongraph.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    ingestion_service_pb2,
    ingestion_service_pb2_grpc,
    query_service_pb2,
    query_service_pb2_grpc,
)
from decisiongraph_service.runtime import ports
from decisiongraph_service.storage.database import Database

# IngestEvents, which has no route


@pytest.mark.parametrize("path", ["/api/v1/events:ingest", "/decisiongraph.v1.IngestionService/IngestEvents"])
async def test_over_rest_there_is_no_stream_of_events(stage: Stage, path: str) -> None:
    headers = {**stage.headers("AppendEvent"), "content-type": "application/json"}
    response = await stage.callers.client.post(path, json=example("IngestEvents"), headers=headers)
    error = response.json()
    assert (response.status_code, error["code"]) == (404, 5)
    info, request_info = error["details"]
    assert (info["reason"], info["domain"], info["metadata"]) == (
        "NOT_FOUND",
        "decisiongraph",
        {"category": "not_found"},
    )
    assert request_info["request_id"] == response.headers["x-request-id"] == "parity-AppendEvent"


async def _ingested(stage: Stage, events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    stub: Any = ingestion_service_pb2_grpc.IngestionServiceStub(stage.callers.channel)
    requests = (ingestion_service_pb2.IngestEventsRequest(event=message(dict(event))) for event in events)
    metadata = tuple(stage.headers("AppendEvent").items())
    return [as_json(answer) async for answer in stub.IngestEvents(requests, metadata=metadata, timeout=60)]


@pytest.mark.parametrize(
    "case", [case for case in REFUSALS if case.rpc == "AppendEvent" and case.name != "nothing"], ids=str
)
async def test_a_stream_refuses_an_event_as_append_event_does(stage: Stage, case: Case) -> None:
    request = await case.prepare(stage)
    alone = await told(stage.callers, "rest", "AppendEvent", request, stage.headers("AppendEvent"))
    (answer,) = await _ingested(stage, [request["event"]])
    assert canonical(answer["refusal"]) == alone.error
    assert alone.reason == case.refused


async def test_a_stream_acknowledges_events_with_the_receipts_of_append_events(stage: Stage) -> None:
    first = await _ingested(stage, REFUNDS)
    assert [(answer["index"], answer["receipt"]["reused"]) for answer in first] == [
        (str(number), False) for number in range(len(REFUNDS))
    ]
    again = await both(stage.callers, "AppendEvents", {"events": REFUNDS}, stage.headers("AppendEvents"))
    receipts = [{**answer["receipt"], "reused": True} for answer in first]
    assert list(again.messages) == [canonical({"receipts": receipts})]


# Watches


async def _lines(stage: Stage, path: str, rpc: str) -> AsyncGenerator[dict[str, Any], None]:
    async with stage.callers.client.stream("GET", path, headers=stage.headers(rpc)) as response:
        assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
        async for line in response.aiter_lines():
            yield json.loads(line)


async def _rest_of(lines: AsyncIterator[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line async for line in lines if "heartbeat" not in line]


async def _watch_over_http_1(stage: Stage) -> AsyncGenerator[dict[str, Any], None]:
    """The messages of a watch of the whole log but heartbeats, and last its trailers, which httpx does not give."""
    host, _, port = stage.service.rest.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    connection = h11.Connection(h11.CLIENT)
    headers = {"host": host, **stage.headers("WatchEvents")}
    request = h11.Request(method="GET", target="/api/v1/events:watch?since_log_seq=0", headers=list(headers.items()))
    writer.write((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    begun = b""
    with contextlib.closing(writer):
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(65_536))
            elif isinstance(event, h11.Data):
                *lines, begun = (begun + bytes(event.data)).split(b"\n")
                for line in filter(None, lines):
                    if "heartbeat" not in (told_next := json.loads(line)):
                        yield told_next
        yield {name.decode(): text.decode() for name, text in event.headers}


async def _watch_over_grpc(stage: Stage) -> AsyncGenerator[dict[str, Any], None]:
    """The same; the last one is the error."""
    stub: Any = query_service_pb2_grpc.QueryServiceStub(stage.callers.channel)
    request = query_service_pb2.WatchEventsRequest(since_log_seq=0)
    try:
        async for answer in stub.WatchEvents(request, metadata=tuple(stage.headers("WatchEvents").items()), timeout=60):
            if not answer.HasField("heartbeat"):
                yield as_json(answer)
    except grpc.aio.AioRpcError as error:
        yield {**refusal_of(error).body, "metadata": named(refusal_of(error).metadata)}


async def test_a_watch_is_ended_by_the_same_error(stage: Stage) -> None:
    """Over REST the status went out with the first line: what ends the stream is in the trailers, as gRPC has it."""
    await stage.append(REFUNDS)
    watches = [_watch_over_http_1(stage), _watch_over_grpc(stage)]
    async with asyncio.timeout(60):
        by_rest, by_grpc = [[await anext(watch) for _ in REFUNDS] for watch in watches]
        await done(stage.callers, "DisableTenant", tenant_id=stage.name)
        (trailers,), (error,) = [[message async for message in watch] for watch in watches]
    assert by_rest == by_grpc
    status = status_pb2.Status.FromString(base64.b64decode(trailers["grpc-status-details-bin"] + "=="))
    assert {**as_json(status), "metadata": named(trailers)} == error
    assert (trailers["grpc-status"], trailers["grpc-message"]) == (str(error["code"]), error["message"])
    again = await both(stage.callers, "WatchEvents", {"since_log_seq": "24"}, stage.headers("WatchEvents"))
    assert again.error == canonical({key: value for key, value in error.items() if key != "metadata"})
    assert again.reason == "FORBIDDEN"


async def test_a_watch_of_a_running_job_tells_the_same_to_its_end(stage: Stage) -> None:
    job_id = await stage.running_job()
    lines = _lines(stage, f"/api/v1/admin/replays/{job_id}:watch", "WatchReplay")
    stub: Any = admin_service_pb2_grpc.AdminServiceStub(stage.callers.channel)
    request = admin_service_pb2.WatchReplayRequest(job_id=job_id)
    call: Any = stub.WatchReplay(request, metadata=tuple(stage.headers("WatchReplay").items()), timeout=60)
    async with contextlib.aclosing(lines), asyncio.timeout(30):
        by_rest, by_grpc = [await anext(lines)], [as_json(await call.read())]
        await done(stage.callers, "CancelReplay", job_id=job_id)
        by_rest += await _rest_of(lines)
        while (answer := await call.read()) is not grpc.aio.EOF:
            by_grpc.append(as_json(answer))
    assert by_rest == by_grpc
    assert [answer["job"]["status"] for answer in by_rest] == ["running", "cancelled"]
    assert named(texts(await call.trailing_metadata())) == {"x-request-id": "parity-WatchReplay"}


# Refusals of a server that is at its limits, or on its way out


@pytest.fixture(scope="module")
async def limited(service: Service, database_url: str) -> AsyncIterator[Service]:
    """A server that allows little, and that says for a while that it stops."""
    async with another_server(
        service,
        database_url,
        DG_LIMIT_ADMIN="2/day",
        DG_MAX_WATCHERS_PER_TENANT="1",
        DG_DRAIN_SECONDS="10",
        DG_SHUTDOWN_GRACE_SECONDS="1",
    ) as running:
        yield running


@pytest.fixture
async def limited_stage(
    limited: Service, tenant: Tenant, database: Database, database_url: str
) -> AsyncIterator[Stage]:
    async with contextlib.AsyncExitStack() as stack, callers_of(limited, tenant) as callers:
        yield Stage(callers, limited, database, database_url, stack)


async def test_a_watch_too_many_is_refused_the_same(limited_stage: Stage) -> None:
    headers = limited_stage.headers("WatchEvents")
    stub: Any = query_service_pb2_grpc.QueryServiceStub(limited_stage.callers.channel)
    first = stub.WatchEvents(query_service_pb2.WatchEventsRequest(), metadata=tuple(headers.items()))
    await first.read()
    refusal = await both(limited_stage.callers, "WatchEvents", {}, headers)
    first.cancel()
    assert refusal.reason == "RATE_LIMITED"
    assert "google.rpc.QuotaFailure" in refusal.error
    assert refusal.headers == {"x-request-id": "parity-WatchEvents", "retry-after": "1"}


async def test_a_call_beyond_a_limit_is_refused_the_same(limited_stage: Stage) -> None:
    headers = limited_stage.headers("ListReplays")
    for _ in range(2):
        await told(limited_stage.callers, "grpc", "ListReplays", {}, headers)
    refusals = [await told(limited_stage.callers, way, "ListReplays", {}, headers) for way in BOTH_WAYS]
    seconds = [int(refusal.headers["retry-after"]) for refusal in refusals]
    assert seconds[0] - 10 <= seconds[1] <= seconds[0], "the second one has less to wait"
    assert_same(*(refusal.without_seconds(wait) for refusal, wait in zip(refusals, seconds, strict=True)))
    assert refusals[0].reason == "RATE_LIMITED"


async def test_a_server_that_stops_is_not_ready_the_same(limited_stage: Stage, limited: Service) -> None:
    pid = ports.holder(int(limited.grpc.rpartition(":")[2])).pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    async with asyncio.timeout(20):
        while not (refusal := await told(limited_stage.callers, "grpc", "GetReadiness", {}, {})).error:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    refusal = await both(limited_stage.callers, "GetReadiness", {}, limited_stage.headers("GetReadiness"))
    assert refusal.reason == "STORAGE_UNAVAILABLE"
    assert refusal.headers == {"x-request-id": "parity-GetReadiness", "retry-after": "1"}
