"""IngestionService: events in, receipts out."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import protovalidate

from decisiongraph.v1 import event_pb2, ingestion_service_pb2, ingestion_service_pb2_grpc
from decisiongraph_service.domain import errors
from decisiongraph_service.ingestion import ingest_stream
from decisiongraph_service.ingestion.append import Appender, Checkable
from decisiongraph_service.rpc import decoding, messages, status, typed_payload
from decisiongraph_service.rpc.interceptors import call

_Context = grpc.aio.ServicerContext[Any, Any]


class IngestionServicer(ingestion_service_pb2_grpc.IngestionServiceServicer):
    """Answers IngestionService."""

    def __init__(self, appender: Appender) -> None:
        self._appender = appender
        self._validator = protovalidate.Validator()

    async def AppendEvent(  # noqa: N802 - named by the contract
        self, request: ingestion_service_pb2.AppendEventRequest, context: _Context
    ) -> ingestion_service_pb2.AppendEventResponse:
        """Append one event and answer after its durable commit."""
        event, payload_violations = self._checkable(request.event)
        placed = await self._appender.append(call.tenant(), event, payload_violations=payload_violations)
        return ingestion_service_pb2.AppendEventResponse(
            event=messages.placed_event_to_message(placed, request.event), reused=placed.reused
        )

    async def AppendEvents(  # noqa: N802 - named by the contract
        self, request: ingestion_service_pb2.AppendEventsRequest, context: _Context
    ) -> ingestion_service_pb2.AppendEventsResponse:
        """Append events in order, all or none, and answer after their durable commit."""
        placed = await self._appender.append_all(call.tenant(), map(self._checkable, request.events))
        return ingestion_service_pb2.AppendEventsResponse(receipts=map(messages.placed_event_to_receipt, placed))

    async def IngestEvents(  # noqa: N802 - named by the contract
        self, request_iterator: AsyncIterator[Any], context: _Context
    ) -> AsyncIterator[ingestion_service_pb2.IngestEventsResponse]:
        """Append a stream of events and acknowledge each in order."""
        request_id = call.current().request_id
        stream = ingest_stream.ingest(self._appender, call.tenant(), self._items(request_iterator))
        async with contextlib.aclosing(stream) as acknowledgements:
            async for acknowledgement in acknowledgements:
                answer = ingestion_service_pb2.IngestEventsResponse(index=acknowledgement.index)
                if isinstance(acknowledgement.result, errors.DecisionGraphError):
                    answer.refusal.CopyFrom(status.of_error(acknowledgement.result, request_id).status)
                else:
                    answer.receipt.CopyFrom(messages.placed_event_to_receipt(acknowledgement.result))
                yield answer

    async def _items(self, requests: AsyncIterator[Any]) -> AsyncIterator[Checkable | errors.DecisionGraphError]:
        async for request in requests:
            yield request.error() if isinstance(request, decoding.Undecodable) else self._checkable(request.event)

    def _checkable(self, event: event_pb2.Event) -> Checkable:
        return messages.event_from_message(event), typed_payload.check(self._validator, event)
