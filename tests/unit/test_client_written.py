"""What reads ask for after writes: nothing, by default, and the newest own event on demand."""

import sys
import threading
from collections.abc import Iterator

import pytest

from decisiongraph_client._written import Written


@pytest.fixture
def _switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_latest_asks_for_no_position() -> None:
    written = Written("latest")
    written.saw(7)
    assert written.needed(None, allow_stale=False) is None


def test_own_writes_ask_for_the_newest_of_them() -> None:
    written = Written("own_writes")
    assert written.needed(None, allow_stale=False) == 0
    written.saw(7)
    written.saw(5)
    assert written.needed(None, allow_stale=False) == 7


def test_what_a_caller_asks_for_is_kept() -> None:
    written = Written("own_writes")
    written.saw(7)
    assert written.needed(3, allow_stale=False) == 3
    assert written.needed(None, allow_stale=True) is None


@pytest.mark.usefixtures("_switching_often")
def test_threads_lose_no_write() -> None:
    for _ in range(20):
        written = Written("own_writes")
        begin = threading.Barrier(4)

        def write(first: int, written: Written = written, begin: threading.Barrier = begin) -> None:
            begin.wait()
            for number in range(first, 2_000, 4):
                written.saw(number)

        threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert written.log_seq == 1_999
