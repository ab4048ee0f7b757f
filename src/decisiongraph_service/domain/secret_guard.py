"""The secret guard: refuses events that carry what looks like a credential or a payment card number.

Two modes (docs/reference/EVENT_ENVELOPE_CONTRACT.md, Secret guard): `precise` knows what credentials look
like, `reference` is the frozen substring rule. Both scan the same texts, and name pattern and path but never
the value.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from decisiongraph_service.domain import canonical
from decisiongraph_service.domain.errors import Violation
from decisiongraph_service.domain.events import Event

GuardMode: TypeAlias = Literal["precise", "reference"]


class SecretGuard(Protocol):
    """What decides whether an event carries a secret."""

    def scan(self, event: Event, payload_texts: Sequence[str] | None = None) -> list[Violation]:
        """List each pattern found in each scanned text; every violation is PII_POLICY_VIOLATION.

        Scanned are the text values of the payload at any depth, the tags, and of the envelope
        `actor.actor_type`, `actor.actor_id`, `source.producer_id`, `source.system`, `source.subsystem`,
        `correlation_id`, `causation_event_id` and `idempotency_key`. Not scanned are keys of objects,
        `event_id`, `trace_id`, `event_type`, `occurred_at`, numbers and booleans.

        `payload_texts` are the text values of the payload, if the caller has them already.
        """
        ...


def guard_for(mode: GuardMode) -> SecretGuard:
    """Return the guard of a mode. Guards hold no state and may be shared."""
    return _PatternGuard(_PRECISE if mode == "precise" else _REFERENCE)


@dataclass(frozen=True, slots=True)
class _Pattern:
    code: str
    description: str
    markers: tuple[str, ...]
    """One of these is in the lower-case form of every text that matches; card numbers have none."""
    found_in: Callable[[str], object]
    """Tells by its truth whether the pattern matches a text."""


class _PatternGuard:
    """Looks at all texts at once, first for markers, then for patterns; only for a find text by text."""

    def __init__(self, patterns: Sequence[_Pattern]) -> None:
        self._patterns = tuple(patterns)
        self._markers = tuple(marker for pattern in patterns for marker in pattern.markers)
        self._guards_cards = any(not pattern.markers for pattern in patterns)

    def scan(self, event: Event, payload_texts: Sequence[str] | None = None) -> list[Violation]:
        """See `SecretGuard.scan`."""
        everything = "\n".join(_texts(event, payload_texts))  # no pattern matches across a line break
        lowered = everything.lower()
        if not self._may_hold_secret(lowered):
            return []
        found = [
            pattern for pattern in self._patterns if _has_marker(pattern, lowered) and pattern.found_in(everything)
        ]
        if not found:
            return []
        return [
            Violation(_field(path), pattern.code, pattern.description)
            for path, text in _texts_with_paths(event)
            for pattern in found
            if pattern.found_in(text)
        ]

    def _may_hold_secret(self, lowered: str) -> bool:
        for marker in self._markers:
            if marker in lowered:
                return True
        return self._guards_cards and _DIGITS_OF_A_CARD.search(lowered) is not None


def _has_marker(pattern: _Pattern, lowered: str) -> bool:
    return not pattern.markers or any(marker in lowered for marker in pattern.markers)


def _texts(event: Event, payload_texts: Sequence[str] | None) -> list[str]:
    if payload_texts is None:
        payload_texts = [text for text in canonical.scalars(event.payload) if isinstance(text, str)]
    found = [*payload_texts, *event.tags]
    found += [text for _, text in _envelope_fields(event) if text is not None]
    return found


_TextPath: TypeAlias = "canonical.JsonPath | str"
"""Where a text is: in the payload, or the finished name of an envelope field."""


def _texts_with_paths(event: Event) -> Iterator[tuple[_TextPath, str]]:
    for path, value in canonical.walk(event.payload):
        if isinstance(value, str):
            yield path, value
    for index, tag in enumerate(event.tags):
        yield f"tags[{index}]", tag
    for field, text in _envelope_fields(event):
        if text is not None:
            yield field, text


def _field(path: _TextPath) -> str:
    return path if isinstance(path, str) else canonical.format_path(path)


def _envelope_fields(event: Event) -> tuple[tuple[str, str | None], ...]:
    actor, source = event.actor, event.source
    return (
        ("actor.actor_type", actor.actor_type),
        ("actor.actor_id", actor.actor_id),
        ("source.producer_id", source.producer_id),
        ("source.system", source.system),
        ("source.subsystem", source.subsystem),
        ("correlation_id", event.correlation_id),
        ("causation_event_id", event.causation_event_id),
        ("idempotency_key", event.idempotency_key),
    )


# --- precise ---
#
# A known prefix counts only where no ASCII letter or digit stands before it, so `risk-score` holds no `sk-`.
# Every expression below is linear: runs are of fixed length, possessive, or begin where no other run of
# theirs can.

_TOKEN_START = r"(?<![A-Za-z0-9])"  # noqa: S105 - an expression, not a credential

# Names of assignments. `db_password` and `x-api-key` are names as well, and so is `clientSecret` with its
# hump; `tokens` and `secretary` are not.
_NAME = (
    rf"(?:{_TOKEN_START}(?i:password|passwd|secret|token|api[_-]?key)"
    r"|(?<=[a-z0-9])(?:Password|Passwd|Secret|Token|Api[_-]?Key))"
)
_QUOTE = r"""(?:\\?["'])"""
# What stands for a value that is not there: masked, a place holder, empty, or none.
_MASK = (
    rf"""{_QUOTE}?(?:[*•]+(?![^\s"',;&)\\])|[<\[({{](?i:redacted|masked|hidden|removed)[>\])}}]|<[A-Za-z _-]{{1,40}}>"""
    r"""|\$\{|\{\{|(?i:null|none|nil|true|false)(?![A-Za-z0-9]))|\\?(?:""|'')"""
)
_VALUE = rf"(?!{_MASK}){_QUOTE}?\S{{4}}"
# After a colon and a blank prose goes on: only quoted JSON, or a word of letters and digits, counts there.
_LETTERS_AND_DIGITS = r"""(?=[^\s"']*[0-9])(?=[^\s"']*[A-Za-z])[^\s"']{6}"""
_ASSIGNMENT = re.compile(
    rf"{_NAME}(?:{_QUOTE}?[ \t]{{0,2}}=(?!=)[ \t]{{0,2}}{_VALUE}"
    rf"|{_QUOTE}?:(?!//){_VALUE}"
    rf"|{_QUOTE}[ \t]{{0,2}}:[ \t]{{0,2}}(?={_QUOTE}){_VALUE}"
    rf"|[ \t]{{0,2}}:[ \t]{{1,2}}{_QUOTE}?{_LETTERS_AND_DIGITS})"
)

_OPENAI_STYLE_KEY = re.compile(rf"{_TOKEN_START}sk-[A-Za-z0-9_-]{{16}}")
_GITHUB_TOKEN = re.compile(rf"{_TOKEN_START}(?:gh[pousr]_[A-Za-z0-9_]{{20}}|github_pat_[A-Za-z0-9_]{{20}})")
_SLACK_TOKEN = re.compile(rf"{_TOKEN_START}xox[abpr]-[A-Za-z0-9-]{{10}}")
_AWS_ACCESS_KEY_ID = re.compile(rf"{_TOKEN_START}A[KS]IA[A-Z0-9]{{16}}(?![A-Za-z0-9])")
_JSON_WEB_TOKEN = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8}")
# Written in lower case it may be prose ("bearer responsibilities"), so the token must then hold a digit.
_BEARER_TOKEN = re.compile(
    rf"{_TOKEN_START}(?:Bearer[ ][A-Za-z0-9._~+/=-]{{16}}"
    r"|(?i:bearer)[ \t]{1,4}(?=[A-Za-z0-9._~+/=-]{16})[A-Za-z._~+/=-]*+[0-9])"
)
_PRIVATE_KEY = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY")

_DIGITS_OF_A_CARD = re.compile(r"[0-9](?:[ -]?[0-9]){12}")
_UUID = re.compile(r"(?<![0-9A-Za-z])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])")
# A number stands alone: it is not part of a word, a hex text, a phone number (+49...) or a decimal number.
_BEFORE = r"(?<![0-9A-Za-z+])(?<![0-9]\.)"
_AFTER = r"(?![0-9A-Za-z]|\.[0-9])"
_CARD_SHAPES = (
    re.compile(rf"{_BEFORE}[0-9]{{13,19}}{_AFTER}"),
    # as printed, also within a longer run: `4111 1111 1111 1111 12/29`
    re.compile(rf"{_BEFORE}(?=([0-9]{{4}}([ -])[0-9]{{4}}\2[0-9]{{4}}\2[0-9]{{4}}){_AFTER})"),
    re.compile(rf"{_BEFORE}(?=([0-9]{{4}}([ -])[0-9]{{6}}\2[0-9]{{4,5}}){_AFTER})"),
    # grouped in any other way, if the whole run is the number
    re.compile(rf"{_BEFORE}(?<![0-9][ -])[0-9](?:[ -]?[0-9]){{12,18}}+(?![ -]?[0-9]){_AFTER}"),
)
# What issuers use (ISO/IEC 7812). For bare runs of digits it keeps out time stamps, IMEIs, ISBNs and most barcodes and
# counters, of which one in ten or more is Luhn-valid.
_ISSUED = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"  # Visa
    r"|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"  # Mastercard
    r"|3[47][0-9]{13}"  # American Express
    r"|3(?:0[0-59]|[689][0-9])[0-9]{11}(?:[0-9]{2,5})?"  # Diners Club
    r"|35(?:2[89]|[3-8][0-9])[0-9]{12,15}"  # JCB
    r"|(?:5[06-9]|6[0-9])[0-9]{14,17}"  # Maestro, Discover, UnionPay
    r"|81[0-9]{14,17}"  # UnionPay
)


