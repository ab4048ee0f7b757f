"""A process that keeps projections up to date and runs replay jobs, beside servers and without serving calls.

Any number of them may run: a tenant's projections have one writer at a time, and a job one runner, whoever it is.
"""

import asyncio
import signal
from dataclasses import dataclass
from typing import Final

import structlog

from decisiongraph_service.projection.projector import Projector
from decisiongraph_service.projection.replay_runner import ReplayRunner
from decisiongraph_service.queries.readiness import Readiness
from decisiongraph_service.runtime.measuring import Measuring
from decisiongraph_service.runtime.metrics import Gauges
from decisiongraph_service.runtime.server import clock_micros, migrations_folder
from decisiongraph_service.runtime.settings import Settings
from decisiongraph_service.storage import migrations
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database

_SERVERS_FIRST_SECONDS: Final = 0.1
_LOOK_SECONDS: Final = 1.0

_log = structlog.get_logger("decisiongraph.worker")


class WorkerEnded(Exception):
    """The projector ended by itself; the log says why."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """What has a life cycle, in the order of its start."""

    database: Database
    signal: CommitSignal
    projector: Projector
    runner: ReplayRunner


class Worker:
    """The projector and the replay runner of one process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._measuring = Measuring(settings, paths=())
        self._parts: _Parts | None = None

    async def start(self) -> None:
        """Connect and begin.

        Raises:
            StorageUnavailable: the database cannot be reached or is not migrated.
            ValueError: no database is named, or the settings do not go together.
        """
        settings = self._settings
        if settings.database_url is None:
            raise ValueError("DG_DATABASE_URL is not set; a worker works on the database of the servers")
        url = settings.database_url.get_secret_value()
        database = await Database.open(url, pool_size=settings.database_pool_size)
        # Servers that project begin at once with what they committed themselves. Where none does, nobody comes first.
        commits = CommitSignal(
            url, elsewhere_first_seconds=_SERVERS_FIRST_SECONDS if settings.projector_enabled else 0.0
        )
        self._parts = parts = _Parts(
            database,
            commits,
            Projector(
                database,
                commits,
                clock=clock_micros,
                observer=self._measuring.observer,
                spans=self._measuring.spans,
            ),
            ReplayRunner(database, clock=clock_micros),
        )
        revision = migrations.newest_revision(migrations_folder())
        await Readiness(database, needed_revision=revision, projector_follows=None).check_database()
        self._measuring.start(
            database,
            Gauges(
                calls=lambda: 0,
                streams=lambda: 0,
                waiting=lambda: (0, 0),
                connections=lambda: database.connections,
                watches=lambda: 0,
            ),
        )
        commits.start()
        parts.projector.start()
        parts.runner.start()
        _log.info("worker_started", profile=settings.profile)

    async def wait_for_end(self) -> None:
        """Return when the projector has ended by itself."""
        while self._parts is not None and self._parts.projector.is_following:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(_LOOK_SECONDS)

    async def stop(self) -> None:
        """Leave what is at work to others, and disconnect. A batch at work is rolled back and done again by them."""
        await self._measuring.stop()
        if self._parts is not None:
            await self._parts.runner.stop()
            await self._parts.projector.stop()
            await self._parts.signal.stop()
            await self._parts.database.close()
        _log.info("worker_stopped")


async def work(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT.

    Raises:
        StorageUnavailable, ValueError: as `Worker.start`.
        WorkerEnded: the projector ended by itself.
    """
    worker = Worker(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await worker.start()
        ended = asyncio.create_task(worker.wait_for_end(), name="worker-watch")
        stopped = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            raise WorkerEnded("the projector has ended; the log says why; start the worker again")
        ended.cancel()
    finally:
        await worker.stop()
