"""JSON values as the contract takes them: nothing that would lose digits or change on the way."""

from collections.abc import Mapping
from typing import Any, Final

LARGEST_NUMBER: Final = 2**53 - 1
"""Of a JSON payload: numbers travel as doubles."""
MAX_DEPTH: Final = 32


def checked(value: object, path: str, *, largest: int | None = None, depth: int = 0) -> Any:
    """A copy of the value, of plain dictionaries, lists, texts, integers, booleans and None.

    Args:
        value: Mappings with texts as keys, lists, tuples, texts, integers, booleans, None, and these inside.
        path: What it is called in an error.
        largest: The largest number that is taken, either way; None: any.
        depth: How deep it lies.

    Raises:
        TypeError: something else is inside, e.g. a floating-point number.
        ValueError: a number is too large, a text cannot be encoded, or it is nested too deeply.
    """
    match value:
        case None | bool():
            return value
        case int():
            if largest is not None and abs(value) > largest:
                raise ValueError(f"{path}: numbers beyond 2^53 - 1 lose digits on the way; send it as text")
            return int(value)
        case str():
            return _encodable(value, path)
        case Mapping() | list() | tuple():
            if depth >= MAX_DEPTH:
                raise ValueError(f"{path}: is nested deeper than {MAX_DEPTH} levels")
            return _checked_inside(value, path, largest, depth + 1)
    kind = type(value).__name__
    advice = "send it as text: its digits depend on the machine" if kind == "float" else "turn it into text"
    raise TypeError(f"{path}: {kind} is no value that JSON keeps; {advice}")


def _checked_inside(
    value: Mapping[Any, object] | list[object] | tuple[object, ...], path: str, largest: int | None, depth: int
) -> Any:
    if not isinstance(value, Mapping):
        return [checked(one, f"{path}[{n}]", largest=largest, depth=depth) for n, one in enumerate(value)]
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"{path}: the key {key!r} is no text")
    return {
        _encodable(key, path): checked(one, f"{path}.{key}", largest=largest, depth=depth) for key, one in value.items()
    }


def _encodable(text: str, path: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{path}: holds half of a surrogate pair, which cannot be sent") from error
    # Texts of other classes, such as members of an enumeration, as what they say.
    return str.__str__(text)
