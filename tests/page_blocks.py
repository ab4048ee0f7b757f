"""The blocks of code on a page of the documentation, and whether what was printed is what a page says.

A comment before a block says what the fence cannot:

    <!-- not run: why -->   nobody runs the block here; the reason is for the reader of the source
    <!-- prints -->         the block is what the last executed block before it printed
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from markdown_it import MarkdownIt

EXECUTED: Final = ("sh", "python")
LANGUAGES: Final = (*EXECUTED, "json", "text")
OMITTED: Final = "…"
"""On a page: any text, and as member or element, any number of others."""

_COMMENT: Final = re.compile(r"<!--\s*(?P<word>not run|prints)\s*(?::\s*(?P<reason>.*?))?\s*-->", re.DOTALL)
_COMMAND: Final = re.compile(
    r"^\s*(\$ |(sudo )?(curl|make|git|python3?|pip|apt|docker|psql|pg_\w+|decisiongraph|\.venv/bin/\S+) )"
)


@dataclass(frozen=True, slots=True)
class Block:
    """One block of code."""

    page: str
    line: int
    """Line of its fence in the page, counted from 1."""
    language: str
    text: str
    not_run: str | None = None
    """Why nobody runs it."""
    printed: bool = False
    """Whether it is what the block before it printed."""

    @property
    def place(self) -> str:
        """Where it is, as editors understand it."""
        return f"{self.page}:{self.line}"

    @property
    def executed(self) -> bool:
        """Whether a test runs it."""
        return self.language in EXECUTED and self.not_run is None


def blocks(root: Path, page: Path) -> list[Block]:
    """All blocks of code on a page, in their order."""
    return list(_blocks(page.read_text(), str(page.relative_to(root))))


def pages(root: Path) -> list[Path]:
    """Every document for readers of this project."""
    return sorted([*root.glob("*.md"), *(root / "docs").rglob("*.md")])


def faults(block: Block) -> Iterator[str]:
    """What is wrong with a block as it stands."""
    if block.language not in LANGUAGES:
        yield f"is {block.language or 'in no language'}; make it a fence in one of {', '.join(LANGUAGES)}"
    if block.not_run is not None and (block.language not in EXECUTED or len(block.not_run.split()) < 3):
        yield "is marked `not run`, which needs a reason of some words, and a block that would be run without it"
    if block.printed and block.language in EXECUTED:
        yield "is marked `prints` and is no output; make it json or text"
    if block.language == "text" and not block.printed and any(map(_COMMAND.match, block.text.splitlines())):
        yield "is text and holds a command; make it sh, or mark it as what a block prints"
    if block.language == "json":
        try:
            json.loads(block.text)
        except ValueError as error:
            yield f"is no JSON: {error}"


def differences(block: Block, printed: str) -> Iterator[str]:
    """How what was printed differs from what the page says."""
    if block.language == "text":
        yield from _lines(block.text.splitlines(), printed.strip("\n").splitlines())
        return
    try:
        actual = json.loads(printed)
    except ValueError:
        yield f"what was printed is no JSON: {printed[:500]!r}"
        return
    yield from _values(json.loads(block.text), actual, "$")


def refusal(printed: str) -> str | None:
    """The error that an answer of the service is, if one was printed."""
    for text in (printed, *printed.splitlines()):
        try:
            value = json.loads(text)
        except ValueError:
            continue
        if isinstance(value, dict) and {"code", "message"} <= set(value):
            return text
    return None


def _blocks(markdown: str, page: str) -> Iterator[Block]:
    said: tuple[str, str] | None = None
    for token in MarkdownIt("commonmark").parse(markdown):
        if token.type == "html_block" and (comment := _COMMENT.fullmatch(token.content.strip())):
            said = (comment["word"], " ".join((comment["reason"] or "").split()))
            continue
        if token.type in ("fence", "code_block") and token.map is not None:
            word, reason = said or ("", "")
            yield Block(
                page,
                token.map[0] + 1,
                token.info.split()[0] if token.info.strip() else "",
                token.content,
                not_run=reason if word == "not run" else None,
                printed=word == "prints",
            )
        said = None


def _lines(expected: Sequence[str], actual: Sequence[str]) -> Iterator[str]:
    if OMITTED in expected:
        at = expected.index(OMITTED)
        rest = len(expected) - at - 1
        if len(actual) < at + rest:
            yield f"fewer lines than on the page: {list(actual)}"
            return
        yield from _lines(expected[:at], actual[:at])
        yield from _lines(expected[at + 1 :], actual[len(actual) - rest :])
    elif len(expected) != len(actual):
        yield f"{len(actual)} lines and not {len(expected)}: {list(actual)}"
    else:
        for wanted, found in zip(expected, actual, strict=True):
            if not _same_text(wanted.rstrip(), found.rstrip()):
                yield f"{found!r} and not {wanted!r}"


def _values(expected: Any, actual: Any, path: str) -> Iterator[str]:
    if expected == OMITTED:
        return
    if isinstance(expected, dict) and isinstance(actual, dict):
        yield from _members(expected, actual, path)
    elif isinstance(expected, list) and isinstance(actual, list):
        yield from _elements(expected, actual, path)
    elif isinstance(expected, str) and isinstance(actual, str):
        if not _same_text(expected, actual):
            yield f"{path} is {actual!r} and not {expected!r}"
    elif type(expected) is not type(actual) or expected != actual:
        yield f"{path} is {json.dumps(actual, ensure_ascii=False)[:300]} and not {json.dumps(expected)[:300]}"


def _members(expected: dict[str, Any], actual: dict[str, Any], path: str) -> Iterator[str]:
    named = {name: value for name, value in expected.items() if name != OMITTED}
    if missing := sorted(set(named) - set(actual)):
        yield f"{path} lacks {missing}"
    if OMITTED not in expected and (more := sorted(set(actual) - set(named))):
        yield f"{path} has {more}, which the page does not show; show it or write `{json.dumps(OMITTED)}`"
    for name in set(named) & set(actual):
        yield from _values(named[name], actual[name], f"{path}.{name}")


def _elements(expected: list[Any], actual: list[Any], path: str) -> Iterator[str]:
    shown = [value for value in expected if value != OMITTED]
    if len(actual) < len(shown) or (len(shown) == len(expected) and len(actual) != len(shown)):
        yield f"{path} has {len(actual)} elements and not {len(shown)}"
        return
    at = expected.index(OMITTED) if OMITTED in expected else len(expected)
    pairs = [*zip(expected[:at], actual[:at], strict=True)]
    tail = expected[at + 1 :]
    pairs += zip(tail, actual[len(actual) - len(tail) :], strict=True)
    for number, (wanted, found) in enumerate(pairs):
        yield from _values(wanted, found, f"{path}[{number}]")


def _same_text(expected: str, actual: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, expected.split(OMITTED))), actual, re.DOTALL) is not None
