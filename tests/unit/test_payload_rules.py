"""What the payload of each event type must hold."""

from typing import Any

import pytest

from decisiongraph_service.domain import payload_rules, vocabulary

ENTITY = {"entity_type": "order", "entity_id": "A-1"}
POLICY = {"policy_id": "cap", "policy_version": "1"}

SMALLEST: dict[str, dict[str, Any]] = {
    "TraceStarted": {"workflow": "w", "title": "t", "primary_entity": ENTITY},
    "InputObserved": {
        "input_id": "i",
        "source": {"system": "s", "object_type": "image", "object_id": "o"},
        "facts": [],
    },
    "EntityObserved": {"entity": ENTITY, "role": "related", "facts": []},
    "PolicyEvaluated": {"policy": POLICY, "inputs": [], "decision": "allow"},
    "ExceptionRequested": {"exception_id": "e", "policy": POLICY, "reason": "r"},
    "ApprovalRecorded": {
        "approval_id": "a",
        "subject": {"subject_type": "exception", "subject_id": "e"},
        "approver": {"actor_type": "person", "actor_id": "p"},
        "decision": "approved",
    },
    "PrecedentCited": {"cited_trace_id": "t", "reason": "r"},
    "ActionProposed": {
        "action_id": "a",
        "action_type": "refund",
        "target_entity": ENTITY,
        "target_system": "s",
        "changes": [],
    },
    "ActionCommitted": {"action_id": "a", "status": "success"},
    "TraceFinished": {"outcome": "success"},
}

RULES = [(event_type, rule) for event_type, rules in payload_rules.PAYLOAD_RULES.items() for rule in rules]
REQUIRED = [(event_type, rule) for event_type, rule in RULES if not rule.kind.startswith("optional")]
OPTIONAL = [(event_type, rule) for event_type, rule in RULES if rule.kind.startswith("optional")]
WITH_LITERALS = [(event_type, rule) for event_type, rule in RULES if rule.allowed]


def found(event_type: str, payload: Any) -> list[tuple[str, str]]:
    return [(violation.field, violation.code) for violation in payload_rules.check_payload(event_type, payload)]


def changed(event_type: str, path: str, *value: Any) -> dict[str, Any]:
    """The smallest payload with a field set to `value`, or without the field."""
    payload = {
        key: dict(member) if isinstance(member, dict) else member for key, member in SMALLEST[event_type].items()
    }
    parent, _, name = path.rpartition(".")
    holder = payload[parent] if parent else payload
    holder.pop(name, None)
    holder.update(dict.fromkeys([name], *value) if value else {})
    return payload


def test_the_rules_cover_exactly_the_vocabulary() -> None:
    assert tuple(payload_rules.PAYLOAD_RULES) == vocabulary.EVENT_TYPES


@pytest.mark.parametrize("event_type", vocabulary.EVENT_TYPES)
def test_the_smallest_payload_passes(event_type: str) -> None:
    assert found(event_type, SMALLEST[event_type]) == []


@pytest.mark.parametrize(("event_type", "rule"), REQUIRED)
def test_a_required_field_may_not_be_absent_null_or_of_another_type(
    event_type: str, rule: payload_rules.FieldRule
) -> None:
    field = f"payload.{rule.path}"
    assert found(event_type, changed(event_type, rule.path)) == [(field, "REQUIRED")]
    assert found(event_type, changed(event_type, rule.path, None)) == [(field, "REQUIRED")]
    for other in (5, True, {}, {"a": "b"}):
        assert found(event_type, changed(event_type, rule.path, other)) == [(field, "WRONG_TYPE")]


@pytest.mark.parametrize(("event_type", "rule"), REQUIRED)
def test_required_text_is_not_empty_but_may_be_blank_and_arrays_may_be_empty(
    event_type: str, rule: payload_rules.FieldRule
) -> None:
    if rule.kind == "array":
        assert found(event_type, changed(event_type, rule.path, [])) == []
        assert found(event_type, changed(event_type, rule.path, "")) == [(f"payload.{rule.path}", "WRONG_TYPE")]
    else:
        code = "NOT_ALLOWED" if rule.allowed else "REQUIRED"
        assert found(event_type, changed(event_type, rule.path, "")) == [(f"payload.{rule.path}", code)]
        if not rule.allowed:
            assert found(event_type, changed(event_type, rule.path, " ")) == []


@pytest.mark.parametrize(("event_type", "rule"), OPTIONAL)
def test_an_optional_field_may_be_absent_null_or_empty_but_not_of_another_type(
    event_type: str, rule: payload_rules.FieldRule
) -> None:
    empty, other = ("", []) if rule.kind == "optional_text" else ([], "")
    assert found(event_type, changed(event_type, rule.path)) == []
    assert found(event_type, changed(event_type, rule.path, None)) == []
    assert found(event_type, changed(event_type, rule.path, empty)) == []
    assert found(event_type, changed(event_type, rule.path, other)) == [(f"payload.{rule.path}", "WRONG_TYPE")]


