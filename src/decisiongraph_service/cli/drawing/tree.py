"""A context graph as a tree of text lines, from the centre outwards."""

from collections.abc import Iterator

from decisiongraph_service.cli.drawing.picture import Edge, Node, Picture
from decisiongraph_service.cli.output import plain


def render(picture: Picture) -> str:
    """The graph: each node once, below a neighbour that is nearer to the centre; further edges name it once more."""
    return "\n".join([*_Tree(picture).lines(), ""])


class _Tree:
    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._nodes = {node.node_id: node for node in picture.nodes}
        self._edges: dict[str, list[Edge]] = {node.node_id: [] for node in picture.nodes}
        for edge in picture.edges:
            for end in {edge.from_node_id, edge.to_node_id}:
                self._edges[end].append(edge)
        self._shown: set[str] = set()
        self._drawn: set[Edge] = set()

    def lines(self) -> Iterator[str]:
        for node in self._picture.nodes:
            # The centre, and what nothing connects with it.
            if node.node_id not in self._shown:
                self._shown.add(node.node_id)
                yield _named(node)
                yield from self._below(node, "")
        if self._picture.truncated:
            yield "… and more: raise --max-nodes or --max-edges"

    def _below(self, node: Node, stem: str) -> Iterator[str]:
        # What is claimed here is not drawn deeper down.
        here = [edge for edge in self._edges[node.node_id] if edge not in self._drawn and self._is_at(edge, node)]
        self._drawn.update(here)
        here.sort(key=lambda edge: (self._nodes[_other(edge, node)], edge))
        claimed = []
        for edge in here:
            other = self._nodes[_other(edge, node)]
            # One that is as near to the centre stands below a nearer neighbour of its own.
            claims = other.distance > node.distance and other.node_id not in self._shown
            claimed.append(claims)
            if claims:
                self._shown.add(other.node_id)
        for index, edge in enumerate(here):
            is_last = index == len(here) - 1
            arrow = "→" if edge.from_node_id == node.node_id else "←"
            other_node = self._nodes[_other(edge, node)]
            again = "" if claimed[index] else "  (see there)"
            yield f"{stem}{'└─' if is_last else '├─'} {arrow} {edge.label}  {_named(other_node)}{again}"
            if claimed[index]:
                yield from self._below(other_node, stem + ("   " if is_last else "│  "))

    def _is_at(self, edge: Edge, node: Node) -> bool:
        """Whether the edge is drawn at this end of it: the one that is nearer to the centre."""
        return node <= self._nodes[_other(edge, node)]


def _other(edge: Edge, node: Node) -> str:
    return edge.to_node_id if edge.from_node_id == node.node_id else edge.from_node_id


def _named(node: Node) -> str:
    return f"{plain(node.node_type)} {node.name}"
