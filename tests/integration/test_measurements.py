"""What is counted over all tenants for metrics: lags, stops and running jobs, and nothing that names a tenant."""

import asyncpg
import pytest
from tests.replaying import ACT, POWERS, Projections, trace

from decisiongraph_service.domain import vocabulary
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import measurements
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database
from decisiongraph_service.storage.measurements import Lag


@pytest.fixture
def projections(own_database: Database, own_database_url: str) -> Projections:
    return Projections(own_database, CommitSignal(own_database_url))


async def lags(database: Database) -> dict[str, Lag]:
    found = {lag.projection: lag for lag in (await measurements.fetch(database)).lag}
    return {name: found.get(name) or Lag(name, 0, 0, 0, 0.0) for name in vocabulary.PROJECTIONS}


async def test_a_lag_is_told_in_tenants_events_and_seconds(projections: Projections) -> None:
    before = await lags(projections.database)
    for name, traces in (("lag-a", 2), ("lag-b", 5)):
        tenant_id = await projections.make_tenant(name)
        await projections.append(tenant_id, [event for n in range(traces) for event in trace(n)])
    behind = await lags(projections.database)
    events = len(trace(0))

    for name in vocabulary.PROJECTIONS:
        assert behind[name].tenants == before[name].tenants + 2
        assert behind[name].events == before[name].events + 7 * events
        assert behind[name].largest >= 5 * events
        assert 0 < behind[name].seconds < 3600

    for tenant in ("lag-a", "lag-b"):
        await projections.projector().catch_up(TenantId(tenant))
    assert {name: lag.events for name, lag in (await lags(projections.database)).items()} == {
        name: lag.events for name, lag in before.items()
    }


async def test_a_stop_is_counted_until_it_is_over(projections: Projections, own_database_url: str) -> None:
    before = (await measurements.fetch(projections.database)).stopped
    tenant_id = await projections.make_tenant("stopped")
    await projections.append(tenant_id, trace(0))
    owner = await asyncpg.connect(own_database_url)
    await owner.execute("UPDATE events SET payload = '{}' WHERE tenant_id = $1 AND log_seq = 2", tenant_id)
    await owner.close()

    await projections.projector().catch_up(tenant_id)

    stopped = (await measurements.fetch(projections.database)).stopped
    assert stopped == {name: before.get(name, 0) + 1 for name in vocabulary.PROJECTIONS}


async def test_a_waiting_job_is_counted_with_its_events(projections: Projections) -> None:
    tenant_id = await projections.make_tenant("measured-job")
    await projections.append(tenant_id, trace(0))
    job = await projections.start_job(tenant_id, vocabulary.VERIFY, vocabulary.CONTEXT_GRAPH)

    found = [one for one in (await measurements.fetch(projections.database)).replays if one.mode == vocabulary.VERIFY]

    assert [(one.projection, one.jobs >= 1) for one in found] == [(vocabulary.CONTEXT_GRAPH, True)]
    await projections.replays().cancel(tenant_id, job.job_id, ACT, POWERS)
