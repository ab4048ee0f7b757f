"""The processes that a run starts: each in a session of its own, with a bounded log, stopped in reverse.

What was started is recorded in a file, so that the next run finds what a killed one left behind. A process is
told by id and time of creation together: an id that the system gave to somebody else is never signalled.
"""

import asyncio
import contextlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil

_T = TypeVar("_T")

_POLL_SECONDS: Final = 0.1
_TIDY_SECONDS: Final = 5.0
_STRAGGLER_SECONDS: Final = 2.0
_KILLED_SECONDS: Final = 5.0
_LOG_BYTES: Final = 8 * 1024 * 1024
_TAIL_BYTES: Final = 32 * 1024
_TAIL_LINES: Final = 20
_SAME_TIME_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class RunAs:
    """The account that a child works as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to start, and how to stop it."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None
    """The whole environment; None hands on this process's."""
    cwd: Path | None = None
    run_as: RunAs | None = None
    """Another account, which only root can ask for; None keeps this process's."""
    stop_signal: signal.Signals = signal.SIGTERM
    grace_seconds: float = 10.0
    """How long it may take to stop before it is killed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended, and the last lines that it wrote."""

    name: str
    pid: int
    returncode: int
    last_lines: tuple[str, ...]

    @property
    def how(self) -> str:
        """`exit code 3`, or `killed by signal SIGKILL`."""
        if self.returncode >= 0:
            return f"exit code {self.returncode}"
        try:
            return f"killed by signal {signal.Signals(-self.returncode).name}"
        except ValueError:
            return f"killed by signal {-self.returncode}"


class ChildError(Exception):
    """A child could not be started, or what another run left behind could not be stopped."""


class ChildEndedError(ChildError):
    """A child ended by itself."""

    def __init__(self, ended: Ended) -> None:
        super().__init__(f"{ended.name} (pid {ended.pid}) ended by itself: {ended.how}")
        self.ended = ended


class ChildLog:
    """The log file that a child writes to by itself, so that it goes on when this process is gone.

    When it grows over its bound it is copied aside and emptied in place; what is written in between is lost.
    """

    def __init__(self, folder: Path, name: str, *, max_bytes: int = _LOG_BYTES) -> None:
        self.path = folder / f"{name}.log"
        self._older = folder / f"{name}.older.log"
        self._previous = folder / f"{name}.previous-run.log"
        self._max_bytes = max_bytes

    def open(self) -> int:
        """Put the log of the run before aside and return a descriptor to append to a new one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._older.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self.path.replace(self._previous)
        # Appending is what makes emptying the file under a writer safe: it goes on at the new end.
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def bound(self) -> None:
        """Empty the file if it is too long, and keep its end aside."""
        if self.path.stat().st_size > self._max_bytes:
            self._older.write_bytes(_end_of(self.path, self._max_bytes))
            os.truncate(self.path, 0)

    def last_lines(self) -> tuple[str, ...]:
        """The last lines, at most twenty."""
        end = _end_of(self._older, _TAIL_BYTES) + _end_of(self.path, _TAIL_BYTES)
        return tuple(end.decode(errors="replace").splitlines()[-_TAIL_LINES:])


def _end_of(path: Path, length: int) -> bytes:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - length))
        return file.read()
    return b""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A child in the record, with the process id and time of creation of itself and of what is below it."""

    name: str
    pid: int
    stop_signal: str
    grace_seconds: float
    processes: list[tuple[int, float]]


@dataclass(slots=True)
class _Child:
    spec: ChildSpec
    pid: int
    log: ChildLog
    exit: "asyncio.Task[int]"
    processes: dict[int, psutil.Process]
    """The child and, as last seen, everything below it."""

    def look(self) -> None:
        """Remember the processes that are below the child now; forget those that are gone."""
        seen = {pid: process for pid, process in self.processes.items() if _is_alive(process)}
        for process in list(seen.values()):
            with contextlib.suppress(psutil.Error):
                seen.update((below.pid, below) for below in process.children(recursive=True))
        self.processes = seen

    def entry(self) -> _Entry:
        """What the next run has to know."""
        known = []
        for process in self.processes.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                known.append((process.pid, process.create_time()))
        return _Entry(self.spec.name, self.pid, self.spec.stop_signal.name, self.spec.grace_seconds, known)

    def signal(self, number: signal.Signals) -> None:
        """Signal the child itself, if it still is there."""
        if (leader := self.processes.get(self.pid)) is not None and not self.exit.done():
            with contextlib.suppress(psutil.Error):
                leader.send_signal(number)

    def kill(self) -> None:
        """Kill the child and everything below it, at once."""
        self.look()
        if self.pid in self.processes:
            # Besides each known process the whole group: it may have grown since the look.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        _kill(self.processes.values())

    def ended(self) -> Ended:
        return Ended(self.spec.name, self.pid, self.exit.result(), self.log.last_lines())


