"""The outbox's file: made safely, told from other files, kept through full disks and kills, closed in time."""

import contextlib
import functools
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.outbox_files import BIG, ended_well, event_of, ids, run

from decisiongraph_client import _outbox_file, errors
from decisiongraph_client._outbox import Outbox


def test_only_its_owner_reads_it(path: Path, outbox: Outbox) -> None:
    outbox.put(event_of(1), None)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["outbox.db", "outbox.db-shm", "outbox.db-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_the_mode_of_an_older_file_is_mended(path: Path, outbox: Outbox) -> None:
    path.chmod(0o666)
    outbox.put(event_of(1), None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_each_event_is_synced_before_it_counts(outbox: Outbox) -> None:
    outbox.put(event_of(1), None)
    assert outbox._connection is not None
    assert outbox._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert outbox._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("content", [b"some text that is longer than a header of SQLite has " * 3, b"\0" * 5_000])
def test_a_file_of_another_kind_is_refused_and_left_as_it_is(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(errors.ConfigurationError, match="move it away"):
        Outbox(path, max_bytes=BIG)
    assert path.read_bytes() == content


def test_a_database_of_something_else_is_refused_and_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE waiting (id INTEGER)")
    before = path.read_bytes()
    with pytest.raises(errors.ConfigurationError, match="something else; name another file"):
        Outbox(path, max_bytes=BIG)
    assert path.read_bytes() == before


def test_an_outbox_of_another_version_is_refused(path: Path, outbox: Outbox) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 7")
    with pytest.raises(errors.ConfigurationError, match="format 7"):
        Outbox(path, max_bytes=BIG)


def test_an_empty_file_becomes_an_outbox(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    outbox = Outbox(path, max_bytes=BIG)
    outbox.put(event_of(1), None)
    assert ids(outbox) == ["1"]
    outbox.close()


@pytest.mark.parametrize("value", [b"\xff", None, 5, "text"], ids=repr)
def test_an_event_that_a_disk_has_damaged_is_told(path: Path, outbox: Outbox, value: Any) -> None:
    outbox.put(event_of(1), None)
    outbox.put(event_of(2), None)
    outbox.refuse(1, "SCHEMA_VIOLATION", "wrong")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # As an overwritten page would have it, whatever the columns are declared to hold.
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = replace(sql, 'BLOB NOT NULL', '')")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE waiting SET event = ?", (value,))
        connection.execute("UPDATE refused SET event = ?", (value,))
    for read in (functools.partial(outbox.first, events=9, size_bytes=BIG), outbox.refused):
        with pytest.raises(errors.OutboxError, match=r"it holds what is no event\. The file is damaged"):
            read()


@pytest.mark.parametrize("place", ["header", "middle", "end"])
def test_a_damaged_outbox_is_refused_with_what_to_do(path: Path, outbox: Outbox, place: str) -> None:
    for number in range(200):
        outbox.put(event_of(number, 300), None)
    outbox.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek({"header": 0, "middle": size // 2 // 4096 * 4096, "end": size - 4096}[place])
        file.write(b"\xff" * 4096)
    with pytest.raises(errors.ConfigurationError, match=r"move it away.*a\s+new one is made"):
        Outbox(path, max_bytes=BIG)


def test_a_truncated_outbox_is_refused(path: Path, outbox: Outbox) -> None:
    for number in range(200):
        outbox.put(event_of(number, 300), None)
    outbox.close()
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(errors.ConfigurationError, match="move it away"):
        Outbox(path, max_bytes=BIG)


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.ConfigurationError, match="cannot be opened"):
        Outbox(tmp_path / "file" / "outbox.db", max_bytes=BIG)
    with pytest.raises(errors.ConfigurationError, match="cannot be opened"):
        Outbox(tmp_path, max_bytes=BIG)
    with pytest.raises(errors.ConfigurationError, match="outbox_max_bytes"):
        Outbox(tmp_path / "outbox.db", max_bytes=0)


def test_a_full_outbox_says_what_fills_it(path: Path) -> None:
    outbox = Outbox(path, max_bytes=100)
    number = outbox.put(event_of(1, 40), None)
    outbox.refuse(number, "SCHEMA_VIOLATION", "wrong")
    with pytest.raises(errors.OutboxFull, match=r"1 events among them that the service refused"):
        outbox.put(event_of(2, 60), None)
    outbox.close()


def test_a_full_disk_loses_nothing_that_was_accepted(outbox: Outbox) -> None:
    accepted = [str(number) for number in range(20) if outbox.put(event_of(number, 1_000), None)]
    assert outbox._connection is not None
    (pages,) = outbox._connection.execute("PRAGMA page_count").fetchone()
    outbox._connection.execute(f"PRAGMA max_page_count = {pages + 5}")
    more = iter(range(20, 100))

    def put_more() -> None:
        for number in more:
            outbox.put(event_of(number, 1_000), None)
            accepted.append(str(number))

    with pytest.raises(errors.OutboxError, match="make room on the disk") as raised:
        put_more()
    assert type(raised.value) is errors.OutboxError
    assert ids(outbox) == accepted
    outbox.delivered([one.id for one in outbox.first(events=10, size_bytes=BIG)])
    outbox.put(event_of(100, 1_000), None)
    assert ids(outbox) == [*accepted[10:], "100"]
    assert outbox.status().size_bytes == sum(one.event.ByteSize() for one in outbox.first(events=999, size_bytes=BIG))


def test_a_file_system_without_room_loses_nothing_that_was_accepted(path: Path, outbox: Outbox) -> None:
    """The system refuses to let any file grow: the write-ahead log first."""
    code = """
        import resource, signal, sys
        from pathlib import Path
        from decisiongraph.v1.event_pb2 import Event
        from decisiongraph_client import _outbox_file, errors
        from decisiongraph_client._outbox import Outbox

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        outbox = Outbox(Path(sys.argv[1]), max_bytes=10**9)
        outbox.put(Event(event_id="0", trace_id="x" * 1_000), None)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        print(0)
        for number in range(1, 10_000):
            try:
                outbox.put(Event(event_id=str(number), trace_id="x" * 1_000), None)
            except errors.OutboxError as error:
                assert not isinstance(error, errors.OutboxFull), error
                sys.exit(0)
            print(number)
        sys.exit(1)
    """
    accepted = ended_well(run(code, str(path))).split()
    assert len(accepted) > 10
    assert ids(outbox) == accepted


def test_processes_that_begin_together_share_it(path: Path, outbox: Outbox) -> None:
    outbox.close()
    path.unlink()
    code = """
        import sys, time
        from pathlib import Path
        from decisiongraph.v1.event_pb2 import Event
        from decisiongraph_client._outbox import Outbox

        time.sleep(max(0, float(sys.argv[2]) - time.time()))
        outbox = Outbox(Path(sys.argv[1]), max_bytes=10**9)
        for number in range(20):
            outbox.put(Event(event_id=f"{sys.argv[3]}/{number}"), None)
    """
    programs = [run(code, str(path), str(time.time() + 1.5), str(n)) for n in range(6)]
    said = [program.communicate(timeout=60)[1] for program in programs]
    assert said == [""] * 6
    found = ids(Outbox(path, max_bytes=BIG))
    assert sorted(found) == sorted(f"{n}/{number}" for n in range(6) for number in range(20))
    for n in range(6):
        assert [one for one in found if one.startswith(f"{n}/")] == [f"{n}/{number}" for number in range(20)]


def test_threads_share_it(outbox: Outbox) -> None:
    def put(first: int) -> None:
        for number in range(first, first + 50):
            outbox.put(event_of(number), None)

    threads = [threading.Thread(target=put, args=(n * 50,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = ids(outbox)
    assert len(found) == len(set(found)) == 200


def test_after_the_end_nothing_is_taken(outbox: Outbox) -> None:
    outbox.close()
    outbox.close()
    for call in (lambda: outbox.put(event_of(1), None), outbox.status, outbox.waits):
        with pytest.raises(errors.ClientClosed):
            call()


@contextlib.contextmanager
def held(outbox: Outbox) -> Iterator[None]:
    """Another thread uses the file inside this block, for instance because another process keeps it waiting."""
    with outbox._lock:
        yield


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (lambda outbox: outbox.waits(patience=0.05), True),
        (lambda outbox: outbox.waits(7, patience=-1.5), True),
        (lambda outbox: outbox.last(patience=0.0), None),
        (lambda outbox: outbox.close(patience=0.05), None),
    ],
)
def test_who_has_no_time_is_not_held_up(outbox: Outbox, call: Callable[[Outbox], object], answer: object) -> None:
    with held(outbox):
        begin = time.monotonic()
        assert call(outbox) is answer
        assert time.monotonic() - begin < 1


def test_who_waits_for_ever_may_say_so(outbox: Outbox) -> None:
    for patience in (float("inf"), 1e20):
        assert outbox.last(patience=patience) == 0
        assert not outbox.waits(patience=patience)


def test_nothing_is_open_before_it_is_used(outbox: Outbox, path: Path) -> None:
    """Programs that fork without Python's notice must find nothing of their parent's."""
    assert outbox._connection is None
    assert not outbox.held_events
    outbox.put(event_of(1), None)
    assert Outbox(path, max_bytes=BIG).held_events


def test_a_connection_that_got_into_a_child_is_not_used_there(outbox: Outbox) -> None:
    """A fork that Python has no notice of: nothing is closed before it."""
    outbox.put(event_of(1), None)
    outbox._pid = os.getpid() + 1
    with pytest.raises(errors.OutboxError, match="forked"):
        outbox.put(event_of(2), None)


def test_readers_do_not_wait_for_a_writer(path: Path, outbox: Outbox) -> None:
    outbox.put(event_of(1), None)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        begin = time.monotonic()
        assert ids(outbox) == ["1"]
        assert outbox.waits()
        assert outbox.status().waiting == 1
        assert time.monotonic() - begin < 1


def test_an_outbox_that_was_closed_during_a_call_closes_its_file(outbox: Outbox) -> None:
    outbox.put(event_of(1), None)
    with held(outbox):
        outbox.close(patience=0.0)
        assert outbox._connection is not None
    with pytest.raises(errors.ClientClosed):
        outbox.put(event_of(2), None)
    assert outbox._connection is None


def test_a_file_that_another_process_is_making_is_no_foreign_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes into being between two looks at it, if it can."""
    connect = sqlite3.connect
    made: list[bool] = []

    def make(statement: str) -> None:
        if "user_version" in statement and not made:
            made.append(True)
            other = connect(path, isolation_level=None, timeout=0.1)
            with contextlib.closing(other), contextlib.suppress(sqlite3.OperationalError):
                for other_statement in ("BEGIN IMMEDIATE", *_outbox_file._SCHEMA, "COMMIT"):
                    other.execute(other_statement)

    def connect_and_watch(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(make)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_and_watch)
    outbox = Outbox(path, max_bytes=BIG)
    assert made
    outbox.put(event_of(1), None)
    assert ids(outbox) == ["1"]
    outbox.close()
