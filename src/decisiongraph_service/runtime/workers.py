"""Several server processes behind one port: started afresh, watched, started again when one dies.

All of them listen on the shared port, where the kernel spreads connections over them; since one HTTP/2 connection stays
with one process, each also has a port of its own, for a balancer that spreads calls: shared port + 1, + 2, …
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from typing import Final

import structlog

from decisiongraph_service.runtime.settings import Settings

PARENT_VARIABLE: Final = "DG_WORKER_OF"
"""Tells a worker the process id of its supervisor: it ends when that is gone."""

_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 10.0
_STABLE_SECONDS: Final = 10.0

_log = structlog.get_logger("decisiongraph.workers")


def own_ports(settings: Settings) -> list[int]:
    """The port of each worker's own."""
    return [settings.grpc_port + 1 + index for index in range(settings.workers)]


class WorkersFailed(Exception):
    """A worker ended right after its first start; the others were stopped. Its own output says why."""


class Workers:
    """The worker processes of one `decisiongraph serve --workers N`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = False

    async def run(self) -> None:
        """Keep the workers running until SIGTERM or SIGINT.

        Raises:
            WorkersFailed: a worker cannot start.
        """
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        watched = [
            asyncio.create_task(self._keep_running(index, port), name=f"worker-{index}")
            for index, port in enumerate(own_ports(self._settings))
        ]
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([stopped, *watched], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()
        finally:
            self._stopping = True
            for task in (stopped, *watched):
                task.cancel()
            await self._stop_all()

    async def _keep_running(self, index: int, port: int) -> None:
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE_SECONDS
        first = True
        while True:
            began = loop.time()
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "decisiongraph_service.cli.main", "serve"),
                env={**os.environ, **self._environment(index, port)},
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
            self._processes[index] = process
            code = await process.wait()
            lived = loop.time() - began
            if first and code == 1 and lived < _STABLE_SECONDS:
                raise WorkersFailed(f"worker {index} cannot start; what it said stands above")
            first = False
            pause = _FIRST_PAUSE_SECONDS if lived > _STABLE_SECONDS else min(pause * 2, _LONGEST_PAUSE_SECONDS)
            _log.error("worker_ended", worker=index, returncode=code, again_in_seconds=pause)
            await asyncio.sleep(pause)

    def _environment(self, index: int, port: int) -> Mapping[str, str]:
        metrics_port = self._settings.metrics_port
        return {
            **self._settings.as_environment(),
            **({} if not metrics_port else {"DG_METRICS_PORT": str(metrics_port + 1 + index)}),
            "DG_WORKERS": "1",
            "DG_GRPC_PORT": str(self._settings.grpc_port),
            "DG_GRPC_OWN_PORT": str(port),
            PARENT_VARIABLE: str(os.getpid()),
        }

    async def _stop_all(self) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        try:
            async with asyncio.timeout(self._settings.shutdown_grace_seconds + 5):
                await asyncio.gather(*(process.wait() for process in self._processes.values()))
        except TimeoutError:
            for process in self._processes.values():
                with contextlib.suppress(ProcessLookupError):
                    process.kill()


async def parent_gone() -> None:
    """Return when the supervisor of this worker is gone; never, if this is no worker."""
    parent = os.environ.get(PARENT_VARIABLE)
    while parent is None or os.getppid() == int(parent):  # noqa: ASYNC110 - nobody tells of it
        await asyncio.sleep(1.0)
