"""`decisiongraph append` as an importer uses it: what is in the log afterwards, what it says, and how it ends."""

import asyncio
import ctypes
import json
import signal
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests import commands, samples, traces
from tests.calling import Callers, Service, Tenant
from tests.commands import CommandLine, assert_failed
from tests.own_ports import own_port

_SECONDS = 30


@pytest.fixture
def command(service: Service, tenant: Tenant) -> CommandLine:
    return commands.command_line(service, tenant)


def _lines(events: Iterable[Any]) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)


def _events(count: int = 2) -> list[dict[str, Any]]:
    """Whole traces of five events each."""
    return [event for number in range(count) for event in traces.whole_trace(f"trace {number}", 5)]


def _broken(events: list[dict[str, Any]], index: int) -> list[dict[str, Any]]:
    payload = {**events[index]["payload"], "status": "splendid"}
    return [*events[:index], {**events[index], "payload": payload}, *events[index + 1 :]]


async def _keys(callers: Callers) -> list[str]:
    answer = await callers.call("grpc", "ListEvents", {"page_size": 1000})
    return [event["idempotency_key"] for event in answer.body["events"]]


async def test_a_file_is_appended_in_its_order_and_once(callers: Callers, command: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    events = _events()
    file.write_text(_lines(events))
    assert command.printed("append", str(file), "--batch", "3") == "10 lines: 10 stored, 0 reused\n"
    assert await _keys(callers) == [event["idempotency_key"] for event in events]
    again = command.json("append", stdin=_lines(events))
    assert again == {"lines": 10, "stored": 0, "reused": 10, "refused": 0, "last_log_seq": "10"}


async def test_it_ends_at_a_refused_line_and_goes_on_when_that_is_mended(
    callers: Callers, command: CommandLine
) -> None:
    events = _events()
    ended = command.run("append", "-", stdin=_lines(_broken(events, 6)))
    assert (ended.returncode, ended.stdout) == (1, "7 lines: 6 stored, 0 reused, 1 refused\n")
    assert ended.stderr.startswith("decisiongraph: line 7: SCHEMA_VIOLATION: payload.status: must be one of success")
    assert ended.stderr.count("\n") == 1
    assert len(await _keys(callers)) == 6
    assert command.printed("append", stdin=_lines(events)) == "10 lines: 4 stored, 6 reused\n"


async def test_refused_lines_are_passed_over_and_written_down(
    callers: Callers, command: CommandLine, tmp_path: Path
) -> None:
    events = _events()
    lines = _lines(_broken(events, 2)[:4]) + "no event\n" + _lines(events[5:])
    refused = tmp_path / "refused.jsonl"
    ended = command.run("append", "--on-refused", "skip", "--refused", str(refused), stdin=lines)
    # The trace that lost an event cannot go on with the position that its next one names.
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "10 lines: 7 stored, 0 reused, 3 refused\n", "")
    told = [json.loads(line) for line in refused.read_text().splitlines()]
    assert [(one["line"], one["reason"]) for one in told] == [
        (3, "SCHEMA_VIOLATION"),
        (4, "EVENT_SEQUENCE_INVALID"),
        (5, "INVALID_ARGUMENT"),
    ]
    assert stat.S_IMODE(refused.stat().st_mode) == 0o600
    mended = told[0]["event"]
    mended["payload"]["status"] = "success"
    assert command.printed("append", stdin=_lines([mended, told[1]["event"]])) == "2 lines: 2 stored, 0 reused\n"
    assert len(await _keys(callers)) == 9


def test_refused_lines_go_to_standard_error_without_their_secrets(command: CommandLine) -> None:
    secret = "sk-" + "a" * 40
    events = [samples.json_event("TraceStarted", key="0"), samples.json_event(key="1", tags=[secret])]
    ended = command.run("append", "--on-refused", "skip", "--json", stdin=_lines(events))
    assert ended.returncode == 3
    assert json.loads(ended.stdout)["refused"] == 1
    assert json.loads(ended.stderr)["reason"] == "PII_POLICY_VIOLATION"
    assert secret not in ended.stderr


