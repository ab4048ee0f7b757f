"""Appending one event: check it, have it committed with its neighbours, answer its caller.

Source: docs/reference/APPEND_SEMANTICS.md.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from decisiongraph_service.domain import errors, event_checks
from decisiongraph_service.domain.append_batch import Placed, Refusal
from decisiongraph_service.domain.events import CheckedEvent, Event
from decisiongraph_service.domain.limits import EventLimits
from decisiongraph_service.domain.secret_guard import SecretGuard
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.ingestion.fair_share import FairShare
from decisiongraph_service.ingestion.group_commit import GroupCommitter

MAX_BATCH_EVENTS: Final = 1_000
"""Most events of one atomic append."""

_CHECKS_IN_A_ROW: Final = 20

Checkable: TypeAlias = tuple[Event, Sequence[errors.Violation]]
"""An event, and what its caller already found wrong with its payload."""


class Appender:
    """Appends events to the logs of all tenants."""

    def __init__(self, committer: GroupCommitter, share: FairShare, *, guard: SecretGuard, limits: EventLimits) -> None:
        self._committer = committer
        self._share = share
        self._guard = guard
        self._limits = limits

    async def append(
        self, tenant_id: TenantId, event: Event, *, payload_violations: Sequence[errors.Violation] = ()
    ) -> Placed:
        """Append one event and return after its durable commit.

        `payload_violations` are what the caller already found wrong with the payload; they count as part of step 4.

        Raises:
            InvalidArgument, SchemaViolation, PiiPolicyViolation, IdempotencyConflict, TraceFinished,
            EventSequenceInvalid, EventIdConflict: the event is refused; nothing was written.
            NotFound: the tenant does not exist.
            RateLimited: too much waits for this tenant.
            StorageUnavailable: the database failed; whether the event was stored is found out by sending it again.
        """
        async with self._share.held(tenant_id):
            checked = self.check(event, payload_violations)
            outcome = await self._committer.submit(tenant_id, (checked,))
        if isinstance(outcome, Refusal):
            raise outcome.error
        return outcome[0]

    async def append_all(self, tenant_id: TenantId, events: Iterable[Checkable]) -> list[Placed]:
        """Append events in this order, all or none, and return after their durable commit.

        Raises:
            InvalidArgument, SchemaViolation, PiiPolicyViolation, IdempotencyConflict, TraceFinished,
            EventSequenceInvalid, EventIdConflict: the event at the error's `index` is refused; nothing was written.
            NotFound, RateLimited, StorageUnavailable: as `append`.
        """
        events = list(events)
        if not 1 <= len(events) <= MAX_BATCH_EVENTS:
            raise errors.InvalidArgument(
                [errors.Violation("events", "COUNT", f"has {len(events)} events; send 1 to {MAX_BATCH_EVENTS} at once")]
            )
        async with self._share.held(tenant_id):
            checked: list[CheckedEvent] = []
            for index, (event, payload_violations) in enumerate(events):
                try:
                    checked.append(self.check(event, payload_violations))
                except errors.DecisionGraphError as error:
                    error.index = index
                    raise
                if index % _CHECKS_IN_A_ROW == 0:
                    await asyncio.sleep(0)  # other callers' turn
            outcome = await self._committer.submit(tenant_id, checked)
        if isinstance(outcome, Refusal):
            outcome.error.index = outcome.index
            raise outcome.error
        return outcome

    def enqueue(self, tenant_id: TenantId, checked: CheckedEvent) -> "asyncio.Future[list[Placed] | Refusal]":
        """Put a checked event into its tenant's queue, behind all that was put there before.

        Raises:
            RateLimited: too much waits for this tenant.
        """
        return self._committer.enqueue(tenant_id, (checked,))

    def check(self, event: Event, payload_violations: Sequence[errors.Violation] = ()) -> CheckedEvent:
        """The checks that need no stored state, steps 1 to 6.

        Raises:
            InvalidArgument, SchemaViolation, PiiPolicyViolation: the event is refused.
        """
        return event_checks.check_event(event, self._guard, self._limits, payload_violations)
