"""Events that were accepted and are not yet in the log, in a file that outlives the process.

An SQLite database in WAL mode, each event committed to the disk (synchronous=FULL) before it counts as accepted.
Several processes may put events into the same file; one at a time delivers them (`_delivery`).
"""

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from decisiongraph.v1.event_pb2 import Event
from decisiongraph_client import _forks
from decisiongraph_client.errors import ClientClosed, ConfigurationError, OutboxError, OutboxFull

_FORMAT: Final = 1
_BUSY_SECONDS: Final = 10.0
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS waiting (id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT, event BLOB NOT NULL)",
    """
    CREATE TABLE IF NOT EXISTS refused (
        id INTEGER PRIMARY KEY, tenant TEXT, event BLOB NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL,
        refused_at REAL NOT NULL
    )
    """,
    # Its size is counted as it changes: to sum it up would read all that waits.
    "CREATE TABLE IF NOT EXISTS size (bytes INTEGER NOT NULL)",
    "INSERT INTO size SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM size)",
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that waits for its delivery."""

    id: int
    tenant: str | None
    event: Event


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """An event that the service will never take, kept for its owner to look at."""

    id: int
    tenant: str | None
    event: Event
    reason: str
    """Why, as the contract names it, e.g. `SCHEMA_VIOLATION`."""
    message: str


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """How an outbox stands."""

    waiting: int
    """Events that are not delivered yet."""
    refused: int
    """Events that the service refused."""
    size_bytes: int
    """What both hold."""
    max_bytes: int


class Outbox:
    """The file. Any thread may call; after a fork the child opens it anew."""

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        """Open or make it.

        Args:
            path: The file; beside it SQLite keeps `-wal` and `-shm`.
            max_bytes: Events of so many bytes may be in it, those that were refused included.

        Raises:
            ConfigurationError: it cannot be opened, or is no outbox of this version.
        """
        self.path = path.absolute()
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._pid = 0
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        with self._lock:
            self._open()
        _forks.watch(self)

    def put(self, event: Event, tenant: str | None) -> int:
        """Accept an event: when this returns, it is on the disk. Returns its number in the outbox.

        Raises:
            OutboxFull: there is no room; nothing was accepted.
            OutboxError: the file cannot be written; nothing was accepted.
        """
        encoded = event.SerializeToString()
        with self._transaction() as connection:
            (held,) = connection.execute("SELECT bytes FROM size").fetchone()
            if held + len(encoded) > self.max_bytes:
                raise OutboxFull(
                    f"the outbox {self.path} holds {held} of {self.max_bytes} bytes: the service takes nothing, or "
                    "slower than events are made; wait with flush(), or allow more with outbox_max_bytes"
                )
            insert = "INSERT INTO waiting (tenant, event) VALUES (?, ?)"
            number = connection.execute(insert, (tenant, encoded)).lastrowid
            connection.execute("UPDATE size SET bytes = bytes + ?", (len(encoded),))
        if number is None:
            raise AssertionError("an inserted row has a number")
        return number

    def first(self, *, events: int, size_bytes: int) -> list[Waiting]:
        """The oldest events that wait, of one tenant, at least one if any waits."""
        with self._transaction() as connection:
            rows = connection.execute("SELECT id, tenant, event FROM waiting ORDER BY id LIMIT ?", (events,)).fetchall()
        found: list[Waiting] = []
        for number, tenant, encoded in rows:
            size_bytes -= len(encoded)
            if found and (size_bytes < 0 or tenant != found[0].tenant):
                break
            found.append(Waiting(number, tenant, Event.FromString(encoded)))
        return found

    def delivered(self, numbers: Sequence[int]) -> None:
        """Take events out: they are in the log."""
        with self._transaction() as connection:
            self._remove("waiting", numbers, connection)

    def refuse(self, number: int, reason: str, message: str) -> None:
        """Put an event aside: the service will never take it."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO refused SELECT id, tenant, event, ?, ?, ? FROM waiting WHERE id = ?",
                (reason, message, time.time(), number),
            )
            connection.execute("DELETE FROM waiting WHERE id = ?", (number,))

    def refused(self) -> list[RefusedEvent]:
        """What was put aside, oldest first."""
        with self._transaction() as connection:
            rows = connection.execute("SELECT id, tenant, event, reason, message FROM refused ORDER BY id").fetchall()
        return [RefusedEvent(row[0], row[1], Event.FromString(row[2]), row[3], row[4]) for row in rows]

    def forget_refused(self, numbers: Sequence[int]) -> None:
        """Remove what was put aside, when its owner has seen it."""
        with self._transaction() as connection:
            self._remove("refused", numbers, connection)

    def waits(self, up_to: int | None = None) -> bool:
        """Whether anything waits, or anything with at most this number."""
        with self._transaction() as connection:
            row = connection.execute("SELECT min(id) FROM waiting").fetchone()
        return row[0] is not None and (up_to is None or row[0] <= up_to)

    def last(self) -> int:
        """The number of the newest event that waits; 0 if none does."""
        with self._transaction() as connection:
            return int(connection.execute("SELECT coalesce(max(id), 0) FROM waiting").fetchone()[0])

    def status(self) -> OutboxStatus:
        """How it stands."""
        with self._transaction() as connection:
            (waiting,) = connection.execute("SELECT count(*) FROM waiting").fetchone()
            (refused,) = connection.execute("SELECT count(*) FROM refused").fetchone()
            (held,) = connection.execute("SELECT bytes FROM size").fetchone()
        return OutboxStatus(waiting, refused, held, self.max_bytes)

    def close(self) -> None:
        """Close the file; what is in it stays."""
        with self._lock:
            self._closed = True
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    def forked(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            connection = self._open()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise OutboxError(f"the outbox {self.path} cannot be used: {error}") from error
                raise

    def _open(self) -> sqlite3.Connection:
        if self._closed:
            raise ClientClosed("the client was closed; make a new one")
        if self._connection is not None and self._pid == os.getpid():
            return self._connection
        # A connection of the parent must not be used by a forked child, not even to close it.
        self._pid = os.getpid()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            # What was refused and what waits may be confidential.
            self.path.chmod(0o600)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            _prepare(connection, self.path)
        except (sqlite3.Error, OSError) as error:
            raise ConfigurationError(f"the outbox {self.path} cannot be opened: {error}") from error
        self._connection = connection
        return connection

    @staticmethod
    def _remove(table: str, numbers: Sequence[int], connection: sqlite3.Connection) -> None:
        for number in numbers:
            row = connection.execute(
                f"DELETE FROM {table} WHERE id = ? RETURNING length(event)",  # noqa: S608 - one of two names
                (number,),
            ).fetchone()
            if row is not None:
                connection.execute("UPDATE size SET bytes = bytes - ?", (row[0],))


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version not in (0, _FORMAT):
        connection.execute("ROLLBACK")
        raise ConfigurationError(f"the outbox {path} was written by another version of this package (format {version})")
    for statement in _SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {_FORMAT}")
    connection.execute("COMMIT")