@pytest.mark.parametrize(("event_type", "rule"), WITH_LITERALS)
def test_only_the_literals_are_accepted_and_the_message_lists_them(
    event_type: str, rule: payload_rules.FieldRule
) -> None:
    for allowed in rule.allowed:
        assert found(event_type, changed(event_type, rule.path, allowed)) == []
    payload = changed(event_type, rule.path, rule.allowed[0].upper())
    (violation,) = payload_rules.check_payload(event_type, payload)
    assert violation.code == "NOT_ALLOWED"
    assert all(allowed in violation.description for allowed in rule.allowed)


def test_a_missing_object_is_reported_once_and_not_by_its_fields() -> None:
    payload = {"workflow": "w", "title": "t"}
    assert found("TraceStarted", payload) == [("payload.primary_entity", "REQUIRED")]
    assert found("TraceStarted", {**payload, "primary_entity": "x"}) == [("payload.primary_entity", "WRONG_TYPE")]


def test_every_violation_is_listed() -> None:
    assert found("ActionProposed", {"action_id": 5, "action_type": "", "target_entity": {"entity_id": None}}) == [
        ("payload.action_id", "WRONG_TYPE"),
        ("payload.action_type", "REQUIRED"),
        ("payload.target_system", "REQUIRED"),
        ("payload.changes", "REQUIRED"),
        ("payload.target_entity.entity_type", "REQUIRED"),
        ("payload.target_entity.entity_id", "REQUIRED"),
    ]


def test_further_keys_are_allowed_at_every_level() -> None:
    payload = {**SMALLEST["ApprovalRecorded"], "x": 1}
    payload["subject"] = {**payload["subject"], "queue": ["leads"]}
    assert found("ApprovalRecorded", payload) == []


@pytest.mark.parametrize(
    ("event_type", "extra"),
    [
        ("TraceStarted", {"context": 5}),
        ("InputObserved", {"source": {"system": "s", "object_type": "t", "object_id": "o", "locator": 5}}),
        ("EntityObserved", {"entity": {**ENTITY, "system": 5}}),
        ("PolicyEvaluated", {"violations": 5, "explanation": {"summary": "s"}}),
        ("ActionProposed", {"target_entity": {**ENTITY, "system": 5}}),
        ("ApprovalRecorded", {"subject": {"subject_type": "meeting", "subject_id": "m"}}),
        ("ApprovalRecorded", {"approver": {"actor_type": "robot", "actor_id": "r"}}),
    ],
)
def test_what_is_only_normative_is_not_enforced(event_type: str, extra: dict[str, Any]) -> None:
    assert found(event_type, {**SMALLEST[event_type], **extra}) == []


@pytest.mark.parametrize(
    ("payload", "code"), [(None, "REQUIRED"), ([], "WRONG_TYPE"), ("x", "WRONG_TYPE"), (5, "WRONG_TYPE")]
)
def test_a_payload_is_an_object(payload: Any, code: str) -> None:
    assert found("TraceFinished", payload) == [("payload", code)]


@pytest.mark.parametrize("event_type", ["", "WorkflowReviewRequested", "tracestarted", "TraceStarted ", "\ud800"])
def test_the_vocabulary_is_closed_and_the_message_lists_it(event_type: str) -> None:
    (violation,) = payload_rules.check_event_type(event_type)
    assert (violation.field, violation.code) == ("event_type", "UNKNOWN_EVENT_TYPE")
    assert all(known in violation.description for known in vocabulary.EVENT_TYPES)


PROJECTED = {
    "TraceStarted": {
        "workflow",
        "title",
        "primary_entity.entity_type",
        "primary_entity.entity_id",
        "primary_entity.system",
    },
    "InputObserved": {"input_id"},
    "EntityObserved": {"entity.entity_type", "entity.entity_id"},
    "PolicyEvaluated": {"policy.policy_id", "policy.policy_version"},
    "ExceptionRequested": {"exception_id", "policy.policy_id", "policy.policy_version"},
    "ApprovalRecorded": {"subject.subject_id", "approver.actor_type", "approver.actor_id"},
    "PrecedentCited": {"cited_trace_id"},
    "ActionProposed": {"action_id", "target_entity.entity_type", "target_entity.entity_id"},
    "ActionCommitted": {"action_id"},
    "TraceFinished": {"outcome"},
}


def test_the_projected_texts_are_known() -> None:
    assert {event_type: set(paths) for event_type, paths in payload_rules.PROJECTED_TEXT.items()} == PROJECTED


@pytest.mark.parametrize(("event_type", "path"), [(t, p) for t, paths in PROJECTED.items() for p in sorted(paths)])
def test_projected_text_holds_no_nul(event_type: str, path: str) -> None:
    broken = payload_rules.nul_in_projected_text(event_type, changed(event_type, path, "a\0b"))
    assert [(violation.field, violation.code) for violation in broken] == [(f"payload.{path}", "NUL_NOT_ALLOWED")]


@pytest.mark.parametrize("event_type", vocabulary.EVENT_TYPES)
def test_other_text_may_hold_nul(event_type: str) -> None:
    payload = {**SMALLEST[event_type], "note": "a\0b", "\0": ["\0"]}
    assert payload_rules.nul_in_projected_text(event_type, payload) == []
