"""The words that a caller searches for."""

from typing import Final

from decisiongraph_service.domain import errors
from decisiongraph_service.domain.words import words

MAX_WORDS: Final = 16
"""Most different words of one search."""


def checked(query: str) -> tuple[str, ...]:
    """The different words of a query, none for an empty one.

    Raises:
        InvalidArgument: it has no word, or more than `MAX_WORDS`.
    """
    if not query:
        return ()
    found = words(query)
    if not found:
        raise errors.InvalidArgument(
            [errors.Violation("query", "NO_WORD", "has neither a letter nor a digit; write a word, or leave it out")]
        )
    if len(found) > MAX_WORDS:
        raise errors.InvalidArgument(
            [
                errors.Violation(
                    "query",
                    "TOO_MANY_WORDS",
                    f"has {len(found)} different words, at most {MAX_WORDS} are looked for; leave some out",
                )
            ]
        )
    return tuple(found)
