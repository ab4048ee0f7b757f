from buf.validate import validate_pb2 as _validate_pb2
from decisiongraph.v1 import authorization_pb2 as _authorization_pb2
from decisiongraph.v1 import event_pb2 as _event_pb2
from decisiongraph.v1 import graph_pb2 as _graph_pb2
from decisiongraph.v1 import precedent_pb2 as _precedent_pb2
from decisiongraph.v1 import projection_pb2 as _projection_pb2
from decisiongraph.v1 import rules_pb2 as _rules_pb2
from decisiongraph.v1 import trace_pb2 as _trace_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetTraceRequest(_message.Message):
    __slots__ = ("trace_id", "view", "as_of_log_seq", "min_log_seq", "allow_stale")
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    AS_OF_LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    MIN_LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    ALLOW_STALE_FIELD_NUMBER: _ClassVar[int]
    trace_id: str
    view: str
    as_of_log_seq: int
    min_log_seq: int
    allow_stale: bool
    def __init__(self, trace_id: _Optional[str] = ..., view: _Optional[str] = ..., as_of_log_seq: _Optional[int] = ..., min_log_seq: _Optional[int] = ..., allow_stale: _Optional[bool] = ...) -> None: ...

class GetTraceResponse(_message.Message):
    __slots__ = ("summary", "events", "position", "next_page_token")
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    summary: _trace_pb2.TraceSummary
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.StoredEvent]
    position: _projection_pb2.ReadPosition
    next_page_token: str
    def __init__(self, summary: _Optional[_Union[_trace_pb2.TraceSummary, _Mapping]] = ..., events: _Optional[_Iterable[_Union[_event_pb2.StoredEvent, _Mapping]]] = ..., position: _Optional[_Union[_projection_pb2.ReadPosition, _Mapping]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListTracesRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "workflow", "outcome", "status", "primary_entity_type", "primary_entity_id", "since_started_at", "until_started_at", "since_finished_at", "until_finished_at", "query", "min_log_seq", "allow_stale")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_ENTITY_TYPE_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    SINCE_STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    UNTIL_STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    SINCE_FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    MIN_LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    ALLOW_STALE_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    workflow: str
    outcome: str
    status: str
    primary_entity_type: str
    primary_entity_id: str
    since_started_at: str
    until_started_at: str
    since_finished_at: str
    until_finished_at: str
    query: str
    min_log_seq: int
    allow_stale: bool
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., workflow: _Optional[str] = ..., outcome: _Optional[str] = ..., status: _Optional[str] = ..., primary_entity_type: _Optional[str] = ..., primary_entity_id: _Optional[str] = ..., since_started_at: _Optional[str] = ..., until_started_at: _Optional[str] = ..., since_finished_at: _Optional[str] = ..., until_finished_at: _Optional[str] = ..., query: _Optional[str] = ..., min_log_seq: _Optional[int] = ..., allow_stale: _Optional[bool] = ...) -> None: ...

