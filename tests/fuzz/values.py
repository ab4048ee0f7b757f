"""JSON that nobody expects: values of every type, documents that are nearly JSON, and texts near to a good one."""

import json
from typing import Any, Final

from hypothesis import strategies as st

ODD_TEXTS: Final = (
    "",
    " ",
    "\0",
    "a\0b",
    "\ud800",
    "\u2028",
    "\ufeff",
    "\u202e",
    "é" * 101,
    "x" * 5_000,
    "0",
    "-1",
    "1e5",
    "9999999999",
    "null",
    "NaN",
    "__proto__",
    "@type",
    "%00",
    "../..",
    "1970-01-01T00:00:00Z",
)
TEXTS: Final[st.SearchStrategy[str]] = st.sampled_from(ODD_TEXTS) | st.text(st.characters(), max_size=20)
"""Unpaired surrogates among them."""
NUMBERS: Final[st.SearchStrategy[Any]] = (
    st.sampled_from([0, -1, 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400])
    | st.integers()
    | st.floats()
)
SCALARS: Final[st.SearchStrategy[Any]] = st.none() | st.booleans() | NUMBERS | TEXTS


def nested(levels: int, kind: type = list) -> Any:
    """Lists or objects inside each other."""
    value: Any = kind()
    for _ in range(levels):
        value = [value] if kind is list else {"a": value}
    return value


JSON: Final[st.SearchStrategy[Any]] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
) | st.builds(nested, st.sampled_from([20, 40, 90, 200]), st.sampled_from([list, dict]))
"""Any value, infinite and undefined numbers among them, which `json.dumps` writes although no JSON has them."""

_PIECES: Final = (
    *("[", "]", "{", "}", ",", ":", '"', "\\", "'", "//", "/* */"),
    *(
        "null",
        "true",
        "NaN",
        "Infinity",
        "-",
        "1e400",
        "01",
        "0x1",
        "9" * 5_000,
        '"\\ud800"',
        '"\\u0000"',
        "\0",
        "\ufeff",
    ),
    *('{"a":1,"a":2}', '"":', "[" * 200, '{"a":' * 200),
)


def near(text: str, pieces: tuple[str, ...] = _PIECES) -> st.SearchStrategy[str]:
    """The text with up to three of its parts cut out, doubled, or replaced by a piece that is out of place."""
    place = st.tuples(st.integers(0, len(text)), st.integers(0, 12), st.sampled_from(["cut", "double", "put"]))
    change = st.tuples(place, st.sampled_from(pieces) | st.text(st.characters(), max_size=3))
    return st.lists(change, min_size=1, max_size=3).map(lambda changes: _changed(text, changes))


def _changed(text: str, changes: list[tuple[tuple[int, int, str], str]]) -> str:
    for (start, length, action), piece in changes:
        middle = text[start : start + length]
        text = text[:start] + {"cut": "", "double": middle * 2, "put": piece}[action] + text[start + length :]
    return text


def documents(good: Any) -> st.SearchStrategy[bytes]:
    """Texts that are taken for JSON: the value nearly, another value, or anything."""
    return (
        near(json.dumps(good)).map(as_utf8)
        | JSON.map(lambda value: json.dumps(value).encode())
        | JSON.map(lambda value: as_utf8(json.dumps(value, ensure_ascii=False)))
        | st.binary(max_size=60)
    )


def as_utf8(text: str) -> bytes:
    """As who knows no better writes it: unpaired surrogates too."""
    return text.encode("utf-8", "surrogatepass")


def with_value(holder: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The object with one or two other values for its members, or one left out, and perhaps one more."""
    names = st.sampled_from(sorted(holder))
    values = SCALARS | TEXTS.map(lambda text: [text]) | JSON
    return st.builds(
        lambda changes, gone, more: {
            **{name: value for name, value in holder.items() if name != gone},
            **changes,
            **more,
        },
        st.dictionaries(names, values, min_size=1, max_size=2),
        st.none() | names,
        st.just({}) | st.dictionaries(TEXTS, values, max_size=1),
    )
