"""Steps 1 to 6 of an append: which event is refused, with which category, naming which fields."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisiongraph_service.domain import errors, event_checks, secret_guard
from decisiongraph_service.domain.errors import Violation
from decisiongraph_service.domain.events import Actor, CheckedEvent, Event, Source
from decisiongraph_service.domain.limits import EventLimits

GUARD = secret_guard.guard_for("precise")
LIMITS = EventLimits()
KEY = "sk" + "-abcdefghijkl1234"


def event(**changes: Any) -> Event:
    fields: dict[str, Any] = {
        "trace_id": "t",
        "event_type": "TraceFinished",
        "occurred_at": "2026-01-01T00:00:00Z",
        "source": Source("p", "s"),
        "actor": Actor("agent", "a"),
        "idempotency_key": "k",
        "payload": {"outcome": "success"},
    }
    return Event(**{**fields, **changes})


def check(sent: Event, limits: EventLimits = LIMITS, payload_violations: Any = ()) -> CheckedEvent:
    return event_checks.check_event(sent, GUARD, limits, payload_violations)


def refusal(
    sent: Event, limits: EventLimits = LIMITS, payload_violations: Any = ()
) -> tuple[str, list[tuple[str, str]]]:
    """The category of the refusal, and field and code of what it lists."""
    with pytest.raises(errors.DecisionGraphError) as caught:
        check(sent, limits, payload_violations)
    violations: tuple[Violation, ...] = getattr(caught.value, "violations", ())
    return caught.value.category, [(violation.field, violation.code) for violation in violations]


def test_a_good_event_gets_canonical_payload_hash_and_instant() -> None:
    sent = event(payload={"summary": "ü", "outcome": "success"}, occurred_at="1970-01-01T01:00:00.000001+01:00")
    checked = check(sent)
    assert checked.event is sent
    assert checked.canonical_payload == '{"outcome":"success","summary":"ü"}'
    assert checked.occurred_at_micros == 1
    assert check(event()).payload_hash == "sha256:3863ee0a9a320461c866f2b3b4b746e6acf6251770f062fec4136d31ff1c0f99"


ACCEPTED: list[dict[str, Any]] = [
    {"idempotency_key": " "},
    {"idempotency_key": "é" * 100},
    {"event_id": "any text, not a UUID"},
    {"event_id": "i" * 200},
    {"trace_id": "t" * 200},
    {"trace_seq": 0},
    {"trace_seq": 2**63 - 1},
    {"correlation_id": ""},
    {"correlation_id": " "},
    {"causation_event_id": ""},
    {"source": Source("p", "s", "")},
    {"schema_version": 2**31 - 1},
    {"tags": ("a", "a", "ü" * 50)},
    {"tags": ("x",) * 64},
    {"occurred_at": "2026-01-01T00:00:00." + "0" * 43 + "Z"},
    {"payload": {"outcome": "success", "summary": "nul \0 del \x7f", "\0": 1}},
    {"payload": {"outcome": "success", "a": True, "n": 2**53 - 1}},
    {"payload": {"outcome": "success", "password": "rotated"}},
    {"payload": {"outcome": "success", "summary": "risk-score of task-7 in Asia"}},
]


@pytest.mark.parametrize("changes", ACCEPTED)
def test_unusual_but_good_events_pass(changes: dict[str, Any]) -> None:
    check(event(**changes))


BAD_KEYS = [
    ("", "REQUIRED"),
    ("a\0b", "NUL_NOT_ALLOWED"),
    ("\ud800", "UNPAIRED_SURROGATE"),
    ("k" * 201, "TOO_LONG"),
    ("é" * 100 + "a", "TOO_LONG"),
]


@pytest.mark.parametrize(("key", "code"), BAD_KEYS)
def test_the_key_is_checked_first(key: str, code: str) -> None:
    sent = event(idempotency_key=key, trace_id="", event_type="x", payload=5)
    assert refusal(sent) == ("invalid_argument", [("idempotency_key", code)])


INVALID_ENVELOPE: list[tuple[dict[str, Any], str, str]] = [
    ({"trace_id": "a\0"}, "trace_id", "NUL_NOT_ALLOWED"),
    ({"trace_id": "t" * 201}, "trace_id", "TOO_LONG"),
    ({"event_id": "\ud800"}, "event_id", "UNPAIRED_SURROGATE"),
    ({"event_id": "é" * 101}, "event_id", "TOO_LONG"),
    ({"source": Source("a\0", "s")}, "source.producer_id", "NUL_NOT_ALLOWED"),
    ({"source": Source("p", "s" * 201)}, "source.system", "TOO_LONG"),
    ({"source": Source("p", "s", "\udfff")}, "source.subsystem", "UNPAIRED_SURROGATE"),
    ({"actor": Actor("agent", "a" * 201)}, "actor.actor_id", "TOO_LONG"),
    ({"correlation_id": "\0"}, "correlation_id", "NUL_NOT_ALLOWED"),
    ({"causation_event_id": "c" * 201}, "causation_event_id", "TOO_LONG"),
    ({"tags": ("ok", "t" * 101)}, "tags[1]", "TOO_LONG"),
    ({"tags": ("a\0",)}, "tags[0]", "NUL_NOT_ALLOWED"),
    ({"tags": ("x",) * 65}, "tags", "TOO_MANY"),
    ({"trace_seq": -1}, "trace_seq", "OUT_OF_RANGE"),
    ({"trace_seq": 2**63}, "trace_seq", "OUT_OF_RANGE"),
    ({"occurred_at": ""}, "occurred_at", "REQUIRED"),
    ({"occurred_at": "2026-01-01T00:00:00"}, "occurred_at", "INVALID_TIMESTAMP"),
    ({"occurred_at": "2026-02-30T00:00:00Z"}, "occurred_at", "INVALID_TIMESTAMP"),
    ({"occurred_at": "2026-01-01T00:00:00." + "0" * 44 + "Z"}, "occurred_at", "TOO_LONG"),
]

SCHEMA_ENVELOPE: list[tuple[dict[str, Any], str, str]] = [
    ({"event_id": ""}, "event_id", "REQUIRED"),
    ({"event_id": "\u3000"}, "event_id", "BLANK"),
    ({"trace_id": ""}, "trace_id", "REQUIRED"),
    ({"trace_id": " "}, "trace_id", "BLANK"),
    ({"source": Source(" ", "s")}, "source.producer_id", "BLANK"),
    ({"source": Source("p", "")}, "source.system", "REQUIRED"),
    ({"actor": Actor("agent", "\t")}, "actor.actor_id", "BLANK"),
    ({"actor": Actor("robot", "r")}, "actor.actor_type", "NOT_ALLOWED"),
    ({"actor": Actor("Agent", "r")}, "actor.actor_type", "NOT_ALLOWED"),
    ({"actor": Actor("", "r")}, "actor.actor_type", "REQUIRED"),
    ({"schema_version": 0}, "schema_version", "OUT_OF_RANGE"),
    ({"schema_version": 2**31}, "schema_version", "OUT_OF_RANGE"),
    ({"tags": ("ok", " ")}, "tags[1]", "BLANK"),
    ({"tags": ("",)}, "tags[0]", "REQUIRED"),
]


@pytest.mark.parametrize(("changes", "field", "code"), INVALID_ENVELOPE)
def test_envelope_fields_that_cannot_be_stored_are_invalid_arguments(
    changes: dict[str, Any], field: str, code: str
) -> None:
    assert refusal(event(**changes)) == ("invalid_argument", [(field, code)])


@pytest.mark.parametrize(("changes", "field", "code"), SCHEMA_ENVELOPE)
def test_envelope_fields_of_the_wrong_shape_are_schema_violations(
    changes: dict[str, Any], field: str, code: str
) -> None:
    assert refusal(event(**changes)) == ("schema_violation", [(field, code)])


def test_every_broken_envelope_field_is_listed_and_one_invalid_argument_decides() -> None:
    sent = event(
        trace_id=" ", actor=Actor("robot", ""), source=Source("p" * 201, ""), tags=("", "t" * 101), trace_seq=-1
    )
    category, listed = refusal(sent)
    assert category == "invalid_argument"
    assert {field for field, _ in listed} == {
        "trace_id", "actor.actor_type", "actor.actor_id", "source.producer_id", "source.system", "tags[0]", "tags[1]",
        "trace_seq",
    }  # fmt: skip


def test_size_and_limit_are_named() -> None:
    with pytest.raises(errors.InvalidArgument, match=r"^trace_id: has 7 bytes in UTF-8; the limit is 5 bytes$"):
        check(event(trace_id="t" * 7), EventLimits(max_id_bytes=5))


@pytest.mark.parametrize(
    ("payload", "field", "code"),
    [
        ({"a": b"x"}, "payload.a", "NOT_JSON"),
        ({"a": ["\ud800"]}, "payload.a[0]", "UNPAIRED_SURROGATE"),
        ({"a": [0] * 10_000}, "payload", "TOO_MANY"),
    ],
)
def test_a_payload_that_is_not_json_comes_before_its_shape(payload: Any, field: str, code: str) -> None:
    assert refusal(event(event_type="x", payload=payload)) == ("invalid_argument", [(field, code)])


def test_ten_thousand_levels_are_an_invalid_argument() -> None:
    payload: Any = {}
    for _ in range(10_000):
        payload = {"a": payload}
    category, listed = refusal(event(payload=payload))
    assert (category, [code for _, code in listed]) == ("invalid_argument", ["TOO_DEEP"])


@pytest.mark.parametrize("payload", [None, [], "x", 5, 1.5, True])
def test_a_payload_that_is_no_object_is_a_schema_violation(payload: Any) -> None:
    category, listed = refusal(event(payload=payload))
    assert (category, [field for field, _ in listed]) == ("schema_violation", ["payload"])


def test_event_type_and_payload_are_reported_together() -> None:
    assert refusal(event(event_type="", payload=[])) == (
        "schema_violation",
        [("event_type", "UNKNOWN_EVENT_TYPE"), ("payload", "WRONG_TYPE")],
    )


def test_violations_of_a_typed_payload_are_added_once() -> None:
    typed = [Violation("payload.outcome", "STRING_IN", "typed"), Violation("payload.summary", "OTHER", "typed")]
    assert refusal(event(payload={}), payload_violations=typed) == (
        "schema_violation",
        [("payload.outcome", "REQUIRED"), ("payload.summary", "OTHER")],
    )


def test_nul_in_projected_text_comes_after_shape_and_before_the_guard() -> None:
    payload = {"cited_trace_id": "a\0", "reason": KEY, "n": 1.5}
    assert refusal(event(event_type="PrecedentCited", payload=payload)) == (
        "invalid_argument",
        [("payload.cited_trace_id", "NUL_NOT_ALLOWED")],
    )
    assert refusal(event(event_type="PrecedentCited", payload={**payload, "reason": ""})) == (
        "schema_violation",
        [("payload.reason", "REQUIRED")],
    )


def test_secrets_come_before_fractional_numbers() -> None:
    assert refusal(event(payload={"outcome": "success", "a": KEY, "n": 1.5})) == (
        "pii_policy_violation",
        [("payload.a", "OPENAI_STYLE_KEY")],
    )


def test_every_fractional_number_is_listed() -> None:
    assert refusal(event(payload={"outcome": "success", "a": [{"b": [1, 2.25]}], "c": 2**53})) == (
        "schema_violation",
        [("payload.a[0].b[1]", "FRACTIONAL_NUMBER"), ("payload.c", "NUMBER_OUT_OF_RANGE")],
    )


def test_a_payload_up_to_the_limit_passes_and_one_byte_more_is_refused() -> None:
    frame = len('{"outcome":"success","summary":""}')
    check(event(payload={"outcome": "success", "summary": "x" * (262_144 - frame)}))
    with pytest.raises(errors.InvalidArgument, match=r"^payload: has 262146 bytes .* limit is 262144 bytes$"):
        check(event(payload={"outcome": "success", "summary": "x" * (262_144 - frame) + "é"}))


# One way to break each step, in the order of the checks. They can be combined: each leaves the others as they are.
BREAKS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("invalid_argument", "idempotency_key", {"idempotency_key": ""}, {}),
    ("schema_violation", "actor.actor_type", {"actor": Actor("robot", "r")}, {}),
    ("invalid_argument", "payload.j", {}, {"j": "\ud800"}),
    ("schema_violation", "payload.title", {}, {"title": 5}),
    ("invalid_argument", "payload.workflow", {}, {"workflow": "a\0"}),
    ("pii_policy_violation", "payload.s", {}, {"s": KEY}),
    ("schema_violation", "payload.n", {}, {"n": 0.5}),
    ("invalid_argument", "payload", {}, {"large": "x" * 300_000}),
]


@given(st.sets(st.integers(0, len(BREAKS) - 1), min_size=1))
def test_an_event_broken_in_several_steps_reports_the_earliest(steps: set[int]) -> None:
    envelope: dict[str, Any] = {"event_type": "TraceStarted"}
    payload: dict[str, Any] = {
        "workflow": "w",
        "title": "t",
        "primary_entity": {"entity_type": "e", "entity_id": "1"},
    }
    for step in steps:
        envelope |= BREAKS[step][2]
        payload |= BREAKS[step][3]
    category, field, _, _ = BREAKS[min(steps)]
    found_category, listed = refusal(event(**envelope, payload=payload))
    assert (found_category, [name for name, _ in listed]) == (category, [field])


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary(max_size=2)
    | st.sampled_from(["success", KEY, "a\0", "allow", "\ud800", 2**53, 10**300, "TraceStarted"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(
            st.sampled_from(["outcome", "policy", "policy_id", "inputs", "decision", "workflow"])
            | st.text()
            | st.integers(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
any_text = st.text(st.characters(), max_size=8) | st.sampled_from(
    ["TraceFinished", "PolicyEvaluated", "agent", "k" * 300]
)


@given(
    st.builds(
        Event,
        trace_id=any_text,
        event_type=any_text,
        occurred_at=any_text | st.just("2026-01-01T00:00:00Z"),
        source=st.builds(Source, any_text, any_text, st.none() | any_text),
        actor=st.builds(Actor, any_text, any_text),
        idempotency_key=any_text,
        payload=anything,
        event_id=st.none() | any_text,
        trace_seq=st.none() | st.integers(),
        schema_version=st.integers(),
        tags=st.lists(any_text, max_size=3).map(tuple),
    )
)
def test_any_input_passes_or_is_refused_on_purpose(sent: Event) -> None:
    try:
        checked = check(sent)
    except errors.DecisionGraphError as refused:
        refused.message.encode()
    else:
        assert checked.event is sent


@given(anything)
def test_any_payload_in_a_good_envelope_passes_or_is_refused_on_purpose(value: Any) -> None:
    payload = {**(value if isinstance(value, dict) else {"value": value}), "outcome": "success"}
    try:
        checked = check(event(payload=payload))
    except errors.DecisionGraphError as refused:
        refused.message.encode()
    else:
        assert checked.payload_hash.startswith("sha256:")


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(EventLimits)])
def test_every_limit_can_be_set_lower(field: str) -> None:
    sent = event(tags=("tag", "tag"), payload={"outcome": "success", "a": [{}]})
    check(sent)
    assert refusal(sent, dataclasses.replace(LIMITS, **{field: 0}))[0] == "invalid_argument"
