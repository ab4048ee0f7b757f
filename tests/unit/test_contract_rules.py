"""The contract's rules (`buf.validate`) and the domain's checks say the same of an event's envelope and payload.

What only the domain knows, and the contract says in words: that a date is on the calendar, that a deployment may take
less, that a projected text holds no U+0000, and what a secret looks like.
"""

from collections.abc import Iterator
from typing import Any, Final

import protovalidate
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.test_payload_rules import SMALLEST

from buf.validate import validate_pb2
from decisiongraph.v1 import event_pb2, payload_pb2
from decisiongraph_service.domain import errors, event_checks, payload_rules, secret_guard, vocabulary
from decisiongraph_service.domain.limits import EventLimits
from decisiongraph_service.domain.payload_rules import FieldRule
from decisiongraph_service.rpc import messages, typed_payload, violations

GUARD = secret_guard.guard_for("precise")
LIMITS = EventLimits()
VALIDATOR = protovalidate.Validator()

GOOD: Final[dict[str, Any]] = {
    "event_id": "e",
    "trace_id": "t",
    "trace_seq": 0,
    "event_type": "TraceFinished",
    "occurred_at": "2026-01-01T00:00:00Z",
    "producer_id": "p",
    "system": "s",
    "subsystem": "u",
    "actor_type": "agent",
    "actor_id": "a",
    "idempotency_key": "k",
    "correlation_id": "c",
    "causation_event_id": "c",
    "schema_version": 1,
    "tags": ["a"],
    "payload": {"outcome": "success"},
}
_OPTIONAL: Final = (
    "event_id",
    "trace_seq",
    "subsystem",
    "correlation_id",
    "causation_event_id",
    "schema_version",
    "tags",
)

_SPACES: Final = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2005\u200a\u2028\u2029\u202f\u205f\u3000"
_TEXTS: Final = st.one_of(
    st.sampled_from(
        ["", "a", "a\0", "\0", "\x1c", "\ufeff", "\u200b", "a" * 200, "a" * 201, "é" * 100, "é" * 100 + "a"]
    ),
    st.text(alphabet=_SPACES, max_size=3),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)
_TAGS: Final = st.one_of(
    st.lists(st.sampled_from(["a", "", " ", "\u3000", "a\0", "a" * 100, "a" * 101, "é" * 50 + "a"]), max_size=4),
    st.sampled_from([["a"] * 64, ["a"] * 65]),
)
_TIMES: Final = st.one_of(
    st.sampled_from(
        [
            "",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00Z\n",
            "2026-01-01t00:00:00Z",
            "2026-01-01 00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-32T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00,5Z",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00+00:60",
            "\uff12026-01-01T00:00:00Z",
            f"2026-01-01T00:00:00.{'1' * 43}Z",
            f"2026-01-01T00:00:00.{'1' * 44}Z",
        ]
    ),
    st.from_regex(
        r"[0-9]{3}[1-9]-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{0,3})?"
        r"(Z|[+-][0-2][0-9]:[0-6][0-9])",
        fullmatch=True,
    ),
)
_BROKEN: Final[dict[str, st.SearchStrategy[Any]]] = {
    **dict.fromkeys(
        ("event_id", "trace_id", "producer_id", "system", "subsystem", "actor_id", "idempotency_key"), _TEXTS
    ),
    **dict.fromkeys(("correlation_id", "causation_event_id"), _TEXTS),
    "trace_seq": st.integers(-(2**63), 2**63 - 1),
    "event_type": st.sampled_from([*vocabulary.EVENT_TYPES, "", "tracestarted", "TraceStarted ", "x"]),
    "occurred_at": _TIMES,
    "actor_type": st.sampled_from([*vocabulary.ACTOR_TYPES, "", "Agent", "robot", "agent "]),
    "schema_version": st.integers(-(2**31), 2**31 - 1),
    "tags": _TAGS,
}
_EVENTS: Final = st.tuples(
    st.lists(st.sampled_from(list(_BROKEN)), max_size=4, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: _BROKEN[name] for name in names})
    ),
    st.sets(st.sampled_from([*_OPTIONAL, "source", "actor", "payload"]), max_size=2),
).map(lambda parts: _event({**GOOD, **parts[0]}, parts[1]))


