"""Small logs, and the rows that the pure part of the service makes of them; no database."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from decisiongraph_service.domain import canonical, vocabulary
from decisiongraph_service.domain.context_graph import EdgeRow, NodeRow
from decisiongraph_service.domain.events import ProjectedEvent
from decisiongraph_service.domain.projection_pass import Before, Changes, Pass

Entry = tuple[str, str, Mapping[str, Any]]
"""Trace, type, payload."""

ORDER: Final = {"entity_type": "order", "entity_id": "1"}
STARTED: Final[dict[str, Any]] = {"workflow": "w", "title": "t", "primary_entity": ORDER}
POLICY: Final = {"policy": {"policy_id": "cap", "policy_version": "1"}, "inputs": ["i", "j"], "decision": "deny"}
EXCEPTION: Final = {"exception_id": "x", "policy": {"policy_id": "cap", "policy_version": "2"}, "reason": "r"}
ACTION: Final = {
    "action_id": "a", "action_type": "pay", "target_entity": {"entity_type": "account", "entity_id": "9"},
    "target_system": "s", "changes": [],
}  # fmt: skip


def approval(subject_type: str = "exception", decision: str = "approved") -> dict[str, Any]:
    return {
        "approval_id": "ap",
        "subject": {"subject_type": subject_type, "subject_id": "x"},
        "approver": {"actor_type": "person", "actor_id": "boss"},
        "decision": decision,
    }


def entity(entity_type: str = "order", entity_id: str = "1", **more: Any) -> dict[str, Any]:
    return {
        "entity": {"entity_type": entity_type, "entity_id": entity_id, **more},
        "role": "related",
        "facts": [],
    }


def event(log_seq: int, trace_seq: int, entry: Entry) -> ProjectedEvent:
    trace_id, event_type, payload = entry
    text = canonical.canonical_json(payload)
    # Every event has an actor of its own, so that a node made of it cannot be overlooked.
    return ProjectedEvent(
        log_seq, f"e{log_seq}", trace_id, trace_seq, event_type, f"2026-01-01T00:00:{log_seq:02}Z", "agent",
        f"a{log_seq}", text, canonical.payload_hash(text),
    )  # fmt: skip


def log_of(*entries: Entry) -> list[ProjectedEvent]:
    counts: dict[str, int] = {}
    events = []
    for log_seq, entry in enumerate(entries, start=1):
        trace_seq = counts.setdefault(entry[0], 0)
        counts[entry[0]] += 1
        events.append(event(log_seq, trace_seq, entry))
    return events


def run(events: Sequence[ProjectedEvent]) -> Changes:
    one = Pass(0, Before(), vocabulary.PROJECTIONS)
    one.run(events)
    return one.changes


def undamaged(*entries: Entry) -> Changes:
    changes = run(log_of(*entries))
    assert changes.damage is None
    assert changes.position == changes.applied == len(entries)
    return changes


def nodes_of(changes: Changes) -> dict[str, NodeRow]:
    return {node.node_id: node for node in changes.graph.nodes}


def ends(edge: EdgeRow) -> tuple[str, str, str]:
    return edge.edge_type, edge.from_node_id, edge.to_node_id
