"""Canonical JSON, payload hash and digest text, and the checks that make a value fit for them.

Sources: docs/reference/EVENT_ENVELOPE_CONTRACT.md (canonical JSON) and docs/reference/DIGEST_INVARIANTS.md
(digests). The walks here are iterative: no depth of nesting exhausts the stack.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import orjson

from decisiongraph_service.domain import text as texts
from decisiongraph_service.domain.errors import Violation
from decisiongraph_service.domain.events import JsonValue
from decisiongraph_service.domain.limits import EventLimits

MAX_INTEGER: Final = 2**53 - 1
"""Largest magnitude of a number in a payload: what a double holds exactly."""

JsonPath: TypeAlias = "tuple[JsonPath, str | int] | None"
"""Path of a value, innermost step last; `None` is the payload itself. `format_path` writes it."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_KEY_IN_PATH = 64


def canonical_json(value: JsonValue) -> str:
    """Return the one JSON text of a value: keys in code-point order, no blanks, only necessary escapes.

    The value must have passed `check_json` and `check_numbers`; then nothing is raised.

    Raises:
        TypeError: The value did not pass them (a type outside JSON, an unpaired surrogate, an integer beyond
            64 bits, or more than 254 levels).
    """
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def payload_hash(canonical: str) -> str:
    """Return `sha256:` and the lower-case hex SHA-256 of a payload's canonical JSON in UTF-8."""
    return sha256_text(canonical)