class Children:
    """Starts children, tells when one ends, and stops them all. Belongs to one event loop."""

    def __init__(self, logs: Path, record: Path) -> None:
        self._logs = logs
        self._record = record
        self._children: list[_Child] = []
        self._tidy: asyncio.Task[None] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Who was started and not yet stopped, in this order."""
        return tuple(child.spec.name for child in self._children)

    async def start(self, spec: ChildSpec) -> int:
        """Start a child and return its process id.

        The child gets a session of its own, so that Ctrl-C in the terminal does not reach it.

        Raises:
            ChildError: there is no such program, or it may not be run.
        """
        log = ChildLog(self._logs, spec.name)
        output = log.open()
        try:
            process = await asyncio.create_subprocess_exec(
                *spec.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=spec.env,
                cwd=spec.cwd,
                start_new_session=True,
                **identity(spec.run_as),
            )
        except OSError as error:
            raise ChildError(f"{spec.name} cannot be started: {error}") from error
        finally:
            os.close(output)
        wait = asyncio.create_task(process.wait(), name=f"wait for {spec.name}")
        child = _Child(spec, process.pid, log, wait, {})
        with contextlib.suppress(psutil.NoSuchProcess):
            child.processes[process.pid] = psutil.Process(process.pid)
        self._children.append(child)
        self._write_record()
        if self._tidy is None:
            self._tidy = asyncio.create_task(self._keep_tidy(), name="logs and record of children")
        return process.pid

    async def wait_for_end(self) -> Ended:
        """Wait until any child ends, and tell how. Without children it waits for ever."""
        if not self._children:
            await asyncio.Event().wait()
        await asyncio.wait([child.exit for child in self._children], return_when=asyncio.FIRST_COMPLETED)
        return next(child.ended() for child in self._children if child.exit.done())

    async def during(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do `work`, which needs all children alive.

        Raises:
            ChildEndedError: a child ended before the work was done; the work was cancelled.
        """
        job = asyncio.create_task(work)
        end = asyncio.create_task(self.wait_for_end())
        try:
            await asyncio.wait([job, end], return_when=asyncio.FIRST_COMPLETED)
            # The end of a child explains a failure of the work better than the failure does.
            if end.done():
                raise ChildEndedError(end.result())
            return job.result()
        finally:
            await _cancel(job, end)

    def last_lines(self, name: str) -> tuple[str, ...]:
        """The last lines that the child of this name wrote."""
        return next(child.log.last_lines() for child in self._children if child.spec.name == name)

    async def stop(self) -> None:
        """Stop all children, the last one first, each within its grace or else killed, and forget them."""
        while self._children:
            await _stop(self._children[-1])
            self._children.pop()
        if self._tidy is not None:
            await _cancel(self._tidy)
            self._tidy = None
        self._record.unlink(missing_ok=True)

    def kill(self) -> None:
        """Kill all children and everything below them, without waiting."""
        for child in reversed(self._children):
            child.kill()

    async def _keep_tidy(self) -> None:
        while True:
            await asyncio.sleep(_TIDY_SECONDS)
            for child in self._children:
                child.look()
                with contextlib.suppress(OSError):
                    child.log.bound()
            # A full disk must not end this; the record of the start stays valid.
            with contextlib.suppress(OSError):
                self._write_record()

    def _write_record(self) -> None:
        entries = [child.entry() for child in self._children]
        write_private(self._record, json.dumps({"children": [asdict(entry) for entry in entries]}))


def stop_leftovers(record: Path) -> list[str]:
    """Stop what a run left behind that was killed, and return the names of it. Waits for its end.

    Raises:
        ChildError: something belongs to another account.
    """
    try:
        entries = [_Entry(**entry) for entry in json.loads(record.read_text())["children"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []
    stopped = []
    for entry in reversed(entries):
        processes = [process for pid, created in entry.processes if (process := _find(pid, created))]
        if not processes:
            continue
        try:
            _stop_leftover(entry, processes)
        except psutil.AccessDenied as error:
            raise ChildError(
                f"{entry.name} (pid {error.pid}) is left from a run of another account; stop it first"
            ) from error
        stopped.append(f"{entry.name} (pid {processes[0].pid})")
    record.unlink(missing_ok=True)
    return stopped


def identity(run_as: RunAs | None) -> dict[str, Any]:
    """The arguments that make `subprocess` start a process as another account."""
    return {} if run_as is None else {"user": run_as.uid, "group": run_as.gid, "extra_groups": []}


def write_private(path: Path, text: str) -> None:
    """Write a file that only this account can read, whole or not at all."""
    # mkstemp makes files with mode 0600.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _find(pid: int, created: float) -> psutil.Process | None:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if abs(process.create_time() - created) < _SAME_TIME_SECONDS and _is_alive(process):
            return process
    return None


def _stop_leftover(entry: _Entry, processes: list[psutil.Process]) -> None:
    leaders = [process for process in processes if process.pid == entry.pid]
    for leader in leaders:
        with contextlib.suppress(psutil.NoSuchProcess):
            processes += leader.children(recursive=True)
            leader.send_signal(signal.Signals[entry.stop_signal])
    _wait_until_gone(leaders, entry.grace_seconds)
    _end_for_sure(processes)


async def _stop(child: _Child) -> None:
    child.look()
    child.signal(child.spec.stop_signal)
    await asyncio.wait([child.exit], timeout=child.spec.grace_seconds)
    if not child.exit.done():
        child.kill()
        await asyncio.wait([child.exit], timeout=_KILLED_SECONDS)
    await asyncio.to_thread(_end_for_sure, list(child.processes.values()))


def _end_for_sure(processes: list[psutil.Process]) -> None:
    """What was below a child that is gone follows by itself, or is made to."""
    if not _wait_until_gone(processes, _STRAGGLER_SECONDS):
        _kill(processes)
        _wait_until_gone(processes, _KILLED_SECONDS)


def _wait_until_gone(processes: list[psutil.Process], seconds: float) -> bool:
    # Not psutil.wait_procs: it takes a zombie, which only its parent can remove, for alive.
    deadline = time.monotonic() + seconds
    while any(_is_alive(process) for process in processes):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        # psutil compares the time of creation first, so a recycled id is not signalled.
        with contextlib.suppress(psutil.Error):
            process.kill()


async def _cancel(*tasks: "asyncio.Task[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
