"""The frozen vocabularies: event, actor, node and edge types, payload literals, projections, replay words.

Spelled as callers spell them. Source: docs/reference/EVENT_ENVELOPE_CONTRACT.md and
docs/reference/PROJECTION_AND_REPLAY_SEMANTICS.md.
"""

from typing import Final, NewType

TenantId = NewType("TenantId", str)
TraceId = NewType("TraceId", str)
EventId = NewType("EventId", str)
LogSeq = NewType("LogSeq", int)

TRACE_STARTED: Final = "TraceStarted"
INPUT_OBSERVED: Final = "InputObserved"
ENTITY_OBSERVED: Final = "EntityObserved"
POLICY_EVALUATED: Final = "PolicyEvaluated"
EXCEPTION_REQUESTED: Final = "ExceptionRequested"
APPROVAL_RECORDED: Final = "ApprovalRecorded"
PRECEDENT_CITED: Final = "PrecedentCited"
ACTION_PROPOSED: Final = "ActionProposed"
ACTION_COMMITTED: Final = "ActionCommitted"
TRACE_FINISHED: Final = "TraceFinished"

EVENT_TYPES: Final = (
    TRACE_STARTED,
    INPUT_OBSERVED,
    ENTITY_OBSERVED,
    POLICY_EVALUATED,
    EXCEPTION_REQUESTED,
    APPROVAL_RECORDED,
    PRECEDENT_CITED,
    ACTION_PROPOSED,
    ACTION_COMMITTED,
    TRACE_FINISHED,
)

ACTOR_TYPES: Final = ("agent", "person", "role", "system")
ENTITY_ROLES: Final = ("primary", "related")
POLICY_DECISIONS: Final = ("allow", "deny", "require_exception")
APPROVAL_DECISIONS: Final = ("approved", "rejected")
ACTION_STATUSES: Final = ("success", "failure", "partial")
TRACE_OUTCOMES: Final = ("success", "failure", "abandoned")

TRACE_SUMMARY: Final = "trace_summary"
CONTEXT_GRAPH: Final = "context_graph"
PRECEDENT_INDEX: Final = "precedent_index"
PROJECTIONS: Final = (CONTEXT_GRAPH, TRACE_SUMMARY, PRECEDENT_INDEX)