def sha256_text(text: str) -> str:
    """Return `sha256:` and the lower-case hex SHA-256 of a text in UTF-8."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def walk(value: JsonValue) -> Iterator[tuple[JsonPath, JsonValue]]:
    """Yield every value of a payload with its path, in document order, containers before their members."""
    stack: list[tuple[JsonPath, JsonValue]] = [(None, value)]
    while stack:
        item = stack.pop()
        yield item
        path, current = item
        if isinstance(current, dict):
            stack.extend([((path, key), member) for key, member in reversed(current.items())])
        elif isinstance(current, list):
            stack.extend([((path, index), current[index]) for index in range(len(current) - 1, -1, -1)])


def format_path(path: JsonPath) -> str:
    """Write a path as callers read it: `payload.facts[2].value`, `payload["weird key"]`.

    Keys of more than 64 characters are cut and end with an ellipsis.
    """
    steps: list[str] = []
    while path is not None:
        path, step = path
        steps.append(_format_step(step))
    return "payload" + "".join(reversed(steps))


def _format_step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if len(step) > _MAX_KEY_IN_PATH:
        step = step[:_MAX_KEY_IN_PATH] + "…"
    if _IDENTIFIER.fullmatch(step):
        return f".{step}"
    return f"[{json.dumps(step, ensure_ascii=texts.has_unpaired_surrogate(step))}]"


def scalars(value: JsonValue) -> list[JsonValue]:
    """Return every text, number, boolean and null of a payload, in no particular order and without paths."""
    found: list[JsonValue] = []
    stack: list[JsonValue] = [value]
    while stack:
        current = stack.pop()
        if isinstance(current, dict):
            stack.extend(current.values())
        elif isinstance(current, list):
            stack.extend(current)
        else:
            found.append(current)
    return found


def check_json(value: JsonValue, limits: EventLimits) -> list[Violation]:
    """List where a payload is not JSON, cannot be encoded, or is nested too deeply or too large.

    JSON is what the types `dict` (with `str` keys), `list`, `str`, `int`, `float`, `bool` and `None` hold;
    which numbers, `check_numbers` says. Every violation is INVALID_ARGUMENT (EVENT_ENVELOPE_CONTRACT.md).
    What lies below the deepest allowed level is not looked at, and the walk ends when the number of values
    exceeds its limit.
    """
    return [] if content_of(value, limits) is not None else _json_violations(value, limits)


_JSON_TYPES: Final = frozenset({dict, list, str, int, float, bool, type(None)})
_TEXT_ONLY: Final = frozenset({str})
_Container: TypeAlias = dict[str, JsonValue] | list[JsonValue]


@dataclass(frozen=True, slots=True)
class PayloadContent:
    """What one walk through a payload finds, for the checks that need no paths while nothing is wrong."""

    texts: list[str]
    """Every text value, in no particular order."""
    numbers: list[int | float]
    """Every number."""


def content_of(value: JsonValue, limits: EventLimits) -> PayloadContent | None:
    """Return the texts and numbers of a payload, or `None` if `check_json` has something to say about it."""
    if type(value) is not dict:
        return None
    content = PayloadContent([], [])
    keys: list[str] = []
    level: list[_Container] = [value]
    seen = 1
    for _ in range(limits.max_payload_depth):
        deeper: list[_Container] = []
        for container in level:
            seen += len(container)
            if seen > limits.max_payload_values or not _sort_members(container, keys, content, deeper):
                return None
        if not deeper:
            return None if _is_broken_text(keys, content.texts) else content
        level = deeper
    return None


def _sort_members(container: _Container, keys: list[str], content: PayloadContent, deeper: list[_Container]) -> bool:
    """Sort keys and members by what they are; false if there is something that is not JSON."""
    members: Iterable[JsonValue] = container
    if type(container) is dict:
        keys += container
        members = container.values()
    for member in members:
        kind = type(member)
        if kind is str:
            content.texts.append(member)  # type: ignore[arg-type]
        elif kind is dict or kind is list:
            deeper.append(member)  # type: ignore[arg-type]
        elif kind is int or kind is float:
            content.numbers.append(member)  # type: ignore[arg-type]
        elif member is not None and kind is not bool:
            return False
    return True


def _is_broken_text(keys: list[str], found_texts: list[str]) -> bool:
    if not _TEXT_ONLY.issuperset(map(type, keys)):
        return True
    return texts.has_unpaired_surrogate("".join(keys)) or texts.has_unpaired_surrogate("".join(found_texts))


def _json_violations(value: JsonValue, limits: EventLimits) -> list[Violation]:
    violations: list[Violation] = []
    stack: list[tuple[JsonPath, JsonValue, int]] = [(None, value, 1)]
    seen = 0
    while stack:
        path, current, level = stack.pop()
        seen += 1
        if type(current) is dict or type(current) is list:
            if level > limits.max_payload_depth:
                violations.append(_too_deep(path, level, limits))
                continue
            at_least = seen + len(stack) + len(current)
            if at_least > limits.max_payload_values:
                violations.append(_too_many(at_least, limits))
                return violations
            stack.extend(_members(path, current, level + 1, violations))
        elif type(current) not in _JSON_TYPES:
            violations.append(_not_json(path))
        elif type(current) is str and texts.has_unpaired_surrogate(current):
            violations.append(_unpaired_surrogate(path))
    return violations


def _members(
    path: JsonPath, container: _Container, level: int, violations: list[Violation]
) -> list[tuple[JsonPath, JsonValue, int]]:
    """Return the members in reverse order, as a stack needs them, and note the broken keys of an object."""
    if isinstance(container, list):
        return [((path, index), container[index], level) for index in range(len(container) - 1, -1, -1)]
    for key in container:
        if type(key) is not str:
            violations.append(_not_json(path))
        elif texts.has_unpaired_surrogate(key):
            violations.append(_unpaired_surrogate((path, key)))
    return [((path, key), member, level) for key, member in reversed(container.items()) if type(key) is str]


def check_numbers(value: JsonValue) -> list[Violation]:
    """List the numbers that cannot be stored without rounding. Every violation is SCHEMA_VIOLATION.

    A `float` counts as fractional, NaN and infinities included: whoever reads a request turns integral floats
    into `int` first (EVENT_ENVELOPE_CONTRACT.md, Numbers).
    """
    return [_unfit_number(path, current) for path, current in walk(value) if _is_unfit(current)]


def are_fit(numbers: Iterable[int | float]) -> bool:
    """Tell whether `check_numbers` has nothing to say about these numbers."""
    return not any(map(_is_unfit, numbers))


def _is_unfit(value: JsonValue) -> bool:
    if isinstance(value, int):
        return not -MAX_INTEGER <= value <= MAX_INTEGER
    return isinstance(value, float)


def _unfit_number(path: JsonPath, number: JsonValue) -> Violation:
    if isinstance(number, float):
        return Violation(format_path(path), "FRACTIONAL_NUMBER", "must be an integer; send other numbers as text")
    return Violation(
        format_path(path),
        "NUMBER_OUT_OF_RANGE",
        f"must be from -{MAX_INTEGER} to {MAX_INTEGER} (2^53 - 1); send larger numbers as text",
    )


def _not_json(path: JsonPath) -> Violation:
    return Violation(
        format_path(path),
        "NOT_JSON",
        "must be a JSON value: object with text keys, array, text, number, boolean or null",
    )


def _unpaired_surrogate(path: JsonPath) -> Violation:
    return Violation(
        format_path(path),
        "UNPAIRED_SURROGATE",
        "key and value must be encodable in UTF-8; remove the unpaired surrogate",
    )


def _too_deep(path: JsonPath, level: int, limits: EventLimits) -> Violation:
    return Violation(
        format_path(path),
        "TOO_DEEP",
        f"is at level {level} of the payload; the limit is {limits.max_payload_depth} levels",
    )


def _too_many(at_least: int, limits: EventLimits) -> Violation:
    return Violation(
        "payload",
        "TOO_MANY",
        f"holds {at_least} values or more; the limit is {limits.max_payload_values} values",
    )
