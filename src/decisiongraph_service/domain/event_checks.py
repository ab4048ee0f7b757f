"""The checks of an event that need no stored state: steps 1 to 6 of an append, in order.

The first step that fails decides the error; the error lists everything that this step found. Source:
docs/reference/APPEND_SEMANTICS.md.
"""

from collections.abc import Sequence
from typing import Final

from decisiongraph_service.domain import canonical, payload_rules, timestamps, vocabulary
from decisiongraph_service.domain import text as texts
from decisiongraph_service.domain.errors import (
    InvalidArgument,
    PiiPolicyViolation,
    SchemaViolation,
    Violation,
)
from decisiongraph_service.domain.events import CheckedEvent, Event, JsonValue
from decisiongraph_service.domain.limits import EventLimits
from decisiongraph_service.domain.secret_guard import SecretGuard

_MAX_TRACE_SEQ: Final = 2**63 - 1
_MAX_SCHEMA_VERSION: Final = 2**31 - 1


def check_event(
    event: Event, guard: SecretGuard, limits: EventLimits, payload_violations: Sequence[Violation] = ()
) -> CheckedEvent:
    """Check an event as far as that is possible without the log.

    Args:
        event: The event as the producer sent it.
        guard: The secret guard of the deployment.
        limits: The sizes that the deployment accepts.
        payload_violations: What the caller already found wrong with a typed payload; reported with step 4.

    Raises:
        InvalidArgument: Key, timestamp, position, a size, or text that cannot be stored (steps 1, 2, 3, 4
            and 6).
        SchemaViolation: Envelope or payload of the wrong shape, unknown event type, a number that is not an
            integer within 2^53 - 1 (steps 2, 4 and 6).
        PiiPolicyViolation: The guard found a secret (step 5).
    """
    _refuse_invalid(_check_required_key(event, limits))
    occurred_at_micros = _check_envelope(event, limits)
    content = canonical.content_of(event.payload, limits)
    if content is None:
        _refuse_invalid(canonical.check_json(event.payload, limits))
    _check_shape(event, payload_violations)
    if content is None:
        raise AssertionError("a payload that passes as JSON and as an object has content")
    secrets = guard.scan(event, content.texts)
    if secrets:
        raise PiiPolicyViolation(secrets)
    if not canonical.are_fit(content.numbers):
        _refuse_schema(canonical.check_numbers(event.payload))
    canonical_payload = _canonical_payload(event.payload, limits)
    return CheckedEvent(event, canonical_payload, canonical.payload_hash(canonical_payload), occurred_at_micros)


def _refuse_invalid(violations: Sequence[Violation]) -> None:
    if violations:
        raise InvalidArgument(violations)


def _refuse_schema(violations: Sequence[Violation]) -> None:
    if violations:
        raise SchemaViolation(violations)


# --- steps 1 and 2: the envelope ---


def _check_required_key(event: Event, limits: EventLimits) -> Sequence[Violation]:
    if not event.idempotency_key:
        return [Violation("idempotency_key", "REQUIRED", "is required; it makes a retry safe")]
    return _check_storable("idempotency_key", event.idempotency_key, limits.max_id_bytes)


def _check_envelope(event: Event, limits: EventLimits) -> int:
    """Check all other fields, event type and payload excepted, and return the instant of `occurred_at`."""
    invalid: list[Violation] = []
    schema: list[Violation] = []
    actor_type = event.actor.actor_type
    for field, text in _not_blank_fields(event):
        if texts.is_blank(text):
            schema.append(_blank(field, text))
    if actor_type not in vocabulary.ACTOR_TYPES:
        allowed = ", ".join(vocabulary.ACTOR_TYPES)
        code = "NOT_ALLOWED" if actor_type else "REQUIRED"
        schema.append(Violation("actor.actor_type", code, f"must be one of {allowed}"))
    schema += _check_schema_version(event.schema_version)
    for field, storable in _storable_fields(event):
        if storable is not None:
            invalid += _check_storable(field, storable, limits.max_id_bytes)
    _check_tags(event.tags, limits, invalid, schema)
    invalid += _check_trace_seq(event.trace_seq)
    occurred_at_micros = _check_occurred_at(event.occurred_at, limits, invalid)
    if invalid:
        raise InvalidArgument(invalid + schema)
    _refuse_schema(schema)
    return occurred_at_micros


def _not_blank_fields(event: Event) -> tuple[tuple[str, str], ...]:
    source = event.source
    required = (
        ("trace_id", event.trace_id),
        ("source.producer_id", source.producer_id),
        ("source.system", source.system),
        ("actor.actor_id", event.actor.actor_id),
    )
    return required if event.event_id is None else (("event_id", event.event_id), *required)


