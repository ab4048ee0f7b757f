"""What traces are compared by: the facts of each event, the document of a trace, and what a search finds in it."""

import hashlib
from typing import Any

import pytest

from decisiongraph_service.domain import precedent_search as search
from decisiongraph_service.domain import vocabulary
from decisiongraph_service.domain.precedent_search import Document, DocumentRow, Facts, Feature, Match, Term

POLICY: dict[str, Any] = {"policy_id": "limit", "policy_version": "7"}
STARTED: dict[str, Any] = {
    "workflow": "refund",
    "title": "Damaged machine",
    "primary_entity": {"entity_type": "order", "entity_id": "A:1", "system": "shop"},
}
EVALUATED: dict[str, Any] = {"policy": POLICY, "inputs": [], "decision": "require_exception"}
ASKED: dict[str, Any] = {"exception_id": "e1", "policy": POLICY, "reason": "Series defect"}
APPROVED: dict[str, Any] = {
    "approval_id": "ap",
    "subject": {"subject_type": "exception", "subject_id": "e1"},
    "approver": {"actor_type": "person", "actor_id": "m.okafor"},
    "decision": "approved",
    "reason": "Known",
}
CITED: dict[str, Any] = {"cited_trace_id": "t0", "reason": "Same defect"}
PROPOSED: dict[str, Any] = {
    "action_id": "a1",
    "action_type": "pay",
    "target_entity": {"entity_type": "order", "entity_id": "A:1"},
    "target_system": "bank",
    "changes": [],
}
COMMITTED: dict[str, Any] = {"action_id": "a1", "status": "partial", "error": "printed twice"}
FINISHED: dict[str, Any] = {"outcome": "success", "summary": "240 refunded"}
PAYLOADS = {
    "TraceStarted": STARTED,
    "PolicyEvaluated": EVALUATED,
    "ExceptionRequested": ASKED,
    "ApprovalRecorded": APPROVED,
    "PrecedentCited": CITED,
    "ActionProposed": PROPOSED,
    "ActionCommitted": COMMITTED,
    "TraceFinished": FINISHED,
}


def document(*events: tuple[str, dict[str, Any]]) -> Document:
    """The document of these events, each given by its type and what differs from its example."""
    found: list[tuple[str, Facts]] = []
    for event_type, changes in events:
        facts = search.facts(event_type, {**PAYLOADS[event_type], **changes})
        assert facts is not None
        found.append((event_type, facts))
    return Document(found)


def results(made: Document) -> dict[tuple[str, str], str | None]:
    return {(feature, value): result for feature, value, result in made.features}


def row_of(made: Document) -> DocumentRow:
    return DocumentRow(9, "t", made.features, made.keys)


@pytest.mark.parametrize(
    ("event_type", "expected"),
    [
        (
            "TraceStarted",
            Facts(
                (Feature("workflow", "refund"), Feature("entity_type", "order"), Feature("entity", "order\0A:1")),
                texts=("Damaged machine",),
            ),
        ),
        (
            "PolicyEvaluated",
            Facts(
                (
                    Feature("policy", "limit", "require_exception"),
                    Feature("policy_version", "limit\x007", "require_exception"),
                )
            ),
        ),
        (
            "ExceptionRequested",
            Facts(
                (Feature("policy", "limit"), Feature("policy_version", "limit\x007"), Feature("exception", "limit")),
                subject="e1",
                texts=("Series defect",),
            ),
        ),
        (
            "ApprovalRecorded",
            Facts(
                (Feature("approver", "person\0m.okafor", "approved"),),
                ended=("exception", "e1", "approved"),
                texts=("Known",),
            ),
        ),
        ("PrecedentCited", Facts(texts=("Same defect",))),
        ("ActionProposed", Facts((Feature("action_type", "pay"),), subject="a1")),
        ("ActionCommitted", Facts(ended=("action_type", "a1", "partial"))),
        ("TraceFinished", Facts((Feature("outcome", "success"),), texts=("240 refunded",))),
    ],
)
def test_each_event_says_this_of_its_trace(event_type: str, expected: Facts) -> None:
    assert search.facts(event_type, PAYLOADS[event_type]) == expected


