from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ReadPosition(_message.Message):
    __slots__ = ("log_seq", "head_log_seq")
    LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    HEAD_LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    log_seq: int
    head_log_seq: int
    def __init__(self, log_seq: _Optional[int] = ..., head_log_seq: _Optional[int] = ...) -> None: ...

class ProjectionHealth(_message.Message):
    __slots__ = ("projection", "log_seq", "lag_events", "lag_seconds", "state", "generation", "digest", "digest_log_seq", "open_failures", "running_job_id", "moved_at")
    PROJECTION_FIELD_NUMBER: _ClassVar[int]
    LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAG_EVENTS_FIELD_NUMBER: _ClassVar[int]
    LAG_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    DIGEST_LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    OPEN_FAILURES_FIELD_NUMBER: _ClassVar[int]
    RUNNING_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    MOVED_AT_FIELD_NUMBER: _ClassVar[int]
    projection: str
    log_seq: int
    lag_events: int
    lag_seconds: float
    state: str
    generation: int
    digest: str
    digest_log_seq: int
    open_failures: int
    running_job_id: str
    moved_at: str
    def __init__(self, projection: _Optional[str] = ..., log_seq: _Optional[int] = ..., lag_events: _Optional[int] = ..., lag_seconds: _Optional[float] = ..., state: _Optional[str] = ..., generation: _Optional[int] = ..., digest: _Optional[str] = ..., digest_log_seq: _Optional[int] = ..., open_failures: _Optional[int] = ..., running_job_id: _Optional[str] = ..., moved_at: _Optional[str] = ...) -> None: ...

class ProjectionFailure(_message.Message):
    __slots__ = ("projection", "log_seq", "trace_id", "event_id", "category", "message", "recoverable", "retry_count", "failed_at", "resolved_at")
    PROJECTION_FIELD_NUMBER: _ClassVar[int]
    LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RECOVERABLE_FIELD_NUMBER: _ClassVar[int]
    RETRY_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILED_AT_FIELD_NUMBER: _ClassVar[int]
    RESOLVED_AT_FIELD_NUMBER: _ClassVar[int]
    projection: str
    log_seq: int
    trace_id: str
    event_id: str
    category: str
    message: str
    recoverable: bool
    retry_count: int
    failed_at: str
    resolved_at: str
    def __init__(self, projection: _Optional[str] = ..., log_seq: _Optional[int] = ..., trace_id: _Optional[str] = ..., event_id: _Optional[str] = ..., category: _Optional[str] = ..., message: _Optional[str] = ..., recoverable: _Optional[bool] = ..., retry_count: _Optional[int] = ..., failed_at: _Optional[str] = ..., resolved_at: _Optional[str] = ...) -> None: ...
