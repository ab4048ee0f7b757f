"""Runs replay jobs in the background, and removes what they leave behind. A job has one runner at a time.

A runner gives a sign of life twice a second. A job whose runner is silent for five seconds is taken over from what is
committed, by any process.
"""

import asyncio
import contextlib
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from decisiongraph_service.domain import errors, vocabulary
from decisiongraph_service.domain.replay import ReplayJob, VerifyResult
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.projection import rebuild
from decisiongraph_service.projection.rebuild import JobLost, ReplayWork
from decisiongraph_service.storage import projection_state, replay_jobs
from decisiongraph_service.storage.database import Database

_JOBS_AT_ONCE: Final = 2
_LOOK_SECONDS: Final = 1.0
_REPORT_SECONDS: Final = 0.5
_RATE_WINDOW_SECONDS: Final = 5.0
_RETRIES: Final = 5
_FIRST_DELAY_SECONDS: Final = 0.25
_PAUSE_AFTER_REMOVAL_SECONDS: Final = 0.05

_log = structlog.get_logger("decisiongraph.replay")


class ReplayRunner:
    """Looks for jobs without a living runner and runs them, two at a time."""

    def __init__(
        self, database: Database, *, clock: Callable[[], int], batch_events: int = rebuild.BATCH_EVENTS
    ) -> None:
        """`clock` tells microseconds since 1970-01-01T00:00:00Z; `batch_events` has no influence on the rows."""
        self._database = database
        self._clock = clock
        self._batch_events = batch_events
        self._runner_id = secrets.token_hex(8)
        self._awake = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to look for jobs."""
        self._tasks = [
            asyncio.create_task(self._follow(), name="replay-runner"),
            asyncio.create_task(self._remove_retired(), name="retired-generations"),
        ]

    async def stop(self) -> None:
        """Stop, and leave the running jobs to others, who go on with them at once."""
        for task in (*self._tasks, *self._running.values()):
            task.cancel()
        for task in (*self._tasks, *list(self._running.values())):
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def wake(self) -> None:
        """There is a new job."""
        self._awake.set()

    async def _follow(self) -> None:
        while True:
            try:
                if len(self._running) < _JOBS_AT_ONCE:
                    for tenant_id, job_id in await replay_jobs.fetch_claimable(self._database):
                        await self._claim(tenant_id, job_id)
            except errors.StorageUnavailable as error:
                _log.warning("replay_look_interrupted", cause=repr(error.__cause__))
            except Exception:  # noqa: BLE001 - a look that fails must not end the looking
                _log.exception("replay_look_failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._awake.wait()
            self._awake.clear()

    async def _claim(self, tenant_id: TenantId, job_id: str) -> None:
        if len(self._running) >= _JOBS_AT_ONCE or job_id in self._running:
            return
        async with self._database.tenant_statements(tenant_id) as statements:
            job = await replay_jobs.claim(statements, job_id, self._runner_id, now_micros=self._clock())
        if job is not None:
            task = asyncio.create_task(self._run(tenant_id, job), name=f"replay:{job_id}")
            self._running[job_id] = task

    async def _run(self, tenant_id: TenantId, job: ReplayJob) -> None:
        progress = _Progress(job)
        work = asyncio.create_task(self._work(tenant_id, job, progress), name=f"replay-work:{job.job_id}")
        try:
            while not work.done():
                await asyncio.wait([work], timeout=_REPORT_SECONDS)
                if not await self._report(tenant_id, job, progress):
                    break
        except asyncio.CancelledError:
            await _end(work)
            await self._report(tenant_id, job, progress)
            await self._release(tenant_id, job)
            raise
        except Exception:  # noqa: BLE001 - the outermost edge of this job; silent, it is taken over
            _log.exception("replay_report_failed", tenant=tenant_id, job_id=job.job_id)
        finally:
            await _end(work)
            self._running.pop(job.job_id, None)
            self._awake.set()

    async def _report(self, tenant_id: TenantId, job: ReplayJob, progress: "_Progress") -> bool:
        """Write progress; False if the job is no longer ours. An outage is no reason to give it up."""
        try:
            async with self._database.tenant_statements(tenant_id) as statements:
                return await replay_jobs.report(
                    statements,
                    job.job_id,
                    self._runner_id,
                    processed_events=progress.done_events,
                    total_events=progress.total_events,
                    last_log_seq=progress.last_log_seq,
                    events_per_second=progress.events_per_second(),
                )
        except errors.StorageUnavailable:
            return True

    async def _release(self, tenant_id: TenantId, job: ReplayJob) -> None:
        with contextlib.suppress(errors.StorageUnavailable):
            async with self._database.tenant_statements(tenant_id) as statements:
                await replay_jobs.release(statements, job.job_id, self._runner_id)

    async def _work(self, tenant_id: TenantId, job: ReplayJob, progress: "_Progress") -> None:
        """Do the job and write how it ended."""
        _log.info("replay_started", tenant=tenant_id, job_id=job.job_id, mode=job.request.mode)
        results: Sequence[VerifyResult] = ()
        error: errors.DecisionGraphError | None = None
        try:
            results = await self._do(tenant_id, job, progress)
        except JobLost:
            return
        except errors.DecisionGraphError as failed:
            error = failed
        except Exception:  # noqa: BLE001 - the outermost edge of this job
            _log.exception("replay_failed", tenant=tenant_id, job_id=job.job_id)
            error = errors.JobFailed(job.job_id)
        await self._report(tenant_id, job, progress)
        await self._finish(tenant_id, job, results, error)

    async def _do(self, tenant_id: TenantId, job: ReplayJob, progress: "_Progress") -> Sequence[VerifyResult]:
        """The job, again from what is committed when the database failed, a few times."""
        delay = _FIRST_DELAY_SECONDS
        for _ in range(_RETRIES):
            work = ReplayWork(
                self._database, tenant_id, job, self._runner_id, self._clock, progress, self._batch_events
            )
            try:
                if job.request.mode == vocabulary.VERIFY:
                    return await work.verify()
                await (work.rebuild() if job.request.mode == vocabulary.REBUILD else work.catch_up())
            except errors.StorageUnavailable as error:
                _log.warning("replay_interrupted", job_id=job.job_id, cause=repr(error.__cause__))
                await asyncio.sleep(delay)
                delay *= 2
            else:
                return ()
        raise errors.StorageUnavailable(f"the database failed {_RETRIES} times; start the job again when it is back")

    async def _finish(
        self,
        tenant_id: TenantId,
        job: ReplayJob,
        results: Sequence[VerifyResult],
        error: errors.DecisionGraphError | None,
    ) -> None:
        async with self._database.tenant_transaction(tenant_id) as transaction:
            ended = await replay_jobs.finish(
                transaction,
                job.job_id,
                self._runner_id,
                status=vocabulary.COMPLETED if error is None else vocabulary.FAILED,
                now_micros=self._clock(),
                error_code=None if error is None else error.category,
                error_message=None if error is None else error.message,
                verify_results=results,
            )
            if ended:
                await projection_state.retire_building(transaction, job.job_id)
        _log.info("replay_ended", tenant=tenant_id, job_id=job.job_id, error=None if error is None else error.message)

    async def _remove_retired(self) -> None:
        """Remove the rows of generations that nobody reads any more, step by step."""
        while True:
            removed = 0
            try:
                for tenant_id in await projection_state.fetch_tenants_with_retired(self._database):
                    async with self._database.tenant_statements(tenant_id) as statements:
                        removed += await projection_state.remove_retired_step(statements)
            except errors.StorageUnavailable as error:
                _log.warning("removal_interrupted", cause=repr(error.__cause__))
            except Exception:  # noqa: BLE001 - the next look tries again
                _log.exception("removal_failed")
            await asyncio.sleep(_PAUSE_AFTER_REMOVAL_SECONDS if removed else _LOOK_SECONDS)


async def _end(work: "asyncio.Task[None]") -> None:
    work.cancel()
    await asyncio.wait([work])


class _Progress:
    """How far a job is, and how fast it was in the last seconds."""

    def __init__(self, job: ReplayJob) -> None:
        self.total_events = job.total_events
        self.done_events = job.processed_events
        self.last_log_seq = job.last_log_seq
        self._points: deque[tuple[float, int]] = deque()

    def begin(self, total_events: int, done_events: int) -> None:
        """What there is to apply in all, and what was applied before."""
        self.total_events = max(total_events, done_events)
        self.done_events = done_events
        self._points.clear()
        self._note()

    def applied(self, events: int, position: int) -> None:
        """So many more events are applied, up to this position."""
        self.done_events += events
        self.total_events = max(self.total_events, self.done_events)
        self.last_log_seq = position
        self._note()

    def events_per_second(self) -> float:
        """Over the last five seconds."""
        if len(self._points) < 2:
            return 0.0
        (began, before), (ended, after) = self._points[0], self._points[-1]
        return (after - before) / (ended - began) if ended > began else 0.0

    def _note(self) -> None:
        now = time.monotonic()
        self._points.append((now, self.done_events))
        while self._points[0][0] < now - _RATE_WINDOW_SECONDS:
            self._points.popleft()
