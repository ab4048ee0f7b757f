"""Links of the documents as the site needs them.

Documents are written for readers of the repository: they link to files beside and above `docs/`, and cite each other as
`APPEND_SEMANTICS.md, section 6`. On the site a link to a document becomes one to its page, a citation becomes a link to
the section, and a link to a file that is no document becomes its name. What is not there is an error.
"""

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from markdown.extensions.toc import slugify

_FENCE: Final = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_HEADING: Final = re.compile(r"^#+ ((\d+(?:\.\d+)*)\.? .*?) *$")
_PARTS: Final = re.compile(
    r"(?P<code>(?P<ticks>`+)(?:.+?)(?P=ticks)(?!`))"
    r"|\[(?P<text>(?:[^\[\]]|\[[^\]]*\])+)\]\((?P<target>[^()\s]+)\)(?P<after>, section (?P<part>\d+(?:\.\d+)*))?"
    r"|(?<![\w/.])(?P<cited>[A-Z][A-Z_]+\.md)(?P<section>, sections? (?P<number>\d+(?:\.\d+)*))?"
)


class LinkError(Exception):
    """A document points to something that is not there."""


@dataclass(frozen=True, slots=True)
class Repository:
    """What links may point to."""

    documents: Mapping[str, str]
    """The page of each document, by its path in the repository: `docs/concepts.md` is `concepts.md`."""
    texts: Mapping[str, str]
    """The Markdown of each document, by its page."""
    exists: Callable[[str], bool]
    """Whether there is a file of that path in the repository."""

    def sections(self, page: str) -> dict[str, str]:
        """The anchor of each numbered section of a page, by its number."""
        found = (_HEADING.match(line) for line in prose(self.texts[page]))
        return {match[2]: slugify(match[1].replace("`", ""), "-") for match in found if match}

    def cited(self, name: str) -> str | None:
        """The page of a document that is cited by its name; None if there is none."""
        return next((page for path, page in self.documents.items() if posixpath.basename(path) == name), None)


def for_site(markdown: str, *, source: str, page: str, repository: Repository) -> str:
    """The Markdown of the document `source` with the links that its page on the site needs.

    Raises:
        LinkError: a link leaves `docs/` and there is no such file, or a cited section does not exist.
    """
    return _Rewriting(source, page, repository).all(markdown)


class _Rewriting:
    def __init__(self, source: str, page: str, repository: Repository) -> None:
        self._source = source
        self._page = page
        self._repository = repository

    def all(self, markdown: str) -> str:
        """Every line that is not in a block of code."""
        lines, fence = [], ""
        for line in markdown.split("\n"):
            mark = _FENCE.match(line.lstrip())
            if mark and (not fence or mark[1].startswith(fence)):
                fence = "" if fence else mark[1]
            lines.append(line if fence or mark else _PARTS.sub(self._part, line))
        return "\n".join(lines)

    def _part(self, found: re.Match[str]) -> str:
        if found["code"]:
            return found[0]
        if found["cited"]:
            return self._citation(found)
        return self._link(found)

    def _citation(self, found: re.Match[str]) -> str:
        page = self._repository.cited(found["cited"])
        return found[0] if page is None else f"[{found[0]}]({self._address(page, found['number'])})"

    def _link(self, found: re.Match[str]) -> str:
        target, _, anchor = found["target"].partition("#")
        if "://" in target or not target:
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(self._source), target))
        page = self._repository.documents.get(path)
        if page is not None:
            address = self._address(page, found["part"]) + (f"#{anchor}" if anchor else "")
            return f"[{found['text']}]({address}){found['after'] or ''}"
        if path.startswith("docs/") and posixpath.splitext(path)[1]:
            # A picture, a page that is made when the site is built, or a mistake that the build reports.
            return found[0]
        if not self._repository.exists(path):
            raise LinkError(f"{self._source} links to {target}, which does not exist")
        return f"`{path}`"

    def _address(self, page: str, section: str | None) -> str:
        address = posixpath.relpath(page, posixpath.dirname(self._page) or ".")
        if section is None:
            return address
        anchor = self._repository.sections(page).get(section)
        if anchor is None:
            raise LinkError(f"{self._source} cites section {section} of {page}, which has none of that number")
        return f"{address}#{anchor}"


def prose(markdown: str) -> list[str]:
    """The lines that are not in blocks of code."""
    lines, inside = [], False
    for line in markdown.split("\n"):
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            lines.append(line)
    return lines
