"""Every error becomes the status of the contract's table, and every status fits the trailers that carry it."""

from typing import Any

import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from decisiongraph_service.domain import errors
from decisiongraph_service.domain.errors import Violation
from decisiongraph_service.rpc import status

ONE = [Violation("trace_id", "REQUIRED", "is required")]

# Error, reason, category, gRPC code, HTTP status (docs/reference/HTTP_API_CONTRACT.md, errors).
TABLE: list[tuple[errors.DecisionGraphError, str, str, int, int]] = [
    (errors.InvalidArgument(ONE), "INVALID_ARGUMENT", "invalid_argument", 3, 400),
    (errors.SchemaViolation(ONE), "SCHEMA_VIOLATION", "schema_violation", 3, 422),
    (errors.PiiPolicyViolation(ONE), "PII_POLICY_VIOLATION", "pii_policy_violation", 3, 422),
    (errors.Unauthenticated("no token"), "UNAUTHENTICATED", "unauthorized", 16, 401),
    (errors.Forbidden("no role"), "FORBIDDEN", "forbidden", 7, 403),
    (errors.NotFound("trace", "t"), "NOT_FOUND", "not_found", 5, 404),
    (errors.IdempotencyConflict(["tags"]), "IDEMPOTENCY_CONFLICT", "idempotency_conflict", 6, 409),
    (errors.EventIdConflict(), "EVENT_ID_CONFLICT", "conflict", 6, 409),
    (errors.TraceFinished(), "TRACE_FINISHED", "conflict", 9, 409),
    (errors.EventSequenceInvalid("wrong", 3), "EVENT_SEQUENCE_INVALID", "event_sequence_invalid", 10, 409),
    (errors.ProjectionOutOfDate(3, 1, 2), "PROJECTION_OUT_OF_DATE", "projection_out_of_date", 10, 409),
    (errors.ReplayConflict("all", "job-1"), "REPLAY_CONFLICT", "conflict", 10, 409),
    (errors.RateLimited("tenant", "1 call"), "RATE_LIMITED", "rate_limited", 8, 429),
    (errors.StorageUnavailable("no database"), "STORAGE_UNAVAILABLE", "storage", 14, 503),
    (errors.Unimplemented("/a/B"), "UNIMPLEMENTED", "unimplemented", 12, 501),
]
BY_TYPE = {type(row[0]): row for row in TABLE}
RETRIED = (errors.RateLimited, errors.StorageUnavailable, errors.ProjectionOutOfDate)


def concrete(base: type[errors.DecisionGraphError] = errors.DecisionGraphError) -> set[type[errors.DecisionGraphError]]:
    """Every error class that can be raised."""
    found = {base} if "reason" in base.__dict__ else set()
    return found.union(*(concrete(below) for below in base.__subclasses__()))


def detail(made: status.ErrorStatus, message: type[Message]) -> Any:
    """The detail of that type, or None."""
    for packed in made.status.details:
        found = message()
        if packed.Unpack(found):
            return found
    return None


def wire_bytes(made: status.ErrorStatus) -> int:
    """The size of the trailers as clients count it, with the binary one in base64."""
    message = sum(
        1 if " " <= character <= "~" and character != "%" else 3 * len(character.encode())
        for character in made.status.message
    )
    details = len(made.status.SerializeToString()) * 4 // 3
    return message + details + 300


def test_every_error_has_its_codes() -> None:
    assert concrete() == set(status._CODES), "an error without codes would be a KeyError for the caller"


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[1])
def test_an_error_has_reason_category_and_codes_of_the_table(row: tuple[Any, ...]) -> None:
    error, reason, category, grpc_code, http_status = row
    made = status.of_error(error, "id-1")
    info = detail(made, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain, info.metadata["category"]) == (reason, "decisiongraph", category)
    assert (made.reason, made.status.code, made.code.value[0], made.http) == (reason, grpc_code, grpc_code, http_status)
    assert detail(made, error_details_pb2.RequestInfo).request_id == "id-1"
    assert made.status.message == error.message


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[1])
def test_what_is_worth_a_retry_says_when(row: tuple[Any, ...]) -> None:
    made = status.of_error(row[0], "id-1")
    retry = detail(made, error_details_pb2.RetryInfo)
    trailers = dict(made.trailers())
    assert (retry is not None) == isinstance(row[0], RETRIED)
    assert trailers.get("retry-after") == (str(retry.retry_delay.seconds) if retry else None)
    assert trailers["x-http-status"] == str(row[4])