def _holds_card_number(text: str) -> bool:
    if _DIGITS_OF_A_CARD.search(text) is None:
        return False
    without_uuids = _UUID.sub("|", text)
    return any(
        _is_card_number(match.group(1) if shape.groups else match.group())
        for shape in _CARD_SHAPES
        for match in shape.finditer(without_uuids)
    )


def _is_card_number(candidate: str) -> bool:
    digits = candidate.replace(" ", "").replace("-", "")
    # Whoever groups digits like a card means one; a bare run of digits must be a number that an issuer gives out.
    grouped = len(digits) < len(candidate)
    return (grouped or _ISSUED.fullmatch(digits) is not None) and _is_luhn_valid(digits)


_LUHN_SINGLE = bytes.maketrans(b"0123456789", bytes(range(10)))
_LUHN_DOUBLED = bytes.maketrans(b"0123456789", bytes([0, 2, 4, 6, 8, 1, 3, 5, 7, 9]))


def _is_luhn_valid(digits: str) -> bool:
    raw = digits.encode()
    single, doubled = raw[-1::-2].translate(_LUHN_SINGLE), raw[-2::-2].translate(_LUHN_DOUBLED)
    return (sum(single) + sum(doubled)) % 10 == 0


def _pattern(code: str, description: str, markers: Sequence[str], found_in: Callable[[str], object]) -> _Pattern:
    return _Pattern(code, f"{description}; remove it or send a reference to it", tuple(markers), found_in)


