"""The walk through the context graph equals the procedure of the reference, on any graph and within any bounds."""

from hypothesis import given
from hypothesis import strategies as st

from decisiongraph_service.domain.context_graph import EdgeRow
from decisiongraph_service.domain.graph_walk import GraphWalk

_NODES = ("trace:a", "trace:b", "entity:a", "entity:a!", "policy:p:1", "exception:x")
_TYPES = ("trace", "entity", "policy", "exception", "nothing")

edges = st.lists(
    st.builds(
        lambda log_seq, kind, start, end: EdgeRow(log_seq, kind, start, end, f"ev-{log_seq}", "t", "now"),
        st.integers(1, 30),
        st.sampled_from(("trace_involves_entity", "trace_cited_precedent")),
        st.sampled_from(_NODES),
        st.sampled_from(_NODES),
    ),
    max_size=25,
    unique_by=lambda edge: edge.edge_id,
)


def model(
    graph: list[EdgeRow], center: str, max_depth: int, max_nodes: int, max_edges: int, node_types: list[str]
) -> tuple[list[str], list[str], bool]:
    """The procedure, word for word."""
    known_nodes, frontier = [center], [center]
    known_edges: list[str] = []
    for _ in range(max_depth):
        if not frontier:
            break
        touching = sorted(
            (e for e in graph if e.from_node_id in frontier or e.to_node_id in frontier), key=lambda e: e.edge_id
        )
        frontier = []
        for edge in touching:
            if edge.edge_id in known_edges:
                continue
            if len(known_edges) == max_edges:
                return sorted(known_nodes), sorted(known_edges), True
            known_edges.append(edge.edge_id)
            for node in (edge.from_node_id, edge.to_node_id):
                if node in known_nodes or (node_types and node.split(":")[0] not in node_types):
                    continue
                if len(known_nodes) == max_nodes:
                    return sorted(known_nodes), sorted(known_edges), True
                known_nodes.append(node)
                frontier.append(node)
    return sorted(known_nodes), sorted(known_edges), False


@given(
    graph=edges,
    center=st.sampled_from(_NODES),
    max_depth=st.integers(0, 5),
    max_nodes=st.integers(1, 7),
    max_edges=st.integers(1, 12),
    node_types=st.lists(st.sampled_from(_TYPES), max_size=3),
)
def test_a_walk_is_the_procedure(
    graph: list[EdgeRow], center: str, max_depth: int, max_nodes: int, max_edges: int, node_types: list[str]
) -> None:
    walk = GraphWalk(center, max_depth=max_depth, max_nodes=max_nodes, max_edges=max_edges, node_types=node_types)
    while walk.frontier:
        frontier = set(walk.frontier)
        touching = sorted(
            (e for e in graph if frontier.intersection((e.from_node_id, e.to_node_id))), key=lambda e: e.edge_id
        )
        # As the storage answers: the first ones only.
        walk.step(touching[: walk.edges_wanted])
    found = sorted(walk.node_ids), sorted(walk.edges), walk.truncated
    assert found == model(graph, center, max_depth, max_nodes, max_edges, node_types)
