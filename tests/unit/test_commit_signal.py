"""The pause between two batches of a projection ends when a read waits, and by itself."""

import asyncio

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage.commit_signal import CommitSignal

TENANT = TenantId("one")
OTHER = TenantId("other")


def signal() -> CommitSignal:
    return CommitSignal("postgresql://nowhere")


async def test_a_pause_ends_by_itself() -> None:
    async with asyncio.timeout(5):
        await signal().pause_projection(TENANT, 0.001)


async def test_there_is_no_pause_while_a_read_waits() -> None:
    one = signal()
    with one.listen_to_projection(TENANT):
        async with asyncio.timeout(5):
            await one.pause_projection(TENANT, 60)


async def test_a_read_that_comes_ends_the_pause_of_its_tenant_and_of_no_other() -> None:
    one = signal()
    pauses = {tenant: asyncio.create_task(one.pause_projection(tenant, 60)) for tenant in (TENANT, OTHER)}
    await asyncio.sleep(0)
    with one.listen_to_projection(TENANT):
        async with asyncio.timeout(5):
            await pauses[TENANT]
    await asyncio.sleep(0.01)
    assert not pauses[OTHER].done()
    pauses[OTHER].cancel()


async def test_after_the_read_there_is_a_pause_again() -> None:
    one = signal()
    with one.listen_to_projection(TENANT), one.listen_to_projection(TENANT):
        pass
    pause = asyncio.create_task(one.pause_projection(TENANT, 60))
    await asyncio.sleep(0.01)
    assert not pause.done()
    pause.cancel()
