"""IngestionService: events in, receipts out."""

from typing import Any

import grpc
import protovalidate

from decisiongraph.v1 import ingestion_service_pb2, ingestion_service_pb2_grpc
from decisiongraph_service.ingestion.append import Appender
from decisiongraph_service.rpc import messages, typed_payload
from decisiongraph_service.rpc.interceptors import call


class IngestionServicer(ingestion_service_pb2_grpc.IngestionServiceServicer):
    """Answers IngestionService. Rpcs that are not here are not implemented yet."""

    def __init__(self, appender: Appender) -> None:
        self._appender = appender
        self._validator = protovalidate.Validator()

    async def AppendEvent(  # noqa: N802 - named by the contract
        self,
        request: ingestion_service_pb2.AppendEventRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> ingestion_service_pb2.AppendEventResponse:
        """Append one event and answer after its durable commit."""
        appended = await self._appender.append(
            call.tenant(),
            messages.event_from_message(request.event),
            payload_violations=typed_payload.check(self._validator, request.event),
        )
        return ingestion_service_pb2.AppendEventResponse(
            event=messages.stored_event_to_message(appended.stored), reused=appended.reused
        )
