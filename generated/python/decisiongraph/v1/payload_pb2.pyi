from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EntityRef(_message.Message):
    __slots__ = ("entity_type", "entity_id", "system")
    ENTITY_TYPE_FIELD_NUMBER: _ClassVar[int]
    ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    entity_type: str
    entity_id: str
    system: str
    def __init__(self, entity_type: _Optional[str] = ..., entity_id: _Optional[str] = ..., system: _Optional[str] = ...) -> None: ...

class PolicyRef(_message.Message):
    __slots__ = ("policy_id", "policy_version")
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    policy_id: str
    policy_version: str
    def __init__(self, policy_id: _Optional[str] = ..., policy_version: _Optional[str] = ...) -> None: ...

class TypedValue(_message.Message):
    __slots__ = ("type", "value")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    type: str
    value: str
    def __init__(self, type: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Fact(_message.Message):
    __slots__ = ("key", "value", "as_of")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: TypedValue
    as_of: str
    def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[TypedValue, _Mapping]] = ..., as_of: _Optional[str] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("source", "locator", "excerpt_redacted")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    LOCATOR_FIELD_NUMBER: _ClassVar[int]
    EXCERPT_REDACTED_FIELD_NUMBER: _ClassVar[int]
    source: str
    locator: str
    excerpt_redacted: str
    def __init__(self, source: _Optional[str] = ..., locator: _Optional[str] = ..., excerpt_redacted: _Optional[str] = ...) -> None: ...

class PolicyViolation(_message.Message):
    __slots__ = ("code", "message", "details")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    details: _struct_pb2.Struct
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., details: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("path", "old_value", "new_value")
    PATH_FIELD_NUMBER: _ClassVar[int]
    OLD_VALUE_FIELD_NUMBER: _ClassVar[int]
    NEW_VALUE_FIELD_NUMBER: _ClassVar[int]
    path: str
    old_value: TypedValue
    new_value: TypedValue
    def __init__(self, path: _Optional[str] = ..., old_value: _Optional[_Union[TypedValue, _Mapping]] = ..., new_value: _Optional[_Union[TypedValue, _Mapping]] = ...) -> None: ...

class TraceStartedPayload(_message.Message):
    __slots__ = ("workflow", "title", "primary_entity", "context")
    class ContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_ENTITY_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    workflow: str
    title: str
    primary_entity: EntityRef
    context: _containers.ScalarMap[str, str]
    def __init__(self, workflow: _Optional[str] = ..., title: _Optional[str] = ..., primary_entity: _Optional[_Union[EntityRef, _Mapping]] = ..., context: _Optional[_Mapping[str, str]] = ...) -> None: ...

class InputSource(_message.Message):
    __slots__ = ("system", "object_type", "object_id", "locator")
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    OBJECT_TYPE_FIELD_NUMBER: _ClassVar[int]
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    LOCATOR_FIELD_NUMBER: _ClassVar[int]
    system: str
    object_type: str
    object_id: str
    locator: str
    def __init__(self, system: _Optional[str] = ..., object_type: _Optional[str] = ..., object_id: _Optional[str] = ..., locator: _Optional[str] = ...) -> None: ...

class InputObservedPayload(_message.Message):
    __slots__ = ("input_id", "source", "facts")
    INPUT_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    input_id: str
    source: InputSource
    facts: _containers.RepeatedCompositeFieldContainer[Fact]
    def __init__(self, input_id: _Optional[str] = ..., source: _Optional[_Union[InputSource, _Mapping]] = ..., facts: _Optional[_Iterable[_Union[Fact, _Mapping]]] = ...) -> None: ...

class EntityObservedPayload(_message.Message):
    __slots__ = ("entity", "role", "facts")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    entity: EntityRef
    role: str
    facts: _containers.RepeatedCompositeFieldContainer[Fact]
    def __init__(self, entity: _Optional[_Union[EntityRef, _Mapping]] = ..., role: _Optional[str] = ..., facts: _Optional[_Iterable[_Union[Fact, _Mapping]]] = ...) -> None: ...

