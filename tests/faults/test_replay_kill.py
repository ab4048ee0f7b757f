"""The server that runs a rebuild is killed with SIGKILL in the middle; the other one ends it, and its readers go on.

Two servers on one database of this test. One run, and then a test for each thing that must be true afterwards.
"""

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

import asyncpg
import grpc
import psutil
import pytest
from tests import samples
from tests.calling import Service, wait_until_serving
from tests.own_ports import own_port
from tests.replaying import Projections

from decisiongraph.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    query_service_pb2,
    query_service_pb2_grpc,
    replay_pb2,
)
from decisiongraph_service.access import keys
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.runtime import children, server
from decisiongraph_service.storage import migrations, replay_jobs
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
_TRACES: Final = 1_000
_LENGTH: Final = 4
_EVENTS: Final = _TRACES * _LENGTH
_READERS: Final = 4
_POLICY: Final = {"policy": {"policy_id": "p", "policy_version": "1"}, "inputs": [], "decision": "allow"}
_TABLES: Final = ("graph_nodes", "graph_edges", "trace_summaries", "policy_evaluations", "precedents")


@dataclass
class Readers:
    """Calls of the surviving server, from before the kill to after the end of the job."""

    answers: int = 0
    while_nobody_worked: int = 0
    """Answers between the kill and the takeover."""
    wrong: list[str] = field(default_factory=list)


@dataclass
class Aftermath:
    """What was seen, and how it was when the job had ended."""

    committed_when_killed: int
    """Position of the generations that the killed server was filling."""
    seconds_to_takeover: float
    silent_seconds: float
    """From the last sign of life of the killed server to the first of the other."""
    readers: Readers
    job: replay_pb2.ReplayJob
    digests_before: dict[str, str]
    digests_damaged: dict[str, str]
    digests_after: dict[str, str]
    building: int
    """Generations that are still being filled."""
    owner: Connection


