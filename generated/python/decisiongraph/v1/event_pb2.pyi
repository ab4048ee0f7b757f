from buf.validate import validate_pb2 as _validate_pb2
from decisiongraph.v1 import payload_pb2 as _payload_pb2
from decisiongraph.v1 import rules_pb2 as _rules_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Source(_message.Message):
    __slots__ = ("producer_id", "system", "subsystem")
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    SUBSYSTEM_FIELD_NUMBER: _ClassVar[int]
    producer_id: str
    system: str
    subsystem: str
    def __init__(self, producer_id: _Optional[str] = ..., system: _Optional[str] = ..., subsystem: _Optional[str] = ...) -> None: ...

class Actor(_message.Message):
    __slots__ = ("actor_type", "actor_id")
    ACTOR_TYPE_FIELD_NUMBER: _ClassVar[int]
    ACTOR_ID_FIELD_NUMBER: _ClassVar[int]
    actor_type: str
    actor_id: str
    def __init__(self, actor_type: _Optional[str] = ..., actor_id: _Optional[str] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("event_id", "trace_id", "trace_seq", "event_type", "occurred_at", "source", "actor", "idempotency_key", "payload", "trace_started", "input_observed", "entity_observed", "policy_evaluated", "exception_requested", "approval_recorded", "precedent_cited", "action_proposed", "action_committed", "trace_finished", "correlation_id", "causation_event_id", "schema_version", "tags")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_SEQ_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_AT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    TRACE_STARTED_FIELD_NUMBER: _ClassVar[int]
    INPUT_OBSERVED_FIELD_NUMBER: _ClassVar[int]
    ENTITY_OBSERVED_FIELD_NUMBER: _ClassVar[int]
    POLICY_EVALUATED_FIELD_NUMBER: _ClassVar[int]
    EXCEPTION_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_RECORDED_FIELD_NUMBER: _ClassVar[int]
    PRECEDENT_CITED_FIELD_NUMBER: _ClassVar[int]
    ACTION_PROPOSED_FIELD_NUMBER: _ClassVar[int]
    ACTION_COMMITTED_FIELD_NUMBER: _ClassVar[int]
    TRACE_FINISHED_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_ID_FIELD_NUMBER: _ClassVar[int]
    CAUSATION_EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    trace_id: str
    trace_seq: int
    event_type: str
    occurred_at: str
    source: Source
    actor: Actor
    idempotency_key: str
    payload: _struct_pb2.Struct
    trace_started: _payload_pb2.TraceStartedPayload
    input_observed: _payload_pb2.InputObservedPayload
    entity_observed: _payload_pb2.EntityObservedPayload
    policy_evaluated: _payload_pb2.PolicyEvaluatedPayload
    exception_requested: _payload_pb2.ExceptionRequestedPayload
    approval_recorded: _payload_pb2.ApprovalRecordedPayload
    precedent_cited: _payload_pb2.PrecedentCitedPayload
    action_proposed: _payload_pb2.ActionProposedPayload
    action_committed: _payload_pb2.ActionCommittedPayload
    trace_finished: _payload_pb2.TraceFinishedPayload
    correlation_id: str
    causation_event_id: str
    schema_version: int
    tags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, event_id: _Optional[str] = ..., trace_id: _Optional[str] = ..., trace_seq: _Optional[int] = ..., event_type: _Optional[str] = ..., occurred_at: _Optional[str] = ..., source: _Optional[_Union[Source, _Mapping]] = ..., actor: _Optional[_Union[Actor, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., payload: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., trace_started: _Optional[_Union[_payload_pb2.TraceStartedPayload, _Mapping]] = ..., input_observed: _Optional[_Union[_payload_pb2.InputObservedPayload, _Mapping]] = ..., entity_observed: _Optional[_Union[_payload_pb2.EntityObservedPayload, _Mapping]] = ..., policy_evaluated: _Optional[_Union[_payload_pb2.PolicyEvaluatedPayload, _Mapping]] = ..., exception_requested: _Optional[_Union[_payload_pb2.ExceptionRequestedPayload, _Mapping]] = ..., approval_recorded: _Optional[_Union[_payload_pb2.ApprovalRecordedPayload, _Mapping]] = ..., precedent_cited: _Optional[_Union[_payload_pb2.PrecedentCitedPayload, _Mapping]] = ..., action_proposed: _Optional[_Union[_payload_pb2.ActionProposedPayload, _Mapping]] = ..., action_committed: _Optional[_Union[_payload_pb2.ActionCommittedPayload, _Mapping]] = ..., trace_finished: _Optional[_Union[_payload_pb2.TraceFinishedPayload, _Mapping]] = ..., correlation_id: _Optional[str] = ..., causation_event_id: _Optional[str] = ..., schema_version: _Optional[int] = ..., tags: _Optional[_Iterable[str]] = ...) -> None: ...

class StoredEvent(_message.Message):
    __slots__ = ("event_id", "trace_id", "trace_seq", "event_type", "occurred_at", "source", "actor", "idempotency_key", "payload", "correlation_id", "causation_event_id", "schema_version", "tags", "log_seq", "recorded_at", "payload_hash")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_SEQ_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_AT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_ID_FIELD_NUMBER: _ClassVar[int]
    CAUSATION_EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    RECORDED_AT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_HASH_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    trace_id: str
    trace_seq: int
    event_type: str
    occurred_at: str
    source: Source
    actor: Actor
    idempotency_key: str
    payload: _struct_pb2.Struct
    correlation_id: str
    causation_event_id: str
    schema_version: int
    tags: _containers.RepeatedScalarFieldContainer[str]
    log_seq: int
    recorded_at: str
    payload_hash: str
    def __init__(self, event_id: _Optional[str] = ..., trace_id: _Optional[str] = ..., trace_seq: _Optional[int] = ..., event_type: _Optional[str] = ..., occurred_at: _Optional[str] = ..., source: _Optional[_Union[Source, _Mapping]] = ..., actor: _Optional[_Union[Actor, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., payload: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., correlation_id: _Optional[str] = ..., causation_event_id: _Optional[str] = ..., schema_version: _Optional[int] = ..., tags: _Optional[_Iterable[str]] = ..., log_seq: _Optional[int] = ..., recorded_at: _Optional[str] = ..., payload_hash: _Optional[str] = ...) -> None: ...

class EventReceipt(_message.Message):
    __slots__ = ("event_id", "trace_id", "trace_seq", "log_seq", "payload_hash", "recorded_at", "reused")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_SEQ_FIELD_NUMBER: _ClassVar[int]
    LOG_SEQ_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_HASH_FIELD_NUMBER: _ClassVar[int]
    RECORDED_AT_FIELD_NUMBER: _ClassVar[int]
    REUSED_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    trace_id: str
    trace_seq: int
    log_seq: int
    payload_hash: str
    recorded_at: str
    reused: bool
    def __init__(self, event_id: _Optional[str] = ..., trace_id: _Optional[str] = ..., trace_seq: _Optional[int] = ..., log_seq: _Optional[int] = ..., payload_hash: _Optional[str] = ..., recorded_at: _Optional[str] = ..., reused: _Optional[bool] = ...) -> None: ...