def test_exactly_the_events_that_say_something_are_read() -> None:
    observed: dict[str, dict[str, Any]] = {"InputObserved": {"input_id": "i"}, "EntityObserved": {"entity": {}}}
    assert set(search.READ_TYPES) == set(PAYLOADS) == set(vocabulary.EVENT_TYPES) - set(observed)
    assert [search.facts(name, payload) for name, payload in observed.items()] == [None, None]


@pytest.mark.parametrize(
    ("event_type", "name"),
    [("ApprovalRecorded", "reason"), ("TraceFinished", "summary"), ("PrecedentCited", "reason")],
)
def test_a_text_that_is_null_or_left_out_is_none(event_type: str, name: str) -> None:
    for payload in ({**PAYLOADS[event_type], name: None}, {k: v for k, v in PAYLOADS[event_type].items() if k != name}):
        facts = search.facts(event_type, payload)
        assert facts is not None
        assert facts.texts == ()


def test_only_the_approval_of_an_exception_tells_how_one_ended() -> None:
    for subject_type in ("action", "Exception", "exceptions"):
        facts = search.facts(
            "ApprovalRecorded", {**APPROVED, "subject": {"subject_type": subject_type, "subject_id": "e1"}}
        )
        assert facts is not None
        assert facts.ended is None
        assert facts.features == (Feature("approver", "person\0m.okafor", "approved"),)


@pytest.mark.parametrize(
    ("event_type", "path"),
    [
        *(("TraceStarted", path) for path in ("workflow", "title", "primary_entity", "primary_entity.entity_type")),
        ("TraceStarted", "primary_entity.entity_id"),
        *(("PolicyEvaluated", path) for path in ("policy", "policy.policy_id", "policy.policy_version", "decision")),
        *(("ExceptionRequested", path) for path in ("policy", "policy.policy_id", "policy.policy_version")),
        ("ExceptionRequested", "exception_id"),
        *(("ApprovalRecorded", path) for path in ("approver", "approver.actor_type", "approver.actor_id", "decision")),
        *(("ApprovalRecorded", path) for path in ("subject", "subject.subject_type", "subject.subject_id")),
        *(("ActionProposed", path) for path in ("action_id", "action_type")),
        *(("ActionCommitted", path) for path in ("action_id", "status")),
        ("TraceFinished", "outcome"),
    ],
)
def test_a_payload_of_another_shape_is_an_error_that_is_not_missed(event_type: str, path: str) -> None:
    parent, _, name = path.rpartition(".")
    payload = PAYLOADS[event_type]
    holder = payload[parent] if parent else payload
    without = {key: value for key, value in holder.items() if key != name}
    for changed in (without, {**holder, name: None}, {**holder, name: 5}, {**holder, name: ["x"]}):
        with pytest.raises((KeyError, TypeError)):
            search.facts(event_type, {**payload, parent: changed} if parent else changed)


@pytest.mark.parametrize(
    ("event_type", "name"),
    [("TraceFinished", "summary"), *((name, "reason") for name in ("ExceptionRequested", "ApprovalRecorded"))],
)
def test_a_text_of_another_kind_is_an_error_too(event_type: str, name: str) -> None:
    with pytest.raises(TypeError):
        search.facts(event_type, {**PAYLOADS[event_type], name: 5})


def test_the_last_decision_about_a_policy_is_its_result() -> None:
    made = document(
        ("PolicyEvaluated", {"decision": "deny"}),
        ("PolicyEvaluated", {"policy": {**POLICY, "policy_version": "8"}, "decision": "allow"}),
        ("ExceptionRequested", {}),
    )
    assert results(made) == {
        ("policy", "limit"): "allow",
        ("policy_version", "limit\x007"): "deny",
        ("policy_version", "limit\x008"): "allow",
        ("exception", "limit"): None,
    }


