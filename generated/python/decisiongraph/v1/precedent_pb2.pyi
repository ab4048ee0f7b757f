from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Precedent(_message.Message):
    __slots__ = ("trace_id", "workflow", "title", "outcome", "finished_at", "policy_id", "policy_version", "score", "features")
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    trace_id: str
    workflow: str
    title: str
    outcome: str
    finished_at: str
    policy_id: str
    policy_version: str
    score: int
    features: _containers.RepeatedCompositeFieldContainer[PrecedentFeature]
    def __init__(self, trace_id: _Optional[str] = ..., workflow: _Optional[str] = ..., title: _Optional[str] = ..., outcome: _Optional[str] = ..., finished_at: _Optional[str] = ..., policy_id: _Optional[str] = ..., policy_version: _Optional[str] = ..., score: _Optional[int] = ..., features: _Optional[_Iterable[_Union[PrecedentFeature, _Mapping]]] = ...) -> None: ...

class PrecedentFeature(_message.Message):
    __slots__ = ("feature", "value", "weight", "result")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    feature: str
    value: str
    weight: int
    result: str
    def __init__(self, feature: _Optional[str] = ..., value: _Optional[str] = ..., weight: _Optional[int] = ..., result: _Optional[str] = ...) -> None: ...
