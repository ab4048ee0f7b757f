from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReplayJob(_message.Message):
    __slots__ = ("job_id", "tenant_id", "projection", "mode", "status", "requested_at", "started_at", "finished_at", "since_log_seq", "until_log_seq", "processed_events", "last_log_seq", "error_code", "error_message", "metadata", "reason", "requested_by", "verify_results", "progress")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    PROJECTION_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_AT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    SINCE_LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    UNTIL_LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    PROCESSED_EVENTS_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_BY_FIELD_NUMBER: _ClassVar[int]
    VERIFY_RESULTS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    tenant_id: str
    projection: str
    mode: str
    status: str
    requested_at: str
    started_at: str
    finished_at: str
    since_log_seq: int
    until_log_seq: int
    processed_events: int
    last_log_seq: int
    error_code: str
    error_message: str
    metadata: _struct_pb2.Struct
    reason: str
    requested_by: str
    verify_results: _containers.RepeatedCompositeFieldContainer[VerifyResult]
    progress: ReplayProgress
    def __init__(self, job_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., projection: _Optional[str] = ..., mode: _Optional[str] = ..., status: _Optional[str] = ..., requested_at: _Optional[str] = ..., started_at: _Optional[str] = ..., finished_at: _Optional[str] = ..., since_log_seq: _Optional[int] = ..., until_log_seq: _Optional[int] = ..., processed_events: _Optional[int] = ..., last_log_seq: _Optional[int] = ..., error_code: _Optional[str] = ..., error_message: _Optional[str] = ..., metadata: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., reason: _Optional[str] = ..., requested_by: _Optional[str] = ..., verify_results: _Optional[_Iterable[_Union[VerifyResult, _Mapping]]] = ..., progress: _Optional[_Union[ReplayProgress, _Mapping]] = ...) -> None: ...

class ReplayProgress(_message.Message):
    __slots__ = ("done_events", "total_events", "events_per_second", "seconds_left")
    DONE_EVENTS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_EVENTS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    done_events: int
    total_events: int
    events_per_second: float
    seconds_left: float
    def __init__(self, done_events: _Optional[int] = ..., total_events: _Optional[int] = ..., events_per_second: _Optional[float] = ..., seconds_left: _Optional[float] = ...) -> None: ...

class VerifyResult(_message.Message):
    __slots__ = ("projection", "matches", "log_seq", "live_digest", "expected_digest", "first_difference")
    PROJECTION_FIELD_NUMBER: _ClassVar[int]
    MATCHES_FIELD_NUMBER: _ClassVar[int]
    LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    LIVE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_DIGEST_FIELD_NUMBER: _ClassVar[int]
    FIRST_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    projection: str
    matches: bool
    log_seq: int
    live_digest: str
    expected_digest: str
    first_difference: str
    def __init__(self, projection: _Optional[str] = ..., matches: _Optional[bool] = ..., log_seq: _Optional[int] = ..., live_digest: _Optional[str] = ..., expected_digest: _Optional[str] = ..., first_difference: _Optional[str] = ...) -> None: ...
