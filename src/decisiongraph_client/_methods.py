"""The rpcs of the contract as values: path, answer, and whether a repetition is harmless."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from google.protobuf.message import Message

from decisiongraph.v1 import (
    access_service_pb2,
    ingestion_service_pb2,
    query_service_pb2,
    system_service_pb2,
)

Answer = TypeVar("Answer", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[Answer]):
    """An rpc."""

    path: str
    decode: Callable[[bytes], Answer]
    repeatable: bool = True
    """Carried out twice, it has the effect of once: reads, and appends by their idempotency keys."""
    public: bool = False
    """Needs no token."""


def _of(service: str, name: str, answer: type[Answer], *, public: bool = False) -> Method[Answer]:
    return Method(f"/decisiongraph.v1.{service}/{name}", answer.FromString, public=public)


ISSUE_TOKEN: Final = _of("AccessService", "IssueToken", access_service_pb2.IssueTokenResponse, public=True)
GET_READINESS: Final = _of("SystemService", "GetReadiness", system_service_pb2.GetReadinessResponse, public=True)
GET_LIVENESS: Final = _of("SystemService", "GetLiveness", system_service_pb2.GetLivenessResponse, public=True)

APPEND_EVENT: Final = _of("IngestionService", "AppendEvent", ingestion_service_pb2.AppendEventResponse)
APPEND_EVENTS: Final = _of("IngestionService", "AppendEvents", ingestion_service_pb2.AppendEventsResponse)

GET_TRACE: Final = _of("QueryService", "GetTrace", query_service_pb2.GetTraceResponse)
LIST_TRACES: Final = _of("QueryService", "ListTraces", query_service_pb2.ListTracesResponse)
LIST_TRACE_EVENTS: Final = _of("QueryService", "ListTraceEvents", query_service_pb2.ListTraceEventsResponse)
GET_EVENT: Final = _of("QueryService", "GetEvent", query_service_pb2.GetEventResponse)
LIST_EVENTS: Final = _of("QueryService", "ListEvents", query_service_pb2.ListEventsResponse)
WATCH_EVENTS: Final = _of("QueryService", "WatchEvents", query_service_pb2.WatchEventsResponse)
GET_CONTEXT_GRAPH: Final = _of("QueryService", "GetContextGraph", query_service_pb2.GetContextGraphResponse)
LIST_NODE_EDGES: Final = _of("QueryService", "ListNodeEdges", query_service_pb2.ListNodeEdgesResponse)
FIND_PRECEDENTS: Final = _of("QueryService", "FindPrecedents", query_service_pb2.FindPrecedentsResponse)
GET_PROJECTION_HEALTH: Final = _of("QueryService", "GetProjectionHealth", query_service_pb2.GetProjectionHealthResponse)
