"""What is drawn: nodes with their distance from the centre, and edges, of which equal ones are counted."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from decisiongraph_service.cli.output import plain
from decisiongraph_service.domain import vocabulary

if TYPE_CHECKING:
    from decisiongraph.v1.query_service_pb2 import GetContextGraphResponse

_SPOKEN: Final[Mapping[str, str]] = {
    vocabulary.TRACE_INVOLVES_ENTITY: "involves",
    vocabulary.TRACE_OBSERVED_INPUT: "observed",
    vocabulary.TRACE_EVALUATED_POLICY: "evaluated",
    vocabulary.TRACE_REQUESTED_EXCEPTION: "requested",
    vocabulary.EXCEPTION_APPROVED_BY: "decided by",
    vocabulary.TRACE_CITED_PRECEDENT: "cited",
    vocabulary.TRACE_PROPOSED_ACTION: "proposed",
    vocabulary.ACTION_TARGETS_ENTITY: "targets",
    vocabulary.TRACE_COMMITTED_ACTION: "committed",
}


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """A node of the graph."""

    distance: int
    """Edges between it and the centre, whatever their direction."""
    node_id: str

    @property
    def node_type(self) -> str:
        """What kind of thing it is, e.g. `trace` or `entity`."""
        return self.node_id.partition(":")[0]

    @property
    def name(self) -> str:
        """Its id without the type, as a text of one line."""
        return plain(self.node_id.partition(":")[2])


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """All edges of one type from one node to another."""

    from_node_id: str
    to_node_id: str
    edge_type: str
    count: int

    @property
    def label(self) -> str:
        """What it says, e.g. `evaluated` or `cited (2)`."""
        spoken = _SPOKEN.get(self.edge_type) or plain(self.edge_type.replace("_", " "))
        return f"{spoken} ({self.count})" if self.count > 1 else spoken


@dataclass(frozen=True, slots=True)
class Picture:
    """A graph, in the order in which it is drawn."""

    center: str
    nodes: tuple[Node, ...]
    """By distance, then by id. The centre is the first one."""
    edges: tuple[Edge, ...]
    truncated: bool
    """Whether there is more than what is shown."""


Renderer: TypeAlias = Callable[[Picture], str]


def picture_of(answer: "GetContextGraphResponse") -> Picture:
    """What there is to draw of an answer. A centre that is not in the graph stands alone."""
    edges = [(edge.from_node_id, edge.to_node_id, edge.edge_type) for edge in answer.edges]
    return make(answer.center, [node.node_id for node in answer.nodes], edges, truncated=answer.truncated)


def make(
    center: str, node_ids: Iterable[str], edges: Iterable[tuple[str, str, str]], *, truncated: bool = False
) -> Picture:
    """What there is to draw of nodes and of edges (from, to, type)."""
    counted = Counter(edges)
    ends = {end for from_node_id, to_node_id, _ in counted for end in (from_node_id, to_node_id)}
    distances = _distances(center, counted)
    beyond = 1 + max(distances.values())
    nodes = sorted(Node(distances.get(node_id, beyond), node_id) for node_id in {center, *node_ids, *ends})
    return Picture(
        center, tuple(nodes), tuple(sorted(Edge(*edge, count) for edge, count in counted.items())), truncated
    )


def _distances(center: str, edges: Iterable[tuple[str, str, str]]) -> dict[str, int]:
    neighbours: dict[str, set[str]] = {}
    for from_node_id, to_node_id, _ in edges:
        neighbours.setdefault(from_node_id, set()).add(to_node_id)
        neighbours.setdefault(to_node_id, set()).add(from_node_id)
    distances = {center: 0}
    to_visit = deque([center])
    while to_visit:
        node_id = to_visit.popleft()
        for neighbour in neighbours.get(node_id, ()):
            if neighbour not in distances:
                distances[neighbour] = distances[node_id] + 1
                to_visit.append(neighbour)
    return distances
