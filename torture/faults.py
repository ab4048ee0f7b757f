"""The faults, each as something that is done to the stack for a while and then taken back."""

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from torture import disk
from torture.load import Caller, CallFailed, event_for_a_burst
from torture.stack import SERVERS, TENANTS, Stack


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to torture a stack."""

    name: str
    what: str
    inflict: Callable[[Stack, random.Random], Awaitable[None]]
    """Returns when it is taken back."""


def _one(stack: Stack, chance: random.Random) -> str:
    return chance.choice(SERVERS)


async def _kill_server(stack: Stack, chance: random.Random) -> None:
    stack.processes[_one(stack, chance)].signal(signal.SIGKILL)
    await asyncio.sleep(1)


async def _kill_both_servers(stack: Stack, chance: random.Random) -> None:
    for name in SERVERS:
        stack.processes[name].signal(signal.SIGKILL)
    await asyncio.sleep(1)


async def _stop_server(stack: Stack, chance: random.Random) -> None:
    stack.processes[_one(stack, chance)].signal(signal.SIGTERM)
    await asyncio.sleep(4)


async def _pause(stack: Stack, name: str, seconds: float) -> None:
    stack.processes[name].signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        stack.processes[name].signal(signal.SIGCONT)


async def _pause_server(stack: Stack, chance: random.Random) -> None:
    await _pause(stack, _one(stack, chance), 3)


async def _kill_envoy(stack: Stack, chance: random.Random) -> None:
    stack.processes["envoy"].signal(signal.SIGKILL)
    await asyncio.sleep(1)


async def _pause_envoy(stack: Stack, chance: random.Random) -> None:
    await _pause(stack, "envoy", 2)


async def _kill_postgres(stack: Stack, chance: random.Random) -> None:
    await stack.restart_postgres(signal.SIGKILL)


async def _restart_postgres(stack: Stack, chance: random.Random) -> None:
    await stack.restart_postgres(signal.SIGINT)


async def _pause_postgres(stack: Stack, chance: random.Random) -> None:
    stack.pause_postgres(stopped=True)
    try:
        await asyncio.sleep(3)
    finally:
        stack.pause_postgres(stopped=False)


async def _cut_database(stack: Stack, chance: random.Random) -> None:
    proxy = stack.proxies[_one(stack, chance)]
    proxy.switch("cut")
    await asyncio.sleep(2)
    proxy.switch("pass")


async def _swallow_database(stack: Stack, chance: random.Random) -> None:
    proxy = stack.proxies[_one(stack, chance)]
    proxy.switch("swallow")
    await asyncio.sleep(4)
    proxy.switch("pass")


async def _slow_database(stack: Stack, chance: random.Random) -> None:
    for proxy in stack.proxies.values():
        proxy.delay_seconds = 0.05
    await asyncio.sleep(3)
    for proxy in stack.proxies.values():
        proxy.delay_seconds = 0.0


async def _exhaust_pool(stack: Stack, chance: random.Random) -> None:
    """Hold the heads of all tenants: every connection that appends waits for them."""
    connection = await asyncpg.connect(stack.postgres.dsn)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM log_heads FOR UPDATE")
            await asyncio.sleep(4)
    finally:
        await connection.close()


async def _overload(stack: Stack, chance: random.Random) -> None:
    """Ten times as many callers as before, for three seconds."""
    callers = [Caller(stack, "rest", stack.rest), *(Caller(stack, "grpc", one) for one in stack.servers.values())]
    run = f"{chance.getrandbits(32):08x}"
    ends = asyncio.get_running_loop().time() + 3

    async def flood(number: int) -> None:
        sent = 0
        while asyncio.get_running_loop().time() < ends:
            tenant = TENANTS[number % len(TENANTS)]
            event = event_for_a_burst(tenant, f"{run}-{number}-{sent}")
            stack.history.sent[tenant, event["idempotency_key"]] = event["trace_id"]
            sent += 1
            try:
                places = await callers[number % len(callers)].append(tenant, [event])
            except CallFailed as error:
                stack.history.errors[str(error)] += 1
                stack.history.unanswered.append([(tenant, event["idempotency_key"])])
            else:
                stack.history.told((tenant, event["idempotency_key"]), places[0])

    await asyncio.gather(*(flood(number) for number in range(80)))
    for caller in callers:
        await caller.close()


async def _kill_during_rebuild(stack: Stack, chance: random.Random) -> None:
    caller = Caller(stack, "rest", stack.rest)
    for tenant in TENANTS:
        with contextlib.suppress(CallFailed):
            await caller.start_replay(tenant, "rebuild")
    await asyncio.sleep(0.3)
    stack.processes[_one(stack, chance)].signal(signal.SIGKILL)
    await asyncio.sleep(1)
    await caller.close()


async def _clock_jump(stack: Stack, chance: random.Random) -> None:
    """Each server's clock is an hour ahead, then an hour behind."""
    for offset in ("3600", "-3600"):
        (stack.folder / "clock").write_text(offset)
        await asyncio.sleep(1.5)
    (stack.folder / "clock").write_text("0")


