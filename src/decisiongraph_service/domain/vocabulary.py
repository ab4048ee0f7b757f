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
FULL_PROJECTION: Final = "full_projection"
"""The name of the combined digest only."""
ALL_PROJECTIONS: Final = "all"
"""The name of a job's target only."""

TRACE_INVOLVES_ENTITY: Final = "trace_involves_entity"
TRACE_OBSERVED_INPUT: Final = "trace_observed_input"
TRACE_EVALUATED_POLICY: Final = "trace_evaluated_policy"
TRACE_REQUESTED_EXCEPTION: Final = "trace_requested_exception"
EXCEPTION_APPROVED_BY: Final = "exception_approved_by"
TRACE_CITED_PRECEDENT: Final = "trace_cited_precedent"
TRACE_PROPOSED_ACTION: Final = "trace_proposed_action"
ACTION_TARGETS_ENTITY: Final = "action_targets_entity"
TRACE_COMMITTED_ACTION: Final = "trace_committed_action"

CATCH_UP: Final = "catch_up"
REBUILD: Final = "rebuild"
VERIFY: Final = "verify"
QUEUED: Final = "queued"
RUNNING: Final = "running"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
ACTIVE_STATUSES: Final = (QUEUED, RUNNING)
