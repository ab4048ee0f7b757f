"""Where the boxes of a drawing stand: columns by distance from the centre, ordered so that few lines cross.

Pure and deterministic. Within a column the boxes are sorted by the mean place of their neighbours, then put as near to
them as they fit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from decisiongraph_service.cli.drawing.picture import Picture

_SWEEPS: Final = 8


@dataclass(frozen=True, slots=True)
class Spot:
    """The middle of a box."""

    column: int
    y: float


def place(picture: Picture, *, spacing: float) -> dict[str, Spot]:
    """The middle of each node's box; boxes of a column are at least `spacing` apart, and the topmost is at 0."""
    neighbours: dict[str, set[str]] = {node.node_id: set() for node in picture.nodes}
    for edge in picture.edges:
        neighbours[edge.from_node_id].add(edge.to_node_id)
        neighbours[edge.to_node_id].add(edge.from_node_id)
    columns: dict[int, list[str]] = {}
    for node in picture.nodes:
        columns.setdefault(node.distance, []).append(node.node_id)
    y = {node_id: index * spacing for ids in columns.values() for index, node_id in enumerate(ids)}
    order = sorted(columns)
    for sweep in range(_SWEEPS):
        for column in order if sweep % 2 == 0 else reversed(order):
            _arrange(columns[column], neighbours, y, spacing)
    top = min(y.values())
    return {node.node_id: Spot(node.distance, y[node.node_id] - top) for node in picture.nodes}


def _arrange(ids: list[str], neighbours: Mapping[str, set[str]], y: dict[str, float], spacing: float) -> None:
    """Put the boxes of a column near their neighbours of other columns."""
    among = set(ids)

    def wanted(node_id: str) -> float:
        others = sorted(y[other] for other in neighbours[node_id] if other not in among)
        return sum(others) / len(others) if others else y[node_id]

    wishes = {node_id: wanted(node_id) for node_id in ids}
    ids.sort(key=lambda node_id: (wishes[node_id], node_id))
    y.update(zip(ids, spread([wishes[node_id] for node_id in ids], spacing), strict=True))


def spread(wishes: Sequence[float], spacing: float) -> list[float]:
    """Ascending places at least `spacing` apart, as near to the ascending wishes as possible (least squares)."""
    # Without the distance that is to be kept it is an isotonic regression: neighbours that are too close are pooled.
    pools: list[tuple[float, int]] = []
    for index, wish in enumerate(wishes):
        total, size = wish - index * spacing, 1
        while pools and pools[-1][0] / pools[-1][1] > total / size:
            before, length = pools.pop()
            total, size = total + before, size + length
        pools.append((total, size))
    means = [total / size for total, size in pools for _ in range(size)]
    return [mean + index * spacing for index, mean in enumerate(means)]
