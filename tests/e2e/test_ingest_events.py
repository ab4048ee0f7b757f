"""IngestEvents: one acknowledgement per event, in order, after its commit; a refusal in its place ends nothing."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from tests.appending import head, writer
from tests.calling import METHODS, Callers, as_json
from tests.traces import event_of_trace, message, whole_trace

from decisiongraph.v1 import ingestion_service_pb2, ingestion_service_pb2_grpc
from decisiongraph_service.ingestion import ingest_stream
from decisiongraph_service.storage.database import Database


def _stream(callers: Callers, events: Any) -> Any:
    stub = ingestion_service_pb2_grpc.IngestionServiceStub(callers.channel)
    return stub.IngestEvents(events, metadata=tuple(writer(callers).items()), timeout=60)


async def _requests(events: Iterable[dict[str, Any]]) -> AsyncIterator[ingestion_service_pb2.IngestEventsRequest]:
    for event in events:
        yield ingestion_service_pb2.IngestEventsRequest(event=message(event))


async def _acknowledgements(call: Any) -> list[dict[str, Any]]:
    return [as_json(answer) async for answer in call]


async def test_two_thousand_events_are_acknowledged_in_order(callers: Callers, database: Database) -> None:
    events = [event for number in range(200) for event in whole_trace(f"trace-{number}", 10)]
    answers = await _acknowledgements(_stream(callers, _requests(events)))
    assert [answer["index"] for answer in answers] == [str(n) for n in range(2000)]
    assert [answer["receipt"]["log_seq"] for answer in answers] == [str(n + 1) for n in range(2000)]
    assert await head(callers, database) == 2000


async def test_an_acknowledged_event_can_be_read(callers: Callers) -> None:
    sent: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    async def requests() -> AsyncIterator[ingestion_service_pb2.IngestEventsRequest]:
        while (event := await sent.get()) is not None:
            yield ingestion_service_pb2.IngestEventsRequest(event=message(event))

    call = _stream(callers, requests())
    for event in whole_trace("trace", 4):
        sent.put_nowait(event)
        receipt = as_json(await call.read())["receipt"]
        found = await callers.call("grpc", "GetEvent", {"event_id": receipt["event_id"]})
        assert found.body["event"]["log_seq"] == receipt["log_seq"]
    sent.put_nowait(None)
    assert await call.read() is grpc.aio.EOF, "a closed stream has nothing more to say"
    assert await call.code() is grpc.StatusCode.OK


async def test_a_refused_event_is_answered_in_its_place(callers: Callers) -> None:
    events = whole_trace("trace", 5)
    events[2] = {**events[2], "occurred_at": "yesterday"}
    answers = await _acknowledgements(_stream(callers, _requests(events)))
    reasons = [answer["refusal"]["details"][0]["reason"] if "refusal" in answer else "stored" for answer in answers]
    # What comes behind the gap does not come next in its trace any more.
    assert reasons == ["stored", "stored", "INVALID_ARGUMENT", "EVENT_SEQUENCE_INVALID", "EVENT_SEQUENCE_INVALID"]
    alone = await callers.call("grpc", "AppendEvent", {"event": events[2]})
    without_id = [d for d in answers[2]["refusal"]["details"] if "request_id" not in d]
    assert [d for d in alone.body["details"] if "request_id" not in d] == without_id


async def test_an_item_that_cannot_be_decoded_is_answered_in_its_place(callers: Callers) -> None:
    path, _ = METHODS["IngestEvents"]
    good = [ingestion_service_pb2.IngestEventsRequest(event=message(event)) for event in whole_trace("trace", 2)]

    async def requests() -> AsyncIterator[bytes]:
        yield good[0].SerializeToString()
        yield b"\x0a\xff\xff\xff"
        yield good[1].SerializeToString()

    stream: Any = callers.channel.stream_stream(
        path, response_deserializer=ingestion_service_pb2.IngestEventsResponse.FromString
    )
    answers = await _acknowledgements(stream(requests(), metadata=tuple(writer(callers).items()), timeout=30))
    assert ["receipt" in answer for answer in answers] == [True, False, True]
    assert answers[1]["refusal"]["details"][0]["reason"] == "INVALID_ARGUMENT"


async def test_a_producer_that_does_not_read_is_held_back(callers: Callers, database: Database) -> None:
    taken = 0
    payload = {"action_id": "a", "status": "success", "note": "x" * 50_000}

    async def requests() -> AsyncIterator[ingestion_service_pb2.IngestEventsRequest]:
        nonlocal taken
        yield ingestion_service_pb2.IngestEventsRequest(event=message(event_of_trace("trace", 0)))
        for position in range(1, 5000):
            taken = position
            # Refused, so that each answer is long and the way back fills up.
            event = {**event_of_trace("trace", position), "payload": payload, "tags": [" "] * 60}
            yield ingestion_service_pb2.IngestEventsRequest(event=message(event))

    call = _stream(callers, requests())
    before = -1
    async with asyncio.timeout(60):
        while not taken or taken != before:
            before = taken
            await asyncio.sleep(1.0)
        while await head(callers, database) < 1:  # noqa: ASYNC110 - a server makes it so
            await asyncio.sleep(0.1)
    call.cancel()
    assert 0 < taken < 4999, "the stream took everything although nobody read its answers"
    assert await head(callers, database) == 1


async def test_a_broken_stream_is_resumed_by_the_idempotency_keys(callers: Callers, database: Database) -> None:
    events = [event for number in range(60) for event in whole_trace(f"trace-{number}", 5)]
    call = _stream(callers, _requests(events))
    for _ in range(40):
        await call.read()
    call.cancel()
    answers = await _acknowledgements(_stream(callers, _requests(events)))
    assert [answer["receipt"]["log_seq"] for answer in answers] == [str(n + 1) for n in range(len(events))]
    assert all(answer["receipt"]["reused"] for answer in answers[:40]), "what was acknowledged is there"
    assert await head(callers, database) == len(events)


def test_what_is_on_its_way_is_bounded() -> None:
    assert ingest_stream.ON_THEIR_WAY <= 1000