async def _kill_backends(stack: Stack, chance: random.Random) -> None:
    """Every connection of the servers is ended by the database, again and again."""
    connection: Any = await asyncpg.connect(stack.postgres.dsn)
    try:
        for _ in range(5):
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE 'decisiongraph%' AND pid <> pg_backend_pid()"
            )
            await asyncio.sleep(0.4)
    finally:
        await connection.close()


async def _fill_disk(stack: Stack, chance: random.Random) -> None:
    """For four seconds nothing can be written; a Postgres that gives up is started again."""
    with disk.ballast(stack.postgres.data.parent) as file:
        ends = asyncio.get_running_loop().time() + 4
        while asyncio.get_running_loop().time() < ends:
            await asyncio.to_thread(disk.fill, file)
            await stack.revive_postgres()
            await asyncio.sleep(0.2)
    await stack.revive_postgres(until_ready=True)


async def _restore_backup(stack: Stack, chance: random.Random) -> None:
    """A backup is taken under load; two seconds later the data is lost, but for the WAL that was written since then."""
    connection: Any = await asyncpg.connect(stack.postgres.dsn)
    try:
        await connection.execute("ALTER SYSTEM SET wal_keep_size = '1GB'")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()
    backup = await disk.base_backup(stack.postgres)
    await asyncio.sleep(2)
    await stack.lose_data_and_restore(backup)


FAULTS: Final = (
    Fault("kill_server", "SIGKILL for one server", _kill_server),
    Fault("kill_both_servers", "SIGKILL for both servers", _kill_both_servers),
    Fault("stop_server", "SIGTERM for one server", _stop_server),
    Fault("pause_server", "one server stands still for 3 s", _pause_server),
    Fault("kill_envoy", "SIGKILL for Envoy", _kill_envoy),
    Fault("pause_envoy", "Envoy stands still for 2 s", _pause_envoy),
    Fault("kill_postgres", "SIGKILL for Postgres, which recovers", _kill_postgres),
    Fault("restart_postgres", "Postgres is restarted", _restart_postgres),
    Fault("pause_postgres", "Postgres stands still for 3 s", _pause_postgres),
    Fault("kill_backends", "the database ends all connections, five times", _kill_backends),
    Fault("cut_database", "one server is cut off its database for 2 s", _cut_database),
    Fault("swallow_database", "a network that swallows everything for 4 s", _swallow_database),
    Fault("slow_database", "50 ms more for each message to the database, for 3 s", _slow_database),
    Fault("exhaust_pool", "the heads of all logs are locked for 4 s", _exhaust_pool),
    Fault("overload", "80 more callers for 3 s", _overload),
    Fault("kill_during_rebuild", "SIGKILL for one server while projections are rebuilt", _kill_during_rebuild),
    Fault("fill_disk", "the disk of Postgres is full for 4 s", _fill_disk),
    Fault("restore_backup", "the data is lost and restored from a base backup and the WAL since", _restore_backup),
    Fault("clock_jump", "the servers' clocks are an hour ahead, then an hour behind", _clock_jump),
)
SMALL_DISK: Final = "fill_disk"
"""Needs a database on a file system of its own."""
SHORT: Final = ("kill_server", "kill_postgres", "cut_database", "kill_during_rebuild")
"""For CI: those that have found most."""
