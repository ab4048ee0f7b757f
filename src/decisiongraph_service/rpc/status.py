"""The one mapping from what the service refuses to google.rpc.Status and HTTP status.

Source: docs/reference/HTTP_API_CONTRACT.md, errors.
"""

from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

from decisiongraph_service.domain import errors

DOMAIN: Final = "decisiongraph"
HTTP_STATUS_HEADER: Final = "x-http-status"
"""Names the HTTP status for REST callers, to whom gRPC codes alone cannot tell 422 from 400. Envoy removes it."""

_RETRY_INFO: Final = str(error_details_pb2.RetryInfo.DESCRIPTOR.full_name)
# Statuses travel in trailers, of which clients take 8 KiB by default.
_MAX_MESSAGE: Final = 1_000
"""Bytes of the message as the trailer `grpc-message` writes it: three for each byte that is not printable ASCII."""
_MAX_VIOLATION_BYTES: Final = 3_000
_MAX_FIELD_BYTES: Final = 1_000
"""Bytes of one field path: payload keys are part of it, so it may be long."""


@dataclass(frozen=True, slots=True)
class _Codes:
    grpc: grpc.StatusCode
    http: int


_CODES: Final[dict[type[errors.DecisionGraphError], _Codes]] = {
    errors.InvalidArgument: _Codes(grpc.StatusCode.INVALID_ARGUMENT, 400),
    errors.SchemaViolation: _Codes(grpc.StatusCode.INVALID_ARGUMENT, 422),
    errors.PiiPolicyViolation: _Codes(grpc.StatusCode.INVALID_ARGUMENT, 422),
    errors.Unauthenticated: _Codes(grpc.StatusCode.UNAUTHENTICATED, 401),
    errors.Forbidden: _Codes(grpc.StatusCode.PERMISSION_DENIED, 403),
    errors.NotFound: _Codes(grpc.StatusCode.NOT_FOUND, 404),
    errors.AlreadyExists: _Codes(grpc.StatusCode.ALREADY_EXISTS, 409),
    errors.FailedPrecondition: _Codes(grpc.StatusCode.FAILED_PRECONDITION, 409),
    errors.IdempotencyConflict: _Codes(grpc.StatusCode.ALREADY_EXISTS, 409),
    errors.EventIdConflict: _Codes(grpc.StatusCode.ALREADY_EXISTS, 409),
    errors.TraceFinished: _Codes(grpc.StatusCode.FAILED_PRECONDITION, 409),
    errors.EventSequenceInvalid: _Codes(grpc.StatusCode.ABORTED, 409),
    errors.ProjectionOutOfDate: _Codes(grpc.StatusCode.ABORTED, 409),
    errors.EventDamaged: _Codes(grpc.StatusCode.INTERNAL, 500),
    errors.EventOutOfSequence: _Codes(grpc.StatusCode.INTERNAL, 500),
    errors.JobFailed: _Codes(grpc.StatusCode.INTERNAL, 500),
    errors.ReplayConflict: _Codes(grpc.StatusCode.ABORTED, 409),
    errors.RateLimited: _Codes(grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
    errors.Unimplemented: _Codes(grpc.StatusCode.UNIMPLEMENTED, 501),
    errors.StorageUnavailable: _Codes(grpc.StatusCode.UNAVAILABLE, 503),
}
_INTERNAL: Final = _Codes(grpc.StatusCode.INTERNAL, 500)


@dataclass(frozen=True, slots=True)
class ErrorStatus:
    """An error as it goes to the caller."""

    status: status_pb2.Status
    code: grpc.StatusCode
    http: int
    reason: str

    def trailers(self) -> tuple[tuple[str, str | bytes], ...]:
        """The trailing metadata that carry the details and what REST callers need."""
        retry = next((d for d in self.status.details if d.TypeName() == _RETRY_INFO), None)
        trailers: list[tuple[str, str | bytes]] = [
            ("grpc-status-details-bin", self.status.SerializeToString()),
            (HTTP_STATUS_HEADER, str(self.http)),
        ]
        if retry is not None:
            info = error_details_pb2.RetryInfo()
            retry.Unpack(info)
            trailers.append(("retry-after", str(info.retry_delay.seconds)))
        return tuple(trailers)


def of_error(error: errors.DecisionGraphError, request_id: str) -> ErrorStatus:
    """The status of something that was refused on purpose."""
    codes = _CODES[type(error)]
    where = "" if error.index is None else f"events[{error.index}]."
    metadata = {"category": error.category, **error.metadata}
    if error.index is not None:
        metadata["index"] = str(error.index)
    status = _status(codes, where + error.message, error.reason, metadata, request_id)
    if isinstance(error, errors.InvalidArgument | errors.SchemaViolation | errors.PiiPolicyViolation):
        status.details.add().Pack(_bad_request(error.violations, where))
    if isinstance(error, errors.RateLimited):
        quota = error_details_pb2.QuotaFailure()
        quota.violations.add(subject=error.subject, description=f"limit: {error.limit}")
        status.details.add().Pack(quota)
    retry_after = _retry_after(error)
    if retry_after is not None:
        delay = duration_pb2.Duration(seconds=retry_after)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return ErrorStatus(status, codes.grpc, codes.http, error.reason)


def of_failure(request_id: str) -> ErrorStatus:
    """The status of a failure of the service itself. Tells nothing but the id under which it is logged."""
    message = f"the service failed; the operator finds the cause in the log under request id {request_id}"
    status = _status(_INTERNAL, message, "INTERNAL", {"category": "internal_error"}, request_id)
    return ErrorStatus(status, _INTERNAL.grpc, _INTERNAL.http, "INTERNAL")


def _status(codes: _Codes, message: str, reason: str, metadata: dict[str, str], request_id: str) -> status_pb2.Status:
    number: int = codes.grpc.value[0]
    status = status_pb2.Status(code=number, message=_cut(message))
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata))
    status.details.add().Pack(error_details_pb2.RequestInfo(request_id=request_id))
    return status


def _cut(message: str) -> str:
    room = _MAX_MESSAGE
    message = message.encode("utf-8", "replace").decode()
    for index, character in enumerate(message):
        plain = " " <= character <= "~" and character != "%"
        room -= 1 if plain else 3 * len(character.encode())
        if room < 0:
            return message[:index] + "…"
    return message


def _retry_after(error: errors.DecisionGraphError) -> int | None:
    if isinstance(error, errors.RateLimited | errors.StorageUnavailable):
        return error.retry_after_seconds
    return 1 if isinstance(error, errors.ProjectionOutOfDate) else None


def _bad_request(violations: tuple[errors.Violation, ...], where: str) -> error_details_pb2.BadRequest:
    """All violations, or as many as fit and a last one that counts the rest."""
    details = error_details_pb2.BadRequest()
    room = _MAX_VIOLATION_BYTES
    for index, violation in enumerate(violations):
        field = _cut_field(violation.field)
        room -= len(field.encode()) + len(violation.description.encode()) + 40
        if room < 0 and index:
            left = len(violations) - index
            details.field_violations.add(
                field=where + violation.field.split(".")[0].split("[")[0],
                description=f"{left} more violations are not listed here",
                reason="MORE_VIOLATIONS",
            )
            break
        details.field_violations.add(
            field=where + field,
            description=violation.description,
            reason=violation.code,
        )
    return details


def _cut_field(path: str) -> str:
    encoded = path.encode("utf-8", "replace")
    if len(encoded) <= _MAX_FIELD_BYTES:
        return encoded.decode()
    return encoded[:_MAX_FIELD_BYTES].decode("utf-8", "ignore") + "…"
