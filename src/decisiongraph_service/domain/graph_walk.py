"""Walking the context graph breadth first, within bounds.

Source: docs/reference/PRECEDENT_AND_GRAPH_QUERY_SEMANTICS.md, context subgraph. Pure: the edges come from the caller,
level by level.
"""

from collections.abc import Collection, Iterable

from decisiongraph_service.domain.context_graph import EdgeRow


class GraphWalk:
    """A walk from a centre: what is known of the graph so far, and where to go on."""

    def __init__(
        self, center: str, *, max_depth: int, max_nodes: int, max_edges: int, node_types: Collection[str] = ()
    ) -> None:
        """`node_types`: only nodes of these types are walked to; empty: of all. The centre is exempt."""
        self.truncated = False
        """There was more than the bounds allow."""
        self.node_ids = {center}
        """The known nodes, whether they exist or not."""
        self.edges: dict[str, EdgeRow] = {}
        """The known edges by id."""
        self.frontier = [center]
        """The nodes whose edges come next; empty when the walk is over."""
        self._levels_left = max_depth
        self._max_nodes = max_nodes
        self._max_edges = max_edges
        self._node_types = frozenset(node_types)
        if max_depth == 0:
            self.frontier = []

    @property
    def edges_wanted(self) -> int:
        """How many edges of a level are looked at at most: the known ones may come again, and one more truncates."""
        return self._max_edges + 1

    def step(self, edges: Iterable[EdgeRow]) -> None:
        """Take the edges that touch the frontier, sorted by `edge_id`; the first `edges_wanted` of them are enough."""
        reached: list[str] = []
        for edge in edges:
            edge_id = edge.edge_id
            if edge_id in self.edges:
                continue
            if len(self.edges) == self._max_edges:
                self.truncated = True
                break
            self.edges[edge_id] = edge
            if not self._reach(edge.from_node_id, reached) or not self._reach(edge.to_node_id, reached):
                self.truncated = True
                break
        self._levels_left -= 1
        self.frontier = reached if self._levels_left > 0 and not self.truncated else []

    def _reach(self, node_id: str, reached: list[str]) -> bool:
        """Get to know an end of an edge; False if there is no room for it."""
        if node_id in self.node_ids:
            return True
        if self._node_types and node_id.partition(":")[0] not in self._node_types:
            return True
        if len(self.node_ids) == self._max_nodes:
            return False
        self.node_ids.add(node_id)
        reached.append(node_id)
        return True
