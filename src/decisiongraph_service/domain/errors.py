"""What the service refuses, as exceptions: one class per reason of docs/reference/HTTP_API_CONTRACT.md.

Nothing else is raised for callers. Messages say what was wrong, where, and what to do; they never contain a value
that the secret guard refused. `rpc/status.py` is the only place that maps them to a transport.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

_OF_THE_INSTALLATION = ("tenant", "service account", "key", "file")


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule of a request."""

    field: str
    """Path of the field, e.g. `source.producer_id` or `payload.facts[2].value`."""
    code: str
    """UPPER_SNAKE_CASE name of the rule, e.g. `REQUIRED`, `TOO_LONG`, `NOT_ALLOWED`."""
    description: str
    """What the rule asks for, in words that a caller can act on."""


class DecisionGraphError(Exception):
    """Base of everything that is refused on purpose."""

    reason: ClassVar[str]
    """`ErrorInfo.reason`: machine-readable, the finest name of what happened."""
    category: ClassVar[str]
    """`ErrorInfo.metadata.category`: the semantic category (APPEND_SEMANTICS.md, Error categories)."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.index: int | None = None
        """Which event of a batch was refused, counted from 0; None outside a batch."""

    @property
    def metadata(self) -> dict[str, str]:
        """Further machine-readable facts for `ErrorInfo.metadata`."""
        return {}


class _ViolationsError(DecisionGraphError):
    def __init__(self, violations: Sequence[Violation]) -> None:
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        super().__init__(f"{first.field}: {first.description}{more}")
        self.violations = tuple(violations)


class InvalidArgument(_ViolationsError):
    """A malformed argument, key, timestamp, bound, limit, token or filter."""

    reason = "INVALID_ARGUMENT"
    category = "invalid_argument"


class SchemaViolation(_ViolationsError):
    """An envelope or payload of the wrong shape, an unknown event type, a fractional number."""

    reason = "SCHEMA_VIOLATION"
    category = "schema_violation"


class PiiPolicyViolation(_ViolationsError):
    """Text that looks like a credential or card number. Names pattern and path, never the value."""

    reason = "PII_POLICY_VIOLATION"
    category = "pii_policy_violation"


class Unauthenticated(DecisionGraphError):
    """No token, or one that is malformed, expired, revoked, or made by or for somebody else."""

    reason = "UNAUTHENTICATED"
    category = "unauthorized"


class Forbidden(DecisionGraphError):
    """A valid token without the role, permission or tenant that the call needs."""

    reason = "FORBIDDEN"
    category = "forbidden"


class NotFound(DecisionGraphError):
    """Nothing of that name in the caller's tenant."""

    reason = "NOT_FOUND"
    category = "not_found"

    def __init__(self, resource_type: str, resource_name: str) -> None:
        where = "" if resource_type in _OF_THE_INSTALLATION else " in this tenant"
        super().__init__(f"{resource_type} {resource_name!r} does not exist{where}")
        self.resource_type = resource_type
        self.resource_name = resource_name


class AlreadyExists(DecisionGraphError):
    """Something else has this name."""

    reason = "ALREADY_EXISTS"
    category = "conflict"

    def __init__(self, resource_type: str, resource_name: str) -> None:
        super().__init__(f"another {resource_type} {resource_name!r} exists; choose another id, or use that one")


class FailedPrecondition(DecisionGraphError):
    """What was asked for is possible, but not as things stand; the message says what to do first."""

    reason = "FAILED_PRECONDITION"
    category = "conflict"


class IdempotencyConflict(DecisionGraphError):
    """The idempotency key was used for a different event."""

    reason = "IDEMPOTENCY_CONFLICT"
    category = "idempotency_conflict"

    def __init__(self, differing_fields: Sequence[str]) -> None:
        fields = ", ".join(differing_fields)
        super().__init__(
            "idempotency_key: this producer already used the key for an event that differs in "
            f"{fields}; send the original event again, or a new key for a new event"
        )
        self.differing_fields = tuple(differing_fields)

    @property
    def metadata(self) -> dict[str, str]:
        """The differing fields, separated by commas."""
        return {"differing_fields": ",".join(self.differing_fields)}


