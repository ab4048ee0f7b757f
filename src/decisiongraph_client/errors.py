"""What can go wrong, as exceptions: a class per reason of the contract, grouped by what a caller does about it.

DecisionGraphError
├── Refused                 the request as it stands will never be accepted: change it
│   ├── InvalidArgument, SchemaViolation, PiiPolicyViolation        (each with `violations`)
│   ├── Unauthenticated, Forbidden, NotFound
│   └── AlreadyExists, FailedPrecondition, IdempotencyConflict, EventIdConflict, TraceFinished,
│       EventSequenceInvalid, ReplayConflict, Unimplemented
├── TryAgain                nothing is wrong with the request: the same one may succeed later (`retry_after`)
│   └── ProjectionOutOfDate, RateLimited, StorageUnavailable, Unreachable, DeadlineExceeded
├── Internal                the service failed; `request_id` finds the cause in its log
└── ConfigurationError, MaskFailed, OutboxError (OutboxFull), ClientClosed      raised by the client itself
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

_M = TypeVar("_M", bound=Message)

_DETAILS: Final = "grpc-status-details-bin"
_REQUEST_ID: Final = "x-request-id"
_DIGITS: Final = 19
"""Of the longest number that counts: that of 64 bits."""
_LONGEST_WAIT_SECONDS: Final = 315_576_000_000
"""Of any valid `google.protobuf.Duration`."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule of a request."""

    field: str
    """Path of the field, e.g. `event.payload.facts[2].value`."""
    code: str
    """Name of the rule, e.g. `REQUIRED`."""
    description: str
    """What the rule asks for."""


class DecisionGraphError(Exception):
    """Base of everything that this package raises on purpose."""


class ServiceError(DecisionGraphError):
    """A call ended without its answer."""

    reason: ClassVar[str] = ""
    """`ErrorInfo.reason` of the contract."""

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        request_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.request_id = request_id
        """Under this id the service has the call in its log. None: the service was not reached."""
        self.metadata = dict(metadata or {})
        """Further facts, as the contract names them for the reason."""
        self.violations = tuple(violations)
        self.retry_after = retry_after
        """Seconds to wait before the same request is sent again; None: not told."""

    @property
    def index(self) -> int | None:
        """Which event of a batch was refused, counted from 0; None if no single one is meant."""
        return _number(self.metadata.get("index"))


class Refused(ServiceError):
    """The service refuses the request as it stands."""


class TryAgain(ServiceError):
    """The same request may succeed later."""


class InvalidArgument(Refused):
    """A malformed argument, bound, filter or page token. `violations` names the fields."""

    reason = "INVALID_ARGUMENT"


class SchemaViolation(Refused):
    """An event of the wrong shape. `violations` names the fields."""

    reason = "SCHEMA_VIOLATION"


class PiiPolicyViolation(Refused):
    """A text of the event looks like a secret or a card number. `violations` names pattern and path, never the text."""

    reason = "PII_POLICY_VIOLATION"


class Unauthenticated(Refused):
    """No token or API key, or one that is malformed, expired, revoked, or made for somebody else."""

    reason = "UNAUTHENTICATED"


class Forbidden(Refused):
    """The account has not the role, permission or tenant that the call needs."""

    reason = "FORBIDDEN"


class NotFound(Refused):
    """Nothing of that name in the tenant."""

    reason = "NOT_FOUND"


class AlreadyExists(Refused):
    """Something else has this name."""

    reason = "ALREADY_EXISTS"


class FailedPrecondition(Refused):
    """Possible, but not as things stand; the message says what to do first."""

    reason = "FAILED_PRECONDITION"


class IdempotencyConflict(Refused):
    """The idempotency key was used for a different event."""

    reason = "IDEMPOTENCY_CONFLICT"

    @property
    def differing_fields(self) -> tuple[str, ...]:
        """The fields in which the two events differ."""
        fields = self.metadata.get("differing_fields", "")
        return tuple(fields.split(",")) if fields else ()


class EventIdConflict(Refused):
    """Another event of the tenant has this id."""

    reason = "EVENT_ID_CONFLICT"


class TraceFinished(Refused):
    """The trace takes no further events."""

    reason = "TRACE_FINISHED"


class EventSequenceInvalid(Refused):
    """The event does not come next in its trace."""

    reason = "EVENT_SEQUENCE_INVALID"

    @property
    def expected_trace_seq(self) -> int | None:
        """The position that the next event of the trace must have."""
        return _number(self.metadata.get("expected_trace_seq"))


class ReplayConflict(Refused):
    """Another job works on the same projection."""

    reason = "REPLAY_CONFLICT"

    @property
    def job_id(self) -> str | None:
        """Its id."""
        return self.metadata.get("job_id")


class Unimplemented(Refused):
    """This version of the service does not have the rpc."""

    reason = "UNIMPLEMENTED"


