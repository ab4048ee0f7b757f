"""Follows the logs of all tenants and keeps the trace summaries up to date, in any number of processes.

A batch is one transaction: its rows and the new position commit together. The tenant's position row is locked
meanwhile, so that there is one writer per tenant whatever the number of processes. Woken by commits, with polling as
the safety net (docs/reference/PROJECTION_AND_REPLAY_SEMANTICS.md section 1).
"""

import asyncio
import contextlib
from typing import Final

import structlog

from decisiongraph_service.domain import canonical, errors, trace_summary, vocabulary
from decisiongraph_service.domain.events import StoredEvent
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import event_log, projection_state
from decisiongraph_service.storage import trace_summary as trace_summary_rows
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database, TenantTransaction

_BATCH_EVENTS: Final = 500
_POLL_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.02
"""Between two batches of a tenant, unless a read waits: a batch of many events costs little more than one of one."""
_TENANTS_AT_ONCE: Final = 2
_PAUSE_AFTER_OUTAGE_SECONDS: Final = 1.0

_log = structlog.get_logger("decisiongraph.projector")


class Projector:
    """One per process; several processes share the tenants among them."""

    def __init__(self, database: Database, signal: CommitSignal) -> None:
        self._database = database
        self._signal = signal
        self._asked_again: dict[TenantId, bool] = {}
        """The tenants at work, and whether they were asked for again meanwhile."""
        self._stopped: set[TenantId] = set()
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
        """Apply everything that the tenant's log holds now.

        Raises:
            EventDamaged: an event is not what was stored; the projection stays before it.
            StorageUnavailable: the database failed.
        """
        applied = _BATCH_EVENTS
        # A batch that is not full reached the end of the log; what was committed meanwhile signals again.
        while applied == _BATCH_EVENTS:
            applied = await self._apply_batch(tenant_id)
            if applied:
                self._signal.projected(tenant_id)

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
                    for tenant_id in tenants - self._stopped:
                        at_work = tenant_id in self._asked_again
                        self._asked_again[tenant_id] = True
                        if not at_work:
                            group.create_task(self._work(tenant_id), name=f"project:{tenant_id}")

    async def _lagging(self) -> set[TenantId]:
        try:
            return set(await projection_state.fetch_lagging_tenants(self._database, vocabulary.TRACE_SUMMARY))
        except errors.StorageUnavailable:
            return set()
        except Exception:  # noqa: BLE001 - a look that fails must not end what the signals still wake
            _log.exception("projection_look_failed")
            return set()

    async def _work(self, tenant_id: TenantId) -> None:
        """Catch up, and again if the tenant was asked for meanwhile: its commit may have come after the last look."""
        try:
            while self._asked_again[tenant_id]:
                self._asked_again[tenant_id] = False
                async with self._slots:
                    await self.catch_up(tenant_id)
                await self._signal.pause_projection(tenant_id, _PAUSE_SECONDS)
        except errors.StorageUnavailable as error:
            _log.warning("projection_interrupted", tenant=tenant_id, cause=repr(error.__cause__))
            await asyncio.sleep(_PAUSE_AFTER_OUTAGE_SECONDS)
        except errors.EventDamaged as error:
            self._stopped.add(tenant_id)
            _log.error("projection_stopped", tenant=tenant_id, reason=error.message)
        except Exception:  # noqa: BLE001 - the outermost edge of this task
            # One tenant's trouble must not end the others' projections.
            self._stopped.add(tenant_id)
            _log.exception("projection_failed", tenant=tenant_id)
        finally:
            del self._asked_again[tenant_id]

    async def _apply_batch(self, tenant_id: TenantId) -> int:
        """Apply the next events and return how many; 0 also if another writer is at work on this tenant."""
        async with self._database.tenant_transaction(tenant_id) as transaction:
            position = await projection_state.lock_position(transaction, vocabulary.TRACE_SUMMARY)
            if position is None:
                return 0
            events = await event_log.fetch_events_after(transaction, position, limit=_BATCH_EVENTS)
            if not events:
                return 0
            await _apply(transaction, events)
            await projection_state.move(transaction, vocabulary.TRACE_SUMMARY, events[-1].log_seq)
        return len(events)


def _report_end(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("projector_ended", exc_info=error)


async def _apply(transaction: TenantTransaction, events: list[StoredEvent]) -> None:
    for event in events:
        if canonical.payload_hash(event.canonical_payload) != event.payload_hash:
            raise errors.EventDamaged(event.event_id, event.log_seq, "its payload does not have its payload_hash")
    relevant = [e for e in events if e.event_type in (vocabulary.TRACE_STARTED, vocabulary.TRACE_FINISHED)]
    started = {e.trace_id for e in relevant if e.event_type == vocabulary.TRACE_STARTED}
    rows: dict[str, trace_summary.TraceSummaryRow | None] = dict(
        await trace_summary_rows.fetch_many(transaction, [e.trace_id for e in relevant if e.trace_id not in started])
    )
    for event in relevant:
        rows[event.trace_id] = trace_summary.apply(rows.get(event.trace_id), event)
    await trace_summary_rows.write_many(transaction, [row for row in rows.values() if row is not None])