def test_a_policy_that_was_only_asked_for_an_exception_has_no_result() -> None:
    assert results(document(("ExceptionRequested", {})))["policy", "limit"] is None


@pytest.mark.parametrize(
    ("decisions", "expected"),
    [(["approved"], "approved"), (["rejected"], "rejected"), (["approved", "rejected"], "rejected")],
)
def test_the_last_decision_about_an_exception_is_its_result(decisions: list[str], expected: str) -> None:
    made = document(("ExceptionRequested", {}), *(("ApprovalRecorded", {"decision": one}) for one in decisions))
    assert results(made)["exception", "limit"] == expected
    assert results(made)["approver", "person\0m.okafor"] == expected


def test_an_approval_of_something_else_tells_nothing_of_the_exception() -> None:
    for subject in (
        {"subject_type": "exception", "subject_id": "e2"},
        {"subject_type": "action", "subject_id": "e1"},
    ):
        made = document(("ExceptionRequested", {}), ("ApprovalRecorded", {"subject": subject}))
        assert results(made)["exception", "limit"] is None
        assert results(made)["approver", "person\0m.okafor"] == "approved"


def test_an_approval_before_the_request_is_that_of_the_approver_alone() -> None:
    made = document(("ApprovalRecorded", {}), ("ExceptionRequested", {}))
    assert results(made)["exception", "limit"] is None
    assert results(made)["approver", "person\0m.okafor"] == "approved"


def test_exceptions_from_several_policies_end_each_on_its_own() -> None:
    second = {"exception_id": "e2", "policy": {"policy_id": "fraud", "policy_version": "1"}}
    of_second = {"subject": {"subject_type": "exception", "subject_id": "e2"}, "decision": "rejected"}
    made = document(
        ("ExceptionRequested", {}),
        ("ExceptionRequested", second),
        ("ApprovalRecorded", of_second),
        ("ApprovalRecorded", {}),
    )
    assert results(made)["exception", "limit"] == "approved"
    assert results(made)["exception", "fraud"] == "rejected"
    assert results(made)["approver", "person\0m.okafor"] == "approved"


def test_the_last_status_of_an_action_is_the_result_of_its_type() -> None:
    made = document(
        ("ActionCommitted", {"action_id": "a2", "status": "failure"}),
        ("ActionProposed", {}),
        ("ActionProposed", {"action_id": "a2", "action_type": "mail"}),
        ("ActionProposed", {"action_id": "a3", "action_type": "pay"}),
        ("ActionCommitted", {"status": "failure"}),
        ("ActionCommitted", {"action_id": "a3", "status": "success"}),
        ("ActionCommitted", {"action_id": "unknown", "status": "partial"}),
    )
    assert results(made) == {("action_type", "pay"): "success", ("action_type", "mail"): None}


def test_an_exception_and_an_action_with_one_id_do_not_end_each_other() -> None:
    made = document(("ExceptionRequested", {}), ("ActionProposed", {"action_id": "e1"}), ("ApprovalRecorded", {}))
    assert results(made)["exception", "limit"] == "approved"
    assert results(made)["action_type", "pay"] is None


def test_words_come_from_the_title_then_the_summary_then_the_reasons() -> None:
    made = document(
        ("TraceStarted", {"title": "One two"}),
        ("PrecedentCited", {"reason": "five ONE"}),
        ("ApprovalRecorded", {"reason": "six"}),
        ("ExceptionRequested", {"reason": "seven five"}),
        ("ActionCommitted", {"error": "never"}),
        ("TraceFinished", {"summary": "three, four: two"}),
    )
    assert made.words == ["one", "two", "three", "four", "five", "six", "seven"]


