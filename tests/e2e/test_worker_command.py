"""`decisiongraph worker` beside a server that leaves projections and jobs to it."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
from tests import commands, traces
from tests.another_server import another_server, callers_of
from tests.calling import Callers, Service, Tenant
from tests.commands import CommandLine
from tests.own_ports import own_port

from decisiongraph_service.access import tenancy, tokens
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.runtime import server
from decisiongraph_service.storage.database import Database

if TYPE_CHECKING:
    import subprocess

_SECONDS = 30


@pytest.fixture(scope="module")
async def serving(service: Service, own_database_url: str) -> AsyncIterator[Service]:
    """A server that does not project, on a database of its own."""
    async with another_server(
        service, own_database_url, DG_PROJECTOR_ENABLED="false", DG_FRESHNESS_WAIT="0.2"
    ) as running:
        yield running


@pytest.fixture
async def own_tenant(service: Service, own_database: Database, tenant_id: TenantId) -> Tenant:
    """A tenant in that database."""
    await tenancy.create_tenant(own_database, tenant_id, clock=server.clock_micros)
    return Tenant(tenant_id, {role: service.token(tenant_ids=[tenant_id], roles=[role]) for role in tokens.ROLES})


@pytest.fixture
async def own_callers(serving: Service, own_tenant: Tenant) -> AsyncIterator[Callers]:
    async with callers_of(serving, own_tenant) as callers:
        yield callers


@pytest.fixture
def workers(own_database_url: str) -> CommandLine:
    return CommandLine({"DG_DATABASE_URL": own_database_url, "DG_PROJECTOR_ENABLED": "false"})


def _wait_started(worker: "subprocess.Popen[str]") -> None:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    assert json.loads(line)["event"] == "worker_started", line


async def _append_trace(callers: Callers, trace_id: str) -> None:
    answer = await callers.call("grpc", "AppendEvents", {"events": traces.whole_trace(trace_id, 3)})
    assert answer.ok, answer


async def _becomes(done: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_SECONDS):
        while not await done():  # noqa: ASYNC110 - another process gets there
            await asyncio.sleep(0.1)


async def _becomes_readable(callers: Callers, trace_id: str) -> None:
    async def readable() -> bool:
        return (await callers.call("grpc", "GetTrace", {"trace_id": trace_id})).ok

    await _becomes(readable)


async def test_nothing_is_projected_until_there_is_a_worker(own_callers: Callers, workers: CommandLine) -> None:
    await _append_trace(own_callers, "t1")
    refused = await own_callers.call("grpc", "GetTrace", {"trace_id": "t1"})
    assert refused.reason == "PROJECTION_OUT_OF_DATE"
    with workers.started("worker") as worker:
        _wait_started(worker)
        await _becomes_readable(own_callers, "t1")
        await _append_trace(own_callers, "t2")
        await _becomes_readable(own_callers, "t2")
        code, printed, complaints = commands.end(worker, signal.SIGTERM)
    assert (code, complaints) == (0, "")
    assert json.loads(printed.splitlines()[-1])["event"] == "worker_stopped"


async def test_readiness_does_not_speak_of_a_projector_that_is_elsewhere(own_callers: Callers) -> None:
    ready = await own_callers.call("grpc", "GetReadiness", {})
    assert [check["name"] for check in ready.body["checks"]] == ["database", "migrations"]


async def test_replay_jobs_are_run_by_workers(own_callers: Callers, workers: CommandLine) -> None:
    await _append_trace(own_callers, "t")
    started = await own_callers.call(
        "grpc", "StartReplay", {"projection": "all", "mode": "rebuild", "reason": "to see"}
    )
    job = {"job_id": started.body["job"]["job_id"]}

    async def status() -> str:
        return str((await own_callers.call("grpc", "GetReplay", job)).body["job"]["status"])

    async def completed() -> bool:
        return await status() == "completed"

    assert await status() == "queued"
    with workers.started("worker") as worker:
        _wait_started(worker)
        await _becomes(completed)
        assert commands.end(worker, signal.SIGINT)[0] == 0


async def test_what_a_killed_worker_did_others_go_on_with(own_callers: Callers, workers: CommandLine) -> None:
    with workers.started("worker") as first, workers.started("worker") as second:
        _wait_started(first)
        _wait_started(second)
        await _append_trace(own_callers, "before")
        await _becomes_readable(own_callers, "before")
        first.kill()
        await _append_trace(own_callers, "after")
        await _becomes_readable(own_callers, "after")
        assert commands.end(second, signal.SIGTERM)[0] == 0


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        (dict, "DG_DATABASE_URL"),
        (lambda: {"DG_DATABASE_URL": f"postgresql://nobody@127.0.0.1:{own_port()}/no"}, "database"),
        (lambda: {"DG_PROJECTOR_ENABLED": "perhaps"}, "DG_PROJECTOR_ENABLED"),
    ],
)
def test_a_worker_that_cannot_work_says_why(variables: Callable[[], dict[str, str]], word: str) -> None:
    ended = commands.run("worker", **variables())
    assert ended.returncode == 1
    assert ended.stderr.startswith("decisiongraph: ")
    assert ended.stderr.count("\n") == 1
    assert word in ended.stderr