def _event(fields: dict[str, Any], without: set[str]) -> event_pb2.Event:
    kept = {name: value for name, value in fields.items() if name not in without}
    parts = {name: kept.pop(name) for name in ("producer_id", "system", "subsystem") if name in kept}
    who = {name: kept.pop(name) for name in ("actor_type", "actor_id")}
    payload = kept.pop("payload", None)
    if payload is not None:
        payload = SMALLEST.get(kept["event_type"], payload)
    event = event_pb2.Event(**kept)
    if "source" not in without:
        event.source.CopyFrom(event_pb2.Source(**parts))
    if "actor" not in without:
        event.actor.CopyFrom(event_pb2.Actor(**who))
    if payload is not None:
        event.payload.update(payload)
    return event


def contract_verdict(event: event_pb2.Event) -> set[str]:
    """The top-level fields that the contract's rules refuse."""
    fields = {found.field.split(".")[0].split("[")[0] for found in violations.of_message(VALIDATOR, event)}
    # A rule about the whole message, and the oneof, go by the names that the domain has for them.
    return {{"request": "event_type", "content": "payload"}.get(field, field) for field in fields}


def domain_verdict(event: event_pb2.Event) -> set[str]:
    """The top-level fields that the domain refuses, with what it stops at put right until nothing is left."""
    refused: set[str] = set()
    left = event_pb2.Event()
    left.CopyFrom(event)
    good = _event(GOOD, set())
    while True:
        try:
            event_checks.check_event(messages.event_from_message(left), GUARD, LIMITS)
        except (errors.InvalidArgument, errors.SchemaViolation) as error:
            found = {violation.field.split(".")[0].split("[")[0] for violation in error.violations}
        else:
            return refused
        assert not found & refused, "putting a field right did not help"
        refused |= found
        for name in found:
            left.ClearField(name)
            if name in ("payload", "event_type"):
                left.payload.CopyFrom(good.payload)
                left.event_type = good.event_type
            elif name != "tags":
                value = getattr(good, name)
                left.MergeFrom(event_pb2.Event(**{name: value}))


@given(_EVENTS)
@settings(max_examples=400, deadline=None)
def test_contract_and_domain_refuse_the_same_fields_of_an_envelope(event: event_pb2.Event) -> None:
    by_contract, by_domain = contract_verdict(event), domain_verdict(event)
    if not event.HasField("payload") and not event.event_type:
        # The contract asks for the content alone: it may be a typed one, which names the type.
        by_domain.discard("event_type")
    assert by_contract == by_domain, event


def test_only_the_domain_knows_the_calendar() -> None:
    for text in ("2026-02-30T00:00:00Z", "2026-02-29T00:00:00Z", "0000-01-01T00:00:00Z", "2026-04-31T00:00:00Z"):
        event = _event({**GOOD, "occurred_at": text}, set())
        assert (contract_verdict(event), domain_verdict(event)) == (set(), {"occurred_at"})


def test_only_the_domain_knows_lower_limits_and_projected_text() -> None:
    event = _event({**GOOD, "trace_id": "t" * 9}, set())
    with pytest.raises(errors.InvalidArgument):
        event_checks.check_event(messages.event_from_message(event), GUARD, EventLimits(max_id_bytes=8))
    started = _event({**GOOD, "event_type": "TraceStarted"}, set())
    started.payload["title"] = "a\0"
    assert (contract_verdict(started), domain_verdict(started)) == (set(), {"payload"})


# --- typed payloads and the rules of JSON payloads ---

_MESSAGES: Final[dict[str, Descriptor]] = {
    event_type: getattr(payload_pb2, f"{event_type}Payload").DESCRIPTOR for event_type in vocabulary.EVENT_TYPES
}
_RULES: Final = [(event_type, rule) for event_type, rules in payload_rules.PAYLOAD_RULES.items() for rule in rules]

ONLY_NORMATIVE: Final = {
    ("ApprovalRecorded", "subject.subject_type"),
    ("ApprovalRecorded", "approver.actor_type"),
}
"""Literals that typed payloads are held to and JSON payloads are not."""


