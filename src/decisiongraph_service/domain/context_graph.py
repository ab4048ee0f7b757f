"""The projection `context_graph`: nodes and edges that each event emits.

Source: docs/reference/PROJECTION_AND_REPLAY_SEMANTICS.md, context graph. Pure; the same events give the same rows.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from decisiongraph_service.domain import text, vocabulary
from decisiongraph_service.domain.events import ProjectedEvent


class NodeRow(NamedTuple):
    """A node. Its type is the part of its id before the first `:`; its attributes are always empty."""

    node_id: str
    trace_id: str
    log_seq: int
    created_at: str

    @property
    def node_type(self) -> str:
        """`trace`, `actor`, `entity`, `input`, `policy`, `exception` or `action`."""
        return self.node_id.partition(":")[0]


class EdgeRow(NamedTuple):
    """An edge. Its id is made of its type, its ends and its event; its attributes are always empty."""

    log_seq: int
    edge_type: str
    from_node_id: str
    to_node_id: str
    event_id: str
    trace_id: str
    created_at: str

    @property
    def edge_id(self) -> str:
        """`<type>:<from>:<to>:<event_id>`, nothing escaped."""
        return f"{self.edge_type}:{self.from_node_id}:{self.to_node_id}:{self.event_id}"


INCOMING_EDGE_TYPES: Final[Mapping[str, Sequence[str]]] = {
    "trace": (vocabulary.TRACE_CITED_PRECEDENT,),
    "actor": (vocabulary.EXCEPTION_APPROVED_BY,),
    "entity": (vocabulary.ACTION_TARGETS_ENTITY, vocabulary.TRACE_INVOLVES_ENTITY),
    "input": (vocabulary.TRACE_OBSERVED_INPUT,),
    "policy": (vocabulary.TRACE_EVALUATED_POLICY,),
    "exception": (vocabulary.TRACE_REQUESTED_EXCEPTION,),
    "action": (vocabulary.TRACE_COMMITTED_ACTION, vocabulary.TRACE_PROPOSED_ACTION),
}
"""By type of a node, the types of edges that can end there."""
TYPES_WITH_OUTGOING_EDGES: Final = frozenset(("trace", "exception", "action"))
"""Types of nodes that edges can begin at."""

_Link = tuple[str, str, str]
"""Edge type, from, to."""
_Emitted = tuple[Sequence[str], Sequence[_Link]]
"""Asserted node ids, then edges, each in the order of writing."""
_Payload = Mapping[str, Any]


def trace_node(trace_id: str) -> str:
    """The node id of a trace."""
    return f"trace:{trace_id}"


def _entity(entity: Mapping[str, Any]) -> str:
    return f"entity:{text.member(entity, 'entity_type')}:{text.member(entity, 'entity_id')}"


def _actor(actor_type: str, actor_id: str) -> str:
    return f"actor:{actor_type}:{actor_id}"


def _trace_started(event: ProjectedEvent, payload: _Payload, trace: str) -> _Emitted:
    entity = _entity(payload["primary_entity"])
    return (trace, _actor(event.actor_type, event.actor_id), entity), (
        (vocabulary.TRACE_INVOLVES_ENTITY, trace, entity),
    )


def _entity_observed(event: ProjectedEvent, payload: _Payload, trace: str) -> _Emitted:
    entity = _entity(payload["entity"])
    return (entity,), ((vocabulary.TRACE_INVOLVES_ENTITY, trace, entity),)


def _input_observed(event: ProjectedEvent, payload: _Payload, trace: str) -> _Emitted:
    node = f"input:{text.member(payload, 'input_id')}"
    return (node,), ((vocabulary.TRACE_OBSERVED_INPUT, trace, node),)


def _policy_evaluated(event: ProjectedEvent, payload: _Payload, trace: str) -> _Emitted:
    policy = payload["policy"]
    node = f"policy:{text.member(policy, 'policy_id')}:{text.member(policy, 'policy_version')}"
    return (node,), ((vocabulary.TRACE_EVALUATED_POLICY, trace, node),)


def _exception_requested(event: ProjectedEvent, payload: _Payload, trace: str) -> _Emitted:
    node = f"exception:{text.member(payload, 'exception_id')}"
    return (node,), ((vocabulary.TRACE_REQUESTED_EXCEPTION, trace, node),)


def _approval_recorded(event: ProjectedEvent, payload: _Payload, trace: str) -> _Emitted:
    approver, subject = payload["approver"], payload["subject"]
    node = _actor(text.member(approver, "actor_type"), text.member(approver, "actor_id"))
    if text.member(subject, "subject_type") != "exception":
        return (node,), ()
    return (node,), ((vocabulary.EXCEPTION_APPROVED_BY, f"exception:{text.member(subject, 'subject_id')}", node),)


def _precedent_cited(event: ProjectedEvent, payload: _Payload, trace: str) -> _Emitted:
    return (), ((vocabulary.TRACE_CITED_PRECEDENT, trace, trace_node(text.member(payload, "cited_trace_id"))),)


def _action_proposed(event: ProjectedEvent, payload: _Payload, trace: str) -> _Emitted:
    node = f"action:{text.member(payload, 'action_id')}"
    return (node,), (
        (vocabulary.TRACE_PROPOSED_ACTION, trace, node),
        (vocabulary.ACTION_TARGETS_ENTITY, node, _entity(payload["target_entity"])),
    )


def _action_committed(event: ProjectedEvent, payload: _Payload, trace: str) -> _Emitted:
    return (), ((vocabulary.TRACE_COMMITTED_ACTION, trace, f"action:{text.member(payload, 'action_id')}"),)


_EMITTED_BY: Final[Mapping[str, Callable[[ProjectedEvent, _Payload, str], _Emitted]]] = {
    vocabulary.TRACE_STARTED: _trace_started,
    vocabulary.ENTITY_OBSERVED: _entity_observed,
    vocabulary.INPUT_OBSERVED: _input_observed,
    vocabulary.POLICY_EVALUATED: _policy_evaluated,
    vocabulary.EXCEPTION_REQUESTED: _exception_requested,
    vocabulary.APPROVAL_RECORDED: _approval_recorded,
    vocabulary.PRECEDENT_CITED: _precedent_cited,
    vocabulary.ACTION_PROPOSED: _action_proposed,
    vocabulary.ACTION_COMMITTED: _action_committed,
}


class GraphChanges:
    """What events in log order add to the graph. The first writer of a node wins, here and in what is stored before."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeRow] = {}
        self.edges: list[EdgeRow] = []

    @property
    def nodes(self) -> list[NodeRow]:
        """The nodes that were mentioned, each as its first mention made it."""
        return list(self._nodes.values())

    def apply(self, event: ProjectedEvent, payload: _Payload) -> None:
        """Add what the next event emits. `payload` is its payload, with the shape of its type."""
        emitted_by = _EMITTED_BY.get(event.event_type)
        if emitted_by is None:
            return
        asserted, links = emitted_by(event, payload, trace_node(event.trace_id))
        for node_id in asserted:
            self._mention(node_id, event)
        for edge_type, from_node_id, to_node_id in links:
            self._mention(from_node_id, event)
            self._mention(to_node_id, event)
            self.edges.append(
                EdgeRow(
                    event.log_seq,
                    edge_type,
                    from_node_id,
                    to_node_id,
                    event.event_id,
                    event.trace_id,
                    event.occurred_at,
                )
            )

    def _mention(self, node_id: str, event: ProjectedEvent) -> None:
        if node_id not in self._nodes:
            owner = node_id[6:] if node_id.startswith("trace:") else event.trace_id
            self._nodes[node_id] = NodeRow(node_id, owner, event.log_seq, event.occurred_at)
