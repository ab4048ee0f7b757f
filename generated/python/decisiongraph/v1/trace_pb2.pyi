from buf.validate import validate_pb2 as _validate_pb2
from decisiongraph.v1 import payload_pb2 as _payload_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TraceSummary(_message.Message):
    __slots__ = ("trace_id", "workflow", "title", "primary_entity", "status", "outcome", "started_at", "finished_at", "event_count", "last_log_seq")
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_ENTITY_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    EVENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    trace_id: str
    workflow: str
    title: str
    primary_entity: _payload_pb2.EntityRef
    status: str
    outcome: str
    started_at: str
    finished_at: str
    event_count: int
    last_log_seq: int
    def __init__(self, trace_id: _Optional[str] = ..., workflow: _Optional[str] = ..., title: _Optional[str] = ..., primary_entity: _Optional[_Union[_payload_pb2.EntityRef, _Mapping]] = ..., status: _Optional[str] = ..., outcome: _Optional[str] = ..., started_at: _Optional[str] = ..., finished_at: _Optional[str] = ..., event_count: _Optional[int] = ..., last_log_seq: _Optional[int] = ...) -> None: ...