def constraints(field: FieldDescriptor) -> validate_pb2.FieldRules:
    return field.GetOptions().Extensions[validate_pb2.field]  # type: ignore[index]


def literals(field: FieldDescriptor) -> tuple[str, ...]:
    return tuple(getattr(constraints(field).string, "in"))


def is_required(field: FieldDescriptor) -> bool:
    rules = constraints(field)
    return bool(rules.required or rules.string.min_len or literals(field))


def at(event_type: str, path: str) -> list[FieldDescriptor]:
    """The fields along a path, the one that it names last."""
    steps: list[FieldDescriptor] = []
    message: Descriptor | None = _MESSAGES[event_type]
    for name in path.split("."):
        assert message is not None, f"{path} leads into something that has no fields"
        assert name in message.fields_by_name, f"{message.full_name} has no field {name}"
        steps.append(message.fields_by_name[name])
        message = steps[-1].message_type
    return steps


def required_paths(message: Descriptor, prefix: str = "") -> Iterator[str]:
    """Paths of the texts that a typed payload must have, inside required objects."""
    for field in message.fields:
        if field.is_repeated or not is_required(field):
            continue
        if field.message_type is None:
            yield prefix + field.name
        else:
            yield from required_paths(field.message_type, f"{prefix}{field.name}.")


@pytest.mark.parametrize(("event_type", "rule"), _RULES, ids=lambda value: getattr(value, "path", value))
def test_a_rule_of_json_payloads_is_a_rule_of_the_typed_message(event_type: str, rule: FieldRule) -> None:
    *parents, field = at(event_type, rule.path)
    for parent in parents:
        assert constraints(parent).required, f"{parent.full_name} must be required"
        assert not parent.is_repeated
    if rule.kind.endswith("array"):
        assert field.is_repeated
        return
    assert field.type == FieldDescriptor.TYPE_STRING
    assert not field.is_repeated
    assert is_required(field) == (rule.kind == "text"), f"{field.full_name} and {rule.path} differ in requiredness"
    assert field.has_presence == (rule.kind == "optional_text")
    if (event_type, rule.path) not in ONLY_NORMATIVE:
        assert literals(field) == rule.allowed


def test_the_literals_that_are_only_normative_are_in_the_typed_messages() -> None:
    for event_type, path in ONLY_NORMATIVE:
        rule = next(rule for rule in payload_rules.PAYLOAD_RULES[event_type] if rule.path == path)
        assert not rule.allowed
        assert literals(at(event_type, path)[-1])


@pytest.mark.parametrize("event_type", vocabulary.EVENT_TYPES)
def test_what_a_typed_message_requires_a_json_payload_must_have(event_type: str) -> None:
    by_rules = {rule.path for rule in payload_rules.PAYLOAD_RULES[event_type] if rule.kind == "text"}
    assert set(required_paths(_MESSAGES[event_type])) == by_rules


def test_every_event_type_has_a_typed_payload_and_none_is_left_over() -> None:
    contents = event_pb2.Event.DESCRIPTOR.oneofs_by_name["content"].fields
    typed = {typed_payload.event_type_of(field.name) for field in contents if field.name != "payload"}
    assert typed == set(vocabulary.EVENT_TYPES)


@pytest.mark.parametrize("event_type", vocabulary.EVENT_TYPES)
def test_the_empty_typed_payload_and_the_empty_json_payload_lack_the_same(event_type: str) -> None:
    content = next(
        field
        for field in event_pb2.Event.DESCRIPTOR.oneofs_by_name["content"].fields
        if field.name != "payload" and typed_payload.event_type_of(field.name) == event_type
    )
    event = event_pb2.Event()
    getattr(event, content.name).SetInParent()
    by_contract = {violation.field for violation in typed_payload.check(VALIDATOR, event)}
    arrays: dict[str, Any] = {rule.path: [] for rule in payload_rules.PAYLOAD_RULES[event_type] if rule.kind == "array"}
    by_rules = {violation.field for violation in payload_rules.check_payload(event_type, arrays)}
    assert by_contract == by_rules
