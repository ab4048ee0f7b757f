"""What happens to the disk of the database: it is full, or the data on it is lost and comes back from a backup."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from decisiongraph_service.runtime import postgres_placement
from decisiongraph_service.runtime.embedded_postgres import EmbeddedPostgres

_SIZE_BYTES: Final = 1_500_000_000
_PIECE_BYTES: Final = 1_000_000
_PROGRAMS: Final = ("mkfs.ext4", "mount", "umount")


class DiskFailed(Exception):
    """A file system cannot be made, or a backup not be taken; says why."""


def why_not_small() -> str | None:
    """Why no small file system can be made here; None: it can."""
    if os.geteuid() != 0:
        return "it mounts a small file system, which needs root"
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    return f"it mounts a small file system, and there is no {', '.join(missing)}" if missing else None


@contextlib.contextmanager
def small(at: Path) -> Iterator[None]:
    """A file system of its own, of 1.5 GB, at this folder; it goes with the block.

    Raises:
        DiskFailed: it cannot be made.
    """
    image = at.with_suffix(".ext4")
    with image.open("wb") as file:
        file.truncate(_SIZE_BYTES)
    at.mkdir()
    try:
        # Without blocks that only root may fill.
        _run("mkfs.ext4", "-q", "-m", "0", str(image))
        _run("mount", "-o", "loop", str(image), str(at))
        try:
            yield
        finally:
            _run("umount", "--lazy", str(at))
    finally:
        image.unlink()


@contextlib.contextmanager
def ballast(folder: Path) -> Iterator[Path]:
    """A file in the folder that `fill` makes as large as it can be."""
    file = folder / "ballast"
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)


def fill(file: Path) -> None:
    """Let the file grow until the disk is full."""
    with contextlib.suppress(OSError), file.open("ab", buffering=0) as open_file:
        while True:
            open_file.write(bytes(_PIECE_BYTES))


async def base_backup(postgres: EmbeddedPostgres) -> Path:
    """Take one of a Postgres that works, and return its folder.

    Raises:
        DiskFailed: it cannot be taken.
    """
    account = postgres_placement.account(postgres.data)
    folder = Path(tempfile.mkdtemp(prefix="backup-", dir=postgres.data.parent))
    postgres_placement.give(folder, account)
    program = postgres_placement.Install.find().binary("pg_basebackup")
    options = (f"--dbname={postgres.dsn}", f"--pgdata={folder / 'data'}", "--checkpoint=fast", "--wal-method=none")
    taken = await asyncio.to_thread(postgres_placement.run, [program, *options], account)
    if taken.returncode != 0:
        raise DiskFailed(f"no base backup: {taken.stdout}")
    return folder / "data"


def put_back(backup: Path, postgres: EmbeddedPostgres) -> None:
    """Put a base backup in the place of the data of a Postgres that has ended, to recover with the WAL since then."""
    wal = backup.parent / "wal"
    (postgres.data / "pg_wal").rename(wal)
    shutil.rmtree(postgres.data)
    backup.rename(postgres.data)
    with (postgres.data / "postgresql.auto.conf").open("a") as settings:
        settings.write(f'restore_command = \'cp "{wal}/%f" "%p"\'\n')
    (postgres.data / "recovery.signal").touch()


def _run(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell, our own words
    if ran.returncode != 0:
        raise DiskFailed(f"{' '.join(command)}: {ran.stderr.strip()}")
