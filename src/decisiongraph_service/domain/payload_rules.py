"""What the payload of each event type must hold; source: docs/reference/EVENT_ENVELOPE_CONTRACT.md.

The rules are data. `check_payload` lists every breach; further keys, at any level, are always allowed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from decisiongraph_service.domain import vocabulary
from decisiongraph_service.domain.errors import Violation
from decisiongraph_service.domain.events import JsonObject, JsonValue

FieldKind: TypeAlias = Literal["text", "array", "optional_text", "optional_array"]
"""`text`: present and not empty. `array`: present. Optional: may be absent or null; the text may be empty."""


@dataclass(frozen=True, slots=True)
class FieldRule:
    """The rule of one payload field."""

    path: str
    """Path below the payload, e.g. `policy.policy_id`. The object on the way is required too."""
    kind: FieldKind
    allowed: tuple[str, ...] = ()
    """The texts that are accepted; empty: any."""
    projected: bool = False
    """The text becomes part of an id or column of a projection, so it cannot hold U+0000."""


def _id(path: str) -> FieldRule:
    return FieldRule(path, "text", projected=True)


def _text(path: str, allowed: tuple[str, ...] = ()) -> FieldRule:
    return FieldRule(path, "text", allowed)


def _array(path: str) -> FieldRule:
    return FieldRule(path, "array")


def _optional_text(path: str) -> FieldRule:
    return FieldRule(path, "optional_text")


def _optional_array(path: str) -> FieldRule:
    return FieldRule(path, "optional_array")


PAYLOAD_RULES: Final[Mapping[str, tuple[FieldRule, ...]]] = MappingProxyType(
    {
        vocabulary.TRACE_STARTED: (
            _id("workflow"),
            _id("title"),
            _id("primary_entity.entity_type"),
            _id("primary_entity.entity_id"),
            FieldRule("primary_entity.system", "optional_text", projected=True),
        ),
        vocabulary.INPUT_OBSERVED: (
            _id("input_id"),
            _text("source.system"),
            _text("source.object_type"),
            _text("source.object_id"),
            _array("facts"),
        ),
        vocabulary.ENTITY_OBSERVED: (
            _id("entity.entity_type"),
            _id("entity.entity_id"),
            _text("role", vocabulary.ENTITY_ROLES),
            _array("facts"),
        ),
        vocabulary.POLICY_EVALUATED: (
            _id("policy.policy_id"),
            _id("policy.policy_version"),
            _array("inputs"),
            _text("decision", vocabulary.POLICY_DECISIONS),
        ),
        vocabulary.EXCEPTION_REQUESTED: (
            _id("exception_id"),
            _id("policy.policy_id"),
            _id("policy.policy_version"),
            _text("reason"),
            _optional_array("evidence"),
        ),
        vocabulary.APPROVAL_RECORDED: (
            _text("approval_id"),
            _text("subject.subject_type"),
            _id("subject.subject_id"),
            _id("approver.actor_type"),
            _id("approver.actor_id"),
            _text("decision", vocabulary.APPROVAL_DECISIONS),
            _optional_text("reason"),
            _optional_array("evidence"),
        ),
        vocabulary.PRECEDENT_CITED: (
            _id("cited_trace_id"),
            _text("reason"),
            _optional_text("similarity_score"),
        ),
        vocabulary.ACTION_PROPOSED: (
            _id("action_id"),
            _text("action_type"),
            _id("target_entity.entity_type"),
            _id("target_entity.entity_id"),
            _text("target_system"),
            _array("changes"),
        ),
        vocabulary.ACTION_COMMITTED: (
            _id("action_id"),
            _text("status", vocabulary.ACTION_STATUSES),
            _optional_text("external_reference"),
            _optional_text("error"),
        ),
        vocabulary.TRACE_FINISHED: (
            FieldRule("outcome", "text", vocabulary.TRACE_OUTCOMES, projected=True),
            _optional_text("summary"),
        ),
    }
)
"""The rules of every event type. The typed payload messages carry the same ones."""

PROJECTED_TEXT: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {event_type: tuple(rule.path for rule in rules if rule.projected) for event_type, rules in PAYLOAD_RULES.items()}
)
"""Paths of the texts of each event type that enter an id or column of a projection."""

_Compiled: TypeAlias = tuple[tuple[str, tuple[tuple[str, FieldRule], ...]], ...]


def _compile(rules: tuple[FieldRule, ...]) -> _Compiled:
    """Group the rules by the object that holds the field; the name of the payload itself is empty."""
    groups: dict[str, list[tuple[str, FieldRule]]] = {}
    for rule in rules:
        parent, _, name = rule.path.rpartition(".")
        groups.setdefault(parent, []).append((name, rule))
    return tuple((parent, tuple(fields)) for parent, fields in groups.items())


_COMPILED: Final = {event_type: _compile(rules) for event_type, rules in PAYLOAD_RULES.items()}


def check_event_type(event_type: str) -> list[Violation]:
    """Report an event type outside the closed vocabulary; the message lists the ten names."""
    if event_type in PAYLOAD_RULES:
        return []
    names = ", ".join(vocabulary.EVENT_TYPES)
    return [Violation("event_type", "UNKNOWN_EVENT_TYPE", f"must be one of {names}")]


def check_payload(event_type: str, payload: JsonValue) -> list[Violation]:
    """List every breach of the rules of an event type. Every violation is SCHEMA_VIOLATION.

    Of an unknown event type only that the payload must be an object is checked. The violations name paths and
    the texts that are accepted, never a value of the payload.
    """
    if payload is None:
        return [Violation("payload", "REQUIRED", "is required and must be a JSON object")]
    if not isinstance(payload, dict):
        return [Violation("payload", "WRONG_TYPE", "must be a JSON object")]
    violations: list[Violation] = []
    for parent, fields in _COMPILED.get(event_type, ()):
        holder = _holder(payload, parent, violations)
        if holder is not None:
            for name, rule in fields:
                _check_field(rule, holder.get(name), violations)
    return violations


def nul_in_projected_text(event_type: str, payload: JsonValue) -> list[Violation]:
    """List the projected texts that hold U+0000, which no column can. Every violation is INVALID_ARGUMENT.

    U+0000 elsewhere in the payload is accepted. The payload must have passed `check_payload`.
    """
    return [
        Violation(f"payload.{path}", "NUL_NOT_ALLOWED", "must not contain U+0000, because the text is projected")
        for path in PROJECTED_TEXT[event_type]
        if _contains_nul(payload, path)
    ]


def _contains_nul(payload: JsonValue, path: str) -> bool:
    value = payload
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return isinstance(value, str) and "\0" in value


def _holder(payload: JsonObject, parent: str, violations: list[Violation]) -> JsonObject | None:
    if not parent:
        return payload
    holder = payload.get(parent)
    if isinstance(holder, dict):
        return holder
    if holder is None:
        violations.append(Violation(f"payload.{parent}", "REQUIRED", "is required and must be an object"))
    else:
        violations.append(Violation(f"payload.{parent}", "WRONG_TYPE", "must be an object"))
    return None


def _check_field(rule: FieldRule, value: JsonValue, violations: list[Violation]) -> None:
    broken = _broken_array(rule, value) if rule.kind.endswith("array") else _broken_text(rule, value)
    if broken is not None:
        code, description = broken
        violations.append(Violation(f"payload.{rule.path}", code, description))


def _broken_array(rule: FieldRule, value: JsonValue) -> tuple[str, str] | None:
    if isinstance(value, list):
        return None
    if value is not None:
        return "WRONG_TYPE", "must be an array"
    return None if rule.kind == "optional_array" else ("REQUIRED", "is required and must be an array; it may be empty")


def _broken_text(rule: FieldRule, value: JsonValue) -> tuple[str, str] | None:
    optional = rule.kind == "optional_text"
    if value is None:
        return None if optional else ("REQUIRED", _wanted(rule, "is required and must be text"))
    if not isinstance(value, str):
        return "WRONG_TYPE", _wanted(rule, "must be text")
    if rule.allowed and value not in rule.allowed:
        return "NOT_ALLOWED", _wanted(rule, "must be text")
    return None if value or optional else ("REQUIRED", "must not be empty")


def _wanted(rule: FieldRule, otherwise: str) -> str:
    return "must be one of " + ", ".join(rule.allowed) if rule.allowed else otherwise
