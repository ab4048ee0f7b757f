"""What commands print for people and for programs.

JSON has the field names of the contract, prints default values, and writes 64-bit integers as texts, as REST does. A
command that answers once prints one document: an object, or for a list an array. One that goes on (`tail`) prints an
object a line.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO, TypeAlias

from decisiongraph_service.cli import failure

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.console import Console

Row: TypeAlias = Mapping[str, Any]
_AS_WIDE_AS_NEEDED: Final = 10_000
_SURROGATES: Final = re.compile("[\ud800-\udfff]")


def as_dict(message: "Message") -> dict[str, Any]:
    """A message as the JSON of the contract."""
    from google.protobuf import json_format

    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def print_json(value: Any) -> None:
    """Print a document: a dictionary, or a list of them."""
    print(document(value))


def document(value: Any) -> str:
    """A document as it is printed."""
    return _json(value, sys.stdout, indent=2)


def json_text(value: Any) -> str:
    """A value as JSON of one line."""
    return _json(value, sys.stdout)


def print_json_line(value: Any, file: TextIO | None = None) -> None:
    """Print one of many objects, at once."""
    file = file or sys.stdout
    print(_json(value, file), file=file, flush=True)


def plain(value: object) -> str:
    """A value as a text of one line, without anything that a terminal takes for commands."""
    if isinstance(value, list):
        return ", ".join(plain(one) for one in value)
    text = str(value)
    return text if text.isprintable() else "".join(_visible(c) for c in text)


def shortened(text: str, length: int) -> str:
    """The text, with its middle left out if it is longer than so many characters."""
    if len(text) <= length:
        return text
    head = (length - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def console(*, stderr: bool = False) -> "Console":
    """Where texts with styles go: coloured on a terminal unless NO_COLOR is set, and never wrapped or cut."""
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True, highlight=False, markup=False, emoji=False)


def print_table(rows: Iterable[Row], columns: Sequence[str]) -> None:
    """Print a table that is as wide as it needs, since ids are to be copied."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(plain(row.get(column, ""))) for column in columns))
    Console(width=_AS_WIDE_AS_NEEDED).print(table)


def print_failure(message: str) -> None:
    """Say on standard error what went wrong, and go on."""
    print(f"decisiongraph: {failure.one_line(message)}", file=sys.stderr)


def _json(value: Any, file: TextIO, indent: int | None = None) -> str:
    unicode = (file.encoding or "").lower().replace("-", "").startswith("utf")
    text = json.dumps(value, ensure_ascii=not unicode, indent=indent)
    # JSON may hold halves of surrogate pairs, and UTF-8 only as the escapes that they came as.
    return text if text.isascii() else _SURROGATES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
