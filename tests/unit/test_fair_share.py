"""A tenant alone is not held up; beside another it has so many appends at work, and the others in their order."""

import asyncio
import contextlib

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.ingestion.fair_share import FairShare

FLOOD = TenantId("flood")
QUIET = TenantId("quiet")


class Clock:
    """Turned by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Appends:
    """Appends of a tenant that stay at work until they are let go."""

    def __init__(self, share: FairShare, tenant_id: TenantId) -> None:
        self._share = share
        self._tenant_id = tenant_id
        self.at_work: list[int] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._ends: list[asyncio.Event] = []

    async def begin(self, count: int) -> None:
        for _ in range(count):
            self._ends.append(asyncio.Event())
            self.tasks.append(asyncio.create_task(self._append(len(self.tasks))))
        await settle()

    async def end(self, number: int) -> None:
        self._ends[number].set()
        await settle()

    async def _append(self, number: int) -> None:
        async with self._share.held(self._tenant_id):
            self.at_work.append(number)
            await self._ends[number].wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def stop(*appends: Appends) -> None:
    for one in appends:
        for task in one.tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_a_tenant_alone_is_not_held_up() -> None:
    flood = Appends(FairShare(clock=Clock(), beside_others=2), FLOOD)
    await flood.begin(20)
    assert flood.at_work == list(range(20))
    await stop(flood)


async def test_beside_another_tenant_the_rest_waits_and_begins_in_its_order() -> None:
    share = FairShare(clock=Clock(), beside_others=2)
    quiet, flood = Appends(share, QUIET), Appends(share, FLOOD)
    await quiet.begin(1)
    await flood.begin(5)
    assert (quiet.at_work, flood.at_work) == ([0], [0, 1])
    await flood.end(1)
    await flood.end(0)
    assert flood.at_work == [0, 1, 2, 3]
    await quiet.begin(1)
    assert quiet.at_work == [0, 1], "the one with few is not held up"
    await stop(quiet, flood)


async def test_when_the_other_is_gone_all_begin() -> None:
    clock = Clock()
    share = FairShare(clock=clock, beside_others=2)
    quiet, flood = Appends(share, QUIET), Appends(share, FLOOD)
    await quiet.begin(1)
    await flood.begin(6)
    await quiet.end(0)
    clock.now = 5.0
    await flood.end(0)
    assert flood.at_work == list(range(6))
    await stop(quiet, flood)


async def test_who_gives_up_while_waiting_or_at_its_turn_leaves_no_hole() -> None:
    share = FairShare(clock=Clock(), beside_others=1)
    quiet, flood = Appends(share, QUIET), Appends(share, FLOOD)
    await quiet.begin(1)
    await flood.begin(4)
    flood.tasks[1].cancel()
    await settle()
    flood._ends[0].set()
    await asyncio.sleep(0)
    flood.tasks[2].cancel()  # its turn is coming, or has come
    await settle()
    assert flood.at_work[-1] == 3
    await stop(quiet, flood)


async def test_tenants_that_are_gone_are_forgotten() -> None:
    clock = Clock()
    share = FairShare(clock=clock)
    for number in range(1_000):
        clock.now += 0.5
        async with share.held(TenantId(f"tenant-{number}")):
            pass
    assert len(share._shares) <= 4, "one entry for each tenant that ever appended would grow for ever"
