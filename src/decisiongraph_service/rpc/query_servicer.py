"""QueryService: questions in, answers out."""

from typing import Any

import grpc

from decisiongraph.v1 import query_service_pb2, query_service_pb2_grpc
from decisiongraph_service.queries.events import EventQueries
from decisiongraph_service.queries.freshness import Freshness
from decisiongraph_service.queries.traces import TraceQueries
from decisiongraph_service.rpc import messages
from decisiongraph_service.rpc.interceptors import call

_Context = grpc.aio.ServicerContext[Any, Any]


class QueryServicer(query_service_pb2_grpc.QueryServiceServicer):
    """Answers QueryService. Rpcs that are not here are not implemented yet."""

    def __init__(self, traces: TraceQueries, events: EventQueries) -> None:
        self._traces = traces
        self._events = events

    async def GetTrace(  # noqa: N802 - named by the contract
        self, request: query_service_pb2.GetTraceRequest, context: _Context
    ) -> query_service_pb2.GetTraceResponse:
        """One trace with its timeline."""
        trace = await self._traces.get_trace(
            call.tenant(),
            request.trace_id,
            as_of_log_seq=request.as_of_log_seq if request.HasField("as_of_log_seq") else None,
            freshness_wanted=Freshness(
                min_log_seq=request.min_log_seq if request.HasField("min_log_seq") else None,
                allow_stale=request.allow_stale,
            ),
        )
        with_payload = request.view != "SUMMARY"
        return query_service_pb2.GetTraceResponse(
            summary=messages.trace_summary_to_message(trace),
            events=[
                messages.stored_event_to_message(event, with_payload=with_payload) for event in trace.timeline.events
            ],
            position=messages.position_to_message(trace.position),
            next_page_token=trace.timeline.next_page_token,
        )

    async def ListTraceEvents(  # noqa: N802 - named by the contract
        self, request: query_service_pb2.ListTraceEventsRequest, context: _Context
    ) -> query_service_pb2.ListTraceEventsResponse:
        """A page of a trace's timeline."""
        page = await self._traces.list_trace_events(
            call.tenant(),
            request.trace_id,
            since_trace_seq=request.since_trace_seq if request.HasField("since_trace_seq") else None,
            page_size=request.page_size if request.HasField("page_size") else None,
            page_token=request.page_token,
        )
        return query_service_pb2.ListTraceEventsResponse(
            events=[messages.stored_event_to_message(event) for event in page.events],
            next_page_token=page.next_page_token,
        )

    async def GetEvent(  # noqa: N802 - named by the contract
        self, request: query_service_pb2.GetEventRequest, context: _Context
    ) -> query_service_pb2.GetEventResponse:
        """One stored event."""
        stored = await self._events.get_event(call.tenant(), request.event_id)
        return query_service_pb2.GetEventResponse(event=messages.stored_event_to_message(stored))
