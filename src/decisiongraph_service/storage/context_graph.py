"""Rows of the context graph: their columns, reading a generation in its order, removing one in steps."""

import hashlib
from collections.abc import AsyncIterator, Iterable
from typing import Final

from decisiongraph_service.domain.context_graph import EdgeRow, NodeRow
from decisiongraph_service.storage.database import TenantTransaction

TABLES: Final = ("graph_edges", "graph_nodes")

# A range of the primary key, sorted by the server.
_NODES: Final = """
    SELECT node_id, trace_id, log_seq, created_at
    FROM graph_nodes
    WHERE tenant_id = $1 AND generation = $2
    ORDER BY node_id
"""

# A range of the primary key, sorted by the server.
_EDGES: Final = """
    SELECT log_seq, edge_type, from_node_id, to_node_id, event_id, trace_id, created_at
    FROM graph_edges
    WHERE tenant_id = $1 AND generation = $2
    ORDER BY edge_type || ':' || from_node_id || ':' || to_node_id || ':' || event_id
"""


def node_key(node_id: str) -> bytes:
    """What a node is found by: ids are made of payload texts, which may be longer than an index takes."""
    return hashlib.sha256(node_id.encode()).digest()[:16]


def node_columns(tenant_id: str, generation: int, rows: Iterable[NodeRow]) -> list[tuple[object, ...]]:
    """Rows of `graph_nodes`, in the order of its columns."""
    return [
        (tenant_id, generation, node_key(row.node_id), row.node_id, row.trace_id, row.log_seq, row.created_at)
        for row in rows
    ]


def edge_columns(tenant_id: str, generation: int, rows: Iterable[EdgeRow]) -> list[tuple[object, ...]]:
    """Rows of `graph_edges`, in the order of its columns."""
    return [
        (
            tenant_id,
            generation,
            row.log_seq,
            row.edge_type,
            node_key(row.from_node_id),
            node_key(row.to_node_id),
            row.from_node_id,
            row.to_node_id,
            row.event_id,
            row.trace_id,
            row.created_at,
        )
        for row in rows
    ]


async def iterate_edges(transaction: TenantTransaction, generation: int) -> AsyncIterator[EdgeRow]:
    """The edges of a generation by `edge_id`."""
    async for row in transaction.iterate(_EDGES, generation):
        yield EdgeRow(*row)


async def iterate_nodes(transaction: TenantTransaction, generation: int) -> AsyncIterator[NodeRow]:
    """The nodes of a generation by `node_id`."""
    async for row in transaction.iterate(_NODES, generation):
        yield NodeRow(*row)
