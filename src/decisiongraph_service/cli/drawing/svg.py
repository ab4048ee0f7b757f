"""A context graph as an SVG picture, made without Graphviz."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Final

from rich.cells import cell_len

from decisiongraph_service.cli.drawing import layout
from decisiongraph_service.cli.drawing.picture import Edge, Node, Picture
from decisiongraph_service.cli.drawing.styles import style_of
from decisiongraph_service.cli.output import plain, shortened

_LONGEST_NAME: Final = 34
_CELL_WIDTH: Final = 7.3
"""Of a character of the monospaced 12 px font; wide characters take two."""
_LABEL_CELL_WIDTH: Final = 5.8
_LABEL_HEIGHT: Final = 12.0
_LEAST_WIDTH: Final = 90.0
_PADDING: Final = 12.0
_HEIGHT: Final = 40.0
_SPACING: Final = 58.0
_GAP: Final = 190.0
_MARGIN: Final = 28.0
_LOOP: Final = 46.0
_ARROW: Final = (
    '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
    'orient="auto-start-reverse"><path d="M0,1 L9,5 L0,9 z" fill="#94a3b8"/></marker></defs>'
)
_FONTS: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
_MONOSPACED: Final = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


@dataclass(frozen=True, slots=True)
class _Box:
    node: Node
    name: str
    x: float
    """Left side."""
    y: float
    """Middle."""
    width: float

    @property
    def right(self) -> float:
        return self.x + self.width


def render(picture: Picture) -> str:
    """The picture, as wide and high as it needs."""
    boxes = _boxes(picture)
    lines = list(_lines(picture, boxes))
    width = max([box.right for box in boxes.values()] + [line.reach for line in lines]) + _MARGIN
    height = max(box.y for box in boxes.values()) + _HEIGHT / 2 + _MARGIN + (20 if picture.truncated else 0)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" font-family="{_FONTS}">'
    )
    parts = [
        head,
        f"<title>Context graph of {_text(plain(picture.center))}</title>",
        _ARROW,
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        *(line.path for line in lines),
        *(line.label for line in lines),
        *(_drawn(box, is_center=box.node.node_id == picture.center) for box in boxes.values()),
    ]
    if picture.truncated:
        parts.append(
            f'<text x="{_MARGIN}" y="{height - 12:.1f}" font-size="11" fill="#64748b">'
            "There is more than what is shown.</text>"
        )
    return "\n".join([*parts, "</svg>", ""])


def _boxes(picture: Picture) -> dict[str, _Box]:
    spots = layout.place(picture, spacing=_SPACING)
    names = {node.node_id: shortened(node.name, _LONGEST_NAME) for node in picture.nodes}
    widths: dict[int, float] = {}
    for node in picture.nodes:
        texts = max(cell_len(names[node.node_id]) * _CELL_WIDTH, cell_len(plain(node.node_type)) * _LABEL_CELL_WIDTH)
        widths[node.distance] = max(widths.get(node.distance, _LEAST_WIDTH), texts + 2 * _PADDING)
    left: dict[int, float] = {}
    x = _MARGIN
    for column in sorted(widths):
        left[column] = x
        x += widths[column] + _GAP
    return {
        node.node_id: _Box(
            node,
            names[node.node_id],
            left[node.distance],
            spots[node.node_id].y + _MARGIN + _HEIGHT / 2,
            widths[node.distance],
        )
        for node in picture.nodes
    }


@dataclass(frozen=True, slots=True)
class _Line:
    path: str
    label: str
    reach: float
    """The greatest x of it."""


def _lines(picture: Picture, boxes: dict[str, _Box]) -> Iterator[_Line]:
    """A line for each pair of nodes and direction, with the labels of all its edges below one another."""
    together: dict[tuple[str, str], list[Edge]] = {}
    for edge in picture.edges:
        together.setdefault((edge.from_node_id, edge.to_node_id), []).append(edge)
    for (from_node_id, to_node_id), edges in together.items():
        labels = [edge.label for edge in edges]
        # Two directions between the same nodes are drawn apart.
        shift = 6.0 if (to_node_id, from_node_id) in together and from_node_id != to_node_id else 0.0
        yield _line(boxes[from_node_id], boxes[to_node_id], labels, shift if from_node_id > to_node_id else -shift)


def _line(start: _Box, end: _Box, labels: list[str], shift: float) -> _Line:
    if start.node.distance == end.node.distance:
        return _bow(start, end, labels, shift)
    outwards = start.node.distance < end.node.distance
    x1, x2 = (start.right, end.x) if outwards else (start.x, end.right)
    y1, y2 = start.y + shift, end.y + shift
    bend = (x2 - x1) / 2
    path = f"M{x1:.1f},{y1:.1f} C{x1 + bend:.1f},{y1:.1f} {x2 - bend:.1f},{y2:.1f} {x2:.1f},{y2:.1f}"
    # Nearer to the outer end, where lines are farther apart; on the curve.
    t = 0.7 if outwards else 0.3
    x = _bezier(t, x1, x1 + bend, x2 - bend, x2)
    y = _bezier(t, y1, y1, y2, y2)
    return _Line(_path(path, labels), _label(x, y, labels), 0.0)


def _bow(start: _Box, end: _Box, labels: list[str], shift: float) -> _Line:
    """Between boxes of one column, or from a box to itself: a bow on their right side."""
    x, y1, y2 = start.right, start.y + shift, end.y + shift
    if start is end:
        y1, y2 = y1 - 10, y2 + 10
    far = x + _LOOP + min(60.0, abs(y2 - y1) / 6)
    path = f"M{x:.1f},{y1:.1f} C{far:.1f},{y1:.1f} {far:.1f},{y2:.1f} {x:.1f},{y2:.1f}"
    middle = x + 0.75 * (far - x)
    reach = middle + max(map(cell_len, labels)) * _LABEL_CELL_WIDTH / 2 + 4
    return _Line(_path(path, labels), _label(middle, (y1 + y2) / 2, labels), reach)


def _path(path: str, labels: list[str]) -> str:
    return (
        f'<path d="{path}" fill="none" stroke="#94a3b8" stroke-width="1.3" marker-end="url(#arrow)">'
        f"<title>{_text(', '.join(labels))}</title></path>"
    )


def _label(x: float, y: float, labels: list[str]) -> str:
    first = y + 3.5 - (len(labels) - 1) * _LABEL_HEIGHT / 2
    lines = "".join(
        f'<tspan x="{x:.1f}" y="{first + index * _LABEL_HEIGHT:.1f}">{_text(label)}</tspan>'
        for index, label in enumerate(labels)
    )
    # White around the letters, so that they can be read across a line.
    return (
        '<text font-size="10.5" fill="#475569" text-anchor="middle" stroke="#ffffff" '
        f'stroke-width="4" stroke-linejoin="round" paint-order="stroke">{lines}</text>'
    )


def _drawn(box: _Box, *, is_center: bool) -> str:
    style = style_of(box.node.node_type)
    return (
        f"<g><title>{_text(plain(box.node.node_id))}</title>"
        f'<rect x="{box.x:.1f}" y="{box.y - _HEIGHT / 2:.1f}" width="{box.width:.1f}" height="{_HEIGHT:.0f}" rx="8" '
        f'fill="{style.fill}" stroke="{style.stroke}" stroke-width="{2.6 if is_center else 1.2}"/>'
        f'<text x="{box.x + _PADDING:.1f}" y="{box.y - 4:.1f}" font-size="10" fill="{style.stroke}" '
        f'font-weight="600">{_text(plain(box.node.node_type))}</text>'
        f'<text x="{box.x + _PADDING:.1f}" y="{box.y + 11:.1f}" font-size="12" fill="#0f172a" '
        f'font-family="{_MONOSPACED}" xml:space="preserve">{_text(box.name)}</text></g>'
    )


def _bezier(t: float, a: float, b: float, c: float, d: float) -> float:
    s = 1 - t
    return s**3 * a + 3 * s * s * t * b + 3 * s * t * t * c + t**3 * d


def _text(text: str) -> str:
    """A text of printable characters, as XML writes it."""
    return escape(text, quote=True)
