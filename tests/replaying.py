"""Projections and replay jobs of a database in which no server runs: appending logs, running jobs, reading rows."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from decisiongraph_service.access import tenancy
from decisiongraph_service.domain import vocabulary
from decisiongraph_service.domain.append_batch import Refusal
from decisiongraph_service.domain.events import CheckedEvent
from decisiongraph_service.domain.replay import ReplayJob, ReplayRequest
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.ingestion.group_commit import GroupCommitter
from decisiongraph_service.projection import digests
from decisiongraph_service.projection.projector import Projector
from decisiongraph_service.projection.replay_runner import ReplayRunner
from decisiongraph_service.projection.replays import ReplayPowers, Replays
from decisiongraph_service.runtime import server
from decisiongraph_service.storage.audit import Act
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database
from tests import samples
from tests.logs import Connection

POWERS = ReplayPowers((vocabulary.CATCH_UP, vocabulary.REBUILD, vocabulary.VERIFY), rebuild_enabled=True)
ACT = Act("tester", "test", "to see", "request-1")


@dataclass
class Projections:
    """Everything that projects, on one database, stepped by the test."""

    database: Database
    signal: CommitSignal
    batch_events: int = 500
    runners: list[ReplayRunner] = field(default_factory=list)

    async def make_tenant(self, name: str) -> TenantId:
        """A tenant with an empty log."""
        tenant_id = TenantId(name)
        await tenancy.create_tenant(self.database, tenant_id, clock=server.clock_micros)
        return tenant_id

    async def append(self, tenant_id: TenantId, events: Sequence[CheckedEvent]) -> None:
        """Append events, all or none."""
        committer = GroupCommitter(self.database, self.signal, clock=server.clock_micros, parallel_commits=2)
        for start in range(0, len(events), 500):
            outcome = await committer.submit(tenant_id, events[start : start + 500])
            if isinstance(outcome, Refusal):
                raise outcome.error

    def projector(self) -> Projector:
        """A projector that follows only when it is asked."""
        return Projector(self.database, self.signal, clock=server.clock_micros, batch_events=self.batch_events)

    def replays(self) -> Replays:
        """The jobs of this database; starting one wakes the runners."""
        return Replays(self.database, self.signal, clock=server.clock_micros, wake_runner=self._wake)

    def start_runner(self) -> ReplayRunner:
        """One more runner at work."""
        runner = ReplayRunner(self.database, clock=server.clock_micros, batch_events=self.batch_events)
        runner.start()
        self.runners.append(runner)
        return runner

    async def stop(self) -> None:
        """Stop all runners."""
        for runner in self.runners:
            await runner.stop()

    def _wake(self) -> None:
        for runner in self.runners:
            runner.wake()

    async def start_job(
        self, tenant_id: TenantId, mode: str, projection: str = "all", until_log_seq: int | None = None
    ) -> ReplayJob:
        """Queue a job."""
        request = ReplayRequest(projection, mode, "to see", 0, until_log_seq, "{}")
        return await self.replays().start(tenant_id, request, ACT, POWERS)

    async def ended(self, tenant_id: TenantId, job_id: str) -> ReplayJob:
        """The job after its end."""
        async with asyncio.timeout(60):
            # A runner in another task, or in another process, ends it.
            while (job := await self.replays().get(tenant_id, job_id, POWERS)).is_active:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return job

    async def run_job(
        self, tenant_id: TenantId, mode: str, projection: str = "all", until_log_seq: int | None = None
    ) -> ReplayJob:
        """Queue a job and wait for its end."""
        job = await self.start_job(tenant_id, mode, projection, until_log_seq)
        return await self.ended(tenant_id, job.job_id)

    async def digests(self, tenant_id: TenantId) -> dict[str, str]:
        """The digests of what readers see, by projection."""
        found = await digests.compute_live(self.database, tenant_id, vocabulary.PROJECTIONS, clock=server.clock_micros)
        return {name: computed.digest for name, computed in found.items()}


POLICY: Final = {"policy": {"policy_id": "p", "policy_version": "1"}, "inputs": [], "decision": "allow"}
_NUMBERS: Final = itertools.count()


def trace(number: int) -> list[CheckedEvent]:
    """Four events with rows in all five tables. Their ids are given: the digests are the same in every tenant."""
    t = f"t{number}"
    return [
        samples.start(t, event_id=f"{t}-0"),
        samples.checked("PolicyEvaluated", key=f"{t}/1", trace_id=t, event_id=f"{t}-1", payload=POLICY),
        samples.checked("PrecedentCited", key=f"{t}/2", trace_id=t, event_id=f"{t}-2"),
        samples.checked("TraceFinished", key=f"{t}/3", trace_id=t, event_id=f"{t}-3"),
    ]


async def tenant_with(projections: Projections, traces: int, *, projected: bool = True) -> TenantId:
    """A new tenant with so many traces."""
    tenant_id = await projections.make_tenant(f"replayed-{next(_NUMBERS)}")
    await projections.append(tenant_id, [event for number in range(traces) for event in trace(number)])
    if projected:
        await projections.projector().catch_up(tenant_id)
    return tenant_id


async def until_removed(owner: Connection, tenant_id: TenantId) -> None:
    """Return when only live generations are known."""
    query = "SELECT coalesce(bool_and(state = 'live'), false) FROM projection_generations WHERE tenant_id = $1"
    async with asyncio.timeout(15):
        # A task of a runner removes them.
        while not await owner.fetchval(query, tenant_id):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
