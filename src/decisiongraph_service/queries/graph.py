"""Questions to the context graph (docs/reference/PRECEDENT_AND_GRAPH_QUERY_SEMANTICS.md)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from decisiongraph_service.domain import errors, vocabulary
from decisiongraph_service.domain.context_graph import EdgeRow, NodeRow
from decisiongraph_service.domain.graph_walk import GraphWalk
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries import freshness, paging
from decisiongraph_service.queries.freshness import Freshness, FreshnessWait, Reading, ReadPosition
from decisiongraph_service.queries.paging import PageTokens
from decisiongraph_service.storage import context_graph

DEFAULT_DEPTH: Final = 1
DEFAULT_NODES: Final = 100
DEFAULT_EDGES: Final = 500
DEFAULT_PAGE_SIZE: Final = 100
OUTGOING: Final = "outgoing"
INCOMING: Final = "incoming"
BOTH: Final = "both"

_PROJECTIONS: Final = (vocabulary.CONTEXT_GRAPH,)
_EDGES_LIST: Final = "ListNodeEdges"
_EDGES_OF_ONE_EVENT: Final = 2
"""Most edges that one event makes, and so the most with one log position."""
_EDGES_AT_ONCE: Final = 200
_ROW_OVERHEAD_BYTES: Final = 300
_MOST_ROWS_OF_A_LEVEL: Final = 3 * paging.MAX_ANSWER_BYTES // _ROW_OVERHEAD_BYTES
"""More are not read: with so many the answer is too large whatever they hold."""


@dataclass(frozen=True, slots=True)
class GraphWanted:
    """Which part of the graph is wanted."""

    center: str
    """A node id."""
    max_depth: int = DEFAULT_DEPTH
    max_nodes: int = DEFAULT_NODES
    max_edges: int = DEFAULT_EDGES
    node_types: Sequence[str] = ()
    edge_types: Sequence[str] = ()
    as_of_log_seq: int | None = None
    """As the log stood at this position; None: now."""


@dataclass(frozen=True, slots=True)
class ContextGraph:
    """A part of the graph."""

    center: str
    nodes: Sequence[NodeRow]
    """By `node_id`."""
    edges: Sequence[EdgeRow]
    """By `edge_id`."""
    truncated: bool
    position: ReadPosition


@dataclass(frozen=True, slots=True)
class EdgesPage:
    """Edges of one node by (`log_seq`, `edge_id`)."""

    edges: Sequence[EdgeRow]
    next_page_token: str | None
    position: ReadPosition


class GraphQueries:
    """Questions to the context graph."""

    def __init__(self, page_tokens: PageTokens, freshness_wait: FreshnessWait) -> None:
        self._page_tokens = page_tokens
        self._freshness_wait = freshness_wait

    async def get_context_graph(
        self, tenant_id: TenantId, wanted: GraphWanted, freshness_wanted: Freshness
    ) -> ContextGraph:
        """What is around a node. A centre that does not exist gives an empty graph.

        Raises:
            InvalidArgument: `as_of_log_seq` is beyond the log, or the answer would be too large.
            ProjectionOutOfDate: the graph is behind what `freshness_wanted` asks for.
        """
        async with self._freshness_wait.reading(tenant_id, _PROJECTIONS, freshness_wanted) as reading:
            snapshot, position = reading.snapshot, reading.position
            generation = reading.generations[vocabulary.CONTEXT_GRAPH]
            until = freshness.checked_as_of(wanted.as_of_log_seq, position.head_log_seq)
            walk = GraphWalk(
                wanted.center,
                max_depth=wanted.max_depth,
                max_nodes=wanted.max_nodes,
                max_edges=wanted.max_edges,
                node_types=wanted.node_types,
            )
            while walk.frontier:
                walk.step(
                    await context_graph.fetch_edges_touching(
                        snapshot,
                        generation,
                        walk.frontier,
                        edge_types=wanted.edge_types,
                        until_log_seq=until,
                        limit=min(walk.edges_wanted, _MOST_ROWS_OF_A_LEVEL),
                        max_bytes=paging.MAX_ANSWER_BYTES,
                    )
                )
                _check_size(walk.edges.values())
            nodes = await context_graph.fetch_nodes(snapshot, generation, walk.node_ids, until_log_seq=until)
        if wanted.as_of_log_seq is not None:
            position = ReadPosition(min(wanted.as_of_log_seq, position.log_seq), position.head_log_seq)
        edges = [walk.edges[edge_id] for edge_id in sorted(walk.edges)]
        _check_size(edges, nodes)
        return ContextGraph(wanted.center, nodes, edges, walk.truncated, position)

    async def list_node_edges(
        self,
        tenant_id: TenantId,
        node_id: str,
        *,
        direction: str,
        page_size: int | None,
        page_token: str,
        freshness_wanted: Freshness,
    ) -> EdgesPage:
        """Edges of one node. An unknown node gives an empty page.

        Raises:
            InvalidArgument: `page_token` belongs to another request.
            ProjectionOutOfDate: the graph is behind what `freshness_wanted` asks for.
        """
        direction = direction or BOTH
        page_size = page_size or DEFAULT_PAGE_SIZE
        place = (0, "")
        if page_token:
            decoded = self._page_tokens.decode(_EDGES_LIST, tenant_id, (node_id, direction), page_token)
            place = int(decoded[0] or 0), str(decoded[1])
        async with self._freshness_wait.reading(tenant_id, _PROJECTIONS, freshness_wanted) as reading:
            edges = await _edges_after(reading, node_id, direction, place, page_size + 1)
        fitting = min(page_size, paging.fit(map(_edge_bytes, edges)))
        token = None
        if fitting < len(edges):
            last = edges[fitting - 1]
            token = self._page_tokens.encode(_EDGES_LIST, tenant_id, (node_id, direction), (last.log_seq, last.edge_id))
        return EdgesPage(edges[:fitting], token, reading.position)


async def _edges_after(
    reading: Reading, node_id: str, direction: str, place: tuple[int, str], count: int
) -> list[EdgeRow]:
    """Up to `count` edges after a place, in order, read in chunks so that long ids never pile up beyond one answer."""
    edges: list[EdgeRow] = []
    size = 0
    while len(edges) < count and size <= paging.MAX_ANSWER_BYTES:
        limit = min(_EDGES_AT_ONCE, count - len(edges))
        chunk = await _chunk_after(reading, node_id, direction, place, limit)
        edges.extend(chunk)
        size += sum(map(_edge_bytes, chunk))
        if len(chunk) < limit:
            break
        place = chunk[-1].log_seq, chunk[-1].edge_id
    return edges


async def _chunk_after(
    reading: Reading, node_id: str, direction: str, place: tuple[int, str], count: int
) -> list[EdgeRow]:
    found: dict[str, EdgeRow] = {}
    for outgoing in [way for way in (True, False) if direction in (BOTH, OUTGOING if way else INCOMING)]:
        edges = await context_graph.fetch_node_edges(
            reading.snapshot,
            reading.generations[vocabulary.CONTEXT_GRAPH],
            node_id,
            outgoing=outgoing,
            from_log_seq=place[0],
            # Those of the place's own position come again, and the last position may be cut in the middle.
            limit=count + 2 * _EDGES_OF_ONE_EVENT,
        )
        found.update((edge.edge_id, edge) for edge in edges)
    in_order = sorted(found.values(), key=lambda edge: (edge.log_seq, edge.edge_id))
    return [edge for edge in in_order if (edge.log_seq, edge.edge_id) > place][:count]


def _check_size(edges: Iterable[EdgeRow], nodes: Sequence[NodeRow] = ()) -> None:
    size = sum(map(_edge_bytes, edges)) + sum(_ROW_OVERHEAD_BYTES + 2 * len(node.node_id.encode()) for node in nodes)
    if size > paging.MAX_ANSWER_BYTES:
        raise errors.InvalidArgument(
            [
                errors.Violation(
                    "max_edges",
                    "ANSWER_TOO_LARGE",
                    f"the answer would have about {size} bytes, at most {paging.MAX_ANSWER_BYTES} are sent; "
                    "ask for fewer nodes and edges",
                )
            ]
        )


def _edge_bytes(edge: EdgeRow) -> int:
    return _ROW_OVERHEAD_BYTES + 3 * len(edge.edge_id.encode())
