"""Small pieces of Markdown: tables, code, examples."""

import json
from collections.abc import Iterable, Sequence
from typing import Any


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; empty if it has no rows. Cells are Markdown of one line."""
    lines = [_row(row) for row in rows]
    return "\n".join([_row(header), _row(["---"] * len(header)), *lines]) if lines else ""


def code(text: str) -> str:
    """Text as code in a line."""
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}"


def codes(texts: Iterable[str], *, last: str = "or") -> str:
    """Several texts as code, joined as one writes it: `a`, `b` or `c`."""
    quoted = [code(text) for text in texts]
    return ", ".join(quoted[:-1]) + f" {last} " * (len(quoted) > 1) + quoted[-1]


def example(title: str, value: Any) -> str:
    """A JSON value that opens when its title is clicked."""
    lines = json.dumps(value, indent=2, ensure_ascii=False).splitlines()
    return "\n".join([f'??? example "{title}"', "", "    ```json", *(f"    {line}" for line in lines), "    ```"])


def wide_page(*parts: str) -> str:
    """A page that is one wide table: without a table of contents beside it."""
    return page("---\nhide: [toc]\n---", *parts)


def page(*parts: str) -> str:
    """The parts that are not empty, with a blank line between them."""
    return "\n\n".join(part for part in parts if part) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
