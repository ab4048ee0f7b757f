"""Every administrative act on replay jobs that is done is on record; what cannot be recorded is not done."""

import itertools
from collections.abc import AsyncIterator
from typing import TypeAlias

import asyncpg
import pytest
from tests import samples
from tests.replaying import ACT, POWERS, Projections

from decisiongraph_service.domain import errors
from decisiongraph_service.domain.replay import ReplayRequest
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.projection.replays import ReplayPowers
from decisiongraph_service.storage import audit, projection_state
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import RUNTIME_ROLE, Database

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
_NUMBERS = itertools.count()


@pytest.fixture
async def owner(own_database_url: str) -> AsyncIterator[Connection]:
    opened = await asyncpg.connect(own_database_url)
    yield opened
    # A queued job must not occupy the runners of other tests.
    await opened.execute("UPDATE replay_jobs SET status = 'cancelled' WHERE status IN ('queued', 'running')")
    await opened.close()


@pytest.fixture
def projections(own_database: Database, own_database_url: str) -> Projections:
    return Projections(own_database, CommitSignal(own_database_url))


@pytest.fixture
async def tenant(projections: Projections) -> TenantId:
    made = await projections.make_tenant(f"audited-{next(_NUMBERS)}")
    await projections.append(made, [samples.start("t")])
    return made


async def audited(owner: Connection, tenant_id: TenantId) -> list[tuple[str, str, str | None]]:
    """Target, outcome and reason of the refusal of each entry."""
    rows = await owner.fetch("SELECT * FROM audit_entries WHERE tenant_id = $1 ORDER BY audit_seq", tenant_id)
    assert [row["audit_seq"] for row in rows] == list(range(1, len(rows) + 1))
    for row in rows:
        assert (row["account_id"], row["action"]) == (ACT.account_id, ACT.action)
        assert (row["reason"], row["request_id"]) == (ACT.reason, ACT.request_id)
    return [(row["target"], row["outcome"], row["refusal_reason"]) for row in rows]


async def test_every_act_that_is_done_leaves_one_audit_entry(
    projections: Projections, owner: Connection, tenant: TenantId
) -> None:
    replays = projections.replays()
    request = ReplayRequest("all", "rebuild", "to see", 0, None, "{}")
    job = await replays.start(tenant, request, ACT, POWERS)
    with pytest.raises(errors.ReplayConflict):
        await replays.start(tenant, request, ACT, POWERS)
    for powers in (ReplayPowers(("catch_up", "verify"), True), ReplayPowers(POWERS.modes, False)):
        with pytest.raises(errors.Forbidden):
            await replays.start(tenant, request, ACT, powers)
    with pytest.raises(errors.Forbidden):
        await replays.cancel(tenant, job.job_id, ACT, ReplayPowers(("catch_up", "verify"), True))
    await replays.cancel(tenant, job.job_id, ACT, POWERS)
    for job_id in (job.job_id, "job-unknown"):
        with pytest.raises(errors.NotFound):
            await replays.cancel(tenant, job_id, ACT, POWERS)
    await replays.retry(tenant, "trace_summary", ACT)
    assert await audited(owner, tenant) == [
        (f"rebuild all {job.job_id}", "done", None),
        (job.job_id, "done", None),
        ("trace_summary", "done", None),
    ]


async def test_what_cannot_be_audited_is_not_done(
    projections: Projections, owner: Connection, tenant: TenantId, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await projections.start_job(tenant, "rebuild", "context_graph")
    async with projections.database.tenant_transaction(tenant) as transaction:
        await projection_state.begin_building(transaction, "context_graph", job.job_id)
    await owner.execute(
        "INSERT INTO projection_failures VALUES ($1, 'trace_summary', 9, 't', 'e', 'c', 'm', false, 0, true, now())",
        tenant,
    )

    async def fail(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(audit, "append", fail)
    replays = projections.replays()
    with pytest.raises(errors.StorageUnavailable):
        await projections.start_job(tenant, "rebuild", "trace_summary")
    with pytest.raises(errors.StorageUnavailable):
        await replays.cancel(tenant, job.job_id, ACT, POWERS)
    with pytest.raises(errors.StorageUnavailable):
        await replays.retry(tenant, "trace_summary", ACT)
    jobs = await owner.fetch("SELECT job_id, status FROM replay_jobs WHERE tenant_id = $1", tenant)
    assert [tuple(row) for row in jobs] == [(job.job_id, "queued")]
    states = await owner.fetch("SELECT state FROM projection_generations WHERE tenant_id = $1", tenant)
    assert sorted(row["state"] for row in states) == ["building", "live", "live", "live"]
    assert await owner.fetchval("SELECT blocks FROM projection_failures WHERE tenant_id = $1", tenant)


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_entries SET reason = ''", "DELETE FROM audit_entries WHERE false", "TRUNCATE audit_entries"],
)
async def test_servers_cannot_change_what_was_audited(own_database_url: str, statement: str) -> None:
    runtime = await asyncpg.connect(own_database_url, server_settings={"role": RUNTIME_ROLE})
    try:
        await runtime.execute("SELECT FROM audit_entries")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await runtime.execute(statement)
    finally:
        await runtime.close()
