"""Recording programs are killed with SIGKILL 200 times while the server restarts: every accepted event arrives once.

One run with all the faults, and then a test for each thing that must be true afterwards. The seed is printed; another
one is taken from OUTBOX_KILL_SEED.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import textwrap
import time
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from tests.calling import Service, Tenant
from tests.clients import all_of, client_of, token_of
from tests.faults import outbox_recorder
from tests.faults.outbox_recorder import BY_PARENT, POINTS
from tests.stoppable_server import StoppableServer, stoppable_server

from decisiongraph_client import Client, OutboxStatus
from decisiongraph_service.access import tenancy, tokens
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries import log_audit
from decisiongraph_service.runtime import server as service_runtime
from decisiongraph_service.storage.database import Database

_PROGRAMS: Final = 4
_LIVES: Final = 50
_RECORDER: Final = Path(outbox_recorder.__file__)


@dataclass
class Aftermath:
    """What was accepted, and what is in the log when everything was delivered."""

    accepted: dict[str, list[str]]
    """Event ids by trace, in the order in which the client accepted them."""
    log: list[Any]
    died: Counter[str]
    restarts: int
    left: list[OutboxStatus]
    damages: list[Any]


def _accepted(journals: list[Path]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for journal in journals:
        # The last line of a life may be cut off by its end.
        for line in journal.read_text().splitlines():
            trace_id, _, event_id = line.partition(" ")
            if len(event_id) == 36:
                found[trace_id].append(event_id)
    return found


async def _restart_again_and_again(server: StoppableServer, chance: random.Random, ended: asyncio.Event) -> int:
    """Stop or kill the server, leave it away for a while, start it, until it has ended; how often."""
    restarts = 0
    while not ended.is_set():
        await asyncio.sleep(1 + chance.random() * 2)
        await (server.kill() if restarts % 2 == 0 else server.stop())
        await asyncio.sleep(3 if restarts == 1 else chance.random())
        await server.start()
        restarts += 1
    return restarts


async def _deliver_the_rest(address: str, token: str, outbox: Path) -> OutboxStatus:
    def deliver() -> OutboxStatus:
        client = Client(address, token=token, producer="recorder", outbox=outbox)
        client.flush(60)
        status = client.outbox_status()
        client.close()
        assert status is not None
        return status

    return await asyncio.to_thread(deliver)


async def _tenant(service: Service, database: Database) -> Tenant:
    tenant_id = TenantId(f"outbox-killed-{uuid.uuid4().hex[:8]}")
    await tenancy.create_tenant(database, tenant_id, clock=service_runtime.clock_micros)
    made = {role: service.token(tenant_ids=[tenant_id], roles=[role]) for role in tokens.ROLES}
    return Tenant(tenant_id, made)


@pytest.fixture(scope="module")
async def aftermath(
    service: Service, database: Database, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Aftermath:
    seed = os.environ.get("OUTBOX_KILL_SEED") or uuid.uuid4().hex[:8]
    sys.stdout.write(f"OUTBOX_KILL_SEED={seed}\n")
    chance = random.Random(seed)  # noqa: S311 - to be repeated
    folder = tmp_path_factory.mktemp("outboxes")
    tenant = await _tenant(service, database)
    token = token_of(service, tenant)
    outboxes = [folder / f"outbox{n}.db" for n in range(_PROGRAMS)]
    journals = [path.with_suffix(".journal") for path in outboxes]
    async with stoppable_server(service, database_url) as server:
        await server.start()
        programs = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, str(_RECORDER), str(outbox), str(journal)),
                *(server.address, token, f"{seed}/{n}", str(_LIVES)),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            for n, (outbox, journal) in enumerate(zip(outboxes, journals, strict=True))
        ]
        ended = asyncio.Event()
        restarting = asyncio.create_task(_restart_again_and_again(server, chance, ended))
        async with asyncio.timeout(240):
            said = await asyncio.gather(*(program.communicate() for program in programs))
        assert [program.returncode for program in programs] == [0] * _PROGRAMS, [err.decode() for _, err in said]
        ended.set()
        restarts = await restarting
        left = await asyncio.gather(*(_deliver_the_rest(server.address, token, outbox) for outbox in outboxes))
    async with client_of("asyncio", service, tenant) as client:
        log = await all_of(client.list_events())
    died: Counter[str] = Counter()
    for out, _ in said:
        died.update(json.loads(out))
    damages = list(await log_audit.check_log(database, tenant.tenant_id))
    return Aftermath(_accepted(journals), log, died, restarts, list(left), damages)


async def test_it_was_killed_everywhere_and_the_server_restarted(aftermath: Aftermath) -> None:
    sys.stdout.write(f"{dict(aftermath.died)}, {aftermath.restarts} restarts, {len(aftermath.log)} events\n")
    assert sum(aftermath.died.values()) == _PROGRAMS * _LIVES
    assert set(aftermath.died) == {BY_PARENT, *POINTS}, aftermath.died
    assert aftermath.restarts >= 2
    assert sum(len(events) for events in aftermath.accepted.values()) > 500


async def test_every_accepted_event_is_in_the_log(aftermath: Aftermath) -> None:
    stored = {event.event_id for event in aftermath.log}
    lost = [event for events in aftermath.accepted.values() for event in events if event not in stored]
    assert lost == []


async def test_no_event_is_there_twice(aftermath: Aftermath) -> None:
    for kind in ("event_id", "idempotency_key"):
        counts = Counter(getattr(event, kind) for event in aftermath.log)
        assert [one for one, count in counts.items() if count > 1] == [], kind


async def test_each_trace_is_in_its_order(aftermath: Aftermath) -> None:
    stored: dict[str, list[str]] = defaultdict(list)
    for event in aftermath.log:
        assert event.trace_seq == len(stored[event.trace_id])
        stored[event.trace_id].append(event.event_id)
    for trace_id, events in aftermath.accepted.items():
        assert stored[trace_id][: len(events)] == events, trace_id
        # One more at most: the kill came after it was accepted, and before the program could write it down.
        assert len(stored[trace_id]) <= len(events) + 1, trace_id
    unheard = {trace_id for trace_id in stored if trace_id not in aftermath.accepted}
    assert all(len(stored[trace_id]) == 1 for trace_id in unheard)


async def test_nothing_is_left_in_the_outboxes_and_nothing_was_refused(aftermath: Aftermath) -> None:
    for status in aftermath.left:
        assert (status.waiting, status.refused, status.size_bytes) == (0, 0, 0)


async def test_the_log_is_whole(aftermath: Aftermath) -> None:
    assert aftermath.damages == []


_SHARING: Final = """
import os, signal, sys, threading
from decisiongraph_client import Client, _outbox