class _Stack:
    """Two servers that are started when the run needs them."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DG_")},
            "DG_DATABASE_URL": database_url,
            "DG_DATA_DIR": str(folder),
            "DG_SHUTDOWN_GRACE_SECONDS": "1",
            "DG_REBUILD_ENABLED": "true",
            # The Postgres of a test run trades durability for speed.
            "DG_ALLOW_UNSAFE_DATABASE": "true",
        }
        self._key = keys.load_or_create(folder / "token-key.pem")
        self._folder = folder
        self._started: list[children.Children] = []

    async def start(self, name: str) -> tuple[Service, int]:
        """A serving server and its process id."""
        running = children.Children(self._folder / "logs", self._folder / f"{name}.json")
        self._started.append(running)
        port = own_port()
        command = (sys.executable, "-m", "decisiongraph_service.cli.main", "serve")
        environment = {**self._environment, "DG_GRPC_PORT": str(port)}
        pid = await running.start(children.ChildSpec(name, command, env=environment))
        await running.during(wait_until_serving(f"127.0.0.1:{port}"))
        return Service("", f"127.0.0.1:{port}", self._key, self._folder, running), pid

    async def stop(self) -> None:
        for running in self._started:
            await running.stop()


@contextlib.asynccontextmanager
async def _own_database(database_url: str) -> AsyncIterator[tuple[str, Connection]]:
    """A migrated database beside the shared one, and a connection of its owner."""
    name = f"killed_{uuid.uuid4().hex[:8]}"
    url = database_url.rsplit("/", 1)[0] + f"/{name}"
    shared = await asyncpg.connect(database_url)
    await shared.execute(f"CREATE DATABASE {name}")
    await migrations.upgrade(url, server.migrations_folder())
    owner = await asyncpg.connect(url)
    try:
        yield url, owner
    finally:
        await owner.close()
        await shared.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await shared.close()


def _events() -> list[Any]:
    made = []
    for t in (f"t{n}" for n in range(_TRACES)):
        made += [
            samples.start(t),
            samples.checked("PolicyEvaluated", key=f"{t}/1", trace_id=t, payload=_POLICY),
            samples.checked("PrecedentCited", key=f"{t}/2", trace_id=t),
            samples.checked("TraceFinished", key=f"{t}/3", trace_id=t),
        ]
    return made


async def _until(look: Callable[[], Coroutine[Any, Any, bool]], seconds: float) -> None:
    """Return when the look is true; other processes make it so."""
    async with asyncio.timeout(seconds):
        while not await look():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def _calling(service: Service, tenant_id: TenantId, role: str) -> dict[str, Any]:
    token = service.token(tenant_ids=[tenant_id], roles=[role])
    return {"metadata": (("authorization", f"Bearer {token}"),), "timeout": 10}


async def _read(service: Service, tenant_id: TenantId, number: int, seen: Readers, stop: asyncio.Event) -> None:
    """Get traces one after the other: each is whole, and no answer is older than the one before it."""
    call, last = _calling(service, tenant_id, "reader"), 0
    async with grpc.aio.insecure_channel(service.grpc) as channel:
        stub: Any = query_service_pb2_grpc.QueryServiceStub(channel)
        while not stop.is_set():
            number = (number + 7) % _TRACES
            try:
                found = await stub.GetTrace(query_service_pb2.GetTraceRequest(trace_id=f"t{number}"), **call)
            except grpc.aio.AioRpcError as error:
                seen.wrong.append(f"{error.code().name}: {error.details()}")
                continue
            whole = (found.summary.outcome, len(found.events)) == ("success", _LENGTH)
            if not whole or found.position.log_seq < last:
                seen.wrong.append(f"t{number} at {found.position.log_seq} after {last}: {found.summary}")
            last = found.position.log_seq
            seen.answers += 1


@dataclass
class _Run:
    """The course of events."""

    owner: Connection
    projections: Projections
    tenant_id: TenantId
    stack: _Stack

    async def prepare(self) -> None:
        await self.projections.append(self.tenant_id, _events())
        query = "SELECT min(log_seq) FROM projection_generations WHERE tenant_id = 'killed'"
        await _until(lambda: self._is(query, _EVENTS), 20)

    async def _is(self, query: str, wanted: object) -> bool:
        return bool(await self.owner.fetchval(query) == wanted)

    async def _built(self) -> int:
        query = "SELECT coalesce(max(log_seq), 0) FROM projection_generations WHERE state = 'building'"
        return int(await self.owner.fetchval(query))

    async def _is_filling(self) -> bool:
        return await self._built() > 0

    async def _runner(self) -> str:
        return str(await self.owner.fetchval("SELECT runner_id FROM replay_jobs"))

    async def _alive_at(self) -> datetime:
        found: datetime = await self.owner.fetchval("SELECT alive_at FROM replay_jobs")
        return found

    async def _is_taken_from(self, runner: str) -> bool:
        return await self._runner() != runner

    async def go(self) -> Aftermath:
        first, pid = await self.stack.start("first")
        await self.prepare()
        before = await self.projections.digests(self.tenant_id)
        await self.owner.execute("UPDATE trace_summaries SET title = 'damaged' WHERE trace_id = 't5'")
        damaged = await self.projections.digests(self.tenant_id)
        async with grpc.aio.insecure_channel(first.grpc) as channel:
            stub: Any = admin_service_pb2_grpc.AdminServiceStub(channel)
            request = admin_service_pb2.StartReplayRequest(projection="all", mode="rebuild", reason="to be killed")
            started = await stub.StartReplay(request, **_calling(first, self.tenant_id, "admin"))
        await _until(self._is_filling, 10)
        seen, stop = Readers(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            # Readers may read the table, the job may not write to it: it is in the middle for as long as it takes.
            async with self.owner.transaction():
                await self.owner.execute("LOCK TABLE graph_nodes IN EXCLUSIVE MODE")
                runner = await self._runner()
                second, _ = await self.stack.start("second")
                for n in range(_READERS):
                    group.create_task(_read(second, self.tenant_id, 100 * n, seen, stop))
                assert await self._runner() == runner, "the job is no longer the first server's"
                committed = await self._built()
                psutil.Process(pid).kill()
                killed_at, answers = time.monotonic(), seen.answers
                alive_at = await self._alive_at()
            await _until(lambda: self._is_taken_from(runner), 30)
            seconds = time.monotonic() - killed_at
            silent_seconds = (await self._alive_at() - alive_at).total_seconds()
            seen.while_nobody_worked = seen.answers - answers
            job = await self._ended(second, started.job.job_id)
            stop.set()
        after = await self.projections.digests(self.tenant_id)
        query = "SELECT count(*) FROM projection_generations WHERE state = 'building'"
        building = await self.owner.fetchval(query)
        return Aftermath(committed, seconds, silent_seconds, seen, job, before, damaged, after, building, self.owner)

    async def _ended(self, service: Service, job_id: str) -> replay_pb2.ReplayJob:
        async with grpc.aio.insecure_channel(service.grpc) as channel:
            stub: Any = admin_service_pb2_grpc.AdminServiceStub(channel)
            request = admin_service_pb2.WatchReplayRequest(job_id=job_id)
            call = {**_calling(service, self.tenant_id, "admin"), "timeout": 30}
            jobs: list[replay_pb2.ReplayJob] = [answer.job async for answer in stub.WatchReplay(request, **call)]
        return jobs[-1]


@pytest.fixture(scope="module")
async def aftermath(database_url: str) -> AsyncIterator[Aftermath]:
    folder = Path(tempfile.mkdtemp(prefix="decisiongraph-test-"))
    async with _own_database(database_url) as (url, owner):
        database = await Database.open(url, pool_size=4)
        stack = _Stack(url, folder)
        try:
            projections = Projections(database, CommitSignal(url))
            tenant_id = await projections.make_tenant("killed")
            yield await _Run(owner, projections, tenant_id, stack).go()
        finally:
            await stack.stop()
            await database.close()
            shutil.rmtree(folder, ignore_errors=True)


async def test_the_server_was_killed_in_the_middle(aftermath: Aftermath) -> None:
    assert 0 < aftermath.committed_when_killed < _EVENTS


async def test_the_other_server_took_over_within_ten_seconds(aftermath: Aftermath) -> None:
    assert aftermath.seconds_to_takeover < 10
    assert aftermath.silent_seconds >= replay_jobs.RUNNER_LOST_SECONDS, "it was taken from one that may be alive"


async def test_the_job_completed_with_all_events(aftermath: Aftermath) -> None:
    job = aftermath.job
    assert (job.status, job.error_message) == ("completed", "")
    assert (job.processed_events, job.last_log_seq) == (3 * _EVENTS, _EVENTS)


async def test_the_digests_are_those_of_before(aftermath: Aftermath) -> None:
    assert aftermath.digests_damaged != aftermath.digests_before
    assert aftermath.digests_after == aftermath.digests_before


async def test_nothing_is_left_of_what_was_begun(aftermath: Aftermath) -> None:
    async def only_live() -> bool:
        return await aftermath.owner.fetchval("SELECT bool_and(state = 'live') FROM projection_generations") is True

    assert aftermath.building == 0
    await _until(only_live, 10)
    for table in _TABLES:
        query = f"SELECT count(DISTINCT generation) FROM {table}"  # noqa: S608
        assert await aftermath.owner.fetchval(query) == 1, table


async def test_readers_of_the_surviving_server_noticed_nothing(aftermath: Aftermath) -> None:
    assert aftermath.readers.wrong == []
    assert aftermath.readers.while_nobody_worked > 100
    assert aftermath.readers.answers > aftermath.readers.while_nobody_worked
