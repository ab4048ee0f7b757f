"""Appending one event: check it, have it committed with its neighbours, answer its caller.

Source: docs/reference/APPEND_SEMANTICS.md.
"""

from collections.abc import Sequence

from decisiongraph_service.domain import errors, event_checks
from decisiongraph_service.domain.append_batch import Placed, Refusal
from decisiongraph_service.domain.events import CheckedEvent, Event
from decisiongraph_service.domain.limits import EventLimits
from decisiongraph_service.domain.secret_guard import SecretGuard
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.ingestion.group_commit import GroupCommitter


class Appender:
    """Appends events to the logs of all tenants."""

    def __init__(self, committer: GroupCommitter, *, guard: SecretGuard, limits: EventLimits) -> None:
        self._committer = committer
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
        checked = self.check(event, payload_violations)
        outcome = await self._committer.submit(tenant_id, (checked,))
        if isinstance(outcome, Refusal):
            raise outcome.error
        return outcome[0]

    def check(self, event: Event, payload_violations: Sequence[errors.Violation] = ()) -> CheckedEvent:
        """The checks that need no stored state, steps 1 to 6.

        Raises:
            InvalidArgument, SchemaViolation, PiiPolicyViolation: the event is refused.
        """
        return event_checks.check_event(event, self._guard, self._limits, payload_violations)
