"""Whatever stands in an outbox's file, it is used as an outbox or refused in words; no other error comes of it."""

import contextlib
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.effort import fuzzed

from decisiongraph.v1.event_pb2 import Event
from decisiongraph_client import errors
from decisiongraph_client._outbox import Outbox

_BIG: Final = 10_000_000
_PLACES: Final = st.integers(0, 50_000)
_VALUES: Final = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=20)
)


@dataclass(frozen=True)
class Sound:
    """An outbox's file, for the messages of Hypothesis without all of its bytes."""

    content: bytes = field(repr=False)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """The file of an outbox in which events wait and one was refused."""
    path = tmp_path_factory.mktemp("sound") / "outbox.db"
    outbox = Outbox(path, max_bytes=_BIG)
    for number in range(4):
        outbox.put(Event(event_id=f"event {number}", trace_id="t", tags=["a", "b"]), "acme" if number % 2 else None)
    outbox.refuse(1, "SCHEMA_VIOLATION", "wrong")
    outbox.close()
    assert not path.with_name("outbox.db-wal").exists()
    return Sound(path.read_bytes())


def _use(path: Path) -> None:
    """Everything that a client does with it."""
    outbox = Outbox(path, max_bytes=_BIG)
    try:
        for use in (
            lambda: outbox.first(events=100, size_bytes=_BIG),
            outbox.refused,
            outbox.status,
            outbox.waits,
            outbox.last,
            lambda: outbox.put(Event(event_id="more"), None),
            lambda: outbox.refuse(2, "x", "y"),
            lambda: outbox.delivered([3]),
            lambda: outbox.forget_refused([1]),
        ):
            with contextlib.suppress(errors.OutboxError):
                use()
    finally:
        outbox.close()


def _assert_used_or_refused(folder: Path, content: bytes) -> None:
    for name in ("outbox.db", "outbox.db-wal", "outbox.db-shm"):
        (folder / name).unlink(missing_ok=True)
    path = folder / "outbox.db"
    path.write_bytes(content)
    with contextlib.suppress(errors.ConfigurationError):
        _use(path)


@given(
    st.lists(st.tuples(st.integers(0, 200) | _PLACES, st.binary(min_size=1, max_size=30)), min_size=1, max_size=3),
    st.none() | _PLACES,
)
@fuzzed(60)
def test_a_file_with_damaged_bytes(
    sound: Sound, tmp_path: Path, pieces: list[tuple[int, bytes]], end: int | None
) -> None:
    changed = bytearray(sound.content)
    for place, piece in pieces:
        start = place % len(changed)
        changed[start : start + len(piece)] = piece
    _assert_used_or_refused(tmp_path, bytes(changed[:end]))


@given(st.binary(max_size=200))
@fuzzed(15)
def test_a_file_of_anything(tmp_path: Path, content: bytes) -> None:
    _assert_used_or_refused(tmp_path, content)


@given(
    st.sampled_from(["waiting.tenant", "waiting.event", "refused.event", "refused.reason", "size.bytes"]),
    _VALUES,
)
@fuzzed(40)
def test_a_file_with_other_values(sound: Sound, tmp_path: Path, column: str, value: Any) -> None:
    table, name = column.split(".")
    path = tmp_path / "changed.db"
    path.write_bytes(sound.content)
    with (
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection,
        contextlib.suppress(sqlite3.Error),
    ):
        connection.execute(f"UPDATE {table} SET {name} = ?", (value,))  # noqa: S608 - of the list above
    _assert_used_or_refused(tmp_path, path.read_bytes())
