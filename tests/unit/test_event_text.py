"""What is said of an event in a line: its own words for each type, and never more than a line."""

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisiongraph_service.cli import event_text
from decisiongraph_service.domain import vocabulary

_POLICY: Final = {"policy_id": "refund_limit", "policy_version": "7"}
_ORDER: Final = {"entity_type": "order", "entity_id": "A-1"}
_SAID: Final[list[tuple[str, dict[str, Any], str]]] = [
    (
        "TraceStarted",
        {"workflow": "refund", "title": "Refund A-1", "primary_entity": _ORDER},
        "refund: Refund A-1, about order A-1",
    ),
    (
        "InputObserved",
        {
            "input_id": "in-1",
            "source": {"system": "crm", "object_type": "note", "object_id": "n-1"},
            "facts": [{"key": "age", "value": {"type": "int", "value": "3"}}, {"key": "b", "value": {"value": "c"}}],
        },
        "in-1: read note n-1 in crm: age = 3, b = c",
    ),
    ("EntityObserved", {"entity": _ORDER, "role": "related", "facts": []}, "related order A-1"),
    (
        "PolicyEvaluated",
        {"policy": _POLICY, "inputs": [], "decision": "deny", "violations": [{"code": "limit"}], "explanation": "no"},
        "refund_limit 7 denies it: limit, no",
    ),
    (
        "ExceptionRequested",
        {"exception_id": "x", "policy": _POLICY, "reason": "old customer"},
        "x: exception from refund_limit 7, old customer",
    ),
    (
        "ApprovalRecorded",
        {
            "approval_id": "a",
            "subject": {"subject_type": "exception", "subject_id": "x"},
            "approver": {"actor_type": "person", "actor_id": "m"},
            "decision": "approved",
        },
        "person m approved exception x",
    ),
    (
        "PrecedentCited",
        {"cited_trace_id": "t", "reason": "same damage", "similarity_score": "0.9"},
        "cites t, similarity 0.9: same damage",
    ),
    (
        "ActionProposed",
        {
            "action_id": "act",
            "action_type": "refund",
            "target_entity": _ORDER,
            "target_system": "pay",
            "changes": [{"path": "sum", "old_value": {"value": "1"}, "new_value": {"value": "2"}}],
        },
        "act: refund of order A-1 in pay: sum 1 → 2",
    ),
    ("ActionCommitted", {"action_id": "act", "status": "failure", "error": "no money"}, "act: failure: no money"),
    ("TraceFinished", {"outcome": "success", "summary": "done"}, "success: done"),
]


@pytest.mark.parametrize(("event_type", "payload", "said"), _SAID, ids=[event_type for event_type, _, _ in _SAID])
def test_each_type_says_what_its_payload_says(event_type: str, payload: dict[str, Any], said: str) -> None:
    assert event_text.describe(event_type, payload) == said


def test_there_is_an_example_of_every_type() -> None:
    assert [event_type for event_type, _, _ in _SAID] == list(vocabulary.EVENT_TYPES)


def test_many_parts_are_counted() -> None:
    facts = [{"key": f"k{number}", "value": {"value": "v"}} for number in range(6)]
    said = event_text.describe("EntityObserved", {"entity": _ORDER, "role": "related", "facts": facts})
    assert said == "related order A-1: k0 = v, k1 = v, k2 = v, k3 = v and 2 more"


def test_without_a_payload_nothing_is_said() -> None:
    assert event_text.describe("TraceStarted", {}) == ""


_TEXT = st.text(max_size=8) | st.sampled_from(["\x1b[31m", "\n", "long " * 100])
_JSON = st.recursive(
    st.none() | st.integers() | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["key", "code", "value"]), inner),
    max_leaves=5,
)
_NAMES = st.sampled_from(
    ["title", "primary_entity", "source", "facts", "value", "policy", "violations", "changes", "reason", "approver"]
)


@given(st.sampled_from(vocabulary.EVENT_TYPES), st.dictionaries(_NAMES, _JSON, max_size=4))
def test_whatever_the_payload_holds_it_is_a_line_without_commands_for_the_terminal(
    event_type: str, payload: dict[str, Any]
) -> None:
    said = event_text.describe(event_type, payload)
    assert said.isprintable()
    assert len(said) <= 240
