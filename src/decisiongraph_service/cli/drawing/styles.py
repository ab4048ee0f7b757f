"""Colours of node types, the same in all formats."""

from typing import Final, NamedTuple


class Style(NamedTuple):
    """Of a node."""

    fill: str
    stroke: str


STYLES: Final = {
    "trace": Style("#dbeafe", "#2563eb"),
    "entity": Style("#dcfce7", "#16a34a"),
    "policy": Style("#f3e8ff", "#9333ea"),
    "input": Style("#f1f5f9", "#64748b"),
    "exception": Style("#ffedd5", "#ea580c"),
    "action": Style("#ccfbf1", "#0d9488"),
    "actor": Style("#fce7f3", "#db2777"),
}
_OTHER: Final = Style("#f8fafc", "#475569")


def style_of(node_type: str) -> Style:
    """The style of a type, known or not."""
    return STYLES.get(node_type, _OTHER)
