"""The outbox's file: made, opened, and told from other files."""

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Final

from decisiongraph_client.errors import ConfigurationError

_APPLICATION: Final = 0x44474F42
"""Marks the file as an outbox, in SQLite's field for that."""
_FORMAT: Final = 1
_BUSY_SECONDS: Final = 10.0
_SCHEMA: Final = (
    "CREATE TABLE waiting (id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT, event BLOB NOT NULL)",
    """
    CREATE TABLE refused (
        id INTEGER PRIMARY KEY, tenant TEXT, event BLOB NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL,
        refused_at REAL NOT NULL
    )
    """,
    # Its size is counted as it changes: to sum it up would read all that waits.
    "CREATE TABLE size (bytes INTEGER NOT NULL)",
    "INSERT INTO size VALUES (0)",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_FORMAT}",
)
_OF_OTHERS: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_OF_THE_CONTENT: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class _OthersInTheWayError(Exception):
    """The file has not the mode that it must have, because others are about to make it."""


def check(path: Path) -> bool:
    """Make the file, or look whether it is sound; whether events wait in it.

    Raises:
        ConfigurationError: it cannot be opened, is damaged, or is something else.
    """
    with contextlib.closing(open_(path)) as connection:
        try:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            (waits,) = connection.execute("SELECT EXISTS (SELECT 1 FROM waiting)").fetchone()
        except sqlite3.Error as error:
            raise ConfigurationError(f"the outbox {path} cannot be read: {what_to_do(error)}") from error
    if found != "ok":
        raise ConfigurationError(f"the outbox {path} cannot be read: {damaged(found)}")
    return bool(waits)


def open_(path: Path) -> sqlite3.Connection:
    """A connection to the file, which is made if there is none. Any thread may use it, one at a time.

    Raises:
        ConfigurationError: it cannot be opened, or is something else.
    """
    ends = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return _opened(path)
        except OSError as error:
            raise ConfigurationError(f"the outbox {path} cannot be opened: {error}") from error
        except (sqlite3.Error, _OthersInTheWayError) as error:
            # Processes that begin together make it together; SQLite does not wait in all of these moments.
            if time.monotonic() >= ends or not _is_of_others(error):
                raise ConfigurationError(f"the outbox {path} cannot be opened: {what_to_do(error)}") from error
        time.sleep(0.01)


def what_to_do(error: Exception) -> str:
    """What SQLite says, and what helps."""
    code = _code(error)
    if code in _OF_THE_CONTENT:
        return damaged(str(error))
    if code == sqlite3.SQLITE_FULL:
        return f"{error}; make room on the disk, what was accepted before is safe"
    return str(error)


def _is_of_others(error: Exception) -> bool:
    return isinstance(error, _OthersInTheWayError) or _code(error) in _OF_OTHERS


def _code(error: Exception) -> int:
    # Absent where Python's own module is what refuses.
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def damaged(what: str) -> str:
    """What is wrong with the file, and what helps."""
    return (
        f"{what}. The file is damaged or no outbox: end the programs that use it and move it away, with -wal and -shm; "
        "a new one is made. `sqlite3 FILE .recover` may find events in the old one"
    )


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        # What was refused and what waits may be confidential. SQLite gives -wal and -shm the same mode.
        if path.stat().st_mode & 0o777 != 0o600:
            path.chmod(0o600)
        connection.execute("BEGIN")
        is_new = _is_new(connection, path)
        connection.execute("COMMIT")
        if is_new:
            _make(connection, path)
        _log_ahead(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _log_ahead(connection: sqlite3.Connection) -> None:
    # Where others are in its way, SQLite leaves the mode as it was, and says so without an error.
    if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
        raise _OthersInTheWayError("other processes keep it from write-ahead logging")
    connection.execute("PRAGMA synchronous = FULL")


def _is_new(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether nothing is in the file yet; asked in a transaction, since another process may be about to make it.

    Raises:
        ConfigurationError: something else is in it.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application == _APPLICATION:
        if version != _FORMAT:
            raise ConfigurationError(
                f"the outbox {path} has format {version}, this version of the package knows {_FORMAT}: let the other "
                "version deliver what waits, or name another file"
            )
        return False
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application or version or tables:
        raise ConfigurationError(f"{path} is an SQLite database of something else; name another file as outbox")
    return True


def _make(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    # Another process may have been quicker.
    if _is_new(connection, path):
        for statement in _SCHEMA:
            connection.execute(statement)
    connection.execute("COMMIT")
