"""Children are real processes here: what is promised about them is about the system's behaviour."""

import asyncio
import functools
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from decisiongraph_service.runtime import children


@pytest.fixture
async def among(tmp_path: Path) -> AsyncIterator[children.Children]:
    started = children.Children(tmp_path / "logs", tmp_path / "children.json")
    yield started
    await started.stop()


def spec(name: str, code: str, grace_seconds: float = 10) -> children.ChildSpec:
    return children.ChildSpec(name, (sys.executable, "-c", textwrap.dedent(code)), grace_seconds=grace_seconds)


def sleeper(name: str = "sleeper") -> children.ChildSpec:
    return children.ChildSpec(name, ("sleep", "60"))


async def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within 10 s: {what}"
        await asyncio.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_a_child_that_ends_is_reported_with_exit_code_and_last_lines(among: children.Children) -> None:
    await among.start(sleeper())
    pid = await among.start(
        spec("talker", "import sys; [print('line', n) for n in range(30)]; sys.exit('no disk left')")
    )
    ended = await asyncio.wait_for(among.wait_for_end(), 10)
    assert (ended.name, ended.pid, ended.how) == ("talker", pid, "exit code 1")
    assert len(ended.last_lines) == 20
    assert set(ended.last_lines[-2:]) == {"line 29", "no disk left"}


async def test_a_killed_child_is_reported_with_the_signal(among: children.Children) -> None:
    pid = await among.start(sleeper())
    os.kill(pid, signal.SIGKILL)
    ended = await asyncio.wait_for(among.wait_for_end(), 10)
    assert ended.how == "killed by signal SIGKILL"


async def test_work_is_cancelled_when_a_child_ends(among: children.Children) -> None:
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    await among.start(spec("short", "raise SystemExit(7)"))
    with pytest.raises(children.ChildEndedError, match=r"short \(pid \d+\) ended by itself: exit code 7"):
        await among.during(work())
    assert cancelled.is_set()


async def test_work_that_ends_gives_its_result(among: children.Children) -> None:
    await among.start(sleeper())
    assert await among.during(asyncio.sleep(0, "done")) == "done"


async def test_a_missing_program_is_named(among: children.Children) -> None:
    with pytest.raises(children.ChildError, match=r"ghost cannot be started: .*no/such/program"):
        await among.start(children.ChildSpec("ghost", ("/no/such/program",)))


async def test_children_are_out_of_reach_of_the_terminal(among: children.Children) -> None:
    pid = await among.start(sleeper())
    assert os.getsid(pid) == pid
    assert os.getsid(pid) != os.getsid(0)


async def test_children_stop_in_reverse_order_each_by_its_signal(among: children.Children, tmp_path: Path) -> None:
    code = """
        import pathlib, signal, sys, time
        def stop(number, _):
            with open({trail!r}, "a") as trail:
                trail.write({name!r} + " " + signal.Signals(number).name + "\\n")
            sys.exit(0)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        print("ready", flush=True)
        time.sleep(60)
    """
    trail = tmp_path / "trail"
    for name, number in (("first", signal.SIGINT), ("second", signal.SIGTERM)):
        started = spec(name, code.format(trail=str(trail), name=name))
        await among.start(children.ChildSpec(started.name, started.argv, stop_signal=number))
        await wait_until(functools.partial(among.last_lines, name), f"{name} is ready")
    await among.stop()
    assert trail.read_text().splitlines() == ["second SIGTERM", "first SIGINT"]


async def test_a_child_that_does_not_stop_is_killed_with_everything_below_it(among: children.Children) -> None:
    stubborn = """
        import signal, subprocess, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        same_group = subprocess.Popen(["sleep", "60"])
        own_session = subprocess.Popen(["sleep", "60"], start_new_session=True)
        print(same_group.pid, own_session.pid, flush=True)
        time.sleep(60)
    """
    pid = await among.start(spec("stubborn", stubborn, grace_seconds=0.2))
    await wait_until(lambda: among.last_lines("stubborn"), "its children run")
    below = [int(word) for word in among.last_lines("stubborn")[0].split()]
    assert not any(is_gone(each) for each in below)
    await among.stop()
    assert [each for each in (pid, *below) if not is_gone(each)] == []


async def test_kill_does_not_wait(among: children.Children) -> None:
    pids = [await among.start(sleeper(name)) for name in ("one", "two")]
    among.kill()
    await wait_until(lambda: all(is_gone(pid) for pid in pids), "both are gone")


async def test_what_is_started_is_recorded_for_this_account_only_until_it_is_stopped(
    among: children.Children, tmp_path: Path
) -> None:
    record = tmp_path / "children.json"
    pid = await among.start(sleeper())
    entry = json.loads(record.read_text())["children"][0]
    assert entry["processes"] == [[pid, psutil.Process(pid).create_time()]]
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    await among.stop()
    assert not record.exists()


def test_leftovers_of_a_killed_supervisor_are_stopped_by_the_next(tmp_path: Path) -> None:
    supervisor = """
        import asyncio, pathlib, sys
        from decisiongraph_service.runtime import children
        async def main(folder):
            among = children.Children(folder / "logs", folder / "children.json")
            print(await among.start(children.ChildSpec("one", ("sleep", "60"))))
            print(await among.start(children.ChildSpec("two", ("sleep", "60"))), flush=True)
            await among.wait_for_end()
        asyncio.run(main(pathlib.Path(sys.argv[1])))
    """
    argv = (*spec("", supervisor).argv, str(tmp_path))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        pids = [int(process.stdout.readline()) for _ in range(2)]
        process.kill()
    assert not any(is_gone(pid) for pid in pids)

    stopped = children.stop_leftovers(tmp_path / "children.json")
    assert stopped == [f"two (pid {pids[1]})", f"one (pid {pids[0]})"]
    assert all(is_gone(pid) for pid in pids)
    assert children.stop_leftovers(tmp_path / "children.json") == []


def test_a_recycled_process_id_is_not_stopped(tmp_path: Path) -> None:
    record = tmp_path / "children.json"
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            entry = {
                "name": "server",
                "pid": stranger.pid,
                "stop_signal": "SIGTERM",
                "grace_seconds": 1,
                "processes": [[stranger.pid, psutil.Process(stranger.pid).create_time() - 5]],
            }
            record.write_text(json.dumps({"children": [entry]}))
            assert children.stop_leftovers(record) == []
            assert stranger.poll() is None
        finally:
            stranger.kill()


@pytest.mark.parametrize("text", ["", "{", '{"children": 1}', "[]", '{"children": [{}]}'])
def test_a_broken_record_stops_nothing(tmp_path: Path, text: str) -> None:
    record = tmp_path / "children.json"
    record.write_text(text)
    assert children.stop_leftovers(record) == []


def test_a_log_stays_within_its_bound_and_keeps_its_end(tmp_path: Path) -> None:
    log = children.ChildLog(tmp_path, "talker", max_bytes=1000)
    with os.fdopen(log.open(), "w") as writer:
        for number in range(300):
            print(f"line {number}", file=writer, flush=True)
        log.bound()
        print("the last line", file=writer, flush=True)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1100
    assert log.last_lines()[-2:] == ("line 299", "the last line")


def test_the_log_of_the_run_before_is_kept_aside(tmp_path: Path) -> None:
    log = children.ChildLog(tmp_path, "talker")
    for text in ("before", "now"):
        with os.fdopen(log.open(), "w") as writer:
            writer.write(text)
    assert log.last_lines() == ("now",)
    assert (tmp_path / "talker.previous-run.log").read_text() == "before"
