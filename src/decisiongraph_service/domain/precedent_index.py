"""The projection `precedent_index`: precedent rows of finished traces, and the policy-evaluation index.

Source: docs/reference/PROJECTION_AND_REPLAY_SEMANTICS.md, policy-evaluation index and precedent index. Pure.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from decisiongraph_service.domain import text, vocabulary
from decisiongraph_service.domain.events import ProjectedEvent

SOURCE_TYPES = (vocabulary.TRACE_STARTED, vocabulary.POLICY_EVALUATED, vocabulary.EXCEPTION_REQUESTED)
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
        event.event_id,
        event.trace_id,
        text.member(policy, "policy_id"),
        text.member(policy, "policy_version"),
        event.log_seq,
        event.occurred_at,
    )


class Source(NamedTuple):
    """What a precedent row takes from its event alone; for TraceStarted the entity that all rows of the trace name."""

    event_type: str
    event_id: str
    log_seq: int
    first: str
    """The policy's id, or the entity's type."""
    second: str
    """The policy's version, or the entity's id."""
    third: str | None
    """The exception's id, or the entity's system."""


def source(event: ProjectedEvent, payload: Mapping[str, Any]) -> Source | None:
    """What the event gives to the rows of its trace; None if nothing.

    Raises:
        KeyError, TypeError: the payload does not have the shape of its type.
    """
    if event.event_type == vocabulary.TRACE_STARTED:
        entity = payload["primary_entity"]
        parts = text.member(entity, "entity_type"), text.member(entity, "entity_id")
        third = text.optional_member(entity, "system")
    elif event.event_type in SOURCE_TYPES:
        policy = payload["policy"]
        parts = text.member(policy, "policy_id"), text.member(policy, "policy_version")
        third = text.member(payload, "exception_id") if event.event_type == vocabulary.EXCEPTION_REQUESTED else None
    else:
        return None
    return Source(event.event_type, event.event_id, event.log_seq, *parts, third)


def precedents(trace_id: str, sources: Iterable[Source]) -> list[PrecedentRow]:
    """The rows of a finished trace. `sources`: those of its events in their order, TraceStarted first.

    Raises:
        ValueError: there is no TraceStarted.
    """
    rows: list[PrecedentRow] = []
    entity: Source | None = None
    for one in sources:
        if one.event_type == vocabulary.TRACE_STARTED:
            entity = one
            continue
        if entity is None:
            raise ValueError("the trace has no TraceStarted")
        rows.append(
            PrecedentRow(
                one.event_id,
                one.log_seq,
                trace_id,
                one.first,
                one.second,
                one.third,
                entity.first,
                entity.third,
                entity.second,
            )
        )
    return rows
