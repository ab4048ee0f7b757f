"""Limits, where they are counted, and what becomes of them when shared counters cannot be reached."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator

import pytest
from tests.own_ports import own_port

from decisiongraph_service.access import rate_limits
from decisiongraph_service.access.rate_limits import RateLimits, Spending, parsed
from decisiongraph_service.domain import errors
from decisiongraph_service.domain.limits import RequestLimits

READ = Spending("read")


async def let_through(*counters: RateLimits, most: int = 20) -> int:
    """How many reads of one tenant are let through by counters that take turns."""
    for number in range(most):
        try:
            await counters[number % len(counters)].spend_of_tenant("acme", READ)
        except errors.RateLimited:
            return number
    return most


def in_memory(**limits: str) -> RateLimits:
    return RateLimits.open(RequestLimits(**limits), {}, "async+memory://")


async def test_what_is_off_is_not_counted() -> None:
    assert await let_through(in_memory(), most=200) == 200


async def test_accounts_tenants_and_the_installation_are_counted_apart() -> None:
    counters = in_memory(read="3/hour")
    assert await let_through(counters) == 3
    for account_id in ("acme", None):
        for _ in range(3):
            await counters.spend_of_account(account_id, READ)
        with pytest.raises(errors.RateLimited):
            await counters.spend_of_account(account_id, READ)


async def test_a_refusal_names_scope_limit_and_time() -> None:
    counters = in_memory(events="1000/hour")
    await counters.spend_of_tenant("acme", Spending("write", events=900))
    with pytest.raises(errors.RateLimited) as refused:
        await counters.spend_of_tenant("acme", Spending("write", events=101))
    assert refused.value.subject == "tenant acme, scope write"
    assert refused.value.limit == "1000 events per 1 hour"
    assert 1 <= refused.value.retry_after_seconds <= 3600
    await counters.spend_of_tenant("acme", Spending("write", events=100))


async def test_a_limit_comes_back_with_time() -> None:
    counters = in_memory(read="2/second")
    # Windows begin with a second: not one that ends before all calls of this are counted.
    await asyncio.sleep(1.05 - time.time() % 1)
    assert await let_through(counters) == 2
    await asyncio.sleep(2.1)
    assert await let_through(counters) == 2


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"read": "many"}, "read"),
        ({"read": ""}, "read"),
        ({"read": "100/second;5/minute"}, "read"),
        ({"write": "-1/second"}, "write"),
        ({"events": "999/second"}, "1000"),
        ({"bytes": "4194303/second"}, "4194304"),
    ],
)
def test_a_limit_that_makes_no_sense_is_named(limits: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parsed(RequestLimits(**limits))


@pytest.mark.parametrize("url", ["memory://", "nothing://x", "", "async+nothing://x"])
def test_a_place_that_cannot_count_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ValueError, match="DG_LIMIT_STORAGE_URL"):
        RateLimits.open(RequestLimits(), {}, url)


@pytest.mark.parametrize(
    "url",
    ["async+redis://:hush/x@r:6379", "async+nothing://:hush@r", "async+redis://:hush@r:x", "async+redis://:hush@["],
)
def test_what_is_wrong_with_the_place_is_told_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="DG_LIMIT_STORAGE_URL: must be an address") as refused:
        RateLimits.open(RequestLimits(), {}, url)
    assert "hush" not in str(refused.value)


async def test_without_the_shared_counters_each_process_counts_alone() -> None:
    url = f"async+redis://127.0.0.1:{own_port()}"
    counters = [RateLimits.open(RequestLimits(read="3/day"), {}, url) for _ in range(2)]
    assert await let_through(*counters) == 6


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@pytest.fixture
async def redis() -> AsyncIterator[str]:
    """A Redis of the test's own."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("neither redis-server nor valkey-server is installed")
    port = own_port()
    process = await asyncio.create_subprocess_exec(
        *(program, "--port", str(port), "--save", "", "--bind", "127.0.0.1"), stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(10):
            while not await _listens(port):  # noqa: ASYNC110 - another process opens it
                await asyncio.sleep(0.05)
        yield f"async+redis://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


async def test_servers_of_a_fleet_count_together(redis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # What takes longer is counted by each alone.
    monkeypatch.setattr(rate_limits, "_SHARED_SECONDS", 10)
    counters = [RateLimits.open(RequestLimits(read="5/day"), {}, redis) for _ in range(3)]
    assert await let_through(*counters) == 5
