"""Rows of the context graph: their columns, reading a generation in its order, removing one in steps."""

import hashlib
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import Final

from decisiongraph_service.domain import context_graph
from decisiongraph_service.domain.context_graph import EdgeRow, NodeRow
from decisiongraph_service.storage.database import TenantTransaction

TABLES: Final = ("graph_edges", "graph_nodes")

# A range of the primary key, sorted by the server.
_NODES: Final = """
    SELECT node_id, trace_id, log_seq, created_at, node_key
    FROM graph_nodes
    WHERE tenant_id = $1 AND generation = $2
    ORDER BY node_id
"""

# A range of the primary key, sorted by the server.
_EDGES: Final = """
    SELECT log_seq, edge_type, from_node_id, to_node_id, event_id, trace_id, created_at, from_node_key, to_node_key
    FROM graph_edges
    WHERE tenant_id = $1 AND generation = $2
    ORDER BY edge_type || ':' || from_node_id || ':' || to_node_id || ':' || event_id
"""

_EDGE_COLUMNS: Final = "log_seq, edge_type, from_node_id, to_node_id, event_id, trace_id, created_at"

_EDGE_ID: Final = "edge_type || ':' || from_node_id || ':' || to_node_id || ':' || event_id"
_REST_OF_EDGE_ID: Final = "from_node_id || ':' || to_node_id || ':' || event_id"

# For each node the range of graph_edges_from, and of graph_edges_to_by_id for each type of edge that can end there: in
# the order of ids, so that of a node with very many edges only the first are read. An edge between two of the nodes is
# found once.
_EDGES_TOUCHING: Final = f"""
    SELECT {_EDGE_COLUMNS}
    FROM (
        SELECT touching.*,
               sum(octet_length({_EDGE_ID})) OVER (ORDER BY {_EDGE_ID} ROWS UNBOUNDED PRECEDING)
                   - octet_length({_EDGE_ID}) AS bytes_before
        FROM (
            SELECT edge.*
            FROM unnest($3::bytea[]) AS node (node_key)
            CROSS JOIN LATERAL (
                SELECT {_EDGE_COLUMNS}
                FROM graph_edges
                WHERE tenant_id = $1 AND generation = $2 AND from_node_key = node.node_key AND log_seq <= $4
                  AND (cardinality($5::text[]) = 0 OR edge_type = ANY ($5))
                ORDER BY graph_edges.log_seq
                LIMIT 1000000000
            ) AS edge
            UNION
            SELECT edge.*
            FROM unnest($7::bytea[]) AS node (incoming_key)
            CROSS JOIN LATERAL (
                SELECT {_EDGE_COLUMNS}
                FROM graph_edges
                WHERE tenant_id = $1 AND generation = $2
                  AND incoming_key = node.incoming_key AND log_seq <= $4
                ORDER BY "left"({_REST_OF_EDGE_ID}, 64), {_REST_OF_EDGE_ID}
                LIMIT $6
            ) AS edge
        ) AS touching
        ORDER BY {_EDGE_ID}
        LIMIT $6
    ) AS first_ones
    WHERE bytes_before <= $8
    ORDER BY {_EDGE_ID}
"""

# The primary key.
_NODES_BY_KEY: Final = """
    SELECT node_id, trace_id, log_seq, created_at
    FROM graph_nodes
    WHERE tenant_id = $1 AND generation = $2 AND node_key = ANY ($3::bytea[]) AND log_seq <= $4
    ORDER BY node_id
"""

# A range of graph_edges_from.
_OUTGOING: Final = f"""
    SELECT {_EDGE_COLUMNS}
    FROM graph_edges
    WHERE tenant_id = $1 AND generation = $2 AND from_node_key = $3 AND log_seq >= $4
    ORDER BY graph_edges.log_seq
    LIMIT $5
"""

# A range of graph_edges_to.
_INCOMING: Final = f"""
    SELECT {_EDGE_COLUMNS}
    FROM graph_edges
    WHERE tenant_id = $1 AND generation = $2 AND to_node_key = $3 AND log_seq >= $4
    ORDER BY graph_edges.log_seq
    LIMIT $5
"""


def node_key(node_id: str) -> bytes:
    """What a node is found by: ids are made of payload texts, which may be longer than an index takes."""
    return hashlib.sha256(node_id.encode()).digest()[:16]


def incoming_key(edge_type: str, to_node_id: str) -> bytes:
    """What the edges of one type that end at a node are found by."""
    return node_key(to_node_id) + edge_type.encode()


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
            incoming_key(row.edge_type, row.to_node_id),
        )
        for row in rows
    ]


async def fetch_edges_touching(
    transaction: TenantTransaction,
    generation: int,
    node_ids: Sequence[str],
    *,
    edge_types: Sequence[str],
    until_log_seq: int,
    limit: int,
    max_bytes: int,
) -> list[EdgeRow]:
    """The first edges by `edge_id` of those at either end of any of these nodes; no `edge_types`: of all types.

    At most `limit`, and none behind the one with which their ids together exceed `max_bytes`.
    """
    from_keys: list[bytes] = []
    incoming_keys: list[bytes] = []
    for node_id in node_ids:
        node_type = node_id.partition(":")[0]
        if node_type in context_graph.TYPES_WITH_OUTGOING_EDGES:
            from_keys.append(node_key(node_id))
        incoming_keys.extend(
            incoming_key(edge_type, node_id)
            for edge_type in context_graph.INCOMING_EDGE_TYPES.get(node_type, ())
            if not edge_types or edge_type in edge_types
        )
    rows = await transaction.fetch(
        _EDGES_TOUCHING,
        generation,
        from_keys,
        until_log_seq,
        list(edge_types),
        limit,
        incoming_keys,
        max_bytes,
    )
    return [EdgeRow(*row) for row in rows]


async def fetch_nodes(
    transaction: TenantTransaction, generation: int, node_ids: Collection[str], *, until_log_seq: int
) -> list[NodeRow]:
    """Those of these nodes that exist, by `node_id`."""
    keys = [node_key(node_id) for node_id in node_ids]
    return [NodeRow(*row) for row in await transaction.fetch(_NODES_BY_KEY, generation, keys, until_log_seq)]


async def fetch_node_edges(
    transaction: TenantTransaction, generation: int, node_id: str, *, outgoing: bool, from_log_seq: int, limit: int
) -> list[EdgeRow]:
    """Edges that go out from the node, or come into it, by `log_seq`, from a position on, at most `limit`."""
    statement = _OUTGOING if outgoing else _INCOMING
    rows = await transaction.fetch(statement, generation, node_key(node_id), from_log_seq, limit)
    return [EdgeRow(*row) for row in rows]


async def iterate_edges(
    transaction: TenantTransaction, generation: int
) -> AsyncIterator[tuple[EdgeRow, tuple[bytes, bytes]]]:
    """The edges of a generation by `edge_id`, each with the keys that its ends are found by."""
    async for row in transaction.iterate(_EDGES, generation):
        *columns, from_key, to_key = row
        yield EdgeRow(*columns), (from_key, to_key)


async def iterate_nodes(transaction: TenantTransaction, generation: int) -> AsyncIterator[tuple[NodeRow, bytes]]:
    """The nodes of a generation by `node_id`, each with the key that it is found by."""
    async for row in transaction.iterate(_NODES, generation):
        *columns, key = row
        yield NodeRow(*columns), key
