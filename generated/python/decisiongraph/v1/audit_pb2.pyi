from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class AuditEntry(_message.Message):
    __slots__ = ("audit_seq", "recorded_at", "account_id", "action", "target", "reason", "outcome", "refusal_reason", "request_id", "tenant_id")
    AUDIT_SEQ_FIELD_NUMBER: _ClassVar[int]
    RECORDED_AT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_REASON_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    audit_seq: int
    recorded_at: str
    account_id: str
    action: str
    target: str
    reason: str
    outcome: str
    refusal_reason: str
    request_id: str
    tenant_id: str
    def __init__(self, audit_seq: _Optional[int] = ..., recorded_at: _Optional[str] = ..., account_id: _Optional[str] = ..., action: _Optional[str] = ..., target: _Optional[str] = ..., reason: _Optional[str] = ..., outcome: _Optional[str] = ..., refusal_reason: _Optional[str] = ..., request_id: _Optional[str] = ..., tenant_id: _Optional[str] = ...) -> None: ...