class EventIdConflict(DecisionGraphError):
    """The event id exists in the tenant under another idempotency key."""

    reason = "EVENT_ID_CONFLICT"
    category = "conflict"

    def __init__(self) -> None:
        super().__init__(
            "event_id: another event of this tenant has this id; send a new id, or leave it out to have one assigned"
        )


class TraceFinished(DecisionGraphError):
    """The trace holds a TraceFinished event and takes no new ones."""

    reason = "TRACE_FINISHED"
    category = "conflict"

    def __init__(self) -> None:
        super().__init__("trace_id: this trace is finished and takes no further events; start a new trace")


class EventSequenceInvalid(DecisionGraphError):
    """The event does not come next in its trace."""

    reason = "EVENT_SEQUENCE_INVALID"
    category = "event_sequence_invalid"

    def __init__(self, message: str, expected_trace_seq: int) -> None:
        super().__init__(message)
        self.expected_trace_seq = expected_trace_seq

    @property
    def metadata(self) -> dict[str, str]:
        """The position that the next event of the trace must have."""
        return {"expected_trace_seq": str(self.expected_trace_seq)}


class ProjectionOutOfDate(DecisionGraphError):
    """The projection did not reach the position that the read needs, and the wait for it is over."""

    reason = "PROJECTION_OUT_OF_DATE"
    category = "projection_out_of_date"

    def __init__(self, needed_log_seq: int, position_log_seq: int, head_log_seq: int) -> None:
        super().__init__(
            f"the answer must include log position {needed_log_seq}, the projection is at {position_log_seq} and the "
            f"log at {head_log_seq}; ask again, or set allow_stale for an answer at once"
        )
        self.position_log_seq = position_log_seq
        self.head_log_seq = head_log_seq

    @property
    def metadata(self) -> dict[str, str]:
        """How far the projection and the log are."""
        return {"position_log_seq": str(self.position_log_seq), "head_log_seq": str(self.head_log_seq)}


class EventDamaged(DecisionGraphError):
    """A stored event is not what was stored: a column was changed by hand, or the disk lost something."""

    reason = "INTERNAL"
    category = "conflict"

    def __init__(self, event_id: str, log_seq: int, what: str) -> None:
        super().__init__(f"event {event_id!r} at log position {log_seq} is damaged: {what}")
        self.event_id = event_id
        self.log_seq = log_seq


class EventOutOfSequence(EventDamaged):
    """A stored event does not follow the one before it: something between them is missing."""

    reason = "INTERNAL"
    category = "event_sequence_invalid"


class ReplayConflict(DecisionGraphError):
    """Another job works on the same projection."""

    reason = "REPLAY_CONFLICT"
    category = "conflict"

    def __init__(self, projection: str, job_id: str) -> None:
        super().__init__(
            f"job {job_id} already works on {projection}; wait for its end (WatchReplay) or cancel it (CancelReplay)"
        )
        self.job_id = job_id

    @property
    def metadata(self) -> dict[str, str]:
        """The id of the other job."""
        return {"job_id": self.job_id}


class JobFailed(DecisionGraphError):
    """A job failed for a reason that nobody thought of."""

    reason = "INTERNAL"
    category = "internal_error"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} failed for an internal reason; the server's log has it under replay_failed")


class RateLimited(DecisionGraphError):
    """More was asked for than a limit allows. Nothing was done."""

    reason = "RATE_LIMITED"
    category = "rate_limited"

    def __init__(self, subject: str, limit: str, retry_after_seconds: int = 1) -> None:
        super().__init__(f"{subject} is at its limit of {limit}; wait {retry_after_seconds} s and send it again")
        self.subject = subject
        self.limit = limit
        self.retry_after_seconds = retry_after_seconds


class Unimplemented(DecisionGraphError):
    """The contract has the rpc, this version of the service does not."""

    reason = "UNIMPLEMENTED"
    category = "unimplemented"

    def __init__(self, rpc: str) -> None:
        super().__init__(f"{rpc} is not implemented in this version of the service")


class StorageUnavailable(DecisionGraphError):
    """The database is unreachable or overloaded. Safe to retry unchanged."""

    reason = "STORAGE_UNAVAILABLE"
    category = "storage"

    def __init__(self, message: str, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
