"""A context graph in the language of Graphviz: `dot -Tpng graph.dot`."""

from typing import Final

from decisiongraph_service.cli.drawing.picture import Picture
from decisiongraph_service.cli.drawing.styles import style_of
from decisiongraph_service.cli.output import plain, shortened

_LONGEST_NAME: Final = 60


def render(picture: Picture) -> str:
    """The graph. Nodes are named `n0`, `n1`, …: their ids are in labels and tooltips, where they can be escaped."""
    names = {node.node_id: f"n{index}" for index, node in enumerate(picture.nodes)}
    lines = [
        "digraph decisiongraph {",
        "  rankdir=LR;",
        '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11];',
        '  edge [fontname="Helvetica", fontsize=9, color="#64748b"];',
    ]
    for node in picture.nodes:
        style = style_of(node.node_type)
        label = f"{_text(plain(node.node_type))}\\n{_text(shortened(node.name, _LONGEST_NAME))}"
        width = ", penwidth=2.5" if node.node_id == picture.center else ""
        lines.append(
            f'  {names[node.node_id]} [label="{label}", tooltip="{_text(plain(node.node_id))}", '
            f'fillcolor="{style.fill}", color="{style.stroke}"{width}];'
        )
    lines += [
        f'  {names[edge.from_node_id]} -> {names[edge.to_node_id]} [label="{_text(edge.label)}"];'
        for edge in picture.edges
    ]
    if picture.truncated:
        lines.append('  label="There is more than what is shown."; fontsize=10;')
    return "\n".join([*lines, "}", ""])


def _text(text: str) -> str:
    """A text of one line for a quoted string: neither an end of it, nor an escape of Graphviz, nor an HTML entity."""
    return text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
