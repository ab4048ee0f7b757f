"""The parts of a server that have a life cycle: opened together, started and stopped in order."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from decisiongraph_service.access import issuers
from decisiongraph_service.access.issuers import ExternalIssuer
from decisiongraph_service.access.key_ring import KeyRing
from decisiongraph_service.access.revocations import Revocations
from decisiongraph_service.ingestion.group_commit import GroupCommitter
from decisiongraph_service.projection.projector import Projector
from decisiongraph_service.projection.replay_runner import ReplayRunner
from decisiongraph_service.queries.watch import EventWatches
from decisiongraph_service.runtime.measuring import Measuring
from decisiongraph_service.runtime.settings import Settings
from decisiongraph_service.runtime.token_keys import token_keys
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database


@dataclass(frozen=True, slots=True)
class Parts:
    """What has a life cycle, in the order of its start."""

    database: Database
    signal: CommitSignal
    committer: GroupCommitter
    projector: Projector
    runner: ReplayRunner
    revocations: Revocations
    keys: KeyRing
    issuers: list[ExternalIssuer]
    watches: EventWatches

    @classmethod
    async def open(cls, settings: Settings, measuring: Measuring, *, clock: Callable[[], int]) -> "Parts":
        """Connect. `clock` tells the time in microseconds since 1970-01-01T00:00:00Z.

        Raises:
            StorageUnavailable: the database cannot be reached or is not migrated.
            ValueError: the settings do not go together.
        """
        if settings.database_url is None:
            raise ValueError("DG_DATABASE_URL is not set; `decisiongraph run` starts an embedded database")
        ring = token_keys(settings)
        others = (
            issuers.load(settings.external_issuers, own_issuer=settings.token_issuer)
            if settings.external_issuers is not None
            else []
        )
        url = settings.database_url.get_secret_value()
        database = await Database.open(url, pool_size=settings.database_pool_size)
        signal = CommitSignal(url)
        observer, spans = measuring.observer, measuring.spans
        return cls(
            database,
            signal,
            GroupCommitter(
                database,
                signal,
                clock=clock,
                parallel_commits=max(1, settings.database_pool_size // 2),
                observer=observer,
                spans=spans,
            ),
            Projector(database, signal, clock=clock, observer=observer, spans=spans),
            ReplayRunner(database, clock=clock),
            Revocations(database, clock=clock),
            ring,
            others,
            EventWatches(
                database,
                signal,
                heartbeat_seconds=settings.heartbeat_seconds,
                max_per_tenant=settings.max_watchers_per_tenant,
            ),
        )

    async def start(self, *, projects: bool) -> None:
        """Begin to work; with `projects`, on projections and replay jobs too."""
        await self.revocations.start()
        await asyncio.gather(self.keys.start(), *(issuer.start() for issuer in self.issuers))
        self.signal.start()
        if projects:
            self.projector.start()
            self.runner.start()

    async def stop(self) -> None:
        """Commit what waits, end the work, and disconnect."""
        await self.committer.drain()
        await self.runner.stop()
        await self.projector.stop()
        await self.signal.stop()
        await asyncio.gather(self.keys.stop(), *(issuer.stop() for issuer in self.issuers))
        await self.revocations.stop()
        await self.database.close()
