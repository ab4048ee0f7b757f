"""One decision, recorded step by step."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Literal, Protocol, Self, TypedDict, Unpack

from decisiongraph.v1 import payload_pb2
from decisiongraph.v1.event_pb2 import Event, EventReceipt
from decisiongraph_client import _events, payloads
from decisiongraph_client._events import Origin, Payload
from decisiongraph_client._recorded import Recorded, subject
from decisiongraph_client.errors import DecisionGraphError
from decisiongraph_client.payloads import ActorLike, EntityLike, FactsLike, PolicyLike

_log = logging.getLogger("decisiongraph.client")


class How(TypedDict, total=False):
    """What every event can be told beside its payload."""

    actor: ActorLike
    """Who acts. Unset: the trace's actor, then the client's, then an agent called like the producer."""
    occurred_at: datetime | str
    """When it happened. Unset: now."""
    idempotency_key: str
    """The same key for the same event is stored once. Unset: a new key, good for the client's own repetitions. Name it
    where a step may be recorded again after a restart; ids that are left out are then made of it."""
    causation_event_id: str
    """Id of the event that caused this one."""
    tags: Sequence[str]
    """Labels. Unset: those of the trace."""


class AsyncSink(Protocol):
    """Takes events: sends them, or puts them into the outbox."""

    async def __call__(self, event: Event) -> EventReceipt | None:
        """Accept the event durably; its receipt if it is in the log already."""


class AsyncTrace:
    """A trace that is being recorded. Made by `client.trace(...)`; ends with its block.

    Every method returns when the event is accepted, and raises what the service says of it (`SchemaViolation`,
    `PiiPolicyViolation`, `TraceFinished`, ...) or, with an outbox, `OutboxFull`. All take what `How` lists.
    """

    def __init__(
        self,
        sink: AsyncSink,
        origin: Origin,
        *,
        trace_id: str | None,
        start: payload_pb2.TraceStartedPayload | None,
        actor: ActorLike | None,
        tags: Sequence[str],
        correlation_id: str | None,
        idempotency_key: str | None,
    ) -> None:
        self.trace_id = trace_id or _events.new_id(idempotency_key and f"trace/{origin.producer}/{idempotency_key}")
        self.finished = False
        """Whether this object has recorded the end."""
        self._sink = sink
        self._origin = origin
        self._start = start
        self._actor = actor
        self._tags = tags
        self._correlation_id = correlation_id
        self._start_key = idempotency_key

    async def __aenter__(self) -> Self:
        if self._start is not None:
            how: How = {} if self._start_key is None else {"idempotency_key": self._start_key}
            await self.record(self._start, **how)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish, unless that was done: as `success`, after an exception as `failure`, when interrupted as `abandoned`.

        Of an exception its class is recorded, not its text, which may hold what must not be in the log.
        """
        if self.finished or self._start is None:
            return
        if error is None:
            await self.finish("success")
            return
        try:
            await self.finish("failure" if isinstance(error, Exception) else "abandoned", summary=type(error).__name__)
        except DecisionGraphError:
            # What the caller wants to know is what went wrong in the block.
            _log.exception("the end of trace %s could not be recorded", self.trace_id)

    async def record(
        self,
        payload: Payload,
        *,
        event_type: str = "",
        subject_id: str | None = None,
        **how: Unpack[How],
    ) -> Recorded:
        """Record any event: a typed payload of the contract, or a dictionary with its `event_type`.

        Raises:
            TypeError, ValueError: the dictionary holds what the contract cannot; the message says where.
        """
        # Of keywords that are collected and handed on, the language itself checks no name.
        for name in how.keys() - How.__annotations__.keys():
            raise TypeError(f"{name}: there is no such argument; there are {', '.join(How.__annotations__)}")
        event = _events.make(
            self._origin,
            self.trace_id,
            payload,
            event_type=event_type,
            actor=how.get("actor", self._actor),
            occurred_at=how.get("occurred_at"),
            idempotency_key=how.get("idempotency_key"),
            causation_event_id=how.get("causation_event_id"),
            correlation_id=self._correlation_id,
            tags=how.get("tags", self._tags),
        )
        receipt = await self._sink(event)
        event_id = event.event_id if receipt is None else receipt.event_id
        return Recorded(self.trace_id, event_id, subject_id, receipt)

    async def observe_input(
        self,
        system: str,
        object_type: str,
        object_id: str,
        *,
        facts: FactsLike = (),
        locator: str | None = None,
        input_id: str | None = None,
        **how: Unpack[How],
    ) -> Recorded:
        """The decision read something: where, and what it said. `input_id` is made if it is left out."""
        input_id = input_id or self._new_id("input", how)
        source = payload_pb2.InputSource(system=system, object_type=object_type, object_id=object_id, locator=locator)
        return await self.record(
            payload_pb2.InputObservedPayload(input_id=input_id, source=source, facts=payloads.facts_of(facts)),
            subject_id=input_id,
            **how,
        )

    async def observe_entity(
        self,
        entity: EntityLike,
        *,
        role: Literal["primary", "related"] = "related",
        facts: FactsLike = (),
        **how: Unpack[How],
    ) -> Recorded:
        """An entity takes part in the decision."""
        return await self.record(
            payload_pb2.EntityObservedPayload(
                entity=payloads.entity_of(entity), role=role, facts=payloads.facts_of(facts)
            ),
            **how,
        )

    async def evaluate_policy(
        self,
        policy: PolicyLike,
        decision: Literal["allow", "deny", "require_exception"],
        *,
        inputs: Iterable[Recorded | str] = (),
        violations: Iterable[payload_pb2.PolicyViolation] = (),
        explanation: str | None = None,
        **how: Unpack[How],
    ) -> Recorded:
        """A policy said what may be done. `inputs`: what it was given, as events or as ids."""
        return await self.record(
            payload_pb2.PolicyEvaluatedPayload(
                policy=payloads.policy_of(policy),
                inputs=[subject(one) for one in inputs],
                decision=decision,
                violations=violations,
                explanation=explanation,
            ),
            **how,
        )

    async def request_exception(
        self,
        policy: PolicyLike,
        reason: str,
        *,
        evidence: Iterable[payload_pb2.Evidence] = (),
        exception_id: str | None = None,
        **how: Unpack[How],
    ) -> Recorded:
        """Somebody asked to deviate from a policy. Pass what this returns to `record_approval`."""
        exception_id = exception_id or self._new_id("exception", how)
        return await self.record(
            payload_pb2.ExceptionRequestedPayload(
                exception_id=exception_id, policy=payloads.policy_of(policy), reason=reason, evidence=evidence
            ),
            subject_id=exception_id,
            **how,
        )

    async def record_approval(
        self,
        decision: Literal["approved", "rejected"],
        approver: ActorLike,
        *,
        exception: Recorded | str | None = None,
        action: Recorded | str | None = None,
        reason: str | None = None,
        evidence: Iterable[payload_pb2.Evidence] = (),
        approval_id: str | None = None,
        **how: Unpack[How],
    ) -> Recorded:
        """Somebody approved or rejected an exception or an action: name the one or the other.

        Raises:
            ValueError: neither or both are named.
        """
        if (exception is None) == (action is None):
            raise ValueError("name what was decided: exception=... or action=...")
        about = payload_pb2.ApprovalSubject(
            subject_type="exception" if exception is not None else "action",
            subject_id=subject(exception if exception is not None else action or ""),
        )
        approval_id = approval_id or self._new_id("approval", how)
        who = payloads.actor_of(approver)
        # An approval is the approver's act, whoever writes it down.
        how.setdefault("actor", who)
        return await self.record(
            payload_pb2.ApprovalRecordedPayload(
                approval_id=approval_id,
                subject=about,
                approver=payload_pb2.Approver(actor_type=who.actor_type, actor_id=who.actor_id),
                decision=decision,
                reason=reason,
                evidence=evidence,
            ),
            subject_id=approval_id,
            **how,
        )

    async def cite_precedent(
        self,
        cited_trace_id: str,
        reason: str,
        *,
        similarity_score: str | None = None,
        **how: Unpack[How],
    ) -> Recorded:
        """An earlier decision was taken as an example. `similarity_score` is decimal text, e.g. `0.92`."""
        return await self.record(
            payload_pb2.PrecedentCitedPayload(
                cited_trace_id=cited_trace_id, reason=reason, similarity_score=similarity_score
            ),
            **how,
        )

    async def propose_action(
        self,
        action_type: str,
        target_entity: EntityLike,
        target_system: str,
        *,
        changes: Iterable[payload_pb2.Change] = (),
        action_id: str | None = None,
        **how: Unpack[How],
    ) -> Recorded:
        """Something shall be done. Pass what this returns to `commit_action`."""
        action_id = action_id or self._new_id("action", how)
        return await self.record(
            payload_pb2.ActionProposedPayload(
                action_id=action_id,
                action_type=action_type,
                target_entity=payloads.entity_of(target_entity),
                target_system=target_system,
                changes=changes,
            ),
            subject_id=action_id,
            **how,
        )

    async def commit_action(
        self,
        action: Recorded | str,
        status: Literal["success", "failure", "partial"] = "success",
        *,
        external_reference: str | None = None,
        error: str | None = None,
        **how: Unpack[How],
    ) -> Recorded:
        """An action was carried out, or failed."""
        action_id = subject(action)
        return await self.record(
            payload_pb2.ActionCommittedPayload(
                action_id=action_id, status=status, external_reference=external_reference, error=error
            ),
            subject_id=action_id,
            **how,
        )

    async def finish(
        self,
        outcome: Literal["success", "failure", "abandoned"] = "success",
        *,
        summary: str | None = None,
        **how: Unpack[How],
    ) -> Recorded:
        """The decision is over; the trace takes no further events. The block's end does this by itself."""
        if self._start_key is not None:
            # A program that records the whole block again ends it by the same event.
            how.setdefault("idempotency_key", self._new_id("finish", {"idempotency_key": self._start_key}))
        recorded = await self.record(
            payload_pb2.TraceFinishedPayload(outcome=outcome, summary=summary),
            **how,
        )
        self.finished = True
        return recorded

    def _new_id(self, kind: str, how: How) -> str:
        key = how.get("idempotency_key")
        return f"{kind}-{_events.new_id(key and f'{kind}/{self.trace_id}/{key}')}"


def started(
    workflow: str, title: str, primary_entity: EntityLike, context: Mapping[str, str] | None
) -> payload_pb2.TraceStartedPayload:
    """The payload of a trace's first event."""
    return payload_pb2.TraceStartedPayload(
        workflow=workflow, title=title, primary_entity=payloads.entity_of(primary_entity), context=context
    )