class PolicyEvaluatedPayload(_message.Message):
    __slots__ = ("policy", "inputs", "decision", "violations", "explanation")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    policy: PolicyRef
    inputs: _containers.RepeatedScalarFieldContainer[str]
    decision: str
    violations: _containers.RepeatedCompositeFieldContainer[PolicyViolation]
    explanation: str
    def __init__(self, policy: _Optional[_Union[PolicyRef, _Mapping]] = ..., inputs: _Optional[_Iterable[str]] = ..., decision: _Optional[str] = ..., violations: _Optional[_Iterable[_Union[PolicyViolation, _Mapping]]] = ..., explanation: _Optional[str] = ...) -> None: ...

class ExceptionRequestedPayload(_message.Message):
    __slots__ = ("exception_id", "policy", "reason", "evidence")
    EXCEPTION_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    exception_id: str
    policy: PolicyRef
    reason: str
    evidence: _containers.RepeatedCompositeFieldContainer[Evidence]
    def __init__(self, exception_id: _Optional[str] = ..., policy: _Optional[_Union[PolicyRef, _Mapping]] = ..., reason: _Optional[str] = ..., evidence: _Optional[_Iterable[_Union[Evidence, _Mapping]]] = ...) -> None: ...

class ApprovalSubject(_message.Message):
    __slots__ = ("subject_type", "subject_id")
    SUBJECT_TYPE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    subject_type: str
    subject_id: str
    def __init__(self, subject_type: _Optional[str] = ..., subject_id: _Optional[str] = ...) -> None: ...

class Approver(_message.Message):
    __slots__ = ("actor_type", "actor_id")
    ACTOR_TYPE_FIELD_NUMBER: _ClassVar[int]
    ACTOR_ID_FIELD_NUMBER: _ClassVar[int]
    actor_type: str
    actor_id: str
    def __init__(self, actor_type: _Optional[str] = ..., actor_id: _Optional[str] = ...) -> None: ...

class ApprovalRecordedPayload(_message.Message):
    __slots__ = ("approval_id", "subject", "approver", "decision", "reason", "evidence")
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    APPROVER_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    approval_id: str
    subject: ApprovalSubject
    approver: Approver
    decision: str
    reason: str
    evidence: _containers.RepeatedCompositeFieldContainer[Evidence]
    def __init__(self, approval_id: _Optional[str] = ..., subject: _Optional[_Union[ApprovalSubject, _Mapping]] = ..., approver: _Optional[_Union[Approver, _Mapping]] = ..., decision: _Optional[str] = ..., reason: _Optional[str] = ..., evidence: _Optional[_Iterable[_Union[Evidence, _Mapping]]] = ...) -> None: ...

class PrecedentCitedPayload(_message.Message):
    __slots__ = ("cited_trace_id", "reason", "similarity_score")
    CITED_TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_SCORE_FIELD_NUMBER: _ClassVar[int]
    cited_trace_id: str
    reason: str
    similarity_score: str
    def __init__(self, cited_trace_id: _Optional[str] = ..., reason: _Optional[str] = ..., similarity_score: _Optional[str] = ...) -> None: ...

class ActionProposedPayload(_message.Message):
    __slots__ = ("action_id", "action_type", "target_entity", "target_system", "changes")
    ACTION_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_TYPE_FIELD_NUMBER: _ClassVar[int]
    TARGET_ENTITY_FIELD_NUMBER: _ClassVar[int]
    TARGET_SYSTEM_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    action_id: str
    action_type: str
    target_entity: EntityRef
    target_system: str
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    def __init__(self, action_id: _Optional[str] = ..., action_type: _Optional[str] = ..., target_entity: _Optional[_Union[EntityRef, _Mapping]] = ..., target_system: _Optional[str] = ..., changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ...) -> None: ...

class ActionCommittedPayload(_message.Message):
    __slots__ = ("action_id", "status", "external_reference", "error")
    ACTION_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_REFERENCE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    action_id: str
    status: str
    external_reference: str
    error: str
    def __init__(self, action_id: _Optional[str] = ..., status: _Optional[str] = ..., external_reference: _Optional[str] = ..., error: _Optional[str] = ...) -> None: ...

class TraceFinishedPayload(_message.Message):
    __slots__ = ("outcome", "summary")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    outcome: str
    summary: str
    def __init__(self, outcome: _Optional[str] = ..., summary: _Optional[str] = ...) -> None: ...
