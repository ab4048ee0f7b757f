"""Follows the logs of all tenants and keeps the live projections up to date, in any number of processes.

Projections of a tenant that stand at the same position share one pass. Woken by commits, with polling as the safety
net. An event that cannot be applied stops that tenant's projections before it, on record, until a retry is asked for; a
database that fails is tried again (docs/reference/PROJECTION_AND_REPLAY_SEMANTICS.md section 1).
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

import structlog

from decisiongraph_service.domain import errors
from decisiongraph_service.domain.events import ProjectedEvent
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.observer import Observer
from decisiongraph_service.projection import passes
from decisiongraph_service.spans import Spans
from decisiongraph_service.storage import event_log, projection_failures, projection_state
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database, TenantTransaction
from decisiongraph_service.storage.projection_state import Generation

BATCH_EVENTS: Final = 200
_POLL_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.02
"""Between two batches of a tenant, unless a read waits: a batch of many events costs little more than one of one."""
CONTENTION_PAUSE_SECONDS: Final = 0.01
"""Before a tenant's projections that another writer held are looked at again."""
_TENANTS_AT_ONCE: Final = 2
_FIRST_DELAY_SECONDS: Final = 0.25
_LONGEST_DELAY_SECONDS: Final = 10.0

_log = structlog.get_logger("decisiongraph.projector")