def test_the_trailer_carries_the_whole_status() -> None:
    made = status.of_error(errors.InvalidArgument(ONE), "id-1")
    carried = status_pb2.Status.FromString(bytes(dict(made.trailers())["grpc-status-details-bin"]))  # type: ignore[arg-type]
    assert carried == made.status


def test_violations_are_listed_with_field_reason_and_description() -> None:
    made = status.of_error(errors.SchemaViolation([*ONE, Violation("tags[1]", "BLANK", "is blank")]), "id-1")
    listed = detail(made, error_details_pb2.BadRequest).field_violations
    assert [(one.field, one.reason, one.description) for one in listed] == [
        ("trace_id", "REQUIRED", "is required"),
        ("tags[1]", "BLANK", "is blank"),
    ]


def test_a_limit_names_scope_and_size() -> None:
    made = status.of_error(errors.RateLimited("tenant acme", "5 calls at once", 7), "id-1")
    (violation,) = detail(made, error_details_pb2.QuotaFailure).violations
    assert violation.subject == "tenant acme"
    assert "5 calls at once" in violation.description
    assert dict(made.trailers())["retry-after"] == "7"


@pytest.mark.parametrize(
    ("error", "facts"),
    [
        (errors.IdempotencyConflict(["payload", "tags"]), {"differing_fields": "payload,tags"}),
        (errors.EventSequenceInvalid("wrong", 3), {"expected_trace_seq": "3"}),
        (errors.ProjectionOutOfDate(3, 1, 2), {"position_log_seq": "1", "head_log_seq": "2"}),
    ],
)
def test_an_error_carries_its_facts(error: errors.DecisionGraphError, facts: dict[str, str]) -> None:
    info = detail(status.of_error(error, "id-1"), error_details_pb2.ErrorInfo)
    assert facts.items() <= dict(info.metadata).items()


def test_a_failure_tells_nothing_but_the_request_id() -> None:
    made = status.of_failure("id-1")
    info = detail(made, error_details_pb2.ErrorInfo)
    assert (info.reason, dict(info.metadata)) == ("INTERNAL", {"category": "internal_error"})
    assert (made.status.code, made.http) == (13, 500)
    assert "id-1" in made.status.message
    assert len(made.status.details) == 2


@pytest.mark.parametrize("character", ["a", "%", "é", "€", "👟", "\n", "\ud800"])
@pytest.mark.parametrize("count", [1, 3, 5_000])
def test_a_status_fits_the_trailers_that_clients_take(character: str, count: int) -> None:
    violations = [Violation(f"payload.{character * 9_000}", "NOT_ALLOWED", "must be an integer")] * count
    made = status.of_error(errors.SchemaViolation(violations), "r" * 128)
    assert wire_bytes(made) <= 8_192
    assert made.status.message.startswith("payload.")
    listed = detail(made, error_details_pb2.BadRequest).field_violations
    assert listed[0].field.startswith(f"payload.{character if character != chr(0xD800) else '?'}")


def test_violations_that_do_not_fit_are_counted() -> None:
    violations = [Violation(f"tags[{index}]", "BLANK", "is blank") for index in range(1_000)]
    listed = detail(
        status.of_error(errors.SchemaViolation(violations), "id"), error_details_pb2.BadRequest
    ).field_violations
    assert listed[-1].reason == "MORE_VIOLATIONS"
    assert listed[-1].description.startswith(str(1_000 - (len(listed) - 1)))