def _storable_fields(event: Event) -> tuple[tuple[str, str | None], ...]:
    source, actor = event.source, event.actor
    return (
        ("event_id", event.event_id),
        ("trace_id", event.trace_id),
        ("source.producer_id", source.producer_id),
        ("source.system", source.system),
        ("source.subsystem", source.subsystem),
        ("actor.actor_type", actor.actor_type),
        ("actor.actor_id", actor.actor_id),
        ("correlation_id", event.correlation_id),
        ("causation_event_id", event.causation_event_id),
    )


def _check_storable(field: str, text: str, max_bytes: int) -> Sequence[Violation]:
    """List what keeps an envelope text out of the log: U+0000, an unpaired surrogate, its size."""
    if len(text) <= max_bytes and text.isascii() and "\0" not in text:
        return ()
    violations = []
    if "\0" in text:
        violations.append(Violation(field, "NUL_NOT_ALLOWED", "must not contain U+0000"))
    if texts.has_unpaired_surrogate(text):
        violations.append(
            Violation(field, "UNPAIRED_SURROGATE", "must be encodable in UTF-8; remove the unpaired surrogate")
        )
    size = texts.utf8_size(text)
    if size > max_bytes:
        violations.append(_too_long(field, size, max_bytes))
    return violations


def _check_tags(tags: Sequence[str], limits: EventLimits, invalid: list[Violation], schema: list[Violation]) -> None:
    if len(tags) > limits.max_tags:
        invalid.append(Violation("tags", "TOO_MANY", f"has {len(tags)} tags; the limit is {limits.max_tags} tags"))
        return  # a message may hold millions; each would be a violation of its own
    for index, tag in enumerate(tags):
        field = f"tags[{index}]"
        if texts.is_blank(tag):
            schema.append(_blank(field, tag))
        invalid.extend(_check_storable(field, tag, limits.max_tag_bytes))


def _check_trace_seq(trace_seq: int | None) -> Sequence[Violation]:
    if trace_seq is None or 0 <= trace_seq <= _MAX_TRACE_SEQ:
        return ()
    return [
        Violation(
            "trace_seq",
            "OUT_OF_RANGE",
            "must be an integer from 0 to 2^63 - 1; leave it out to take the trace's next position",
        )
    ]


def _check_schema_version(schema_version: int) -> Sequence[Violation]:
    if 1 <= schema_version <= _MAX_SCHEMA_VERSION:
        return ()
    return [Violation("schema_version", "OUT_OF_RANGE", f"must be an integer from 1 to {_MAX_SCHEMA_VERSION}")]


def _check_occurred_at(occurred_at: str, limits: EventLimits, invalid: list[Violation]) -> int:
    if not occurred_at:
        invalid.append(
            Violation("occurred_at", "REQUIRED", "is required: an RFC 3339 timestamp such as `2026-03-02T09:00:05Z`")
        )
        return 0
    size = texts.utf8_size(occurred_at)
    if size > limits.max_occurred_at_bytes:
        invalid.append(_too_long("occurred_at", size, limits.max_occurred_at_bytes))
        return 0
    try:
        return timestamps.parse_rfc3339(occurred_at)
    except ValueError as error:
        invalid.append(Violation("occurred_at", "INVALID_TIMESTAMP", str(error)))
        return 0


def _blank(field: str, text: str) -> Violation:
    if text:
        return Violation(field, "BLANK", "must contain a character that is not white space")
    return Violation(field, "REQUIRED", "is required and must not be empty")


def _too_long(field: str, size: int, limit: int) -> Violation:
    return Violation(field, "TOO_LONG", f"has {size} bytes in UTF-8; the limit is {limit} bytes")


# --- steps 4 and 6: the payload ---


def _check_shape(event: Event, payload_violations: Sequence[Violation]) -> None:
    violations = payload_rules.check_event_type(event.event_type)
    violations += payload_rules.check_payload(event.event_type, event.payload)
    if payload_violations:
        reported = {violation.field for violation in violations}
        violations += [violation for violation in payload_violations if violation.field not in reported]
    _refuse_schema(violations)
    _refuse_invalid(payload_rules.nul_in_projected_text(event.event_type, event.payload))


def _canonical_payload(payload: JsonValue, limits: EventLimits) -> str:
    canonical_payload = canonical.canonical_json(payload)
    size = texts.utf8_size(canonical_payload)
    if size > limits.max_payload_bytes:
        raise InvalidArgument(
            [
                Violation(
                    "payload",
                    "TOO_LARGE",
                    f"has {size} bytes of canonical JSON; the limit is {limits.max_payload_bytes} bytes",
                )
            ]
        )
    return canonical_payload
