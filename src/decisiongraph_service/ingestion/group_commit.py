"""Group commit: appends of one tenant that wait are committed together, each caller is answered on its own.

Each tenant has a bounded queue and at most one commit at work in a process; different tenants commit in parallel,
taking turns for the database. Whatever other processes do, a batch is committed only behind the head that it was
decided for.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.trace import Span

from decisiongraph_service.domain import errors
from decisiongraph_service.domain.append_batch import BatchPlan, Placed, Refusal
from decisiongraph_service.domain.events import CheckedEvent
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.observer import Observer
from decisiongraph_service.spans import Spans
from decisiongraph_service.storage import event_log
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database, TenantTransaction

_OPTIMISTIC_TRIES: Final = 2
"""Then the head is locked first, so that a busy tenant with writers in many processes makes progress."""

_GATHER_STEP_SECONDS: Final = 0.001
_GATHER_STEPS: Final = 10
_GATHER_QUIET_STEPS: Final = 4
"""A commit waits so long at most for the callers of a moment ago, and gives up after so long without any."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may wait and how much is committed at once, per tenant; and how much of all tenants may wait."""

    all_waiting_bytes: int = 256 * 1024 * 1024
    waiting_events: int = 4_000
    waiting_bytes: int = 32 * 1024 * 1024
    batch_events: int = 1_000
    batch_bytes: int = 8 * 1024 * 1024


@dataclass(slots=True, eq=False)
class _Submission:
    events: Sequence[CheckedEvent]
    size: int
    answer: "asyncio.Future[list[Placed] | Refusal]"
    span: Span | None


@dataclass(slots=True)
class _TenantQueue:
    submissions: deque[_Submission] = field(default_factory=deque)
    events: int = 0
    size: int = 0