class ListTracesResponse(_message.Message):
    __slots__ = ("traces", "next_page_token", "position")
    TRACES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    traces: _containers.RepeatedCompositeFieldContainer[_trace_pb2.TraceSummary]
    next_page_token: str
    position: _projection_pb2.ReadPosition
    def __init__(self, traces: _Optional[_Iterable[_Union[_trace_pb2.TraceSummary, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., position: _Optional[_Union[_projection_pb2.ReadPosition, _Mapping]] = ...) -> None: ...

class ListTraceEventsRequest(_message.Message):
    __slots__ = ("trace_id", "since_trace_seq", "page_size", "page_token")
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    SINCE_TRACE_SEQ_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    trace_id: str
    since_trace_seq: int
    page_size: int
    page_token: str
    def __init__(self, trace_id: _Optional[str] = ..., since_trace_seq: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListTraceEventsResponse(_message.Message):
    __slots__ = ("events", "next_page_token")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.StoredEvent]
    next_page_token: str
    def __init__(self, events: _Optional[_Iterable[_Union[_event_pb2.StoredEvent, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetEventRequest(_message.Message):
    __slots__ = ("event_id",)
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    def __init__(self, event_id: _Optional[str] = ...) -> None: ...

class GetEventResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: _event_pb2.StoredEvent
    def __init__(self, event: _Optional[_Union[_event_pb2.StoredEvent, _Mapping]] = ...) -> None: ...

class ListEventsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "since_log_seq", "until_log_seq", "trace_id", "event_type", "producer_id", "actor_type", "actor_id", "tag", "correlation_id", "since_occurred_at", "until_occurred_at")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SINCE_LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    UNTIL_LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_TYPE_FIELD_NUMBER: _ClassVar[int]
    ACTOR_ID_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_ID_FIELD_NUMBER: _ClassVar[int]
    SINCE_OCCURRED_AT_FIELD_NUMBER: _ClassVar[int]
    UNTIL_OCCURRED_AT_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    since_log_seq: int
    until_log_seq: int
    trace_id: str
    event_type: str
    producer_id: str
    actor_type: str
    actor_id: str
    tag: str
    correlation_id: str
    since_occurred_at: str
    until_occurred_at: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., since_log_seq: _Optional[int] = ..., until_log_seq: _Optional[int] = ..., trace_id: _Optional[str] = ..., event_type: _Optional[str] = ..., producer_id: _Optional[str] = ..., actor_type: _Optional[str] = ..., actor_id: _Optional[str] = ..., tag: _Optional[str] = ..., correlation_id: _Optional[str] = ..., since_occurred_at: _Optional[str] = ..., until_occurred_at: _Optional[str] = ...) -> None: ...

class ListEventsResponse(_message.Message):
    __slots__ = ("events", "next_page_token", "head_log_seq")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    HEAD_LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.StoredEvent]
    next_page_token: str
    head_log_seq: int
    def __init__(self, events: _Optional[_Iterable[_Union[_event_pb2.StoredEvent, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., head_log_seq: _Optional[int] = ...) -> None: ...

class WatchEventsRequest(_message.Message):
    __slots__ = ("since_log_seq", "trace_id", "event_types")
    SINCE_LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPES_FIELD_NUMBER: _ClassVar[int]
    since_log_seq: int
    trace_id: str
    event_types: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, since_log_seq: _Optional[int] = ..., trace_id: _Optional[str] = ..., event_types: _Optional[_Iterable[str]] = ...) -> None: ...

class WatchEventsResponse(_message.Message):
    __slots__ = ("event", "heartbeat")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    event: _event_pb2.StoredEvent
    heartbeat: WatchHeartbeat
    def __init__(self, event: _Optional[_Union[_event_pb2.StoredEvent, _Mapping]] = ..., heartbeat: _Optional[_Union[WatchHeartbeat, _Mapping]] = ...) -> None: ...

class WatchHeartbeat(_message.Message):
    __slots__ = ("head_log_seq",)
    HEAD_LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    head_log_seq: int
    def __init__(self, head_log_seq: _Optional[int] = ...) -> None: ...

class GetContextGraphRequest(_message.Message):
    __slots__ = ("node_type", "node_id", "max_depth", "node_types", "edge_types", "max_nodes", "max_edges", "as_of_log_seq", "min_log_seq", "allow_stale")
    NODE_TYPE_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_DEPTH_FIELD_NUMBER: _ClassVar[int]
    NODE_TYPES_FIELD_NUMBER: _ClassVar[int]
    EDGE_TYPES_FIELD_NUMBER: _ClassVar[int]
    MAX_NODES_FIELD_NUMBER: _ClassVar[int]
    MAX_EDGES_FIELD_NUMBER: _ClassVar[int]
    AS_OF_LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    MIN_LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    ALLOW_STALE_FIELD_NUMBER: _ClassVar[int]
    node_type: str
    node_id: str
    max_depth: int
    node_types: _containers.RepeatedScalarFieldContainer[str]
    edge_types: _containers.RepeatedScalarFieldContainer[str]
    max_nodes: int
    max_edges: int
    as_of_log_seq: int
    min_log_seq: int
    allow_stale: bool
    def __init__(self, node_type: _Optional[str] = ..., node_id: _Optional[str] = ..., max_depth: _Optional[int] = ..., node_types: _Optional[_Iterable[str]] = ..., edge_types: _Optional[_Iterable[str]] = ..., max_nodes: _Optional[int] = ..., max_edges: _Optional[int] = ..., as_of_log_seq: _Optional[int] = ..., min_log_seq: _Optional[int] = ..., allow_stale: _Optional[bool] = ...) -> None: ...

class GetContextGraphResponse(_message.Message):
    __slots__ = ("center", "nodes", "edges", "truncated", "position")
    CENTER_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    EDGES_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    center: str
    nodes: _containers.RepeatedCompositeFieldContainer[_graph_pb2.ContextNode]
    edges: _containers.RepeatedCompositeFieldContainer[_graph_pb2.ContextEdge]
    truncated: bool
    position: _projection_pb2.ReadPosition
    def __init__(self, center: _Optional[str] = ..., nodes: _Optional[_Iterable[_Union[_graph_pb2.ContextNode, _Mapping]]] = ..., edges: _Optional[_Iterable[_Union[_graph_pb2.ContextEdge, _Mapping]]] = ..., truncated: _Optional[bool] = ..., position: _Optional[_Union[_projection_pb2.ReadPosition, _Mapping]] = ...) -> None: ...

class ListNodeEdgesRequest(_message.Message):
    __slots__ = ("node_type", "node_id", "direction", "page_size", "page_token", "min_log_seq", "allow_stale")
    NODE_TYPE_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MIN_LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    ALLOW_STALE_FIELD_NUMBER: _ClassVar[int]
    node_type: str
    node_id: str
    direction: str
    page_size: int
    page_token: str
    min_log_seq: int
    allow_stale: bool
    def __init__(self, node_type: _Optional[str] = ..., node_id: _Optional[str] = ..., direction: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., min_log_seq: _Optional[int] = ..., allow_stale: _Optional[bool] = ...) -> None: ...

class ListNodeEdgesResponse(_message.Message):
    __slots__ = ("edges", "next_page_token", "position")
    EDGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    edges: _containers.RepeatedCompositeFieldContainer[_graph_pb2.ContextEdge]
    next_page_token: str
    position: _projection_pb2.ReadPosition
    def __init__(self, edges: _Optional[_Iterable[_Union[_graph_pb2.ContextEdge, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., position: _Optional[_Union[_projection_pb2.ReadPosition, _Mapping]] = ...) -> None: ...

class FindPrecedentsRequest(_message.Message):
    __slots__ = ("policy_id", "policy_version", "entity_type", "entity_id", "outcome", "workflow", "query", "like_trace_id", "page_size", "page_token", "min_log_seq", "allow_stale")
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    ENTITY_TYPE_FIELD_NUMBER: _ClassVar[int]
    ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    LIKE_TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MIN_LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    ALLOW_STALE_FIELD_NUMBER: _ClassVar[int]
    policy_id: str
    policy_version: str
    entity_type: str
    entity_id: str
    outcome: str
    workflow: str
    query: str
    like_trace_id: str
    page_size: int
    page_token: str
    min_log_seq: int
    allow_stale: bool
    def __init__(self, policy_id: _Optional[str] = ..., policy_version: _Optional[str] = ..., entity_type: _Optional[str] = ..., entity_id: _Optional[str] = ..., outcome: _Optional[str] = ..., workflow: _Optional[str] = ..., query: _Optional[str] = ..., like_trace_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., min_log_seq: _Optional[int] = ..., allow_stale: _Optional[bool] = ...) -> None: ...

class FindPrecedentsResponse(_message.Message):
    __slots__ = ("precedents", "next_page_token", "position")
    PRECEDENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    precedents: _containers.RepeatedCompositeFieldContainer[_precedent_pb2.Precedent]
    next_page_token: str
    position: _projection_pb2.ReadPosition
    def __init__(self, precedents: _Optional[_Iterable[_Union[_precedent_pb2.Precedent, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., position: _Optional[_Union[_projection_pb2.ReadPosition, _Mapping]] = ...) -> None: ...

class GetProjectionHealthRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetProjectionHealthResponse(_message.Message):
    __slots__ = ("head_log_seq", "projections", "full_digest", "event_count", "trace_count")
    HEAD_LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    PROJECTIONS_FIELD_NUMBER: _ClassVar[int]
    FULL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    EVENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    TRACE_COUNT_FIELD_NUMBER: _ClassVar[int]
    head_log_seq: int
    projections: _containers.RepeatedCompositeFieldContainer[_projection_pb2.ProjectionHealth]
    full_digest: str
    event_count: int
    trace_count: int
    def __init__(self, head_log_seq: _Optional[int] = ..., projections: _Optional[_Iterable[_Union[_projection_pb2.ProjectionHealth, _Mapping]]] = ..., full_digest: _Optional[str] = ..., event_count: _Optional[int] = ..., trace_count: _Optional[int] = ...) -> None: ...
