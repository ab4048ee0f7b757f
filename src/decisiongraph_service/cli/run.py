"""`decisiongraph run`: Postgres, the server and Envoy on this machine, from nothing to curl lines that work.

Whatever happens, what it started is stopped before it ends; what a killed run left is stopped by the next one.
"""

import contextlib
import fcntl
import json
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from decisiongraph_service.cli import configuration, database_url, failure

if TYPE_CHECKING:
    import asyncio

    from decisiongraph_service.runtime.settings import Settings

_SECOND_SIGNAL_SECONDS: Final = 0.5


def run() -> None:
    """Start Postgres, the server and Envoy on this machine, and stay until Ctrl-C, which stops them again.

    Data, keys, logs and addresses are kept in DG_DATA_DIR (.run). DG_REST_PORT and DG_GRPC_PORT choose other ports,
    0 takes free ones. With DG_DATABASE_URL that database is used and no Postgres is started.
    """
    import asyncio

    settings = configuration.settings()
    if settings.profile != "development":
        failure.exit_with("`run` is for development; in production run `decisiongraph serve` behind Envoy")
    with _only_run(settings.data_dir.absolute()) as folder:
        code = asyncio.run(_supervise(settings, folder))
    raise typer.Exit(code)


@contextlib.contextmanager
def _only_run(folder: Path) -> Iterator[Path]:
    """Hold the folder's lock, which the system releases however this process ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+")
    except OSError as error:
        failure.exit_with(
            f"cannot write to {folder}: {error.strerror}; if another account made it, remove it or set DG_DATA_DIR"
        )
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            failure.exit_with(_already(folder, lock.read().strip()))
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        # What a killed run left there must not be taken for this one's.
        Files(folder).remove()
        yield folder


def _already(folder: Path, pid: str) -> str:
    try:
        rest = json.loads((folder / "service.json").read_text())["rest"]
    except (OSError, ValueError, KeyError):
        return f"already starting or stopping (pid {pid})"
    return f"already running (pid {pid}) at {rest}"


class Files:
    """What a run tells other programs: `service.json` when it is ready, and the address of its database."""

    def __init__(self, folder: Path) -> None:
        self.service = folder / "service.json"
        self.database = folder / database_url.FILE

    def remove(self) -> None:
        """Take both back."""
        self.service.unlink(missing_ok=True)
        self.database.unlink(missing_ok=True)


async def _supervise(settings: "Settings", folder: Path) -> int:
    """Start, watch and stop; returns the exit code."""
    import asyncio

    from decisiongraph_service.cli import run_screen, run_steps
    from decisiongraph_service.runtime import children

    screen, files = run_screen.Screen(), Files(folder)
    among = children.Children(folder / "logs", folder / "children.json")
    work = asyncio.create_task(run_steps.Run(settings, folder, screen, among, files).work())

    def kill() -> None:
        among.kill()
        files.remove()

    _handle_signals(work, kill)
    code = 1
    try:
        await work
    except asyncio.CancelledError:
        code = 0
    except children.ChildEndedError as error:
        screen.complain(f"{error}; its last lines:", error.ended.last_lines)
    except run_steps.RunError as error:
        screen.complain(str(error), error.last_lines)
    except Exception as error:  # noqa: BLE001 - the outermost edge: say what happened, and stop everything
        screen.complain(f"{type(error).__name__}: {error} (details in {_write_report(folder, error)})")
    finally:
        files.remove()
        if started := among.names:
            screen.say(f"stopping {', '.join(reversed(started))}")
            await among.stop()
        if started or code == 0:
            screen.say("stopped")
    return code


def _handle_signals(work: "asyncio.Task[Any]", kill: Callable[[], None]) -> None:
    """The first signal cancels `work`; a second Ctrl-C does not wait any longer."""
    import asyncio

    stopping_since: float | None = None

    def received(number: signal.Signals) -> None:
        nonlocal stopping_since
        now = time.monotonic()
        if stopping_since is None:
            stopping_since = now
            work.cancel()
        # The same Ctrl-C may arrive twice, from the terminal and from a parent process that hands it on.
        elif number == signal.SIGINT and now - stopping_since > _SECOND_SIGNAL_SECONDS:
            kill()
            os._exit(130)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # What was started by nohup outlives its terminal.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, received, number)


def _write_report(folder: Path, error: Exception) -> Path:
    report = folder / "logs" / "run.log"
    report.parent.mkdir(exist_ok=True)
    report.write_text("".join(traceback.format_exception(error)))
    return report