class GroupCommitter:
    """Commits the submissions of all tenants of a process."""

    def __init__(
        self,
        database: Database,
        signal: CommitSignal,
        *,
        clock: Callable[[], int],
        parallel_commits: int,
        limits: QueueLimits | None = None,
        observer: Observer | None = None,
        spans: Spans | None = None,
    ) -> None:
        """Set up.

        Args:
            database: Where the logs are.
            signal: Is told of every tenant whose log has grown.
            clock: The time in microseconds since 1970-01-01T00:00:00Z.
            parallel_commits: How many tenants commit at the same time.
            limits: How much may wait.
            observer: Is told of every commit.
            spans: Makes the spans of commits.
        """
        self._database = database
        self._signal = signal
        self._clock = clock
        self._limits = limits or QueueLimits()
        self._observer = observer or Observer()
        self._spans = spans or Spans()
        self._waiting_bytes = 0
        self._queues: dict[TenantId, _TenantQueue] = {}
        # First come, first served: a tenant takes one batch and goes to the end of the line.
        self._turns = asyncio.Semaphore(parallel_commits)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> tuple[int, int]:
        """How much waits to be committed: events, and bytes of their payloads."""
        return sum(queue.events for queue in self._queues.values()), self._waiting_bytes

    async def submit(self, tenant_id: TenantId, events: Sequence[CheckedEvent]) -> list[Placed] | Refusal:
        """Append events of one tenant, all or none, and return after their durable commit.

        Raises:
            RateLimited: too much waits for this tenant.
            NotFound, StorageUnavailable: as the answer of `enqueue`.
        """
        return await self.enqueue(tenant_id, events)

    def enqueue(self, tenant_id: TenantId, events: Sequence[CheckedEvent]) -> "asyncio.Future[list[Placed] | Refusal]":
        """Put events of one tenant into its queue, behind all that was put there before.

        The answer comes after their durable commit. Cancelling it takes them back while they wait; if they are being
        committed, they are committed, and sending them again finds them reused. It fails with NotFound if the tenant
        does not exist, and with StorageUnavailable if the database failed; whether the events were stored is then found
        out by sending them again.

        Raises:
            RateLimited: too much waits for this tenant.
        """
        queue = self._queues.get(tenant_id)
        if self._waiting_bytes > self._limits.all_waiting_bytes:
            raise errors.RateLimited("the server", f"{self._limits.all_waiting_bytes} bytes waiting to be committed")
        size = sum(len(checked.canonical_payload) for checked in events)
        if queue is None:
            queue = self._queues[tenant_id] = _TenantQueue()
            self._start(tenant_id, queue)
        elif queue.events and (
            queue.events + len(events) > self._limits.waiting_events or queue.size + size > self._limits.waiting_bytes
        ):
            raise errors.RateLimited(
                f"tenant:{tenant_id}",
                f"{self._limits.waiting_events} events or {self._limits.waiting_bytes} bytes waiting to be committed",
            )
        answer: asyncio.Future[list[Placed] | Refusal] = asyncio.get_running_loop().create_future()
        submission = _Submission(events, size, answer, self._spans.current())
        queue.submissions.append(submission)
        queue.events += len(events)
        queue.size += size
        self._waiting_bytes += size
        return submission.answer

    async def drain(self) -> None:
        """Wait until nothing is being committed. New submissions are still taken: stop them first."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, tenant_id: TenantId, queue: _TenantQueue) -> None:
        task = asyncio.create_task(self._commit_all(tenant_id, queue), name=f"group-commit:{tenant_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _commit_all(self, tenant_id: TenantId, queue: _TenantQueue) -> None:
        """Commit batch after batch until nothing waits.

        Callers that were answered together come back one after the other; a commit that began with the first of them
        would leave the others to the next, and each commit costs the same. A single caller never waits.
        """
        try:
            callers = 1
            while queue.submissions:
                if callers > 1:
                    await _gather(queue, callers)
                async with self._turns:
                    batch = self._take(queue)
                    if batch:
                        await self._commit_and_answer(tenant_id, batch)
                callers = len(batch) + len(queue.submissions) if len(batch) > 1 else 1
        finally:
            del self._queues[tenant_id]
            self._waiting_bytes -= queue.size
            for submission in queue.submissions:
                _fail(submission, errors.StorageUnavailable("the server is stopping; send the request again"))

    def _take(self, queue: _TenantQueue) -> list[_Submission]:
        """The next batch: what waits, up to the limits, without what its callers took back."""
        batch: list[_Submission] = []
        events = size = 0
        while queue.submissions:
            submission = queue.submissions[0]
            more_events, more_size = events + len(submission.events), size + submission.size
            if batch and (more_events > self._limits.batch_events or more_size > self._limits.batch_bytes):
                break
            queue.submissions.popleft()
            queue.events -= len(submission.events)
            queue.size -= submission.size
            self._waiting_bytes -= submission.size
            if not submission.answer.done():
                batch.append(submission)
                events, size = more_events, more_size
        return batch

    async def _commit_and_answer(self, tenant_id: TenantId, batch: list[_Submission]) -> None:
        began = time.perf_counter()
        try:
            with self._spans.commit(tenant_id, [submission.span for submission in batch]) as span:
                outcomes, grown = await self._commit(tenant_id, batch)
        except errors.DecisionGraphError as error:
            for submission in batch:
                _fail(submission, error)
            return
        except BaseException as error:
            # A cancelled commit may still have happened: its callers find out by sending the events again.
            unknown = errors.StorageUnavailable("the commit was interrupted; send the request again, with the same key")
            for submission in batch:
                _fail(submission, error if isinstance(error, Exception) else unknown)
            if not isinstance(error, Exception):
                raise
            return
        for submission, outcome in zip(batch, outcomes, strict=True):
            if not submission.answer.done():
                submission.answer.set_result(outcome)
        if grown:
            self._spans.committed(tenant_id, span, _newest(outcomes))
            self._signal.committed(tenant_id)
        self._tell(outcomes, time.perf_counter() - began)

    def _tell(self, outcomes: list[list[Placed] | Refusal], seconds: float) -> None:
        events = reused = 0
        for outcome in outcomes:
            if not isinstance(outcome, Refusal):
                events += len(outcome)
                reused += sum(placed.reused for placed in outcome)
        self._observer.batch_committed(callers=len(outcomes), stored=events - reused, reused=reused, seconds=seconds)

    async def _commit(self, tenant_id: TenantId, batch: list[_Submission]) -> tuple[list[list[Placed] | Refusal], bool]:
        for _ in range(_OPTIMISTIC_TRIES):
            async with self._database.tenant_statements(tenant_id) as statements:
                result = await self._try(statements, batch)
            if result is not None:
                return result
        async with self._database.tenant_transaction(tenant_id) as transaction:
            await event_log.lock_head(transaction)
            result = await self._try(transaction, batch)
        if result is None:
            raise AssertionError("the head moved while it was locked")
        return result

    async def _try(
        self, transaction: TenantTransaction, batch: list[_Submission]
    ) -> tuple[list[list[Placed] | Refusal], bool] | None:
        """Decide and write once; None if somebody else appended in between."""
        view = await event_log.fetch_log_view(transaction, [event for part in batch for event in part.events])
        if view is None:
            raise errors.NotFound("tenant", transaction.tenant_id)
        plan = BatchPlan(transaction.tenant_id, view, recorded_at_micros=self._clock())
        outcomes = [plan.place(submission.events) for submission in batch]
        if plan.rows and not await event_log.append(transaction, plan.rows, expected_head=view.head):
            return None
        return outcomes, bool(plan.rows)


async def _gather(queue: _TenantQueue, expected: int) -> None:
    """Wait for as many submissions as there were callers a moment ago, while they keep arriving."""
    quiet = 0
    for _ in range(_GATHER_STEPS):
        before = len(queue.submissions)
        if before >= expected or quiet >= _GATHER_QUIET_STEPS:
            return
        await asyncio.sleep(_GATHER_STEP_SECONDS)
        quiet = quiet + 1 if len(queue.submissions) == before else 0


def _newest(outcomes: Sequence[list[Placed] | Refusal]) -> int:
    """The highest log position of what was placed."""
    return max(
        (placed.stored.log_seq for outcome in outcomes if not isinstance(outcome, Refusal) for placed in outcome),
        default=0,
    )


def _fail(submission: _Submission, error: Exception) -> None:
    if not submission.answer.done():
        submission.answer.set_exception(error)