class Projector:
    """One per process; several processes share the tenants among them."""

    def __init__(
        self,
        database: Database,
        signal: CommitSignal,
        *,
        clock: Callable[[], int],
        batch_events: int = BATCH_EVENTS,
        observer: Observer | None = None,
        spans: Spans | None = None,
    ) -> None:
        """`clock` tells microseconds since 1970-01-01T00:00:00Z; `batch_events` has no influence on the rows.

        Raises:
            ValueError: `batch_events` is not positive.
        """
        if batch_events < 1:
            raise ValueError(f"batch_events is {batch_events}; a batch has at least one event")
        self._database = database
        self._signal = signal
        self._clock = clock
        self._batch_events = batch_events
        self._observer = observer or Observer()
        self._spans = spans or Spans()
        self._asked_again: dict[TenantId, bool] = {}
        """The tenants at work, and whether they were asked for again meanwhile."""
        self._held_by_others: set[TenantId] = set()
        """Those of them whose last batch another writer did not let be written."""
        self._slots = asyncio.Semaphore(_TENANTS_AT_ONCE)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow."""
        self._task = asyncio.create_task(self._follow(), name="projector")
        self._task.add_done_callback(_report_end)

    @property
    def is_following(self) -> bool:
        """Whether it was started and has not ended."""
        return self._task is not None and not self._task.done()

    async def stop(self) -> None:
        """Stop following; a batch at work is rolled back and done again by the next projector."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def catch_up(self, tenant_id: TenantId) -> None:
        """Apply everything that the tenant's log holds now to the projections that no failure stops.

        An event that cannot be applied is recorded and stops them.

        Raises:
            StorageUnavailable: the database failed.
        """
        limit = self._batch_events
        while limit:
            try:
                limit = await self._next_batch(tenant_id, limit)
            except errors.DecisionGraphError:
                raise
            except Exception as error:  # noqa: BLE001 - what an event holds must not end the others' projections
                if limit == 1:
                    await self._stop_before_next(tenant_id, error)
                limit = 1  # one by one, up to the event that fails

    async def _follow(self) -> None:
        async with asyncio.TaskGroup() as group:
            with self._signal.listen_to_all() as collector:
                next_poll = 0.0
                while True:
                    # The first look is at once: what was committed while nobody followed has no signal any more.
                    tenants = await collector.take(_POLL_SECONDS if next_poll else 0)
                    now = asyncio.get_running_loop().time()
                    if now >= next_poll:
                        next_poll = now + _POLL_SECONDS
                        tenants |= await self._lagging()
                    for tenant_id in tenants:
                        at_work = tenant_id in self._asked_again
                        self._asked_again[tenant_id] = True
                        if not at_work:
                            group.create_task(self._work(tenant_id), name=f"project:{tenant_id}")

    async def _lagging(self) -> set[TenantId]:
        try:
            return set(await projection_state.fetch_lagging_tenants(self._database))
        except errors.StorageUnavailable:
            return set()
        except Exception:  # noqa: BLE001 - a look that fails must not end what the signals still wake
            _log.exception("projection_look_failed")
            return set()

    async def _work(self, tenant_id: TenantId) -> None:
        """Catch up, and again if the tenant was asked for meanwhile: its commit may have come after the last look."""
        delay = _FIRST_DELAY_SECONDS
        try:
            while self._asked_again[tenant_id]:
                self._asked_again[tenant_id] = False
                try:
                    async with self._slots:
                        await self.catch_up(tenant_id)
                    delay = _FIRST_DELAY_SECONDS
                except errors.StorageUnavailable as error:
                    _log.warning("projection_interrupted", tenant=tenant_id, cause=repr(error.__cause__))
                    self._asked_again[tenant_id] = True
                    await asyncio.sleep(delay)
                    delay = min(2 * delay, _LONGEST_DELAY_SECONDS)
                if tenant_id in self._held_by_others:
                    self._held_by_others.remove(tenant_id)
                    # Also if a read waits: haste would keep processor and database from the one that is at work.
                    await asyncio.sleep(CONTENTION_PAUSE_SECONDS)
                else:
                    await self._signal.pause_projection(tenant_id, _PAUSE_SECONDS)
        except Exception:  # noqa: BLE001 - the outermost edge of this task; the next poll tries again
            _log.exception("projection_failed", tenant=tenant_id)
        finally:
            del self._asked_again[tenant_id]
            self._held_by_others.discard(tenant_id)

    async def _next_batch(self, tenant_id: TenantId, limit: int) -> int:
        """Apply the next events; returns the limit for the batch after it, 0 if there is nothing to do now."""
        began = time.time_ns()
        async with self._database.tenant_statements(tenant_id) as statements:
            able = [live for live in await projection_state.fetch_live(statements) if not live.blocked]
            if not able:
                return 0
            position = min(live.log_seq for live in able)
            targets = [live for live in able if live.log_seq == position]
            # Those behind go up to the next one only, and on from there together.
            until = min((live.log_seq for live in able if live.log_seq > position), default=passes.END_OF_LOG)
            batch = await passes.read(statements, position, until_log_seq=until, limit=limit)
            if not batch.events:
                if await self._is_cut(statements, position):
                    await self._stop_before(tenant_id, targets, None, position, passes.log_cut(position))
                return 0
            changes = await passes.make(batch, [target.projection for target in targets])
            if changes.applied:
                if not await passes.write(statements, targets, batch, changes, now_micros=self._clock()):
                    # Another writer is at work on one of them; the others may be left to us.
                    if tenant_id in self._asked_again:
                        self._asked_again[tenant_id] = True
                        self._held_by_others.add(tenant_id)
                    return 0
                self._signal.projected(tenant_id)
                self._tell(tenant_id, batch, changes.position, began)
        if changes.damage is not None:
            event = next(event for event in batch.events if event.log_seq > changes.position)
            await self._stop_before(tenant_id, targets, event, changes.position, changes.damage)
        elif until == passes.END_OF_LOG and len(batch.events) < limit:
            return 0  # the end of the log; what was committed meanwhile signals again
        return limit

    def _tell(self, tenant_id: TenantId, batch: passes.Batch, position: int, began_ns: int) -> None:
        ended_ns = time.time_ns()
        applied = sum(event.log_seq <= position for event in batch.events)
        self._observer.batch_projected(events=applied, seconds=max(0, ended_ns - began_ns) / 1e9)
        self._spans.projected(tenant_id, up_to=position, events=applied, began_ns=began_ns, ended_ns=ended_ns)

    async def _is_cut(self, statements: TenantTransaction, position: int) -> bool:
        """Whether there is no event after `position`, although the head of the log says that there is."""
        # In this order: what the head counts is there to be read.
        if await event_log.fetch_head(statements) <= position:
            return False
        return not (await passes.read(statements, position, limit=1)).events

    async def _stop_before_next(self, tenant_id: TenantId, cause: Exception) -> None:
        """Stop the projections that are furthest behind: their next event fails for a reason nobody thought of."""
        _log.error("projection_failed", tenant=tenant_id, exc_info=cause)
        async with self._database.tenant_statements(tenant_id) as statements:
            able = [live for live in await projection_state.fetch_live(statements) if not live.blocked]
            position = min(live.log_seq for live in able)
            batch = await passes.read(statements, position, limit=1)
        event = batch.events[0] if batch.events else None
        what = f"it cannot be applied ({type(cause).__name__})"
        error = errors.EventDamaged("" if event is None else event.event_id, position + 1, what)
        await self._stop_before(tenant_id, [t for t in able if t.log_seq == position], event, position, error)

    async def _stop_before(
        self,
        tenant_id: TenantId,
        targets: list[Generation],
        event: ProjectedEvent | None,
        position: int,
        error: errors.EventDamaged,
    ) -> None:
        """Record why the targets stay at `position`. `event` is the one after it, if there is one."""
        async with self._database.tenant_transaction(tenant_id) as transaction:
            for target in targets:
                await projection_failures.record(
                    transaction,
                    target.projection,
                    error,
                    log_seq=position + 1 if event is None else event.log_seq,
                    trace_id="" if event is None else event.trace_id,
                    event_id="" if event is None else event.event_id,
                    now_micros=self._clock(),
                )
        self._observer.projection_stopped()
        _log.error("projection_stopped", tenant=tenant_id, log_seq=error.log_seq, reason=error.message)


def _report_end(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("projector_ended", exc_info=error)
