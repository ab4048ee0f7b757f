"""The errors of the document: their one shape, and which of them each operation can answer."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

DOMAIN = "decisiongraph"
TYPE_PREFIX = "type.googleapis.com/google.rpc."

# ErrorInfo.reason -> ErrorInfo.metadata.category, as in the contract.
CATEGORIES = {
    "INVALID_ARGUMENT": "invalid_argument",
    "SCHEMA_VIOLATION": "schema_violation",
    "PII_POLICY_VIOLATION": "pii_policy_violation",
    "UNAUTHENTICATED": "unauthorized",
    "FORBIDDEN": "forbidden",
    "NOT_FOUND": "not_found",
    "ALREADY_EXISTS": "conflict",
    "FAILED_PRECONDITION": "conflict",
    "IDEMPOTENCY_CONFLICT": "idempotency_conflict",
    "EVENT_ID_CONFLICT": "conflict",
    "TRACE_FINISHED": "conflict",
    "EVENT_SEQUENCE_INVALID": "event_sequence_invalid",
    "PROJECTION_OUT_OF_DATE": "projection_out_of_date",
    "REPLAY_CONFLICT": "conflict",
    "RATE_LIMITED": "rate_limited",
    "STORAGE_UNAVAILABLE": "storage",
    "INTERNAL": "internal_error",
    "UNIMPLEMENTED": "unimplemented",
    "DEADLINE_EXCEEDED": "storage",
}


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """A shared error response: its component name, HTTP status and what it means."""

    name: str
    status: str
    description: str


RESPONSES = (
    ErrorResponse(
        "InvalidArgument",
        "400",
        "`INVALID_ARGUMENT`: a parameter, bound, limit or page token is wrong, an unknown query parameter, or"
        " malformed JSON. Where a field is at fault, `BadRequest` names it.",
    ),
    ErrorResponse(
        "Unauthenticated",
        "401",
        "`UNAUTHENTICATED`: no, malformed, expired, revoked or foreign token.",
    ),
    ErrorResponse(
        "Forbidden",
        "403",
        "`FORBIDDEN`: the role, the permission or the tenant is not granted, or the server's configuration forbids it.",
    ),
    ErrorResponse(
        "NotFound",
        "404",
        "`NOT_FOUND`: there is no such resource, or it belongs to another tenant.",
    ),
    ErrorResponse(
        "AppendConflict",
        "409",
        "`IDEMPOTENCY_CONFLICT`: the key was used for another event; the details list the fields that differ."
        " `TRACE_FINISHED`: the trace is over. `EVENT_SEQUENCE_INVALID`: another `trace_seq` is next; the"
        " details carry `expected_trace_seq`. `EVENT_ID_CONFLICT`: the event id exists under another key.",
    ),
    ErrorResponse(
        "ProjectionOutOfDate",
        "409",
        "`PROJECTION_OUT_OF_DATE`: the projection did not reach the wanted position in time; the details"
        " carry its position and the head. Retry, or set `allow_stale`.",
    ),
    ErrorResponse(
        "ReplayConflict",
        "409",
        "`REPLAY_CONFLICT`: a job already runs for that projection; the details carry its id.",
    ),
    ErrorResponse(
        "AccessConflict",
        "409",
        "`ALREADY_EXISTS`: there is another one of this id. `FAILED_PRECONDITION`: something else must be done first;"
        " the message says what.",
    ),
    ErrorResponse("PayloadTooLarge", "413", "`INVALID_ARGUMENT`: the request body is larger than 4 MiB."),
    ErrorResponse(
        "UnprocessableEvent",
        "422",
        "`SCHEMA_VIOLATION`: envelope or payload has the wrong shape; `BadRequest` lists every violation with"
        " its path. `PII_POLICY_VIOLATION`: a text looks like a secret or a personal datum; pattern and path are"
        " named, the value is not.",
    ),
    ErrorResponse(
        "RateLimited",
        "429",
        "`RATE_LIMITED`: `QuotaFailure` names scope and limit; `RetryInfo` and `retry-after` say when.",
    ),
    ErrorResponse(
        "HeadersTooLarge",
        "431",
        "`INVALID_ARGUMENT`: the headers are larger than 7 KiB, or the URL and the headers than 60 KiB.",
    ),
    ErrorResponse("Internal", "500", "`INTERNAL`: a fault of the service, logged with the request id."),
    ErrorResponse(
        "Unimplemented",
        "501",
        "`UNIMPLEMENTED`: this server does not have the operation, e.g. during an upgrade.",
    ),
    ErrorResponse(
        "Unavailable",
        "503",
        "`STORAGE_UNAVAILABLE`: the database is unreachable or overloaded, or no server can be reached. Safe to"
        " retry after `retry-after` seconds; events with the same idempotency key.",
    ),
    ErrorResponse(
        "Error",
        "default",
        "Any other error, in the same shape: `DEADLINE_EXCEEDED` (408, 504) if the request or the answer did not come"
        " in time.",
    ),
)
_WITH_RETRY_AFTER = ("429", "503")
# The gateway refuses some requests before it has read their headers: those have no id.
_PERHAPS_BEFORE_READING = ("400", "431", "default")
_DURATION = r"^[0-9]+(\.[0-9]+)?s$"


def error_responses(names: Iterable[str]) -> dict[str, Schema]:
    """The responses of an operation: references to the named components and to the default, by status."""
    wanted = {*names, "Error"}
    return {one.status: {"$ref": f"#/components/responses/{one.name}"} for one in RESPONSES if one.name in wanted}


def response_components(examples: dict[str, Any]) -> dict[str, Schema]:
    """The shared error responses, each with its example."""
    names = {one.name for one in RESPONSES}
    if set(examples) != names:
        raise ValueError(f"error examples are missing or unknown: {sorted(names ^ set(examples))}")
    return {one.name: _response(one, examples[one.name]) for one in RESPONSES}


def _response(one: ErrorResponse, example: Any) -> Schema:
    headers = {"x-request-id": "x-request-id-if-read" if one.status in _PERHAPS_BEFORE_READING else "x-request-id"}
    if one.status in _WITH_RETRY_AFTER:
        headers["retry-after"] = "retry-after"
    schema = {"$ref": "#/components/schemas/Error"}
    return {
        "description": one.description,
        "headers": {name: {"$ref": f"#/components/headers/{component}"} for name, component in headers.items()},
        "content": {"application/json": {"schema": schema, "example": example}},
    }


def schema_components() -> dict[str, Schema]:
    """The schemas of errors: google.rpc.Status and the details that the service uses."""
    details = {
        "ErrorInfo": _object("Why the request failed, for programs.", _error_info()),
        "BadRequest": _object("Which fields of the request are at fault.", _bad_request()),
        "RetryInfo": _object(
            "When it is worth trying again.",
            {"retry_delay": _text("Seconds, e.g. `1s`.", pattern=_DURATION)},
        ),
        "QuotaFailure": _object("Which limit was reached.", _quota_failure()),
        "RequestInfo": _object(
            "Which request it was.",
            {
                "request_id": _text(
                    "Same as the header `x-request-id`; the service's log has it. Left out, as the header is, of a"
                    " request that was refused before it was read."
                ),
                "serving_data": _text("Further data for the operators; empty or left out."),
            },
            required=(),
        ),
    }
    references = [{"$ref": f"#/components/schemas/{name}"} for name in details]
    mapping = {TYPE_PREFIX + name: f"#/components/schemas/{name}" for name in details}
    items = {"oneOf": references, "discriminator": {"propertyName": "@type", "mapping": mapping}}
    error = _object(
        "Every error, of the service as well as of the edge before it: a `google.rpc.Status`.",
        {
            "code": {
                "type": "integer",
                "description": "gRPC status code, 1 to 16.",
                "minimum": 1,
                "maximum": 16,
            },
            "message": _text("What to change, for people. Programs read `reason`."),
            "details": {
                "type": "array",
                "description": "An `ErrorInfo`, and what else applies.",
                "minItems": 1,
                "items": items,
            },
        },
    )
    return {"Error": error, **{name: _typed(name, schema) for name, schema in details.items()}}


def _error_info() -> dict[str, Schema]:
    categories = ", ".join(f"`{category}`" for category in dict.fromkeys(CATEGORIES.values()))
    return {
        "reason": {"type": "string", "description": "What went wrong.", "enum": list(CATEGORIES)},
        "domain": {"type": "string", "description": "Who says so.", "const": DOMAIN},
        "metadata": {
            "type": "object",
            "description": "Further facts as texts, e.g. `expected_trace_seq`.",
            "properties": {"category": _text(f"Coarser than `reason`: {categories}.")},
            "additionalProperties": {"type": "string"},
        },
    }


def _bad_request() -> dict[str, Schema]:
    violation = _object(
        "",
        {
            "field": _text("Path of the field, e.g. `events[3].payload.policy.policy_id`."),
            "description": _text("What is wrong with it, for people."),
            "reason": _text("The broken rule, for programs."),
        },
    )
    return {"field_violations": {"type": "array", "items": violation}}


def _quota_failure() -> dict[str, Schema]:
    violation = _object(
        "",
        {
            "subject": _text("What the limit applies to, e.g. `tenant:acme`."),
            "description": _text("The limit, for people."),
        },
    )
    return {"violations": {"type": "array", "items": violation}}


def _text(description: str, **rules: Any) -> Schema:
    return {"type": "string", "description": description, **rules}


def _object(description: str, properties: dict[str, Schema], *, required: Iterable[str] | None = None) -> Schema:
    """An object; it always has all of its properties unless told otherwise."""
    schema = {
        "type": "object",
        "description": description,
        "required": list(properties if required is None else required),
        "properties": properties,
    }
    return {key: value for key, value in schema.items() if key != "description" or value}


def _typed(name: str, schema: Schema) -> Schema:
    """The same object with the member that tells kinds of details apart."""
    properties = {"@type": {"type": "string", "const": TYPE_PREFIX + name}} | schema["properties"]
    return schema | {"required": ["@type", *schema["required"]], "properties": properties}