class ProjectionOutOfDate(TryAgain):
    """The read needs a log position that the projection has not reached in time."""

    reason = "PROJECTION_OUT_OF_DATE"

    @property
    def position_log_seq(self) -> int | None:
        """How far the projection is."""
        return _number(self.metadata.get("position_log_seq"))

    @property
    def head_log_seq(self) -> int | None:
        """How far the log is."""
        return _number(self.metadata.get("head_log_seq"))


class RateLimited(TryAgain):
    """More was asked for than a limit allows. Nothing was done."""

    reason = "RATE_LIMITED"


class StorageUnavailable(TryAgain):
    """The service's database is unreachable or overloaded."""

    reason = "STORAGE_UNAVAILABLE"


class Unreachable(TryAgain):
    """The service could not be reached, or the connection broke. Whether the call was carried out is not known."""

    reason = "UNREACHABLE"


class DeadlineExceeded(TryAgain):
    """The call's time was over before its answer came. Whether it was carried out is not known."""

    reason = "DEADLINE_EXCEEDED"


class Internal(ServiceError):
    """The service failed. Its operator finds the cause in the log under `request_id`."""

    reason = "INTERNAL"


class ConfigurationError(DecisionGraphError):
    """The client was told too little or something impossible; the message says what to set."""


class MaskFailed(DecisionGraphError):
    """The masking hook raised, so the event was not sent and not stored anywhere. The cause is `__cause__`."""


class OutboxError(DecisionGraphError):
    """The outbox file cannot be read or written, e.g. because the disk is full. What it accepted before stays in it."""


class OutboxFull(OutboxError):
    """The outbox has reached its size, and the event was not accepted. Wait with `flush`, or allow more."""


class ClientClosed(DecisionGraphError):
    """The client was closed."""


_BY_REASON: Final[Mapping[str, type[ServiceError]]] = {
    kind.reason: kind
    for kind in (
        InvalidArgument,
        SchemaViolation,
        PiiPolicyViolation,
        Unauthenticated,
        Forbidden,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        IdempotencyConflict,
        EventIdConflict,
        TraceFinished,
        EventSequenceInvalid,
        ReplayConflict,
        Unimplemented,
        ProjectionOutOfDate,
        RateLimited,
        StorageUnavailable,
        DeadlineExceeded,
        Internal,
    )
}

# What a code means where no details came along: from a proxy, or from the library itself.
_BY_CODE: Final[Mapping[grpc.StatusCode, type[ServiceError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgument,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: Forbidden,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
    grpc.StatusCode.RESOURCE_EXHAUSTED: RateLimited,
    grpc.StatusCode.UNAVAILABLE: Unreachable,
    grpc.StatusCode.CANCELLED: Unreachable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}

# The service gives every error its details: these codes without them come from a connection that broke, e.g. a stream
# whose server was killed behind a proxy.
_BROKEN: Final = frozenset({grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL})


def from_status(status: status_pb2.Status, code: grpc.StatusCode, request_id: str | None = None) -> ServiceError:
    """The exception that a status of the contract stands for."""
    info = _detail(status, error_details_pb2.ErrorInfo)
    request = _detail(status, error_details_pb2.RequestInfo)
    broken = _detail(status, error_details_pb2.BadRequest)
    retry = _detail(status, error_details_pb2.RetryInfo)
    kind = _BY_REASON.get(info.reason) or _BY_CODE.get(code, Internal)
    if not info.reason and code in _BROKEN:
        kind = Unreachable
    return kind(
        status.message,
        code=code,
        request_id=request.request_id or request_id,
        metadata=info.metadata,
        violations=[Violation(one.field, one.reason, one.description) for one in broken.field_violations],
        retry_after=_seconds(retry.retry_delay) if retry.HasField("retry_delay") else None,
    )


def from_rpc_error(error: grpc.RpcError) -> ServiceError:
    """The exception that an error of the gRPC library stands for."""
    # Both kinds of the library's errors are calls as well, which its types do not say.
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return Internal(str(error))
    code, text = error.code(), error.details() or ""
    trailers = {str(key): value for key, value in error.trailing_metadata() or ()}
    request_id = trailers.get(_REQUEST_ID)
    encoded = trailers.get(_DETAILS)
    status = status_pb2.Status(message=text)
    if isinstance(encoded, bytes):
        try:
            status = status_pb2.Status.FromString(encoded)
        except DecodeError:
            status = status_pb2.Status(message=text)
    return from_status(status, code, request_id if isinstance(request_id, str) else None)


def _detail(status: status_pb2.Status, kind: type[_M]) -> _M:
    """The detail of this kind, or the empty message: also if it is damaged."""
    for detail in status.details:
        if detail.TypeName() == kind.DESCRIPTOR.full_name:
            try:
                return kind.FromString(detail.value)
            except DecodeError:
                break
    return kind()


def _seconds(delay: Duration) -> float | None:
    seconds = float(delay.seconds + delay.nanos / 1e9)
    return seconds if 0 <= seconds <= _LONGEST_WAIT_SECONDS else None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) <= _DIGITS else None
