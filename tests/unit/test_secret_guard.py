"""What the guard refuses and what it lets pass, in both modes."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisiongraph_service.domain import secret_guard
from decisiongraph_service.domain.events import Actor, Event, Source

PRECISE = secret_guard.guard_for("precise")
REFERENCE = secret_guard.guard_for("reference")

# Split in two, so that no scanner takes this file for a leak.
KEY = "sk" + "-abcdefghijkl1234"
JWT = "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0In0" + ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"

MUST_FAIL = [
    (KEY, "OPENAI_STYLE_KEY"),
    ("sk" + "-proj-Abc_defghij-klmn0", "OPENAI_STYLE_KEY"),
    ("key=sk" + "-ant-api03-abcdefghij", "OPENAI_STYLE_KEY"),
    ("密钥" + KEY, "OPENAI_STYLE_KEY"),
    ("ghp" + "_abcdefghijklmnopqrst", "GITHUB_TOKEN"),
    ("gho" + "_0123456789abcdefghij0123456789", "GITHUB_TOKEN"),
    ("ghu" + "_abcdefghijklmnopqrst", "GITHUB_TOKEN"),
    ("ghs" + "_abcdefghijklmnopqrst", "GITHUB_TOKEN"),
    ("(ghr" + "_abcdefghijklmnopqrst)", "GITHUB_TOKEN"),
    ("github" + "_pat_11ABCDEFG0abcdefghij_xyz", "GITHUB_TOKEN"),
    ("xoxb" + "-1234567890-abc", "SLACK_TOKEN"),
    ("xoxp" + "-abcdefghij", "SLACK_TOKEN"),
    ("AKIA" + "IOSFODNN7EXAMPLE", "AWS_ACCESS_KEY_ID"),
    ("id:ASIA" + "1234567890ABCDEF.", "AWS_ACCESS_KEY_ID"),
    (JWT, "JSON_WEB_TOKEN"),
    (f"id_{'x'}: {JWT}", "JSON_WEB_TOKEN"),
    ("Bearer abcdefghijklmnop", "BEARER_TOKEN"),
    ("Authorization: bearer abcdefghijklmnop1", "BEARER_TOKEN"),
    ("-----BEGIN PRIVATE KEY-----", "PRIVATE_KEY"),
    ("-----BEGIN RSA PRIVATE KEY----- MIIE", "PRIVATE_KEY"),
    ("x\n-----BEGIN OPENSSH PRIVATE KEY-----\n", "PRIVATE_KEY"),
    ("-----BEGIN PGP PRIVATE KEY BLOCK-----", "PRIVATE_KEY"),
    ("password=hunter2hunter2", "PASSWORD_ASSIGNMENT"),
    ("PASSWD=abcd", "PASSWORD_ASSIGNMENT"),
    ("secret:abcd", "PASSWORD_ASSIGNMENT"),
    ("?token=abcd&x=1", "PASSWORD_ASSIGNMENT"),
    ("api_key=abcd", "PASSWORD_ASSIGNMENT"),
    ("apikey:abcd", "PASSWORD_ASSIGNMENT"),
    ("x-api-key: 1234abcd", "PASSWORD_ASSIGNMENT"),
    ("db_password=abcd", "PASSWORD_ASSIGNMENT"),
    ("my-token=abcd", "PASSWORD_ASSIGNMENT"),
    ("clientSecret=abcd", "PASSWORD_ASSIGNMENT"),
    ("password = correct-horse", "PASSWORD_ASSIGNMENT"),
    ("password: hunter2", "PASSWORD_ASSIGNMENT"),
    ('{"password": "correcthorse"}', "PASSWORD_ASSIGNMENT"),
    ('{"password":"correcthorse"}', "PASSWORD_ASSIGNMENT"),
    ('{\\"password\\":\\"correcthorse\\"}', "PASSWORD_ASSIGNMENT"),
    ("password='open sesame'", "PASSWORD_ASSIGNMENT"),
    ("password=***hunter", "PASSWORD_ASSIGNMENT"),
    ("4111111111111111", "PAYMENT_CARD_NUMBER"),
    ("4111 1111 1111 1111", "PAYMENT_CARD_NUMBER"),
    ("4111-1111-1111-1111", "PAYMENT_CARD_NUMBER"),
    # grouped like a card: whoever issues it
    ("1234-5678-1234-5670", "PAYMENT_CARD_NUMBER"),
    ("41 11 11 11 11 11 11 11", "PAYMENT_CARD_NUMBER"),
    ("card 4111 1111 1111 1111 12/29", "PAYMENT_CARD_NUMBER"),
    ("order 12 4111111111111111 2026-03-02T09:00:00Z", "PAYMENT_CARD_NUMBER"),
    ("卡号4111111111111111", "PAYMENT_CARD_NUMBER"),
    ("4222222222222", "PAYMENT_CARD_NUMBER"),
    ("5500 0000 0000 0004", "PAYMENT_CARD_NUMBER"),
    ("2223003122003222", "PAYMENT_CARD_NUMBER"),
    ("3782 822463 10005", "PAYMENT_CARD_NUMBER"),
    ("30569309025904", "PAYMENT_CARD_NUMBER"),
    ("3530111333300000", "PAYMENT_CARD_NUMBER"),
    ("6011111111111117", "PAYMENT_CARD_NUMBER"),
    ("6304000000000000", "PAYMENT_CARD_NUMBER"),
    ("4111111111111111, 5500000000000004.", "PAYMENT_CARD_NUMBER"),
]

MUST_PASS = [
    "",
    "risk-score",
    "risk-score-evaluation-pipeline",
    "task-7",
    "task-abcdefghijklmnopqrstuvwxyz",
    "desk-123",
    "sk-SK",
    "SK-BRATISLAVA-REGION-0001",
    "sk-",
    "Asia",
    "asia-pacific",
    "ASIA",
    "ASIA PACIFIC REGION REPORT",
    "ASIAPACIFICREGIONREPORTS",
    "ghp_short",
    "roughp_abcdefghijklmnopqrst",
    "xoxb-1",
    "bearer",
    "Bearer of bad news",
    "the bearer responsibilities",
    "eyJhbGciOiJIUzI1NiJ9",
    "-----BEGIN CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----",
    "-----BEGIN",
    "token=",
    "token= ",
    "token=abc",
    "password=",
    "secret: x",
    "secret:",
    "password: customer forgot it",
    "token: the third one",
    "max_tokens: 4096",
    "max_tokens=4096",
    "tokens=40960",
    "secretary: Jones-1234",
    "password_hash",
    "passwordless=true",
    "token_type=refund",
    "mytoken=abcd",
    "password=********",
    "password: ***",
    "token=[REDACTED]",
    "api_key=<your-api-key>",
    "secret=${VAULT_SECRET}",
    "token={{ token }}",
    '{"token":null,"password":"","x":1}',
    "token == other",
    "secret://vault/refunds",
    "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945",
    "550e8400-e29b-41d4-a716-446655440000",
    "41111111-1111-1111-1111-111111111111",
    "00000000-0000-0000-4111-111111111111",
    "ab4111111111111111",
    "4111111111111111f",
    "0x4111111111111111",
    "4111111111111112",
    "41111111111111111111",
    "4111  1111  1111  1111",
    "4111.1111.1111.1111",
    "0.4111111111111111",
    "4111111111111111.25",
    "+4915112345678",
    "+4111111111111111",
    "2026-03-02T09:00:00.123456Z",
    "2026-03-02 10:00:05",
    "20260302100005",
    "1767225600000",
    "1767225600008",
    "1767225600000000000",
    "356938035643809",
    "978-3-16-148410-0",
    "9783161484100",
    "0000000000000000",
    "order 1234-5678-9012-3456",
    "DE89 3704 0044 0532 0130 00",
    "A-77120",
    "m.okafor@example.org",
    "https://shop.example/orders/77120?page=2",
]

REFERENCE_FAIL = ["risk-score", "task-7", "Asia", "BEARER x", "Token=", "x-----begin", "API-KEY:", "xOxB-", "GHP_"]
REFERENCE_PASS = ["bearer", "secret: x", "token:abcd", "4111111111111111", "github_pat_abc", JWT, "api-key=abcd"]


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


def codes(guard: secret_guard.SecretGuard, text: str) -> set[str]:
    return {violation.code for violation in guard.scan(event(payload={"summary": text}))}


@pytest.mark.parametrize(("text", "code"), MUST_FAIL)
def test_credentials_are_refused_with_the_name_of_their_pattern(text: str, code: str) -> None:
    assert code in codes(PRECISE, text)
    assert code in codes(PRECISE, f"before {text} after")
    assert code in codes(PRECISE, f"before\n{text}\nafter")


@pytest.mark.parametrize("text", MUST_PASS)
def test_ordinary_text_passes(text: str) -> None:
    assert codes(PRECISE, text) == set()
    assert codes(PRECISE, f"before, {text} , after") == set()


@pytest.mark.parametrize("text", MUST_PASS)
def test_ordinary_text_passes_next_to_a_secret(text: str) -> None:
    payload = {"a": text, "b": KEY, "c": text}
    assert [violation.field for violation in PRECISE.scan(event(payload=payload))] == ["payload.b"]


@pytest.mark.parametrize(("text", "code"), MUST_FAIL)
def test_the_value_is_never_named(text: str, code: str) -> None:
    for violation in PRECISE.scan(event(payload={"summary": text})):
        assert text not in violation.description


SCANNED: list[tuple[dict[str, Any], str]] = [
    ({"payload": {"a": [{"b": KEY}]}}, "payload.a[0].b"),
    ({"payload": {"weird key": KEY}}, 'payload["weird key"]'),
    ({"tags": ("ok", KEY)}, "tags[1]"),
    ({"actor": Actor(KEY, "a")}, "actor.actor_type"),
    ({"actor": Actor("agent", KEY)}, "actor.actor_id"),
    ({"source": Source(KEY, "s")}, "source.producer_id"),
    ({"source": Source("p", KEY)}, "source.system"),
    ({"source": Source("p", "s", KEY)}, "source.subsystem"),
    ({"correlation_id": KEY}, "correlation_id"),
    ({"causation_event_id": KEY}, "causation_event_id"),
    ({"idempotency_key": KEY}, "idempotency_key"),
]


@pytest.mark.parametrize("guard", [PRECISE, REFERENCE])
@pytest.mark.parametrize(("changes", "field"), SCANNED)
def test_scanned_fields_are_named_by_path(guard: secret_guard.SecretGuard, changes: dict[str, Any], field: str) -> None:
    assert [violation.field for violation in guard.scan(event(**changes))] == [field]


@pytest.mark.parametrize("guard", [PRECISE, REFERENCE])
@pytest.mark.parametrize(
    "changes",
    [
        {"event_id": KEY},
        {"trace_id": KEY},
        {"event_type": KEY},
        {"occurred_at": KEY},
        {"payload": {KEY: 1, "password=hunter2": [4111111111111111]}},
    ],
)
def test_other_fields_keys_and_numbers_are_not_scanned(
    guard: secret_guard.SecretGuard, changes: dict[str, Any]
) -> None:
    assert guard.scan(event(**changes)) == []


def test_every_pattern_in_every_text_is_listed() -> None:
    found = PRECISE.scan(event(payload={"a": f"{KEY} {JWT}"}, tags=(KEY,)))
    assert [(violation.field, violation.code) for violation in found] == [
        ("payload.a", "OPENAI_STYLE_KEY"),
        ("payload.a", "JSON_WEB_TOKEN"),
        ("tags[0]", "OPENAI_STYLE_KEY"),
    ]


def test_a_secret_is_not_put_together_from_two_texts() -> None:
    assert PRECISE.scan(event(payload={"a": ["password=", "hunter2", "4111 1111", "1111 1111"]})) == []


def test_the_reference_rule_has_its_25_strings() -> None:
    strings = [string for group in secret_guard.REFERENCE_STRINGS.values() for string in group]
    assert len(strings) == len(set(strings)) == 25


@pytest.mark.parametrize("string", [string for group in secret_guard.REFERENCE_STRINGS.values() for string in group])
def test_every_reference_string_is_refused_at_any_place_in_any_case(string: str) -> None:
    for text in (string, string.upper(), string.lower(), f"x{string}y"):
        assert codes(REFERENCE, text) != set()


@pytest.mark.parametrize("text", REFERENCE_FAIL)
def test_the_reference_rule_knows_no_word_boundaries(text: str) -> None:
    assert codes(REFERENCE, text) != set()


@pytest.mark.parametrize("text", REFERENCE_PASS)
def test_the_reference_rule_has_no_other_patterns(text: str) -> None:
    assert codes(REFERENCE, text) == set()


@given(st.text(alphabet="skxob-ghp_AIa=tokenearBr :", max_size=30))
def test_the_reference_rule_is_substring_search(text: str) -> None:
    strings = [string for group in secret_guard.REFERENCE_STRINGS.values() for string in group]
    expected = any(string.lower() in text.lower() for string in strings)
    assert bool(codes(REFERENCE, text)) is expected


def luhn_digit(digits: str) -> str:
    total = 0
    for position, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 if position % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return str(-total % 10)


@given(st.integers(0, 10**14 - 1), st.sampled_from(["", " ", "-"]))
def test_visa_numbers_are_refused_by_their_check_digit(number: int, separator: str) -> None:
    digits = f"4{number:014}"
    card = digits + luhn_digit(digits)
    groups = [card[start : start + 4] for start in range(0, 16, 4)]
    assert codes(PRECISE, separator.join(groups)) == {"PAYMENT_CARD_NUMBER"}
    wrong = card[:-1] + str((int(card[-1]) + 1) % 10)
    assert codes(PRECISE, wrong) == set()


HARD = [
    "sk-", "eyJ_", "eyJaaaaaaaaaa.", "bearer ", "bearer\t", "4", "4 ", "4-", "4.", "4444 ", "password: ", "password=*",
    "token", "-----BEGIN ", "-----BEGIN AAAA AAAA AAAA ", '"password" ', "a", "ghp_", "AKIA", "xoxb-", "token=<a ",
    "550e8400-e29b-41d4-a716-", "token:  a",
]  # fmt: skip


@pytest.mark.parametrize("piece", HARD)
@pytest.mark.parametrize("end", ["", "a", "*" * 1000, "1" * 1000])
def test_the_time_for_a_text_grows_with_its_length_only(piece: str, end: str) -> None:
    started = time.process_time()
    codes(PRECISE, piece * (65_536 // len(piece)) + end)
    assert time.process_time() - started < 1.0


@given(st.text(max_size=200))
def test_any_text_can_be_scanned(text: str) -> None:
    for guard in (PRECISE, REFERENCE):
        assert all(violation.field == "payload.summary" for violation in guard.scan(event(payload={"summary": text})))
