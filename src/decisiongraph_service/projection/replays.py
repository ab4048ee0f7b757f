"""Asking for replay jobs and retries: admission, reading, cancelling.

What is done leaves an audit entry in its transaction; what is refused is put on record by the rpc layer.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Collection
from dataclasses import dataclass
from typing import Final

from decisiongraph_service.domain import errors, vocabulary
from decisiongraph_service.domain.replay import ReplayJob, ReplayRequest
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import audit, projection_failures, projection_state, replay_jobs
from decisiongraph_service.storage.audit import Act
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database, TenantTransaction

_WATCH_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class ReplayPowers:
    """What a caller may do with jobs."""

    modes: Collection[str]
    """The modes that its permissions allow."""
    rebuild_enabled: bool
    """False: rebuilds are switched off by configuration, for everybody."""

    def require(self, mode: str) -> None:
        """Return if the caller may have to do with jobs of this mode.

        Raises:
            Forbidden: it may not.
        """
        if mode not in self.modes:
            permission = "projection_rebuild" if mode == vocabulary.REBUILD else "projection_replay"
            raise errors.Forbidden(f"a {mode} needs the permission {permission}; the token does not have it")


class Replays:
    """Replay jobs of all tenants."""

    def __init__(
        self, database: Database, signal: CommitSignal, *, clock: Callable[[], int], wake_runner: Callable[[], None]
    ) -> None:
        self._database = database
        self._signal = signal
        self._clock = clock
        self._wake_runner = wake_runner

    async def start(self, tenant_id: TenantId, request: ReplayRequest, act: Act, powers: ReplayPowers) -> ReplayJob:
        """Queue a job.

        Raises:
            Forbidden: the caller may not, or rebuilds are switched off.
            NotFound: the tenant does not exist.
            ReplayConflict: another job works on one of the projections.
        """
        target = f"{request.mode} {request.projection}"
        powers.require(request.mode)
        if request.mode == vocabulary.REBUILD and not powers.rebuild_enabled:
            raise errors.Forbidden(
                "rebuilds are switched off; set DG_REBUILD_ENABLED=true on the servers to allow them"
            )
        async with self._database.tenant_transaction(tenant_id) as transaction:
            await self._admit(transaction, request)
            job = await replay_jobs.insert(
                transaction,
                f"job-{secrets.token_hex(8)}",
                request,
                requested_by=act.account_id,
                requested_at_micros=self._clock(),
            )
            await audit.append(transaction, act, target=f"{target} {job.job_id}", now_micros=self._clock())
        self._wake_runner()
        return job

    async def get(self, tenant_id: TenantId, job_id: str, powers: ReplayPowers) -> ReplayJob:
        """One job.

        Raises:
            NotFound: the tenant has no such job.
            Forbidden: the caller may not have to do with jobs of its mode.
        """
        async with self._database.tenant_statements(tenant_id) as statements:
            job = await replay_jobs.fetch(statements, job_id)
        if job is None:
            raise errors.NotFound("job", job_id)
        powers.require(job.request.mode)
        return job

    async def watch(self, tenant_id: TenantId, job_id: str, powers: ReplayPowers) -> AsyncGenerator[ReplayJob]:
        """A job whenever it has changed, until its end.

        Raises:
            NotFound, Forbidden: as `get`.
        """
        shown: ReplayJob | None = None
        while True:
            job = await self.get(tenant_id, job_id, powers)
            if job != shown:
                yield job
            shown = job
            if not job.is_active:
                return
            await asyncio.sleep(_WATCH_SECONDS)

    async def cancel(self, tenant_id: TenantId, job_id: str, act: Act, powers: ReplayPowers) -> ReplayJob:
        """End an active job; what it committed to live rows stays.

        Raises:
            NotFound: the tenant has no such job, or it is no longer active.
            Forbidden: the caller may not have to do with jobs of its mode.
        """
        await self.get(tenant_id, job_id, powers)
        async with self._database.tenant_transaction(tenant_id) as transaction:
            job = await replay_jobs.cancel(transaction, job_id, now_micros=self._clock())
            if job is None:
                raise errors.NotFound("active job", job_id)
            await projection_state.retire_building(transaction, job_id)
            await audit.append(transaction, act, target=job_id, now_micros=self._clock())
        return job

    async def retry(self, tenant_id: TenantId, projection: str, act: Act) -> None:
        """Let a projection that a failure stopped try again. One that goes on is left as it is.

        Raises:
            NotFound: the tenant does not exist.
        """
        async with self._database.tenant_transaction(tenant_id) as transaction:
            if not await projection_state.lock_live(transaction, [projection]):
                raise errors.NotFound("tenant", tenant_id)
            await projection_failures.unblock(transaction, projection)
            await audit.append(transaction, act, target=projection, now_micros=self._clock())
        self._signal.committed(tenant_id)

    async def _admit(self, transaction: TenantTransaction, request: ReplayRequest) -> None:
        """Refuse a job beside another one. The lock is held to the commit: of two at once one sees the other."""
        if not await projection_state.lock_live(transaction, vocabulary.PROJECTIONS):
            raise errors.NotFound("tenant", transaction.tenant_id)
        for other in await replay_jobs.fetch_active(transaction):
            common = set(request.projections).intersection(other.request.projections)
            if common:
                raise errors.ReplayConflict(request.projection if len(common) > 1 else common.pop(), other.job_id)
