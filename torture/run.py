"""One run: load, one fault after the other, and the verdicts afterwards."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries import log_audit
from decisiongraph_service.storage import event_log
from decisiongraph_service.storage.database import Database
from torture import checks, load, stack
from torture.checks import Aftermath, Stored
from torture.faults import SMALL_DISK, Fault
from torture.history import History
from torture.load import Caller, CallFailed, Reader, Writer
from torture.stack import TENANTS, Stack

_WRITERS: Final = 8
_QUIET_SECONDS: Final = 1.5
"""Between a recovery and the next fault."""
_RECOVERY_SECONDS: Final = 40.0
_END_SECONDS: Final = 90.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run."""

    history: History
    aftermath: Aftermath
    verdicts: dict[str, list[str]]
    """What each check found; nothing: it holds."""

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return not any(self.verdicts.values())


async def torture(
    faults: Sequence[Fault], *, seed: int, note: Callable[[str], None], planted: str | None = None
) -> Outcome:
    """Run all faults in an order of chance, and judge.

    Args:
        faults: What is done, one after the other.
        seed: Decides the order and what chance decides.
        note: Is told of progress.
        planted: A bug of the servers.
    """
    chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    order = list(faults)
    chance.shuffle(order)
    small_disk = any(fault.name == SMALL_DISK for fault in order)
    async with stack.running(planted=planted, small_disk=small_disk) as running:
        note("stack is up: Postgres, two servers, Envoy")
        await _under_load(running, order, chance, note)
        aftermath = await _aftermath(running, note)
        return Outcome(running.history, aftermath, checks.verdicts(running.history, aftermath))


async def _under_load(
    running: Stack, faults: Sequence[Fault], chance: random.Random, note: Callable[[str], None]
) -> None:
    history = running.history
    targets = [("rest", running.rest), ("grpc", running.grpc), *(("grpc", one) for one in running.servers.values())]
    callers = [Caller(running, *targets[number % len(targets)]) for number in range(_WRITERS + 3)]
    stop = asyncio.Event()
    watching = [asyncio.create_task(load.watch(running, tenant, history)) for tenant in TENANTS]
    working = [
        *(asyncio.create_task(Writer(n, callers[n], history).run(stop)) for n in range(_WRITERS)),
        *(asyncio.create_task(Reader(caller, history, chance).run(stop)) for caller in callers[_WRITERS:]),
    ]
    try:
        for fault in faults:
            await asyncio.sleep(_QUIET_SECONDS)
            await fault.inflict(running, chance)
            history.recoveries[fault.name] = seconds = await _recovery(running, fault.name)
            note(
                f"{fault.name:22} {fault.what:58} "
                + (f"again after {seconds:4.1f} s" if seconds >= 0 else "NO RECOVERY")
            )
        await asyncio.sleep(_QUIET_SECONDS)
        stop.set()
        async with asyncio.timeout(_END_SECONDS):
            await asyncio.gather(*working)
        await _watchers_see_everything(running)
    finally:
        for task in (*working, *watching):
            task.cancel()
        ended = await asyncio.gather(*working, *watching, return_exceptions=True)
        history.faults.extend(repr(one) for one in ended if isinstance(one, Exception))
        for caller in callers:
            await caller.close()


async def _recovery(running: Stack, name: str) -> float:
    """Seconds until an append and a fresh read work by every way again; -1: they do not."""
    began = time.monotonic()
    ways = [("rest", running.rest), ("grpc", running.grpc), *(("grpc", one) for one in running.servers.values())]
    for number, (way, target) in enumerate(ways):
        caller = Caller(running, way, target)
        tenant = TENANTS[number % len(TENANTS)]
        event = load.event_for_a_burst(tenant, f"after-{name}-{number}")
        scope = (str(tenant), event["idempotency_key"])
        running.history.sent[scope] = event["trace_id"]
        try:
            while True:
                try:
                    running.history.told(scope, (await caller.append(tenant, [event]))[0])
                    await caller.read(tenant, event["trace_id"])
                    break
                except CallFailed as error:
                    running.history.errors[str(error)] += 1
                    if time.monotonic() - began > _RECOVERY_SECONDS:
                        return -1
                    await asyncio.sleep(0.1)
        finally:
            await caller.close()
    return time.monotonic() - began


async def _watchers_see_everything(running: Stack) -> None:
    """Wait until every watcher has seen as much as its log holds; what it saw is judged later."""
    database = await Database.open(running.postgres.dsn, pool_size=2)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(20):
                for tenant in TENANTS:
                    async with database.tenant_statements(tenant) as statements:
                        head = await event_log.fetch_head(statements)
                    while len(running.history.watched[f"{tenant}/client"]) < head:  # noqa: ASYNC110 - another task sees
                        await asyncio.sleep(0.05)
    finally:
        await database.close()


async def _aftermath(running: Stack, note: Callable[[str], None]) -> Aftermath:
    note("checking what is stored, and making the projections anew")
    database = await Database.open(running.postgres.dsn, pool_size=2)
    try:
        logs, damages, heads = {}, {}, {}
        for tenant in TENANTS:
            found = await log_audit.check_log(database, tenant)
            damages[str(tenant)] = [f"{one.log_seq}: {one.what}" for one in found]
            logs[str(tenant)], heads[str(tenant)] = await _log(database, tenant)
        differing = await _differing_projections(running)
    finally:
        await database.close()
    return Aftermath(logs, damages, differing, heads)


async def _log(database: Database, tenant: TenantId) -> tuple[list[Stored], int]:
    async with database.tenant_snapshot(tenant) as snapshot:
        head = await event_log.fetch_head(snapshot)
        events = await event_log.fetch_events_after(snapshot, 0, limit=10_000_000)
    return [
        Stored(event.log_seq, event.event_id, event.trace_id, event.trace_seq, event.idempotency_key)
        for event in events
    ], head


async def _differing_projections(running: Stack) -> list[str]:
    """Make every projection anew beside the live one, by the service's own job, and compare."""
    caller = Caller(running, "rest", running.rest)
    differing = []
    try:
        for tenant in TENANTS:
            try:
                job = await _verified(caller, tenant)
            except (CallFailed, TimeoutError) as error:
                differing.append(f"{tenant}: cannot be verified: {error!r}")
                continue
            if job["status"] != "completed":
                differing.append(f"{tenant}: verification ended as {job['status']}: {job.get('error_message', '')}")
            differing += [
                f"{tenant}: {one['projection']} is not what the log says"
                for one in job["verify_results"]
                if not one["matches"]
            ]
    finally:
        await caller.close()
    return differing


async def _verified(caller: Caller, tenant: str) -> dict[str, Any]:
    """The ended job."""
    async with asyncio.timeout(_END_SECONDS):
        job_id = None
        while job_id is None:
            try:
                job_id = await caller.start_replay(tenant, "verify")
            except CallFailed:  # a rebuild that a fault interrupted may still be at work
                await asyncio.sleep(0.5)
        while (job := await caller.replay(tenant, job_id))["status"] in ("queued", "running"):  # noqa: ASYNC110 - a server
            await asyncio.sleep(0.2)
        return job