_PRECISE: Final = (
    _pattern(
        "OPENAI_STYLE_KEY",
        "contains an API key (`sk-` and 16 or more token characters)",
        ["sk-"],
        _OPENAI_STYLE_KEY.search,
    ),
    _pattern(
        "GITHUB_TOKEN",
        "contains a GitHub token (`ghp_`, `gho_`, `ghu_`, `ghs_`, `ghr_` or `github_pat_` and 20 characters)",
        ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"],
        _GITHUB_TOKEN.search,
    ),
    _pattern(
        "SLACK_TOKEN",
        "contains a Slack token (`xoxa-`, `xoxb-`, `xoxp-` or `xoxr-`)",
        ["xox"],
        _SLACK_TOKEN.search,
    ),
    _pattern(
        "AWS_ACCESS_KEY_ID",
        "contains an AWS access key id (`AKIA` or `ASIA` and 16 upper-case letters and digits)",
        ["akia", "asia"],
        _AWS_ACCESS_KEY_ID.search,
    ),
    _pattern("JSON_WEB_TOKEN", "contains a JSON Web Token", ["eyj"], _JSON_WEB_TOKEN.search),
    _pattern(
        "BEARER_TOKEN",
        "contains a bearer token (`Bearer ` and 16 or more characters)",
        ["bearer"],
        _BEARER_TOKEN.search,
    ),
    _pattern("PRIVATE_KEY", "contains the header of a PEM private key", ["-----begin"], _PRIVATE_KEY.search),
    _pattern(
        "PASSWORD_ASSIGNMENT",
        "assigns a value to a password, secret, token or API key",
        ["password", "passwd", "secret", "token", "api_key", "apikey", "api-key"],
        _ASSIGNMENT.search,
    ),
    _pattern("PAYMENT_CARD_NUMBER", "contains a payment card number", [], _holds_card_number),
)

# --- reference ---

REFERENCE_STRINGS: Final = {
    "BEARER_TOKEN": ("Bearer ",),
    "SLACK_TOKEN": ("xoxb-", "xoxp-", "xoxa-", "xoxr-"),
    "API_KEY": ("sk-",),
    "GITHUB_TOKEN": ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
    "PRIVATE_KEY": (
        "-----BEGIN",
        "-----BEGIN PRIVATE KEY",
        "-----BEGIN RSA PRIVATE KEY",
        "-----BEGIN EC PRIVATE KEY",
        "-----BEGIN OPENSSH PRIVATE KEY",
    ),
    "AWS_ACCESS_KEY_ID": ("AKIA", "ASIA"),
    "PASSWORD_ASSIGNMENT": (
        "api_key=",
        "apikey=",
        "api-key:",
        "password=",
        "passwd=",
        "secret=",
        "token=",
    ),
}
"""The frozen strings of mode `reference` by pattern name; compared in lower case, at any place."""


def _reference_pattern(code: str, strings: Sequence[str]) -> _Pattern:
    lowered = tuple(string.lower() for string in strings)
    names = ", ".join(f"`{string}`" for string in strings)
    description = f"contains one of {names} in any case; this deployment refuses these texts at any place"
    return _Pattern(code, description, lowered, lambda text: any(string in text.lower() for string in lowered))


_REFERENCE: Final = tuple(_reference_pattern(code, strings) for code, strings in REFERENCE_STRINGS.items())
