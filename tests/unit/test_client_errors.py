"""Every status of the contract becomes its exception, with the details; garbage becomes one too."""

from collections.abc import Sequence
from typing import Final

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from decisiongraph_client import errors
from decisiongraph_service.domain import errors as served
from decisiongraph_service.rpc import status

ONE: Final = [served.Violation("trace_id", "REQUIRED", "is required"), served.Violation("tags[0]", "BLANK", "is blank")]
DETAILS: Final = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.RequestInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.RetryInfo,
)


def failure(code: grpc.StatusCode, text: str, trailers: Sequence[tuple[str, str | bytes]] = ()) -> grpc.RpcError:
    """An error as the gRPC library raises it."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), details=text)


def served_errors(base: type[served.DecisionGraphError] = served.DecisionGraphError) -> set[str]:
    """Every reason that the service can give."""
    found = {base.reason} if "reason" in base.__dict__ else set()
    return found.union(*(served_errors(below) for below in base.__subclasses__()))


def raised_for(error: served.DecisionGraphError) -> errors.ServiceError:
    """What the client raises for what the service refuses."""
    made = status.of_error(error, "request-1")
    trailers = (("x-request-id", "request-1"), *made.trailers())
    return errors.from_rpc_error(failure(made.code, made.status.message, trailers))


def test_every_reason_of_the_service_has_a_class() -> None:
    assert served_errors() | {"DEADLINE_EXCEEDED"} == set(errors._BY_REASON)


def test_reasons_and_classes_belong_together() -> None:
    for reason, kind in errors._BY_REASON.items():
        assert kind.reason == reason
        assert issubclass(kind, errors.Refused | errors.TryAgain | errors.Internal), kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (served.InvalidArgument(ONE), errors.InvalidArgument),
        (served.SchemaViolation(ONE), errors.SchemaViolation),
        (served.PiiPolicyViolation(ONE), errors.PiiPolicyViolation),
        (served.Unauthenticated("no token"), errors.Unauthenticated),
        (served.Forbidden("no role"), errors.Forbidden),
        (served.NotFound("trace", "t"), errors.NotFound),
        (served.AlreadyExists("tenant", "t"), errors.AlreadyExists),
        (served.FailedPrecondition("first stop it"), errors.FailedPrecondition),
        (served.IdempotencyConflict(["tags", "actor"]), errors.IdempotencyConflict),
        (served.EventIdConflict(), errors.EventIdConflict),
        (served.TraceFinished(), errors.TraceFinished),
        (served.EventSequenceInvalid("wrong", 3), errors.EventSequenceInvalid),
        (served.ProjectionOutOfDate(3, 1, 2), errors.ProjectionOutOfDate),
        (served.ReplayConflict("all", "job-1"), errors.ReplayConflict),
        (served.RateLimited("tenant", "1 call", 7), errors.RateLimited),
        (served.StorageUnavailable("no database", 2), errors.StorageUnavailable),
        (served.Unimplemented("/a/B"), errors.Unimplemented),
        (served.EventDamaged("e", 1, "its hash"), errors.Internal),
    ],
    ids=lambda value: getattr(value, "reason", ""),
)
def test_what_the_service_refuses_is_raised_as_its_class(
    error: served.DecisionGraphError, kind: type[errors.ServiceError]
) -> None:
    raised = raised_for(error)
    assert type(raised) is kind
    assert (raised.message, str(raised)) == (error.message, error.message)
    assert raised.request_id == "request-1"
    assert raised.metadata["category"] == error.category
    assert raised.code is status._CODES[type(error)].grpc


def test_details_are_attributes() -> None:
    assert raised_for(served.IdempotencyConflict(["tags", "actor"])).differing_fields == ("tags", "actor")  # type: ignore[attr-defined]
    assert raised_for(served.EventSequenceInvalid("wrong", 3)).expected_trace_seq == 3  # type: ignore[attr-defined]
    assert raised_for(served.ReplayConflict("all", "job-1")).job_id == "job-1"  # type: ignore[attr-defined]
    stale = raised_for(served.ProjectionOutOfDate(3, 1, 2))
    assert isinstance(stale, errors.ProjectionOutOfDate)
    assert (stale.position_log_seq, stale.head_log_seq, stale.retry_after) == (1, 2, 1.0)
    assert raised_for(served.RateLimited("tenant", "1 call", 7)).retry_after == 7.0


def test_violations_name_field_rule_and_what_it_asks_for() -> None:
    assert raised_for(served.InvalidArgument(ONE)).violations == (
        errors.Violation("trace_id", "REQUIRED", "is required"),
        errors.Violation("tags[0]", "BLANK", "is blank"),
    )


def test_the_index_of_an_event_of_a_batch_is_known() -> None:
    refusal = served.TraceFinished()
    assert raised_for(refusal).index is None
    refusal.index = 17
    assert raised_for(refusal).index == 17


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.Unreachable),
        (grpc.StatusCode.CANCELLED, errors.Unreachable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.UNAUTHENTICATED, errors.Unauthenticated),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.RateLimited),
        # A stream that was reset behind a proxy: its server was killed.
        (grpc.StatusCode.UNKNOWN, errors.Unreachable),
        (grpc.StatusCode.INTERNAL, errors.Unreachable),
        (grpc.StatusCode.DATA_LOSS, errors.Internal),
    ],
)
def test_an_error_without_details_is_known_by_its_code(code: grpc.StatusCode, kind: type[errors.ServiceError]) -> None:
    raised = errors.from_rpc_error(failure(code, "socket closed"))
    assert type(raised) is kind
    assert (raised.message, raised.code, raised.request_id) == ("socket closed", code, None)


def test_a_reason_of_a_later_version_is_known_by_its_code() -> None:
    unheard = status_pb2.Status(code=9, message="something new")
    unheard.details.add().Pack(error_details_pb2.ErrorInfo(reason="SOMETHING_NEW", metadata={"a": "b"}))
    raised = errors.from_status(unheard, grpc.StatusCode.FAILED_PRECONDITION)
    assert type(raised) is errors.FailedPrecondition
    assert raised.metadata == {"a": "b"}


@pytest.mark.parametrize("kind", DETAILS, ids=lambda kind: kind.DESCRIPTOR.name)
def test_a_damaged_detail_counts_as_absent(kind: type[error_details_pb2.ErrorInfo]) -> None:
    found = status_pb2.Status(code=14, message="down")
    found.details.add(type_url=f"type.googleapis.com/{kind.DESCRIPTOR.full_name}", value=b"\xff\xff\xff")
    raised = errors.from_status(found, grpc.StatusCode.UNAVAILABLE, "request-1")
    assert type(raised) is errors.Unreachable
    assert (raised.message, raised.request_id, raised.retry_after) == ("down", "request-1", None)


@pytest.mark.parametrize("number", ["9" * 5000, "-1", "1.5", "", "²"])
def test_a_number_that_is_none_counts_as_absent(number: str) -> None:
    found = status_pb2.Status(code=10)
    found.details.add().Pack(
        error_details_pb2.ErrorInfo(
            reason="EVENT_SEQUENCE_INVALID", metadata={"index": number, "expected_trace_seq": number}
        )
    )
    raised = errors.from_status(found, grpc.StatusCode.ABORTED)
    assert isinstance(raised, errors.EventSequenceInvalid)
    assert (raised.index, raised.expected_trace_seq) == (None, None)


@pytest.mark.parametrize("seconds", [-5, 2**60])
def test_a_wait_that_cannot_be_counts_as_absent(seconds: int) -> None:
    found = status_pb2.Status(code=8)
    found.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=seconds)))
    assert errors.from_status(found, grpc.StatusCode.RESOURCE_EXHAUSTED).retry_after is None


@pytest.mark.parametrize("seconds", [0, 1, 86_401, 366 * 86_400])
def test_a_wait_may_be_as_long_as_a_limit_of_a_year(seconds: int) -> None:
    found = status_pb2.Status(code=8)
    found.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=seconds)))
    assert errors.from_status(found, grpc.StatusCode.RESOURCE_EXHAUSTED).retry_after == seconds


def test_another_error_of_the_library_is_internal() -> None:
    raised = errors.from_rpc_error(grpc.RpcError("strange"))
    assert (type(raised), raised.message) == (errors.Internal, "strange")


_TYPE_URLS: Final = st.one_of(
    st.sampled_from([f"type.googleapis.com/{kind.DESCRIPTOR.full_name}" for kind in DETAILS]), st.text()
)
_ANYS: Final = st.builds(any_pb2.Any, type_url=_TYPE_URLS, value=st.binary(max_size=60))


@given(
    st.one_of(
        st.binary(),
        st.builds(
            status_pb2.Status, code=st.integers(-5, 20), message=st.text(), details=st.lists(_ANYS, max_size=4)
        ).map(lambda message: message.SerializeToString()),
    ),
    st.sampled_from(grpc.StatusCode),
)
def test_no_trailers_make_it_fail(encoded: bytes, code: grpc.StatusCode) -> None:
    raised = errors.from_rpc_error(failure(code, "text", (("grpc-status-details-bin", encoded),)))
    assert isinstance(raised, errors.ServiceError)
    assert raised.code is code
    assert raised.index is None or raised.index >= 0
