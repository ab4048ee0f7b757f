"""The projector: every event applied once and in order, in any number of processes, and reads that wait for it."""

import asyncio
import contextlib
import time

import asyncpg
import pytest
from tests.logs import append_all
from tests.traces import event_of_trace, whole_trace

from decisiongraph_service.domain import errors, vocabulary
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.projection.projector import Projector
from decisiongraph_service.queries.freshness import Freshness, FreshnessWait
from decisiongraph_service.storage import projection_state, trace_summary
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database


def _projector(database: Database) -> Projector:
    return Projector(database, CommitSignal(""))


async def _position(database: Database, tenant_id: TenantId) -> int:
    async with database.tenant_snapshot(tenant_id) as snapshot:
        return await projection_state.fetch_position(snapshot, vocabulary.TRACE_SUMMARY)


async def _fill(database: Database, tenant_id: TenantId, traces: int) -> None:
    events = [event for number in range(traces) for event in whole_trace(f"trace-{number}", 3)]
    for start in range(0, len(events), 900):
        await append_all(database, tenant_id, events[start : start + 900])


async def _outcomes(database: Database, tenant_id: TenantId, traces: int) -> list[str | None]:
    async with database.tenant_snapshot(tenant_id) as snapshot:
        rows = await trace_summary.fetch_many(snapshot, [f"trace-{number}" for number in range(traces)])
    return [rows[f"trace-{number}"].outcome for number in range(traces)]


async def test_it_catches_up_over_many_batches(database: Database, tenant_id: TenantId) -> None:
    await _fill(database, tenant_id, 500)
    await _projector(database).catch_up(tenant_id)
    assert await _position(database, tenant_id) == 1500
    assert await _outcomes(database, tenant_id, 500) == ["success"] * 500


async def test_two_projectors_apply_every_event_once(database: Database, tenant_id: TenantId) -> None:
    await _fill(database, tenant_id, 400)
    await asyncio.gather(*(_projector(database).catch_up(tenant_id) for _ in range(4)))
    await _projector(database).catch_up(tenant_id)
    assert await _position(database, tenant_id) == 1200
    async with database.tenant_snapshot(tenant_id) as snapshot:
        rows = await trace_summary.fetch_many(snapshot, [f"trace-{number}" for number in range(400)])
    assert {row.event_count for row in rows.values()} == {2}, "a finish was applied twice, or not at all"


async def test_it_goes_on_where_a_stopped_one_was(database: Database, tenant_id: TenantId) -> None:
    await _fill(database, tenant_id, 400)
    first = asyncio.create_task(_projector(database).catch_up(tenant_id))
    while await _position(database, tenant_id) == 0:  # noqa: ASYNC110 - another transaction moves it
        await asyncio.sleep(0.001)
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    await _projector(database).catch_up(tenant_id)
    assert await _position(database, tenant_id) == 1200
    assert await _outcomes(database, tenant_id, 400) == ["success"] * 400


async def test_a_damaged_event_stops_its_tenant_before_it(
    database: Database, database_url: str, tenant_id: TenantId
) -> None:
    await append_all(database, tenant_id, whole_trace("trace", 5))
    owner = await asyncpg.connect(database_url)
    await owner.execute(
        'UPDATE events SET payload = \'{"outcome":"failure"}\' WHERE tenant_id = $1 AND log_seq = 5', tenant_id
    )
    await owner.close()
    with pytest.raises(errors.EventDamaged, match="log position 5"):
        await _projector(database).catch_up(tenant_id)
    assert await _position(database, tenant_id) < 5


async def test_it_follows_what_others_commit(database: Database, database_url: str, tenant_id: TenantId) -> None:
    signal = CommitSignal(database_url)
    projector = Projector(database, signal)
    signal.start()
    projector.start()
    try:
        await append_all(database, tenant_id, [event_of_trace("trace", 0)])  # nobody signals: polling finds it
        async with asyncio.timeout(10):
            while await _position(database, tenant_id) < 1:  # noqa: ASYNC110 - another task moves it
                await asyncio.sleep(0.05)
    finally:
        await projector.stop()
        await signal.stop()


async def test_a_read_waits_until_the_projection_is_there(database: Database, tenant_id: TenantId) -> None:
    await append_all(database, tenant_id, [event_of_trace("trace", 0)])
    wait = FreshnessWait(database, CommitSignal(""), wait_seconds=10)
    reading = asyncio.create_task(wait.until_fresh(tenant_id, vocabulary.TRACE_SUMMARY, Freshness()))
    await asyncio.sleep(0.1)
    assert not reading.done(), "the read went ahead of the projection"
    await _projector(database).catch_up(tenant_id)
    async with asyncio.timeout(5):
        await reading


async def test_a_read_that_waited_too_long_says_how_far_things_are(database: Database, tenant_id: TenantId) -> None:
    await append_all(database, tenant_id, whole_trace("trace", 2))
    await _projector(database).catch_up(tenant_id)
    wait = FreshnessWait(database, CommitSignal(""), wait_seconds=0.2)
    began = time.monotonic()
    with pytest.raises(errors.ProjectionOutOfDate) as refused:
        await wait.until_fresh(tenant_id, vocabulary.TRACE_SUMMARY, Freshness(min_log_seq=7))
    assert time.monotonic() - began >= 0.2
    assert refused.value.metadata == {"position_log_seq": "2", "head_log_seq": "2"}


async def test_a_read_that_may_be_stale_does_not_wait(database: Database, tenant_id: TenantId) -> None:
    await append_all(database, tenant_id, whole_trace("trace", 2))
    wait = FreshnessWait(database, CommitSignal(""), wait_seconds=10)
    async with asyncio.timeout(1):
        await wait.until_fresh(tenant_id, vocabulary.TRACE_SUMMARY, Freshness(allow_stale=True))


async def test_a_signal_reaches_other_processes(database: Database, database_url: str, tenant_id: TenantId) -> None:
    here, there = CommitSignal(database_url), CommitSignal(database_url)
    here.start()
    there.start()
    try:
        with there.listen(tenant_id) as grown:
            async with asyncio.timeout(10):
                while not grown.is_set():
                    here.committed(tenant_id)
                    await asyncio.sleep(0.05)
    finally:
        await here.stop()
        await there.stop()
