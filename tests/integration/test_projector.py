"""The projector applies each event once and in order, whoever else projects, and stops only where a log is damaged."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from tests import samples

from decisiongraph_service.access import tenancy
from decisiongraph_service.domain import errors, vocabulary
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.ingestion.group_commit import GroupCommitter
from decisiongraph_service.projection import passes
from decisiongraph_service.projection import projector as projector_settings
from decisiongraph_service.projection.projector import Projector
from decisiongraph_service.queries.freshness import Freshness, FreshnessWait, ReadPosition
from decisiongraph_service.queries.readiness import Readiness
from decisiongraph_service.runtime import embedded_postgres, server
from decisiongraph_service.storage import migrations, projection_failures, projection_state
from decisiongraph_service.storage import trace_summary as rows
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database
from decisiongraph_service.storage.projection_failures import ProjectionFailure


@pytest.fixture
async def own_url(database_url: str) -> AsyncIterator[str]:
    """A database of this test alone, in which no server projects."""
    name = "projected"
    owner = await asyncpg.connect(database_url)
    await owner.execute(f"CREATE DATABASE {name}")
    url = database_url.rsplit("/", 1)[0] + f"/{name}"
    await migrations.upgrade(url, server.migrations_folder())
    yield url
    await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await owner.close()


@pytest.fixture
async def own(own_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(own_url, pool_size=8)
    yield opened
    await opened.close()


@pytest.fixture
def signal(own_url: str) -> CommitSignal:
    return CommitSignal(own_url)


async def make_tenant(database: Database, name: str) -> TenantId:
    tenant_id = TenantId(name)
    await tenancy.create_tenant(database, tenant_id, clock=server.clock_micros)
    return tenant_id


async def append_traces(
    database: Database, signal: CommitSignal, tenant_id: TenantId, numbers: range, *, finished: bool = True
) -> None:
    """A trace of three events for each number."""
    committer = GroupCommitter(database, signal, clock=server.clock_micros, parallel_commits=2)
    for n in numbers:
        await committer.submit(
            tenant_id,
            [
                samples.start(f"t{n}"),
                samples.checked(key=f"t{n}/1", trace_id=f"t{n}"),
                *([samples.checked("TraceFinished", key=f"t{n}/2", trace_id=f"t{n}")] if finished else []),
            ],
        )


async def position(database: Database, tenant_id: TenantId) -> int:
    async with database.tenant_statements(tenant_id) as statements:
        _, live = await projection_state.fetch_head_and_live(statements)
    return live[vocabulary.TRACE_SUMMARY].log_seq if live else 0


async def until_at(database: Database, tenant_id: TenantId, log_seq: int) -> None:
    """Return when the projection has come so far."""
    async with asyncio.timeout(15):
        # Projectors may be in other processes: there is nothing to wait for but the position.
        while await position(database, tenant_id) < log_seq:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def summaries(database: Database, tenant_id: TenantId, count: int) -> dict[str, tuple[int, int, str | None]]:
    """Number of events, last position and outcome by trace."""
    async with database.tenant_statements(tenant_id) as statements:
        _, live = await projection_state.fetch_head_and_live(statements)
        generation = live[vocabulary.TRACE_SUMMARY].generation
        found = [await rows.fetch(statements, generation, f"t{n}") for n in range(count)]
    return {row.trace_id: (row.event_count, row.last_log_seq, row.outcome) for row in found if row is not None}


async def test_it_catches_up_over_the_borders_of_its_batches(own: Database, signal: CommitSignal) -> None:
    # Every size puts the border at another place between start and finish of a trace.
    for size in (1, 2, 7, 30, 31):
        tenant_id = await make_tenant(own, f"borders-{size}")
        await append_traces(own, signal, tenant_id, range(10))
        await Projector(own, signal, clock=server.clock_micros, batch_events=size).catch_up(tenant_id)
        assert await position(own, tenant_id) == 30
        assert await summaries(own, tenant_id, 10) == {f"t{n}": (2, n * 3 + 3, "success") for n in range(10)}


def test_a_batch_without_events_is_refused(own: Database, signal: CommitSignal) -> None:
    with pytest.raises(ValueError, match="batch_events is 0"):
        Projector(own, signal, clock=server.clock_micros, batch_events=0)


async def test_two_projectors_share_the_tenants_and_apply_each_event_once(own: Database, own_url: str) -> None:
    signals = [CommitSignal(own_url) for _ in range(2)]
    projectors = [Projector(own, each, clock=server.clock_micros, batch_events=4) for each in signals]
    tenant_ids = [await make_tenant(own, f"shared-{n}") for n in range(4)]
    for signal, projector in zip(signals, projectors, strict=True):
        signal.start()
        projector.start()
    try:
        # Each appends through one of the two processes; the other one is told by NOTIFY.
        await asyncio.gather(
            *(append_traces(own, signals[n % 2], tenant_id, range(15)) for n, tenant_id in enumerate(tenant_ids))
        )
        for tenant_id in tenant_ids:
            await until_at(own, tenant_id, 45)
            assert await summaries(own, tenant_id, 15) == {f"t{n}": (2, n * 3 + 3, "success") for n in range(15)}
    finally:
        for signal, projector in zip(signals, projectors, strict=True):
            await projector.stop()
            await signal.stop()


async def test_a_commit_that_nobody_signalled_is_found_by_polling(own: Database, own_url: str) -> None:
    tenant_id = await make_tenant(own, "polled")
    projector = Projector(own, CommitSignal(own_url), clock=server.clock_micros)
    projector.start()
    try:
        await append_traces(own, CommitSignal(own_url), tenant_id, range(1))
        await until_at(own, tenant_id, 3)
    finally:
        await projector.stop()


async def test_a_started_projector_begins_at_once(
    own: Database, signal: CommitSignal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector_settings, "_POLL_SECONDS", 60.0)
    tenant_id = await make_tenant(own, "at-once")
    await append_traces(own, signal, tenant_id, range(1))
    projector = Projector(own, signal, clock=server.clock_micros)
    projector.start()
    try:
        await until_at(own, tenant_id, 3)
    finally:
        await projector.stop()


async def test_a_look_that_fails_does_not_end_a_projector(
    own: Database, signal: CommitSignal, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    async def fail(*_: object) -> list[TenantId]:
        nonlocal looks
        looks += 1
        raise RuntimeError("nobody expected this")

    monkeypatch.setattr(projection_state, "fetch_lagging_tenants", fail)
    monkeypatch.setattr(projector_settings, "_POLL_SECONDS", 0.01)
    tenant_id = await make_tenant(own, "looks-fail")
    projector = Projector(own, signal, clock=server.clock_micros)
    projector.start()
    try:
        async with asyncio.timeout(10):
            while looks < 3:  # noqa: ASYNC110 - another task looks
                await asyncio.sleep(0.01)
        await append_traces(own, signal, tenant_id, range(1))
        await until_at(own, tenant_id, 3)
        assert projector.is_following
    finally:
        await projector.stop()
    assert not projector.is_following


async def test_a_server_whose_projector_has_ended_is_not_ready(own: Database) -> None:
    revision = migrations.newest_revision(server.migrations_folder())
    ready = Readiness(own, needed_revision=revision, projector_follows=lambda: True)
    assert await ready.check() == ["database", "migrations", "projector"]
    ended = Readiness(own, needed_revision=revision, projector_follows=lambda: False)
    with pytest.raises(errors.StorageUnavailable, match="projector"):
        await ended.check()
    assert await ready.states() == {"database": "ok", "migrations": "ok", "projector": "ok"}
    assert await ended.states() == {"database": "ok", "migrations": "ok", "projector": "failing"}
    older = Readiness(own, needed_revision="another", projector_follows=lambda: True)
    assert await older.states() == {"database": "ok", "migrations": "failing", "projector": "ok"}


async def test_a_database_that_is_gone_is_failing_and_its_migrations_unknown() -> None:
    async with embedded_postgres.temporary_postgres() as postgres:
        await migrations.upgrade(postgres.dsn, server.migrations_folder())
        opened = await Database.open(postgres.dsn, pool_size=2)
    ready = Readiness(opened, needed_revision="any", projector_follows=lambda: True)
    assert await ready.states() == {"database": "failing", "migrations": "unknown", "projector": "ok"}
    await opened.close()


async def test_a_restarted_projector_goes_on_where_the_last_one_was(own: Database, signal: CommitSignal) -> None:
    tenant_id = await make_tenant(own, "restarted")
    for begin in range(0, 9, 3):
        await append_traces(own, signal, tenant_id, range(begin, begin + 3))
        projector = Projector(own, signal, clock=server.clock_micros)
        projector.start()
        await until_at(own, tenant_id, (begin + 3) * 3)
        await projector.stop()
    assert await summaries(own, tenant_id, 9) == {f"t{n}": (2, n * 3 + 3, "success") for n in range(9)}


async def test_a_batch_that_cannot_be_written_leaves_neither_rows_nor_position(
    own: Database, own_url: str, signal: CommitSignal
) -> None:
    tenant_id = await make_tenant(own, "unwritable")
    await append_traces(own, signal, tenant_id, range(3))
    owner = await asyncpg.connect(own_url)
    await owner.execute(
        "ALTER TABLE projection_generations ADD CONSTRAINT until_two CHECK (tenant_id <> 'unwritable' OR log_seq <= 2)"
    )
    projector = Projector(own, signal, clock=server.clock_micros)
    await projector.catch_up(tenant_id)
    assert await position(own, tenant_id) == 2, "it goes on one by one, up to the event that fails"
    assert await summaries(own, tenant_id, 3) == {"t0": (1, 1, None)}
    await owner.execute("ALTER TABLE projection_generations DROP CONSTRAINT until_two")
    await owner.close()
    await projector.catch_up(tenant_id)
    assert await position(own, tenant_id) == 2, "it waits until somebody asks for a retry"
    async with own.tenant_statements(tenant_id) as statements:
        for projection in vocabulary.PROJECTIONS:
            await projection_failures.unblock(statements, projection)
    await projector.catch_up(tenant_id)
    assert await summaries(own, tenant_id, 3) == {f"t{n}": (2, n * 3 + 3, "success") for n in range(3)}
    assert await open_failures(own, tenant_id) == []


async def open_failures(database: Database, tenant_id: TenantId) -> list[ProjectionFailure]:
    async with database.tenant_statements(tenant_id) as statements:
        return await projection_failures.fetch_newest(
            statements, projection="", include_resolved=False, before=(2**63 - 1, ""), limit=100
        )


async def test_a_damaged_event_stops_its_tenant_only(own: Database, own_url: str, signal: CommitSignal) -> None:
    damaged, sound = await make_tenant(own, "damaged"), await make_tenant(own, "sound")
    await append_traces(own, signal, damaged, range(1))
    await Projector(own, signal, clock=server.clock_micros).catch_up(damaged)
    owner = await asyncpg.connect(own_url)
    await append_traces(own, signal, damaged, range(1, 3))
    await owner.execute("UPDATE events SET payload = '{}' WHERE tenant_id = 'damaged' AND log_seq = 6")
    await owner.close()
    projector = Projector(own, signal, clock=server.clock_micros)
    projector.start()
    try:
        await append_traces(own, signal, sound, range(3))
        await until_at(own, sound, 9)
        await append_traces(own, signal, damaged, range(3, 4))
        await append_traces(own, signal, sound, range(3, 4))
        await until_at(own, sound, 12)
        async with asyncio.timeout(15):
            while len(await open_failures(own, damaged)) < len(vocabulary.PROJECTIONS):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await position(own, damaged) == 5, "it goes up to the damage and not past it"
        assert set(await summaries(own, damaged, 4)) == {"t0", "t1"}
    finally:
        await projector.stop()
    found = await open_failures(own, damaged)
    assert [failure.projection for failure in found] == ["trace_summary", "precedent_index", "context_graph"]
    assert {(f.log_seq, f.trace_id, f.event_id, f.category, f.recoverable, f.retry_count) for f in found} == {
        (6, "t1", found[0].event_id, "conflict", False, 0)
    }
    assert "log position 6" in found[0].message


async def test_a_log_that_lost_its_last_event_stops_its_projections(
    own: Database, own_url: str, signal: CommitSignal
) -> None:
    tenant_id = await make_tenant(own, "cut")
    await append_traces(own, signal, tenant_id, range(2))
    owner = await asyncpg.connect(own_url)
    await owner.execute("DELETE FROM events WHERE tenant_id = 'cut' AND log_seq = 6")
    await owner.close()
    projector = Projector(own, signal, clock=server.clock_micros)
    await projector.catch_up(tenant_id)
    await projector.catch_up(tenant_id)
    assert await position(own, tenant_id) == 5
    found = await open_failures(own, tenant_id)
    assert {(failure.log_seq, failure.category, failure.event_id) for failure in found} == {
        (6, "event_sequence_invalid", "")
    }
    assert len(found) == 3


async def read(wait: FreshnessWait, tenant_id: TenantId, freshness: Freshness) -> ReadPosition:
    async with wait.reading(tenant_id, vocabulary.PROJECTIONS, freshness) as reading:
        return reading.position


async def test_a_read_waits_for_what_was_committed_before_it(own: Database, signal: CommitSignal) -> None:
    tenant_id = await make_tenant(own, "waiting")
    await append_traces(own, signal, tenant_id, range(2))
    wait = FreshnessWait(own, signal, wait_seconds=10)
    reading = asyncio.create_task(read(wait, tenant_id, Freshness()))
    await asyncio.sleep(0.05)
    assert not reading.done()
    await Projector(own, signal, clock=server.clock_micros).catch_up(tenant_id)
    assert await reading == ReadPosition(6, 6)


async def test_a_projector_that_another_holds_up_does_not_turn_in_a_loop(
    own: Database, own_url: str, signal: CommitSignal, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id = await make_tenant(own, "held")
    await append_traces(own, signal, tenant_id, range(1))
    looks = 0
    read_batch = passes.read

    async def counted(*arguments: Any, **options: Any) -> passes.Batch:
        nonlocal looks
        looks += 1
        return await read_batch(*arguments, **options)

    monkeypatch.setattr(passes, "read", counted)
    projector = Projector(own, signal, clock=server.clock_micros)
    owner = await asyncpg.connect(own_url)
    reading = asyncio.create_task(read(FreshnessWait(own, signal, wait_seconds=30), tenant_id, Freshness()))
    began = time.monotonic()
    try:
        async with owner.transaction():
            await owner.execute("SELECT FROM projection_generations WHERE tenant_id = $1 FOR UPDATE", tenant_id)
            projector.start()
            await asyncio.sleep(2)
            assert 1 < looks <= 2 + (time.monotonic() - began) / projector_settings.CONTENTION_PAUSE_SECONDS
        assert await reading == ReadPosition(3, 3)
    finally:
        reading.cancel()
        await projector.stop()
        await owner.close()


async def test_a_position_beyond_the_head_is_out_of_date_after_the_wait(own: Database, signal: CommitSignal) -> None:
    tenant_id = await make_tenant(own, "beyond")
    await append_traces(own, signal, tenant_id, range(1))
    await Projector(own, signal, clock=server.clock_micros).catch_up(tenant_id)
    wait = FreshnessWait(own, signal, wait_seconds=0.1)
    with pytest.raises(errors.ProjectionOutOfDate) as refused:
        await read(wait, tenant_id, Freshness(min_log_seq=4))
    assert refused.value.metadata == {"position_log_seq": "3", "head_log_seq": "3"}
    assert await read(wait, tenant_id, Freshness(min_log_seq=3)) == ReadPosition(3, 3)


async def test_a_stopped_projection_is_never_read_silently(own: Database, signal: CommitSignal) -> None:
    tenant_id = await make_tenant(own, "behind")
    await append_traces(own, signal, tenant_id, range(1))
    wait = FreshnessWait(own, signal, wait_seconds=0.1)
    with pytest.raises(errors.ProjectionOutOfDate):
        await read(wait, tenant_id, Freshness())
    assert await read(wait, tenant_id, Freshness(allow_stale=True)) == ReadPosition(0, 3)


async def test_a_read_does_not_wait_beyond_its_call(own: Database, signal: CommitSignal) -> None:
    tenant_id = await make_tenant(own, "hurried")
    await append_traces(own, signal, tenant_id, range(1))
    wait = FreshnessWait(own, signal, wait_seconds=60)
    async with asyncio.timeout(5):
        with pytest.raises(errors.ProjectionOutOfDate):
            await read(wait, tenant_id, Freshness(within_seconds=0.2))


async def test_one_projection_that_is_behind_makes_the_read_wait(own: Database, signal: CommitSignal) -> None:
    tenant_id = await make_tenant(own, "half-way")
    await append_traces(own, signal, tenant_id, range(1))
    await Projector(own, signal, clock=server.clock_micros).catch_up(tenant_id)
    async with own.tenant_transaction(tenant_id) as transaction:
        await transaction.execute(
            "UPDATE projection_generations SET log_seq = 1 WHERE tenant_id = $1 AND projection = 'precedent_index'"
        )
    wait = FreshnessWait(own, signal, wait_seconds=0.1)
    with pytest.raises(errors.ProjectionOutOfDate):
        await read(wait, tenant_id, Freshness())
    assert await read(wait, tenant_id, Freshness(allow_stale=True)) == ReadPosition(1, 3)