async def test_what_is_missing_is_completed_only_if_asked_for(callers: Callers, command: CommandLine) -> None:
    events = [samples.json_event("TraceStarted", key=""), samples.json_event(key="")]
    for event in events:
        del event["source"], event["idempotency_key"]
    refused = command.run("append", stdin=_lines(events))
    assert refused.returncode == 1
    assert "line 1" in refused.stderr
    assert "--producer" in refused.stderr
    for expected in ("2 lines: 2 stored, 0 reused\n", "2 lines: 0 stored, 2 reused\n"):
        assert command.printed("append", "--producer", "importer", stdin=_lines(events)) == expected
    stored = (await callers.call("grpc", "ListEvents", {})).body["events"]
    assert {event["source"]["producer_id"] for event in stored} == {"importer"}
    assert {event["source"]["system"] for event in stored} == {"importer"}


def test_a_log_can_be_appended_to_another_tenant(
    command: CommandLine, service: Service, tenant: Tenant, callers: Callers
) -> None:
    command.printed("append", stdin=_lines(_events(1)))
    log = command.printed("tail", "--since", "0", "--limit", "5", "--json")
    assert command.printed("append", stdin=log) == "5 lines: 0 stored, 5 reused\n"


async def test_what_a_slow_producer_writes_does_not_wait_for_a_full_request(
    callers: Callers, command: CommandLine
) -> None:
    with command.started("append", stdin=True) as process:
        assert process.stdin is not None
        for stored in range(1, 4):
            process.stdin.write(_lines(_events(1)[stored - 1 : stored]))
            process.stdin.flush()
            until = time.monotonic() + _SECONDS
            while len(await _keys(callers)) < stored:
                assert time.monotonic() < until
        code, printed, complaints = commands.end(process, signal.SIGINT)
    assert code == 130
    # The signal may be faster than the answer to the last request.
    assert printed in ("2 lines: 2 stored, 0 reused\n", "3 lines: 3 stored, 0 reused\n")
    assert "again to go on" in complaints


async def test_an_interruption_is_heard_though_it_wakes_nobody_up(callers: Callers, command: CommandLine) -> None:
    with command.started("append", stdin=True) as process:
        assert process.stdin is not None
        process.stdin.write(_lines(_events(1)[:1]))
        process.stdin.flush()
        until = time.monotonic() + _SECONDS
        while not await _keys(callers):
            assert time.monotonic() < until
        await asyncio.sleep(1)  # Until it waits for the next line.
        # As when a signal comes right before the wait begins: Python notes it, and nothing ends the wait.
        another = next(one.id for one in psutil.Process(process.pid).threads() if one.id != process.pid)
        assert ctypes.CDLL(None).tgkill(process.pid, another, signal.SIGINT) == 0
        assert await asyncio.to_thread(process.wait, _SECONDS) == 130


def test_fields_that_are_not_stored_are_told_once(command: CommandLine) -> None:
    events = [{**event, "causation_id": "x"} for event in _events(1)]
    ended = command.run("append", stdin=_lines(events))
    assert (ended.returncode, ended.stdout) == (0, "5 lines: 5 stored, 0 reused\n")
    assert ended.stderr == "decisiongraph: line 1: events have no field 'causation_id'; it is not stored\n"


def test_wrong_usage_is_told_before_anything_is_sent(command: CommandLine, tmp_path: Path) -> None:
    for arguments, word in (
        (("--refused", str(tmp_path / "x")), "skip"),
        (("--batch", "0"), "batch"),
        (("--system", "s"), "producer"),
        (("--on-refused", "perhaps"), "skip"),
    ):
        ended = command.run("append", *arguments, stdin=_lines(_events(1)))
        assert ended.returncode == 2
        assert word in ended.stderr
    assert_failed(command.run("append", str(tmp_path / "missing")), "missing", "cannot be read")


def test_without_the_service_or_the_right_it_is_one_line(
    command: CommandLine, service: Service, tenant: Tenant
) -> None:
    nowhere = f"127.0.0.1:{own_port()}"
    for variables, word in (
        ({"DG_SERVER": nowhere}, "UNAVAILABLE"),
        ({"DG_TOKEN": tenant.tokens["reader"]}, "PERMISSION_DENIED"),
        ({"DG_TOKEN": "no token"}, "UNAUTHENTICATED"),
    ):
        ended = command.run("append", stdin=_lines(_events(1)), **variables)
        assert (ended.returncode, ended.stdout) == (1, "0 lines: 0 stored, 0 reused\n")
        assert ended.stderr.count("\n") == 1
        assert word in ended.stderr
