"""The projection `precedent_index`: precedent rows of finished traces, and the policy-evaluation index.

Source: docs/reference/PROJECTION_AND_REPLAY_SEMANTICS.md, policy-evaluation index and precedent index. Pure.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from decisiongraph_service.domain import vocabulary
from decisiongraph_service.domain.events import ProjectedEvent

READ_BACK_TYPES = (vocabulary.TRACE_STARTED, vocabulary.POLICY_EVALUATED, vocabulary.EXCEPTION_REQUESTED)
"""The events of a trace that its precedent rows are made of."""


class PolicyEvaluationRow(NamedTuple):
    """One PolicyEvaluated event. Takes part in no digest."""

    event_id: str
    trace_id: str
    policy_id: str
    policy_version: str
    log_seq: int
    created_at: str

    @property
    def index_id(self) -> str:
        """`<trace_id>:<policy_id>:<policy_version>:<event_id>`."""
        return f"{self.trace_id}:{self.policy_id}:{self.policy_version}:{self.event_id}"


class PrecedentRow(NamedTuple):
    """A policy evaluation or an exception request of a finished trace."""

    source_event_id: str
    log_seq: int
    trace_id: str
    policy_id: str
    policy_version: str
    exception_id: str | None
    primary_entity_type: str
    primary_entity_system: str | None
    primary_entity_id: str


def policy_evaluation(event: ProjectedEvent, payload: Mapping[str, Any]) -> PolicyEvaluationRow:
    """The row of a PolicyEvaluated event."""
    policy = payload["policy"]
    return PolicyEvaluationRow(
        event.event_id, event.trace_id, policy["policy_id"], policy["policy_version"], event.log_seq, event.occurred_at
    )


def precedents(events: Iterable[ProjectedEvent]) -> list[PrecedentRow]:
    """The rows of a finished trace.

    Args:
        events: The events of the trace in their order, at least those of READ_BACK_TYPES; TraceStarted is the first.
    """
    rows: list[PrecedentRow] = []
    entity: Mapping[str, Any] = {}
    for event in events:
        if event.event_type not in READ_BACK_TYPES:
            continue
        payload = orjson.loads(event.canonical_payload)
        if event.event_type == vocabulary.TRACE_STARTED:
            entity = payload["primary_entity"]
            continue
        rows.append(
            PrecedentRow(
                event.event_id,
                event.log_seq,
                event.trace_id,
                payload["policy"]["policy_id"],
                payload["policy"]["policy_version"],
                payload["exception_id"] if event.event_type == vocabulary.EXCEPTION_REQUESTED else None,
                entity["entity_type"],
                entity.get("system"),
                entity["entity_id"],
            )
        )
    return rows
