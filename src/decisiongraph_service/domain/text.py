"""Questions about one text: is it blank, can it be encoded, how long is it in UTF-8; and texts of stored payloads.

Nothing here changes a text. Every rule about blank text in the service goes through `is_blank`.
"""

import re
from collections.abc import Mapping
from typing import Any

_NOT_BLANK = re.compile("[^\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")


def is_blank(text: str) -> bool:
    """Tell whether a text is empty or only white space.

    White space is Unicode's property White_Space (docs/reference/EVENT_ENVELOPE_CONTRACT.md). `str.isspace`
    is wider: it also counts U+001C to U+001F.
    """
    return _NOT_BLANK.search(text) is None


def has_unpaired_surrogate(text: str) -> bool:
    """Tell whether a text holds half of a surrogate pair, which UTF-8 cannot encode."""
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def utf8_size(text: str) -> int:
    """Return the number of bytes of a text in UTF-8. An unpaired surrogate counts as three bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def member(value: Mapping[str, Any], key: str) -> str:
    """The text under `key` of a stored payload's object.

    Raises:
        KeyError, TypeError: there is none: the payload does not have the shape of its type.
    """
    found = value[key]
    if not isinstance(found, str):
        raise TypeError(f"{key} is no text")
    return found


def optional_member(value: Mapping[str, Any], key: str) -> str | None:
    """The same where the text may be absent or null.

    Raises:
        TypeError: it is something else.
    """
    return None if value.get(key) is None else member(value, key)
