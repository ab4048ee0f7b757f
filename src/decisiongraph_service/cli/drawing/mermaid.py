"""A context graph as a Mermaid flowchart, for Markdown pages."""

from typing import Final

from decisiongraph_service.cli.drawing.picture import Picture
from decisiongraph_service.cli.drawing.styles import STYLES, style_of
from decisiongraph_service.cli.output import plain, shortened

_LONGEST_NAME: Final = 60
_AS_THEY_ARE: Final = frozenset(" ,.:/-_()…")


def render(picture: Picture) -> str:
    """The graph. Nodes are named `n0`, `n1`, …: their ids are in labels, where they can be escaped."""
    names = {node.node_id: f"n{index}" for index, node in enumerate(picture.nodes)}
    lines = ["flowchart LR"]
    for node in picture.nodes:
        label = f"{_text(plain(node.node_type))}<br/>{_text(shortened(node.name, _LONGEST_NAME))}"
        known = node.node_type if node.node_type in STYLES else "other"
        lines.append(f'  {names[node.node_id]}["{label}"]:::{known}')
    lines += [
        f'  {names[edge.from_node_id]} -->|"{_text(edge.label)}"| {names[edge.to_node_id]}' for edge in picture.edges
    ]
    if picture.truncated:
        lines.append('  more["There is more than what is shown."]')
    used = sorted({node.node_type if node.node_type in STYLES else "other" for node in picture.nodes})
    for known in used:
        style = style_of(known)
        lines.append(f"  classDef {known} fill:{style.fill},stroke:{style.stroke},color:#0f172a")
    lines.append(f"  style {names[picture.center]} stroke-width:3px")
    return "\n".join([*lines, ""])


def _text(text: str) -> str:
    """A text of one line for a quoted label: other characters than letters and digits are written as their numbers."""
    # Mermaid would break the line at a backslash and an n, however they are written; the joiner is not visible.
    text = text.replace("\\n", "\\\u2060n")
    return "".join(c if c.isalnum() or c in _AS_THEY_ARE else f"#{ord(c)};" for c in text)
