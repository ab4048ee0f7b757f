# Made of ../_async by tools/make_blocking_client.py: change it there.
"""Everything that can be asked: one method per rpc of QueryService."""

from collections.abc import Sequence
from typing import Final, Literal

from decisiongraph.v1 import (
    event_pb2,
    graph_pb2,
    precedent_pb2,
    query_service_pb2,
    system_service_pb2,
    trace_pb2,
)
from decisiongraph_client import _methods
from decisiongraph_client._sync.pages import Pages
from decisiongraph_client._sync.session import Session
from decisiongraph_client._sync.watch import Watch
from decisiongraph_client._written import Written

_SILENCE_SECONDS: Final = 75.0
"""A watch without a sign of life for so long is opened again. Servers send one every 60 seconds at least."""


class Reads:
    """The reading half of a client.

    Answers are messages of the contract (`decisiongraph.v1`). Those that are made of projections include everything
    that was committed before the call, or, with `allow_stale`, what is there; `min_log_seq` asks for a position at
    least.
    """

    def __init__(self, session: Session, written: Written) -> None:
        self._session = session
        self._written = written

    def get_trace(
        self,
        trace_id: str,
        *,
        view: Literal["FULL", "SUMMARY"] = "FULL",
        as_of_log_seq: int | None = None,
        min_log_seq: int | None = None,
        allow_stale: bool = False,
        timeout: float | None = None,
    ) -> query_service_pb2.GetTraceResponse:
        """A trace: its summary and its timeline, as much as fits one answer (1,000 events).

        Raises:
            NotFound: the tenant has no such trace.
        """
        request = query_service_pb2.GetTraceRequest(
            trace_id=trace_id,
            view=view,
            as_of_log_seq=as_of_log_seq,
            min_log_seq=self._written.needed(min_log_seq, allow_stale),
            allow_stale=allow_stale,
        )
        return self._session.call(_methods.GET_TRACE, request, timeout=timeout)

    def list_traces(
        self,
        *,
        workflow: str | None = None,
        outcome: Literal["success", "failure", "abandoned"] | None = None,
        status: Literal["open", "finished"] | None = None,
        primary_entity_type: str | None = None,
        primary_entity_id: str | None = None,
        since_started_at: str | None = None,
        until_started_at: str | None = None,
        since_finished_at: str | None = None,
        until_finished_at: str | None = None,
        query: str | None = None,
        page_size: int | None = None,
        min_log_seq: int | None = None,
        allow_stale: bool = False,
    ) -> Pages[trace_pb2.TraceSummary, query_service_pb2.ListTracesResponse]:
        """Summaries of traces, newest first."""

        def fetch(page_token: str) -> query_service_pb2.ListTracesResponse:
            request = query_service_pb2.ListTracesRequest(
                page_size=page_size,
                page_token=page_token,
                workflow=workflow,
                outcome=outcome,
                status=status,
                primary_entity_type=primary_entity_type,
                primary_entity_id=primary_entity_id,
                since_started_at=since_started_at,
                until_started_at=until_started_at,
                since_finished_at=since_finished_at,
                until_finished_at=until_finished_at,
                query=query,
                min_log_seq=self._written.needed(min_log_seq, allow_stale),
                allow_stale=allow_stale,
            )
            return self._session.call(_methods.LIST_TRACES, request)

        return Pages(fetch, lambda page: page.traces, lambda page: page.next_page_token)

    def list_trace_events(
        self, trace_id: str, *, since_trace_seq: int | None = None, page_size: int | None = None
    ) -> Pages[event_pb2.StoredEvent, query_service_pb2.ListTraceEventsResponse]:
        """The timeline of a trace, however long it is. NotFound if the tenant has no such trace."""

        def fetch(page_token: str) -> query_service_pb2.ListTraceEventsResponse:
            request = query_service_pb2.ListTraceEventsRequest(
                trace_id=trace_id, since_trace_seq=since_trace_seq, page_size=page_size, page_token=page_token
            )
            return self._session.call(_methods.LIST_TRACE_EVENTS, request)

        return Pages(fetch, lambda page: page.events, lambda page: page.next_page_token)

    def get_event(self, event_id: str, *, timeout: float | None = None) -> event_pb2.StoredEvent:
        """One event.

        Raises:
            NotFound: the tenant has no such event.
        """
        request = query_service_pb2.GetEventRequest(event_id=event_id)
        return (self._session.call(_methods.GET_EVENT, request, timeout=timeout)).event

    def list_events(
        self,
        *,
        since_log_seq: int | None = None,
        until_log_seq: int | None = None,
        trace_id: str | None = None,
        event_type: str | None = None,
        producer_id: str | None = None,
        actor_type: str | None = None,
        actor_id: str | None = None,
        tag: str | None = None,
        correlation_id: str | None = None,
        since_occurred_at: str | None = None,
        until_occurred_at: str | None = None,
        page_size: int | None = None,
    ) -> Pages[event_pb2.StoredEvent, query_service_pb2.ListEventsResponse]:
        """Events of the log in their order. Lower bounds are exclusive, upper bounds inclusive."""

        def fetch(page_token: str) -> query_service_pb2.ListEventsResponse:
            request = query_service_pb2.ListEventsRequest(
                page_size=page_size,
                page_token=page_token,
                since_log_seq=since_log_seq,
                until_log_seq=until_log_seq,
                trace_id=trace_id,
                event_type=event_type,
                producer_id=producer_id,
                actor_type=actor_type,
                actor_id=actor_id,
                tag=tag,
                correlation_id=correlation_id,
                since_occurred_at=since_occurred_at,
                until_occurred_at=until_occurred_at,
            )
            return self._session.call(_methods.LIST_EVENTS, request)

        return Pages(fetch, lambda page: page.events, lambda page: page.next_page_token)

    def watch(
        self,
        *,
        since_log_seq: int | None = None,
        trace_id: str | None = None,
        event_types: Sequence[str] = (),
    ) -> Watch:
        """Events as they come, after a log position (0: from the beginning; None: only new ones). Has no end.

        It goes on by itself after broken connections and restarts of the service, each event once and in order.
        """
        return Watch(
            self._session,
            since_log_seq=since_log_seq,
            trace_id=trace_id,
            event_types=event_types,
            silence=_SILENCE_SECONDS,
        )

    def get_context_graph(
        self,
        node_type: str,
        node_id: str,
        *,
        max_depth: int | None = None,
        node_types: Sequence[str] = (),
        edge_types: Sequence[str] = (),
        max_nodes: int | None = None,
        max_edges: int | None = None,
        as_of_log_seq: int | None = None,
        min_log_seq: int | None = None,
        allow_stale: bool = False,
        timeout: float | None = None,
    ) -> query_service_pb2.GetContextGraphResponse:
        """What is connected with a node, e.g. `("entity", "order:A-1")`, up to `max_depth` edges away (by default 1).

        A node that the tenant does not have gives empty lists.
        """
        request = query_service_pb2.GetContextGraphRequest(
            node_type=node_type,
            node_id=node_id,
            max_depth=max_depth,
            node_types=node_types,
            edge_types=edge_types,
            max_nodes=max_nodes,
            max_edges=max_edges,
            as_of_log_seq=as_of_log_seq,
            min_log_seq=self._written.needed(min_log_seq, allow_stale),
            allow_stale=allow_stale,
        )
        return self._session.call(_methods.GET_CONTEXT_GRAPH, request, timeout=timeout)

    def list_node_edges(
        self,
        node_type: str,
        node_id: str,
        *,
        direction: Literal["outgoing", "incoming", "both"] = "both",
        page_size: int | None = None,
        min_log_seq: int | None = None,
        allow_stale: bool = False,
    ) -> Pages[graph_pb2.ContextEdge, query_service_pb2.ListNodeEdgesResponse]:
        """All edges of a node, by the log position of the event that made them."""

        def fetch(page_token: str) -> query_service_pb2.ListNodeEdgesResponse:
            request = query_service_pb2.ListNodeEdgesRequest(
                node_type=node_type,
                node_id=node_id,
                direction=direction,
                page_size=page_size,
                page_token=page_token,
                min_log_seq=self._written.needed(min_log_seq, allow_stale),
                allow_stale=allow_stale,
            )
            return self._session.call(_methods.LIST_NODE_EDGES, request)

        return Pages(fetch, lambda page: page.edges, lambda page: page.next_page_token)

    def find_precedents(
        self,
        *,
        query: str | None = None,
        like_trace_id: str | None = None,
        policy_id: str | None = None,
        policy_version: str | None = None,
        entity_type: str | None = None,
        entity_id: str | None = None,
        outcome: Literal["success", "failure", "abandoned"] | None = None,
        workflow: str | None = None,
        page_size: int | None = None,
        min_log_seq: int | None = None,
        allow_stale: bool = False,
    ) -> Pages[precedent_pb2.Precedent, query_service_pb2.FindPrecedentsResponse]:
        """Finished traces by what they were about: with `query` or `like_trace_id` the best first, else the newest."""

        def fetch(page_token: str) -> query_service_pb2.FindPrecedentsResponse:
            request = query_service_pb2.FindPrecedentsRequest(
                policy_id=policy_id,
                policy_version=policy_version,
                entity_type=entity_type,
                entity_id=entity_id,
                outcome=outcome,
                workflow=workflow,
                query=query,
                like_trace_id=like_trace_id,
                page_size=page_size,
                page_token=page_token,
                min_log_seq=self._written.needed(min_log_seq, allow_stale),
                allow_stale=allow_stale,
            )
            return self._session.call(_methods.FIND_PRECEDENTS, request)

        return Pages(fetch, lambda page: page.precedents, lambda page: page.next_page_token)

    def get_projection_health(self, *, timeout: float | None = None) -> query_service_pb2.GetProjectionHealthResponse:
        """How far the projections are behind the log, and what they hold."""
        request = query_service_pb2.GetProjectionHealthRequest()
        return self._session.call(_methods.GET_PROJECTION_HEALTH, request, timeout=timeout)

    def get_liveness(self, *, timeout: float | None = None) -> system_service_pb2.GetLivenessResponse:
        """That the service answers, and its version; needs no token."""
        request = system_service_pb2.GetLivenessRequest()
        return self._session.call(_methods.GET_LIVENESS, request, timeout=timeout)

    def get_readiness(self, *, timeout: float | None = None) -> system_service_pb2.GetReadinessResponse:
        """Whether the service is ready; needs no token.

        Raises:
            StorageUnavailable: it is not; the message says what is missing.
        """
        request = system_service_pb2.GetReadinessRequest()
        return self._session.call(_methods.GET_READINESS, request, timeout=timeout)
