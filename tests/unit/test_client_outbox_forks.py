"""An outbox that a process and its forked children share."""

import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.outbox_files import BIG, ended_well, event_of, ids, run

from decisiongraph_client._outbox import Outbox


def in_child(work: Callable[[], object]) -> int:
    """A forked child that does this, by its id; its exit code is 0 if it did not fail."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:  # noqa: BLE001 - a child must end here
            os.write(2, repr(error).encode())
        os._exit(code)
    return child


def wait_for(child: int) -> int:
    for _ in range(300):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -99


def test_parent_and_children_share_it(outbox: Outbox) -> None:
    outbox.put(event_of(0), None)

    def put(first: int) -> None:
        for n in range(20):
            outbox.put(event_of(first + n), None)

    children = [in_child(functools.partial(put, 100 * n)) for n in (1, 2, 3)]
    put(0)
    assert [wait_for(child) for child in children] == [0, 0, 0]
    assert sorted(ids(outbox)) == sorted([str(100 * c + n) for c in range(4) for n in range(20)] + ["0"])


def test_what_a_child_puts_in_outlives_the_parents_end(path: Path) -> None:
    """SQLite lets the last connection remove the write-ahead log: a parent must not think that it is the last."""
    code = """
        import os, sys
        from pathlib import Path
        from decisiongraph.v1.event_pb2 import Event
        from decisiongraph_client._outbox import Outbox

        outbox = Outbox(Path(sys.argv[1]), max_bytes=10**9)
        outbox.put(Event(event_id="parent"), None)
        from_child, to_parent = os.pipe()
        from_parent, to_child = os.pipe()
        if os.fork() == 0:
            outbox.put(Event(event_id="child 1"), None)
            os.write(to_parent, b"x")
            os.read(from_parent, 1)
            outbox.put(Event(event_id="child 2"), None)
            os._exit(0)
        os.read(from_child, 1)
        outbox.close()
        os.write(to_child, b"x")
        os.wait()
    """
    ended_well(run(code, str(path)))
    reader = Outbox(path, max_bytes=BIG)
    assert ids(reader) == ["parent", "child 1", "child 2"]
    reader.close()


def test_what_goes_wrong_in_a_fork_holds_up_nothing_else(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Outbox(outbox.path, max_bytes=BIG)

    def wrong() -> None:
        raise ZeroDivisionError

    for name in ("before_fork", "after_fork", "forked"):
        monkeypatch.setattr(other, name, wrong)
    for _ in range(2):
        assert wait_for(in_child(lambda: outbox.put(event_of(1), None))) == 0
        outbox.put(event_of(2), None)
    assert ids(outbox) == ["1", "2", "1", "2"]


def test_a_fork_in_the_middle_of_a_transaction_of_another_thread_waits_for_its_end(outbox: Outbox) -> None:
    inside, goes_on = threading.Event(), threading.Event()

    def long() -> None:
        with outbox._transaction() as connection:
            connection.execute("UPDATE size SET bytes = bytes + 1")
            inside.set()
            goes_on.wait(10)
            connection.execute("UPDATE size SET bytes = bytes - 1")

    thread = threading.Thread(target=long)
    thread.start()
    inside.wait(10)
    threading.Timer(0.3, goes_on.set).start()
    child = in_child(lambda: outbox.put(event_of(1), None))
    assert goes_on.is_set(), "the fork came in the middle"
    assert wait_for(child) == 0
    thread.join()
    assert ids(outbox) == ["1"]
