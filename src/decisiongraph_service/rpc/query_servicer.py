"""QueryService: questions in, answers out."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Protocol

import grpc

from decisiongraph.v1 import query_service_pb2, query_service_pb2_grpc
from decisiongraph_service.queries import graph
from decisiongraph_service.queries.events import EventQueries, EventsWanted
from decisiongraph_service.queries.freshness import Freshness
from decisiongraph_service.queries.graph import GraphQueries, GraphWanted
from decisiongraph_service.queries.health import HealthQueries
from decisiongraph_service.queries.precedents import PrecedentQueries
from decisiongraph_service.queries.ranked_precedents import Likeness, RankedPrecedentQueries
from decisiongraph_service.queries.trace_list import TraceList, TracesWanted
from decisiongraph_service.queries.traces import TraceQueries
from decisiongraph_service.queries.watch import EventWatches, Heartbeat
from decisiongraph_service.rpc import messages, projection_messages
from decisiongraph_service.rpc.interceptors import call
from decisiongraph_service.storage.event_log import EventFilter
from decisiongraph_service.storage.precedent_index import PrecedentFilter

_Context = grpc.aio.ServicerContext[Any, Any]


class QueryServicer(query_service_pb2_grpc.QueryServiceServicer):
    """Answers QueryService. Rpcs that are not here are not implemented yet."""

    def __init__(
        self,
        traces: TraceQueries,
        trace_list: TraceList,
        events: EventQueries,
        watches: EventWatches,
        graph_queries: GraphQueries,
        precedents: PrecedentQueries,
        ranked_precedents: RankedPrecedentQueries,
        health: HealthQueries,
    ) -> None:
        self._traces = traces
        self._trace_list = trace_list
        self._events = events
        self._watches = watches
        self._graph = graph_queries
        self._precedents = precedents
        self._ranked_precedents = ranked_precedents
        self._health = health

    async def GetTrace(  # noqa: N802 - named by the contract
        self, request: query_service_pb2.GetTraceRequest, context: _Context
    ) -> query_service_pb2.GetTraceResponse:
        """One trace with its timeline."""
        trace = await self._traces.get_trace(
            call.tenant(),
            request.trace_id,
            as_of_log_seq=request.as_of_log_seq if request.HasField("as_of_log_seq") else None,
            freshness_wanted=_freshness(request, context),
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

    async def ListTraces(  # noqa: N802 - named by the contract
        self, request: query_service_pb2.ListTracesRequest, context: _Context
    ) -> query_service_pb2.ListTracesResponse:
        """A page of summaries."""
        page = await self._trace_list.list_traces(
            call.tenant(),
            TracesWanted(
                workflow=request.workflow,
                outcome=request.outcome,
                status=request.status,
                primary_entity_type=request.primary_entity_type,
                primary_entity_id=request.primary_entity_id,
                since_started_at=request.since_started_at,
                until_started_at=request.until_started_at,
                since_finished_at=request.since_finished_at,
                until_finished_at=request.until_finished_at,
                query=request.query,
            ),
            page_size=request.page_size if request.HasField("page_size") else None,
            page_token=request.page_token,
            freshness_wanted=_freshness(request, context),
        )
        return query_service_pb2.ListTracesResponse(
            traces=map(messages.trace_summary_to_message, page.traces),
            next_page_token=page.next_page_token,
            position=messages.position_to_message(page.position),
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

    async def ListEvents(  # noqa: N802 - named by the contract
        self, request: query_service_pb2.ListEventsRequest, context: _Context
    ) -> query_service_pb2.ListEventsResponse:
        """A page of the log."""
        page = await self._events.list_events(
            call.tenant(),
            EventsWanted(
                since_log_seq=request.since_log_seq if request.HasField("since_log_seq") else None,
                until_log_seq=request.until_log_seq if request.HasField("until_log_seq") else None,
                trace_id=request.trace_id,
                event_type=request.event_type,
                producer_id=request.producer_id,
                actor_type=request.actor_type,
                actor_id=request.actor_id,
                tag=request.tag,
                correlation_id=request.correlation_id,
                since_occurred_at=request.since_occurred_at,
                until_occurred_at=request.until_occurred_at,
            ),
            page_size=request.page_size if request.HasField("page_size") else None,
            page_token=request.page_token,
        )
        return query_service_pb2.ListEventsResponse(
            events=[messages.stored_event_to_message(event) for event in page.events],
            next_page_token=page.next_page_token,
            head_log_seq=page.head_log_seq,
        )

    async def WatchEvents(  # noqa: N802 - named by the contract
        self, request: query_service_pb2.WatchEventsRequest, context: _Context
    ) -> AsyncIterator[query_service_pb2.WatchEventsResponse]:
        """The log from a position on, without end."""
        watch = self._watches.watch(
            call.tenant(),
            EventFilter(trace_id=request.trace_id or None, event_types=tuple(request.event_types)),
            since_log_seq=request.since_log_seq if request.HasField("since_log_seq") else None,
        )
        async with contextlib.aclosing(watch) as found:
            async for message in found:
                if isinstance(message, Heartbeat):
                    heartbeat = query_service_pb2.WatchHeartbeat(head_log_seq=message.head_log_seq)
                    yield query_service_pb2.WatchEventsResponse(heartbeat=heartbeat)
                else:
                    yield query_service_pb2.WatchEventsResponse(event=messages.stored_event_to_message(message))

    async def GetContextGraph(  # noqa: N802 - named by the contract
        self, request: query_service_pb2.GetContextGraphRequest, context: _Context
    ) -> query_service_pb2.GetContextGraphResponse:
        """What is around a node."""
        wanted = GraphWanted(
            center=f"{request.node_type}:{request.node_id}",
            max_depth=request.max_depth if request.HasField("max_depth") else graph.DEFAULT_DEPTH,
            max_nodes=request.max_nodes if request.HasField("max_nodes") else graph.DEFAULT_NODES,
            max_edges=request.max_edges if request.HasField("max_edges") else graph.DEFAULT_EDGES,
            node_types=request.node_types,
            edge_types=request.edge_types,
            as_of_log_seq=request.as_of_log_seq if request.HasField("as_of_log_seq") else None,
        )
        found = await self._graph.get_context_graph(call.tenant(), wanted, _freshness(request, context))
        return query_service_pb2.GetContextGraphResponse(
            center=found.center,
            nodes=map(projection_messages.node_to_message, found.nodes),
            edges=map(projection_messages.edge_to_message, found.edges),
            truncated=found.truncated,
            position=messages.position_to_message(found.position),
        )

    async def ListNodeEdges(  # noqa: N802 - named by the contract
        self, request: query_service_pb2.ListNodeEdgesRequest, context: _Context
    ) -> query_service_pb2.ListNodeEdgesResponse:
        """A page of the edges of a node."""
        page = await self._graph.list_node_edges(
            call.tenant(),
            f"{request.node_type}:{request.node_id}",
            direction=request.direction,
            page_size=request.page_size if request.HasField("page_size") else None,
            page_token=request.page_token,
            freshness_wanted=_freshness(request, context),
        )
        return query_service_pb2.ListNodeEdgesResponse(
            edges=map(projection_messages.edge_to_message, page.edges),
            next_page_token=page.next_page_token,
            position=messages.position_to_message(page.position),
        )

    async def FindPrecedents(  # noqa: N802 - named by the contract
        self, request: query_service_pb2.FindPrecedentsRequest, context: _Context
    ) -> query_service_pb2.FindPrecedentsResponse:
        """A page of finished traces that match, newest first or the best first."""
        wanted = PrecedentFilter(
            policy_id=request.policy_id,
            policy_version=request.policy_version,
            entity_type=request.entity_type,
            entity_id=request.entity_id,
            outcome=request.outcome,
            workflow=request.workflow,
        )
        if request.query or request.like_trace_id:
            ranked = await self._ranked_precedents.find(
                call.tenant(),
                Likeness(request.query, request.like_trace_id),
                wanted,
                page_size=request.page_size if request.HasField("page_size") else None,
                page_token=request.page_token,
                freshness_wanted=_freshness(request, context),
            )
            return projection_messages.ranked_page_to_response(ranked)
        page = await self._precedents.find(
            call.tenant(),
            wanted,
            page_size=request.page_size if request.HasField("page_size") else None,
            page_token=request.page_token,
            freshness_wanted=_freshness(request, context),
        )
        return query_service_pb2.FindPrecedentsResponse(
            precedents=map(projection_messages.precedent_to_message, page.hits),
            next_page_token=page.next_page_token,
            position=messages.position_to_message(page.position),
        )

    async def GetProjectionHealth(  # noqa: N802 - named by the contract
        self, request: query_service_pb2.GetProjectionHealthRequest, context: _Context
    ) -> query_service_pb2.GetProjectionHealthResponse:
        """How the projections stand."""
        return projection_messages.health_to_response(await self._health.get_health(call.tenant()))


class _WithFreshness(Protocol):
    """A request that says how fresh its answer must be."""

    min_log_seq: int
    allow_stale: bool

    def HasField(self, field_name: Any) -> bool: ...  # noqa: N802 - named by protobuf


def _freshness(request: _WithFreshness, context: _Context) -> Freshness:
    return Freshness(
        min_log_seq=request.min_log_seq if request.HasField("min_log_seq") else None,
        allow_stale=request.allow_stale,
        within_seconds=context.time_remaining(),
    )
