"""What queries answer, by a plain model: written from the text of the contract alone, sharing nothing with the service.

Source: docs/reference/PRECEDENT_AND_GRAPH_QUERY_SEMANTICS.md and QUERY_AND_ORDERING_INVARIANTS.md. A question about the
past is the same question to a model of the log that ends there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.log_models import Model, Row, Sent


class _BoundHit(Exception):
    """A walk ends early."""


@dataclass
class _Walk:
    """What a walk knows."""

    nodes: list[str]
    edges: list[Row] = field(default_factory=list)


class QueryModel:
    """Answers from a whole log."""

    def __init__(self, log: Sequence[Sent]) -> None:
        self.log = log
        self.rows = Model(log)

    def subgraph(self, center: str, *, max_depth: int, max_nodes: int, max_edges: int, **types: Sequence[str]) -> Row:
        """The neighbourhood of a node."""
        known = _Walk([center])
        truncated = False
        frontier = [center]
        try:
            for _ in range(max_depth):
                frontier = self._step(known, frontier, max_nodes, max_edges, **types)
        except _BoundHit:
            truncated = True
        return {
            "center": center,
            "nodes": [self.rows.nodes[node_id] for node_id in sorted(known.nodes) if node_id in self.rows.nodes],
            "edges": sorted(known.edges, key=lambda edge: edge["edge_id"]),
            "truncated": truncated,
        }

    def _step(
        self,
        known: _Walk,
        frontier: Sequence[str],
        max_nodes: int,
        max_edges: int,
        *,
        node_types: Sequence[str],
        edge_types: Sequence[str],
    ) -> list[str]:
        """Walk one level on; gives the next frontier."""
        reached = []
        for _, edge in sorted(self.rows.edges.items()):
            ends = (edge["from_node_id"], edge["to_node_id"])
            if edge in known.edges or not set(ends) & set(frontier):
                continue
            if edge_types and edge["edge_type"] not in edge_types:
                continue
            if len(known.edges) == max_edges:
                raise _BoundHit
            known.edges.append(edge)
            for end in ends:
                if end in known.nodes or (node_types and end.split(":")[0] not in node_types):
                    continue
                if len(known.nodes) == max_nodes:
                    raise _BoundHit
                known.nodes.append(end)
                reached.append(end)
        return reached

    def node_edges(self, node_id: str, direction: str) -> list[Row]:
        """All edges of a node, in order."""
        ends = {"outgoing": ["from_node_id"], "incoming": ["to_node_id"]}
        found = [
            edge
            for edge in self.rows.edges.values()
            if any(edge[end] == node_id for end in ends.get(direction, ["from_node_id", "to_node_id"]))
        ]
        return sorted(found, key=lambda edge: (edge["log_seq"], edge["edge_id"]))

    def precedents(self, wanted: Row) -> list[Row]:
        """All finished traces that match, in order. Filters that are not asked for are empty text."""
        found = []
        for summary in self.rows.summaries.values():
            filters = {
                "outcome": wanted["outcome"],
                "workflow": wanted["workflow"],
                "primary_entity_type": wanted["entity_type"],
                "primary_entity_id": wanted["entity_id"],
            }
            if summary["outcome"] is None or any(value and summary[name] != value for name, value in filters.items()):
                continue
            policy: Row | None = {"policy_id": None, "policy_version": None}
            if wanted["policy_id"]:
                policy = self._best(summary["trace_id"], wanted["policy_id"], wanted["policy_version"])
            if policy is not None:
                columns = ("trace_id", "workflow", "title", "outcome", "finished_at", "last_log_seq")
                hit = {name: summary[name] for name in columns}
                found.append({**hit, **{name: policy[name] for name in ("policy_id", "policy_version")}})
        return sorted(found, key=lambda hit: (-hit["last_log_seq"], hit["trace_id"]))

    def _best(self, trace_id: str, policy_id: str, policy_version: str) -> Row | None:
        """The row of the trace that a search for the policy chooses."""
        rows = [
            row
            for row in self.rows.precedents.values()
            if (row["trace_id"], row["policy_id"]) == (trace_id, policy_id)
            and policy_version in ("", row["policy_version"])
        ]
        rows.sort(key=lambda row: (row["exception_id"] is None, -row["log_seq"], row["source_event_id"]))
        return rows[0] if rows else None

    def trace_events(self, trace_id: str, since: int = -1) -> list[Row]:
        """The events of a trace in order, each as it was sent with its place in the log."""
        events = [{**sent, "log_seq": log_seq} for log_seq, sent in enumerate(self.log, start=1)]
        found = [event for event in events if event["trace_id"] == trace_id]
        return [event for event in sorted(found, key=lambda event: event["trace_seq"]) if event["trace_seq"] > since]

    def trace(self, trace_id: str) -> Row | None:
        """A trace: its summary, and how many events it truly has, with the position of the newest."""
        events = self.trace_events(trace_id)
        if not events:
            return None
        return {
            "summary": self.rows.summaries[trace_id],
            "event_count": len(events),
            "last_log_seq": events[-1]["log_seq"],
            "events": events,
        }


def pages(items: Sequence[Any], size: int) -> list[list[Any]]:
    """The items in pages of that size: none is empty unless there is nothing at all."""
    return [list(items[at : at + size]) for at in range(0, len(items), size)] or [[]]