def test_a_trace_has_at_most_64_words() -> None:
    title, summary, reason = (" ".join(f"{name}{n}" for n in range(30)) for name in "tsr")
    made = document(
        ("PrecedentCited", {"reason": reason}),
        ("TraceStarted", {"title": title}),
        ("TraceFinished", {"summary": f"{summary} t0"}),
    )
    assert made.words == [*title.split(), *summary.split(), *reason.split()[:4]]
    assert len(document(("TraceStarted", {"title": " ".join(map(str, range(100)))})).words) == 64


def test_a_key_is_the_beginning_of_the_hash_of_feature_and_value() -> None:
    expected = int.from_bytes(hashlib.sha256("policy\x1flimit:ü".encode()).digest()[:8], "big", signed=True)
    assert search.feature_key("policy", "limit:ü") == expected
    assert Term("policy", "limit:ü", 30).key == expected
    assert search.word_key("ü") == search.feature_key("text", "ü")
    assert -(2**63) <= expected < 2**63


def test_every_feature_and_word_has_one_key_of_its_own() -> None:
    same = "limit"
    made = document(
        ("TraceStarted", {"workflow": same, "title": same, "primary_entity": {"entity_type": same, "entity_id": "1"}}),
        ("ExceptionRequested", {"reason": f"{same} {same}"}),
        ("ExceptionRequested", {"exception_id": "e2", "reason": same}),
        ("ActionProposed", {"action_type": same}),
    )
    assert made.words == [same]
    having_it = [feature for feature, value, _ in made.features if value == same]
    assert having_it == ["workflow", "entity_type", "policy", "exception", "action_type"]
    assert len(made.keys) == len(set(made.keys)) == len(made.features) + len(made.words) == 8


def test_a_search_for_more_like_it_has_the_weights_of_the_contract() -> None:
    made = document(*((event_type, {}) for event_type in PAYLOADS))
    assert [tuple(term) for term in search.terms_like(made)] == [
        ("workflow", "refund", 15),
        ("entity_type", "order", 5),
        ("entity", "order\0A:1", 25),
        ("policy", "limit", 30),
        ("policy_version", "limit\x007", 15),
        ("exception", "limit", 20),
        ("approver", "person\0m.okafor", 10),
        ("action_type", "pay", 10),
        *(("text", word, 4) for word in ["damaged", "machine", "240", "refunded", "series", "defect", "known", "same"]),
    ]


def test_only_the_first_values_and_words_look_for_others() -> None:
    made = document(
        ("TraceStarted", {"title": " ".join(f"w{n}" for n in range(20))}),
        *(("ActionProposed", {"action_type": f"type {n}"}) for n in (*range(6), 0, 1, *range(6, 12))),
        *(("PolicyEvaluated", {"policy": {"policy_id": f"p{n % 9}", "policy_version": f"{n}"}}) for n in range(10)),
    )
    found: dict[str, list[str]] = {}
    for feature, value, _ in search.terms_like(made):
        found.setdefault(feature, []).append(value)
    assert found["action_type"] == [f"type {n}" for n in range(8)]
    assert found["policy"] == [f"p{n}" for n in range(8)]
    assert found["policy_version"] == [f"p{n}\0{n}" for n in range(8)]
    assert found["text"] == [f"w{n}" for n in range(12)]


def test_matches_come_in_the_order_of_the_search_with_how_they_ended() -> None:
    made = document(*((event_type, {}) for event_type in PAYLOADS))
    terms = [
        *search.terms_of_words(["unheard", "defect", "refunded"]),
        Term("action_type", "pay", 10),
        Term("policy", "other", 30),
        Term("policy", "limit", 30),
        Term("exception", "limit", 20),
        Term("workflow", "refund", 15),
        Term("workflow", "limit", 15),
    ]
    assert search.matches(terms, [term.key for term in terms], row_of(made)) == [
        Match(Term("text", "defect", 4), None),
        Match(Term("text", "refunded", 4), None),
        Match(Term("action_type", "pay", 10), "partial"),
        Match(Term("policy", "limit", 30), "require_exception"),
        Match(Term("exception", "limit", 20), "approved"),
        Match(Term("workflow", "refund", 15), None),
    ]
