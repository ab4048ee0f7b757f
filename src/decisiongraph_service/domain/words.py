"""The words of a text, as searches compare them.

Source: docs/reference/PRECEDENT_AND_GRAPH_QUERY_SEMANTICS.md, words. The same in every language and on every database:
no stemming, no stop words, no locale.
"""

import re
import unicodedata
from typing import Final

MAX_CHARACTERS: Final = 10_000
"""Only the beginning of a longer text is looked at."""
MAX_WORD_CHARACTERS: Final = 64
"""Of a longer word only the beginning counts."""

_ASCII_WORD: Final = re.compile("[a-z0-9]+")


def words(text: str) -> list[str]:
    """The distinct words of a text in the order of their first occurrence.

    A word is a run of letters, digits and the marks that belong to them, compared without regard to case or
    compatibility forms (NFKC, case folding).
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text[:MAX_CHARACTERS]).casefold())
    return list(dict.fromkeys(word[:MAX_WORD_CHARACTERS] for word in _runs(folded)))


def _runs(folded: str) -> list[str]:
    if folded.isascii():
        return _ASCII_WORD.findall(folded)
    apart = "".join(character if _belongs(character) else " " for character in folded)
    # Marks that stand alone are no word.
    return [run for run in apart.split() if any(map(str.isalnum, run))]


def _belongs(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character)[0] == "M"
