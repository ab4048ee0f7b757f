"""The outbox beside a plain model: whatever is put in, taken out and put aside, order and size are right."""

import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from decisiongraph.v1.event_pb2 import Event
from decisiongraph_client import errors
from decisiongraph_client._outbox import Outbox

MAX_BYTES: Final = 2_000
TENANTS: Final = st.sampled_from([None, "a", "b"])


def event_of(number: int, filling: int = 0) -> Event:
    return Event(event_id=str(number), trace_id="x" * filling)


class OutboxMachine(RuleBasedStateMachine):
    """Two handles on one file, as two processes have them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="decisiongraph-test-"))
        self.handles = [self.opened(), self.opened()]
        self.waiting: dict[int, tuple[str | None, Event]] = {}
        self.refused: dict[int, tuple[str | None, Event]] = {}
        self.numbers = itertools.count()
        self.newest = 0

    def teardown(self) -> None:
        for handle in self.handles:
            handle.close()
        shutil.rmtree(self.folder)

    def opened(self) -> Outbox:
        return Outbox(self.folder / "outbox.db", max_bytes=MAX_BYTES)

    @property
    def held(self) -> int:
        return sum(event.ByteSize() for _, event in (*self.waiting.values(), *self.refused.values()))

    @rule(which=st.sampled_from([0, 1]), filling=st.integers(0, 900), tenant=TENANTS)
    def put(self, which: int, filling: int, tenant: str | None) -> None:
        event = event_of(next(self.numbers), filling)
        if self.held + event.ByteSize() > MAX_BYTES:
            with pytest.raises(errors.OutboxFull, match="2000 bytes"):
                self.handles[which].put(event, tenant)
            return
        number = self.handles[which].put(event, tenant)
        assert number > self.newest, "a number was given twice or out of order"
        self.newest = number
        self.waiting[number] = (tenant, event)

    @rule(which=st.sampled_from([0, 1]), limit=st.integers(1, 5), size_bytes=st.integers(0, 1_500))
    def look(self, which: int, limit: int, size_bytes: int) -> None:
        found = self.handles[which].first(events=limit, size_bytes=size_bytes)
        expected = list(self.waiting.items())[: len(found)]
        assert [(one.id, (one.tenant, one.event)) for one in found] == expected
        assert (not found) == (not self.waiting)
        assert len(found) <= limit
        assert len({one.tenant for one in found}) <= 1
        sizes = [one.event.ByteSize() for one in found]
        assert len(found) <= 1 or sum(sizes) <= size_bytes
        if 0 < len(found) < min(limit, len(self.waiting)):
            tenant, event = list(self.waiting.values())[len(found)]
            assert tenant != found[0].tenant or sum(sizes) + event.ByteSize() > size_bytes

    @rule(which=st.sampled_from([0, 1]), count=st.integers(0, 4), unknown=st.booleans())
    def deliver(self, which: int, count: int, unknown: bool) -> None:
        numbers = list(self.waiting)[:count]
        self.handles[which].delivered([*numbers, *([10**6] if unknown else []), *numbers])
        for number in numbers:
            del self.waiting[number]

    @rule(which=st.sampled_from([0, 1]), place=st.integers(0, 3))
    def refuse(self, which: int, place: int) -> None:
        number = next(iter(list(self.waiting)[place:]), 10**6)
        self.handles[which].refuse(number, "SCHEMA_VIOLATION", "wrong")
        if number in self.waiting:
            self.refused[number] = self.waiting.pop(number)

    @rule(which=st.sampled_from([0, 1]), count=st.integers(0, 3))
    def forget(self, which: int, count: int) -> None:
        numbers = sorted(self.refused)[:count]
        self.handles[which].forget_refused([*numbers, 10**6, *list(self.waiting)[:1]])
        for number in numbers:
            del self.refused[number]

    @rule(which=st.sampled_from([0, 1]))
    def reopen(self, which: int) -> None:
        self.handles[which].close()
        self.handles[which] = self.opened()

    @invariant()
    def it_is_as_modelled(self) -> None:
        for handle in self.handles:
            status = handle.status()
            assert (status.waiting, status.refused, status.size_bytes, status.max_bytes) == (
                len(self.waiting),
                len(self.refused),
                self.held,
                MAX_BYTES,
            )
            assert handle.last() == max(self.waiting, default=0)
            assert handle.waits() == bool(self.waiting)
            oldest = min(self.waiting, default=0)
            assert not handle.waits(oldest - 1)
            assert handle.waits(oldest) == bool(self.waiting)
            aside = [(one.id, (one.tenant, one.event), one.reason, one.message) for one in handle.refused()]
            assert aside == [(n, kept, "SCHEMA_VIOLATION", "wrong") for n, kept in sorted(self.refused.items())]


OutboxMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
test_outbox_is_as_modelled = OutboxMachine.TestCase