name, outbox, server, token, killed = sys.argv[1:]
client = Client(server, token=token, producer=name, outbox=outbox)
last_was_told = threading.Event()

def delivered(self, numbers, before=_outbox.Outbox.delivered):
    open(outbox + "." + name, "a").close()
    if killed == "killed" and os.path.exists(outbox + ".now"):
        last_was_told.wait(20)
        os.kill(os.getpid(), signal.SIGKILL)
    before(self, numbers)

_outbox.Outbox.delivered = delivered
print("ready", flush=True)
for line in sys.stdin:
    with client.trace(workflow="w", title="t", primary_entity=("order", "1"), trace_id=f"{name} {line.strip()}"):
        pass
    print("recorded", flush=True)
    if os.path.exists(outbox + ".now"):
        last_was_told.set()
print(client.close(20), flush=True)
"""


def _said(program: "subprocess.Popen[str]") -> str:
    assert program.stdout is not None
    return program.stdout.readline().strip()


def _record(program: "subprocess.Popen[str]", number: int) -> None:
    assert program.stdin is not None
    program.stdin.write(f"{number}\n")
    program.stdin.flush()
    assert _said(program) == "recorded"


def _until(path: Path, seconds: float) -> float:
    begin = time.monotonic()
    while not path.exists():
        assert time.monotonic() - begin < seconds, f"{path.name} did not come"
        time.sleep(0.02)
    return time.monotonic() - begin


async def test_another_process_takes_over_when_the_delivering_one_is_killed(
    service: Service, database: Database, tmp_path: Path
) -> None:
    tenant = await _tenant(service, database)
    outbox = tmp_path / "outbox.db"

    def started(name: str, killed: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", textwrap.dedent(_SHARING), name, str(outbox)]
        command += [service.grpc, token_of(service, tenant), killed]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def share() -> None:
        with started("first", "killed") as first, started("second", "lives") as second:
            assert (_said(first), _said(second)) == ("ready", "ready")
            _record(first, 0)
            _until(tmp_path / "outbox.db.first", 20)
            # It is the first one that delivers what the second one records.
            _record(second, 0)
            time.sleep(2)
            assert not (tmp_path / "outbox.db.second").exists()
            (tmp_path / "outbox.db.now").touch()
            _record(first, 1)
            assert first.wait(20) < 0, "it was not killed in the middle of its delivery"
            assert _until(tmp_path / "outbox.db.second", 20) < 8
            _record(second, 1)
            assert second.stdin is not None
            second.stdin.close()
            assert _said(second) == "True"

    await asyncio.to_thread(share)
    async with client_of("asyncio", service, tenant) as client:
        events = await all_of(client.list_events())
    assert sorted(event.trace_id for event in events) == sorted(2 * ["first 0", "first 1", "second 0", "second 1"])
    assert len({event.event_id for event in events}) == 8
