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

from google.protobuf.message import DecodeError

from decisiongraph.v1.event_pb2 import Event
from decisiongraph_client import _forks, _outbox_file
from decisiongraph_client._outbox_status import OutboxStatus, RefusedEvent
from decisiongraph_client.errors import ClientClosed, ConfigurationError, OutboxError, OutboxFull

_FORK_SECONDS: Final = 5.0
_FOR_EVER: Final = -1.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that waits for its delivery."""

    id: int
    tenant: str | None
    event: Event


class _BusyError(Exception):
    """Somebody else of this process uses the file, and the time to wait is over."""


class Outbox:
    """The file. Any thread may call; it is closed while the process forks, and parent and child open it anew."""

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        """Make or check it. It is opened when something is put in or asked.

        Args:
            path: The file; beside it SQLite keeps `-wal` and `-shm`.
            max_bytes: Events of so many bytes may be in it, those that were refused included.

        Raises:
            ConfigurationError: it cannot be opened, is damaged, or is no outbox of this version.
        """
        if max_bytes < 1:
            raise ConfigurationError(f"outbox_max_bytes={max_bytes} must be above 0")
        self.path = path.absolute()
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._pid = 0
        self._closed = False
        self._holds_for_fork = False
        self._connection: sqlite3.Connection | None = None
        self.held_events = _outbox_file.check(self.path)
        """Whether events waited in it at the beginning."""
        _forks.watch(self)

    def put(self, event: Event, tenant: str | None) -> int:
        """Accept an event: when this returns, it is on the disk. Returns its number in the outbox.

        Raises:
            OutboxFull: there is no room; nothing was accepted.
            OutboxError: the file cannot be written; nothing was accepted.
        """
        encoded = event.SerializeToString()
        with self._transaction() as connection:
            held = self._held(connection)
            if held + len(encoded) > self.max_bytes:
                raise self._full(held, connection)
            insert = "INSERT INTO waiting (tenant, event) VALUES (?, ?)"
            number = connection.execute(insert, (tenant, encoded)).lastrowid
            connection.execute("UPDATE size SET bytes = bytes + ?", (len(encoded),))
        if number is None:
            raise AssertionError("an inserted row has a number")
        return number

    def first(self, *, events: int, size_bytes: int) -> list[Waiting]:
        """The oldest events that wait, of one tenant, at least one if any waits."""
        found: list[Waiting] = []
        with self._reading() as connection:
            rows = connection.execute("SELECT id, tenant, event FROM waiting ORDER BY id LIMIT ?", (events,))
            with contextlib.closing(rows):
                for number, tenant, encoded in rows:
                    event = self._event(encoded, tenant)
                    size_bytes -= len(encoded)
                    if found and (size_bytes < 0 or tenant != found[0].tenant):
                        break
                    found.append(Waiting(number, tenant, event))
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
        with self._reading() as connection:
            rows = connection.execute("SELECT id, tenant, event, reason, message FROM refused ORDER BY id").fetchall()
        return [RefusedEvent(row[0], row[1], self._event(row[2], row[1]), row[3], row[4]) for row in rows]

    def forget_refused(self, numbers: Sequence[int]) -> None:
        """Remove what was put aside, when its owner has seen it."""
        with self._transaction() as connection:
            self._remove("refused", numbers, connection)

    def waits(self, up_to: int | None = None, *, patience: float = _FOR_EVER) -> bool:
        """Whether anything waits, or anything with at most this number; True too if it is not known in time.

        Args:
            up_to: The number.
            patience: Seconds that other threads may hold this one up.
        """
        try:
            with self._reading(patience) as connection:
                row = connection.execute("SELECT min(id) FROM waiting").fetchone()
        except _BusyError:
            return True
        return row[0] is not None and (up_to is None or row[0] <= up_to)

    def last(self, *, patience: float = _FOR_EVER) -> int | None:
        """The number of the newest event that waits, 0 if none does; None: it is not known in time."""
        try:
            with self._reading(patience) as connection:
                return int(connection.execute("SELECT coalesce(max(id), 0) FROM waiting").fetchone()[0])
        except _BusyError:
            return None

    def status(self) -> OutboxStatus:
        """How it stands."""
        with self._reading() as connection:
            (waiting,) = connection.execute("SELECT count(*) FROM waiting").fetchone()
            (refused,) = connection.execute("SELECT count(*) FROM refused").fetchone()
            held = self._held(connection)
        return OutboxStatus(waiting, refused, held, self.max_bytes)

    def close(self, *, patience: float = 0.0) -> None:
        """Close the file; what is in it stays. Who uses it at this moment may end, for `patience` seconds at most."""
        # Whoever holds the lock sees this when he is done, and closes in our place.
        self._closed = True
        if self._lock.acquire(timeout=min(max(patience, 0.0), threading.TIMEOUT_MAX)):
            try:
                self._disconnect()
            finally:
                self._lock.release()

    def before_fork(self) -> None:
        """Close the file: SQLite's state of an open one must not get into a child."""
        self._holds_for_fork = self._lock.acquire(timeout=_FORK_SECONDS)
        if self._holds_for_fork:
            self._disconnect()

    def after_fork(self) -> None:
        """In the parent: go on."""
        if self._holds_for_fork:
            self._holds_for_fork = False
            self._lock.release()

    def forked(self) -> None:
        """In a forked child: begin anew. A file that could not be closed before is of no use to it."""
        self._lock, self._holds_for_fork = threading.Lock(), False

    def _event(self, encoded: object, tenant: object) -> Event:
        """The event of a row. SQLite keeps no checksums: what a disk has damaged is read as if it were right."""
        if isinstance(encoded, bytes) and isinstance(tenant, str | None):
            with contextlib.suppress(DecodeError):
                return Event.FromString(encoded)
        raise self._damaged("it holds what is no event")

    def _held(self, connection: sqlite3.Connection) -> int:
        row = connection.execute("SELECT bytes FROM size").fetchone()
        if row is None or not isinstance(row[0], int):
            raise self._damaged("it does not say how much it holds")
        return row[0]

    def _damaged(self, what: str) -> OutboxError:
        return OutboxError(f"the outbox {self.path} cannot be used: {_outbox_file.damaged(what)}")

    def _full(self, held: int, connection: sqlite3.Connection) -> OutboxFull:
        (refused,) = connection.execute("SELECT count(*) FROM refused").fetchone()
        aside = f", {refused} events among them that the service refused: see refused_events()" if refused else ""
        return OutboxFull(
            f"the outbox {self.path} holds {held} of {self.max_bytes} bytes{aside}. The service takes nothing, or "
            "slower than events are made: wait with flush(); make room with forget_refused_events() or outbox_max_bytes"
        )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connected(_FOR_EVER) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                if connection.in_transaction:
                    # Nothing can be done with it any more; the next call opens another.
                    self._disconnect()
                raise

    @contextlib.contextmanager
    def _reading(self, patience: float = _FOR_EVER) -> Iterator[sqlite3.Connection]:
        """For statements that only read: they see the file as it is at one moment, and wait for no writer."""
        with self._connected(patience) as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def _connected(self, patience: float) -> Iterator[sqlite3.Connection]:
        if patience != _FOR_EVER:
            patience = min(max(patience, 0.0), threading.TIMEOUT_MAX)
        if not self._lock.acquire(timeout=patience):
            raise _BusyError
        try:
            yield self._open()
        except sqlite3.Error as error:
            raise OutboxError(f"the outbox {self.path} cannot be used: {_outbox_file.what_to_do(error)}") from error
        finally:
            if self._closed:
                self._disconnect()
            self._lock.release()

    def _open(self) -> sqlite3.Connection:
        if self._closed:
            raise ClientClosed("the client was closed; make a new one")
        if self._connection is None:
            try:
                self._connection, self._pid = _outbox_file.open_(self.path), os.getpid()
            except ConfigurationError as error:
                raise OutboxError(str(error)) from error
        elif self._pid != os.getpid():
            raise OutboxError(
                f"the outbox {self.path} was in use when this process was forked; fork when no call is under way, and "
                "by os.fork or multiprocessing, which Python takes notice of"
            )
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == os.getpid():
            connection.close()

    @staticmethod
    def _remove(table: str, numbers: Sequence[int], connection: sqlite3.Connection) -> None:
        for number in numbers:
            row = connection.execute(
                f"DELETE FROM {table} WHERE id = ? RETURNING length(event)",  # noqa: S608 - one of two names
                (number,),
            ).fetchone()
            if row is not None:
                connection.execute("UPDATE size SET bytes = bytes - ?", (row[0],))
