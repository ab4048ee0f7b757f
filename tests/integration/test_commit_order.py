"""A reader never sees a log position before all lower ones: shown beside the defect that a sequence has."""

import asyncio
import contextlib

import asyncpg
from tests.logs import append_all, committer
from tests.traces import checked, event_of_trace

from decisiongraph_service.domain.append_batch import NewRow
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.projection.projector import Projector
from decisiongraph_service.storage import event_log, projection_state
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database


async def _visible(database: Database, tenant_id: TenantId) -> list[int]:
    async with database.tenant_snapshot(tenant_id) as snapshot:
        return [event.log_seq for event in await event_log.fetch_events_after(snapshot, 0, limit=1000)]


async def test_a_sequence_loses_events_in_this_interleaving(database_url: str) -> None:
    """The defect itself: what the next test shows to be impossible does happen to a sequence."""
    first, second = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    try:
        await second.execute("CREATE TABLE IF NOT EXISTS numbered_by_sequence (position bigserial)")
        slow = first.transaction()
        await slow.start()
        await first.execute("INSERT INTO numbered_by_sequence DEFAULT VALUES")
        await second.execute("INSERT INTO numbered_by_sequence DEFAULT VALUES")
        seen = [row[0] for row in await second.fetch("SELECT position FROM numbered_by_sequence")]
        projected_to = max(seen)
        await slow.commit()
        later = await second.fetch("SELECT position FROM numbered_by_sequence WHERE position > $1", projected_to)
        assert (seen, later) == ([2], []), "the event at position 1 is never seen by who reads on from 2"
        await second.execute("DROP TABLE numbered_by_sequence")
    finally:
        await first.close()
        await second.close()


async def test_an_append_that_is_prepared_holds_back_the_next(database: Database, tenant_id: TenantId) -> None:
    await append_all(database, tenant_id, [event_of_trace("before", 0)])
    candidate = checked(event_of_trace("slow", 0))
    async with database.tenant_transaction(tenant_id) as slow:
        # T1 is prepared: its event is written and not committed.
        view = await event_log.fetch_log_view(slow, [candidate])
        assert view is not None
        stored = candidate.stored(
            tenant_id=tenant_id, log_seq=view.head + 1, event_id="slow", trace_seq=0, recorded_at_micros=1
        )
        assert await event_log.append(slow, [NewRow(stored, candidate.occurred_at_micros)], expected_head=view.head)

        # T2 wants to commit, and everybody reads.
        fast = asyncio.create_task(append_all(database, tenant_id, [event_of_trace("fast", 0)]))
        await asyncio.sleep(0.3)
        assert not fast.done(), "the second append did not wait for the first"
        assert await _visible(database, tenant_id) == [1]
        projector = Projector(database, CommitSignal(""))
        await projector.catch_up(tenant_id)
    (placed,) = await fast
    assert placed.stored.log_seq == 3
    assert await _visible(database, tenant_id) == [1, 2, 3]
    await projector.catch_up(tenant_id)
    async with database.tenant_snapshot(tenant_id) as snapshot:
        assert await projection_state.fetch_position(snapshot, "trace_summary") == 3
        assert (await event_log.fetch_event(snapshot, "slow")) is not None


class _GivenUpError(Exception):
    """Ends a transaction in the middle."""


async def test_an_append_that_is_taken_back_leaves_no_gap(database: Database, tenant_id: TenantId) -> None:
    candidate = checked(event_of_trace("given up", 0))
    row = NewRow(
        candidate.stored(tenant_id=tenant_id, log_seq=1, event_id="x", trace_seq=0, recorded_at_micros=1),
        candidate.occurred_at_micros,
    )
    with contextlib.suppress(_GivenUpError):
        async with database.tenant_transaction(tenant_id) as transaction:
            assert await event_log.append(transaction, [row], expected_head=0)
            raise _GivenUpError
    assert await _visible(database, tenant_id) == []
    placed = await append_all(database, tenant_id, [event_of_trace("next", 0)])
    assert placed[0].stored.log_seq == 1


async def test_what_is_visible_is_a_complete_prefix_while_many_write(database: Database, tenant_id: TenantId) -> None:
    committers = [committer(database), committer(database)]  # as two processes

    async def write(number: int) -> None:
        for position in range(10):
            await committers[number % 2].submit(tenant_id, [checked(event_of_trace(f"trace-{number}", position))])

    writers = asyncio.gather(*(write(number) for number in range(12)))
    while not writers.done():
        positions = await _visible(database, tenant_id)
        assert positions == list(range(1, len(positions) + 1))
    await writers
    assert await _visible(database, tenant_id) == list(range(1, 121))
