"""Filling new generations beside the live ones, and what is done with them: switch readers over, or compare.

Every step resumes from what is committed, so that a job goes on after any interruption.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from decisiongraph_service.domain.replay import ReplayJob, VerifyResult
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.projection import digests, passes
from decisiongraph_service.projection.passes import Batch
from decisiongraph_service.storage import (
    event_log,
    projection_digests,
    projection_failures,
    projection_state,
    replay_jobs,
)
from decisiongraph_service.storage.database import Database, TenantTransaction
from decisiongraph_service.storage.projection_digests import ComputedDigest
from decisiongraph_service.storage.projection_state import Generation

BATCH_EVENTS: Final = 250
_CONTENTION_PAUSE_SECONDS: Final = 0.01


class JobLost(Exception):
    """The job was cancelled or taken over by another runner; nothing more is done for it here."""


class Progress(Protocol):
    """Hears how far a job is."""

    def begin(self, total_events: int, done_events: int) -> None:
        """How many events there are to apply in all, and how many were before."""

    def applied(self, events: int, position: int) -> None:
        """So many more events are applied, the last at this position."""


@dataclass(frozen=True, slots=True)
class ReplayWork:
    """One job of one runner."""

    database: Database
    tenant_id: TenantId
    job: ReplayJob
    runner_id: str
    clock: Callable[[], int]
    progress: Progress
    batch_events: int = BATCH_EVENTS

    async def rebuild(self) -> None:
        """Fill new generations, at least up to where the live ones are, and make them the live ones.

        Raises:
            EventDamaged: an event cannot be applied.
            JobLost, StorageUnavailable
        """
        targets = await self._prepare()
        until = await self._until()
        self._begin(targets, until)
        await self._fill(targets, until_log_seq=until)
        await self._follow_live()
        await self._switch()
        await digests.compute_live(self.database, self.tenant_id, self.job.request.projections, clock=self.clock)

    async def verify(self) -> list[VerifyResult]:
        """Fill new generations up to the position of the live ones, and compare.

        Raises:
            EventDamaged, JobLost, StorageUnavailable: as `rebuild`.
        """
        targets = await self._prepare()
        async with self.database.tenant_statements(self.tenant_id) as statements:
            live = self._own(await projection_state.fetch_live(statements))
        self._begin(targets, max(one.log_seq for one in live))
        await self._fill(targets, until_log_seq=min(one.log_seq for one in live))
        async with self.database.tenant_snapshot(self.tenant_id) as live_snapshot:
            # What is compared stays as it is in this snapshot, while the live rows go on.
            live = self._own(await projection_state.fetch_live(live_snapshot))
            return await self._compare(live_snapshot, live)

    async def catch_up(self) -> None:
        """Apply to the live rows what they lack, one projection after the other.

        Raises:
            EventDamaged, JobLost, StorageUnavailable: as `rebuild`.
        """
        until = await self._until()
        async with self.database.tenant_statements(self.tenant_id) as statements:
            live = self._own(await projection_state.fetch_live(statements))
        done = self.job.processed_events  # by an earlier runner
        self.progress.begin(done + sum(max(0, until - one.log_seq) for one in live), done)
        for projection in self.job.request.projections:
            await self._catch_up_one(projection, until)
        await digests.compute_live(self.database, self.tenant_id, self.job.request.projections, clock=self.clock)

    def _own(self, generations: Sequence[Generation]) -> list[Generation]:
        """Those that the job is about, in the order of its projections."""
        by_name = {one.projection: one for one in generations}
        return [by_name[projection] for projection in self.job.request.projections]

    async def _until(self) -> int:
        """The position to stop after, as requested or the end of the log."""
        async with self.database.tenant_statements(self.tenant_id) as statements:
            head = await event_log.fetch_head(statements)
        wanted = self.job.request.until_log_seq
        return head if wanted is None else min(wanted, head)

    def _begin(self, targets: Sequence[Generation], until: int) -> None:
        self.progress.begin(until * len(targets), sum(target.log_seq for target in targets))

    async def _prepare(self) -> list[Generation]:
        """The generations that this job fills; those that an earlier runner began are gone on with."""
        async with self.database.tenant_transaction(self.tenant_id) as transaction:
            await self._require_own(transaction)
            targets = await projection_state.fetch_building(transaction, self.job.job_id)
            if not targets:
                targets = [
                    await projection_state.begin_building(transaction, projection, self.job.job_id)
                    for projection in self.job.request.projections
                ]
        return targets

    async def _require_own(self, transaction: TenantTransaction) -> None:
        """Hold the job to the end of the transaction: it cannot be cancelled or taken over meanwhile."""
        if not await replay_jobs.touch(transaction, self.job.job_id, self.runner_id):
            raise JobLost

    async def _fill(self, targets: Sequence[Generation], *, until_log_seq: int) -> None:
        """Apply the log to `targets` up to a position that it has reached; those further behind come first."""
        left = list(targets)
        while (position := min(target.log_seq for target in left)) < until_log_seq:
            behind = [target for target in left if target.log_seq == position]
            goal = min([until_log_seq, *(target.log_seq for target in left if target.log_seq > position)])
            await self._fill_together(behind, until_log_seq=goal)
            left = [replace(target, log_seq=max(target.log_seq, goal)) for target in left]

    async def _fill_together(self, targets: Sequence[Generation], *, until_log_seq: int) -> None:
        """The same for targets at one position. The next batch is read while one is written."""
        position = targets[0].log_seq
        reading = asyncio.create_task(self._read(position, until_log_seq))
        try:
            while (batch := await reading).events:
                reading = asyncio.create_task(self._read(batch.end, until_log_seq))
                await self._apply(targets, batch)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        if batch.position < until_log_seq:
            raise passes.log_cut(batch.position)

    async def _read(self, position: int, until_log_seq: int) -> Batch:
        async with self.database.tenant_statements(self.tenant_id) as statements:
            return await passes.read(statements, position, until_log_seq=until_log_seq, limit=self.batch_events)

    async def _apply(
        self, targets: Sequence[Generation], batch: Batch, transaction: TenantTransaction | None = None
    ) -> None:
        changes = await passes.make(batch, [target.projection for target in targets])
        if changes.applied:
            if transaction is not None:
                won = await passes.write(transaction, targets, batch, changes, now_micros=self.clock())
            else:
                async with self.database.tenant_statements(self.tenant_id) as statements:
                    won = await passes.write(statements, targets, batch, changes, now_micros=self.clock())
            if not won:
                raise JobLost
            self.progress.applied(changes.applied * len(targets), changes.position)
        if changes.damage is not None:
            raise changes.damage

    async def _follow_live(self) -> None:
        """Apply what came meanwhile, until little is left for the switch, which holds the live rows."""
        while True:
            async with self.database.tenant_statements(self.tenant_id) as statements:
                live = self._own(await projection_state.fetch_live(statements))
                built = await projection_state.fetch_building(statements, self.job.job_id)
            furthest = max(one.log_seq for one in live)
            if not built or furthest - min(one.log_seq for one in built) <= self.batch_events:
                return
            await self._fill(built, until_log_seq=furthest)

    async def _switch(self) -> None:
        """Make the filled generations the live ones, never behind what readers saw before."""
        async with self.database.tenant_transaction(self.tenant_id) as transaction:
            await self._require_own(transaction)
            live = await projection_state.lock_live(transaction, self.job.request.projections)
            furthest = max(one.log_seq for one in live)
            built = await projection_state.fetch_building(transaction, self.job.job_id)
            while (position := built[0].log_seq) < furthest:
                batch = await passes.read(transaction, position, until_log_seq=furthest, limit=self.batch_events)
                if not batch.events:
                    raise passes.log_cut(position)
                await self._apply(built, batch, transaction)
                built = [replace(one, log_seq=batch.end) for one in built]
            for one, other in zip(live, built, strict=True):
                await projection_state.switch(transaction, one, other)
                await projection_failures.resolve(transaction, one.projection, now_micros=self.clock())

    async def _compare(self, live_snapshot: TenantTransaction, live: Sequence[Generation]) -> list[VerifyResult]:
        results = []
        for one in live:
            async with self.database.tenant_statements(self.tenant_id) as statements:
                built = next(
                    built
                    for built in await projection_state.fetch_building(statements, self.job.job_id)
                    if built.projection == one.projection
                )
            await self._fill([built], until_log_seq=one.log_seq)
            async with self.database.tenant_snapshot(self.tenant_id) as built_snapshot:
                found = await digests.compare(live_snapshot, one, built_snapshot, built)
            results.append(
                VerifyResult(
                    one.projection,
                    found.first_difference is None,
                    one.log_seq,
                    found.live_digest,
                    found.built_digest,
                    found.first_difference,
                )
            )
        await self._remember(live, results)
        return results

    async def _remember(self, live: Sequence[Generation], results: Sequence[VerifyResult]) -> None:
        computed = [
            ComputedDigest(one.projection, one.generation, one.log_seq, result.live_digest)
            for one, result in zip(live, results, strict=True)
        ]
        async with self.database.tenant_transaction(self.tenant_id) as transaction:
            await projection_digests.remember(transaction, computed, now_micros=self.clock())

    async def _catch_up_one(self, projection: str, until: int) -> None:
        while True:
            async with self.database.tenant_statements(self.tenant_id) as statements:
                live = next(
                    one for one in await projection_state.fetch_live(statements) if one.projection == projection
                )
            if live.log_seq >= until:
                return
            batch = await self._read(live.log_seq, until)
            if not batch.events:
                raise passes.log_cut(live.log_seq)
            try:
                await self._apply([live], batch)
            except JobLost:
                await asyncio.sleep(_CONTENTION_PAUSE_SECONDS)  # the projector moved it; see where it is now
