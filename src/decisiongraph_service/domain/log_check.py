"""Whether a log is what it promises to be: positions without gaps, whole traces, events as they were stored.

Pure: is fed the events of one tenant in log order. Source: docs/reference/APPEND_SEMANTICS.md sections 3 to 5.
"""

from dataclasses import dataclass

from decisiongraph_service.domain import canonical, event_digest, timestamps, vocabulary
from decisiongraph_service.domain.events import StoredEvent


@dataclass(frozen=True, slots=True)
class LogRow:
    """A row of the log with the columns that callers do not see."""

    stored: StoredEvent
    occurred_at_micros: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong with a log."""

    log_seq: int
    event_id: str
    what: str


class LogCheck:
    """Checks the rows of one tenant, one after another. Remembers one entry per trace."""

    def __init__(self) -> None:
        self._next_log_seq = 1
        self._lengths: dict[str, int] = {}
        self._finished: set[str] = set()

    @property
    def last_log_seq(self) -> int:
        """The position of the last row that was checked."""
        return self._next_log_seq - 1

    def check(self, row: LogRow) -> list[Damage]:
        """Everything that is wrong with the next row."""
        stored = row.stored
        found = [*self._check_positions(stored), *_check_content(row)]
        self._next_log_seq = stored.log_seq + 1
        self._lengths[stored.trace_id] = stored.trace_seq + 1
        if stored.event_type == vocabulary.TRACE_FINISHED:
            self._finished.add(stored.trace_id)
        return [Damage(stored.log_seq, stored.event_id, what) for what in found]

    def check_head(self, head: int) -> list[Damage]:
        """Whether the log ends where its head says."""
        if head == self.last_log_seq:
            return []
        return [Damage(self.last_log_seq, "", f"the log ends here and its head says {head}")]

    def _check_positions(self, stored: StoredEvent) -> list[str]:
        found = []
        if stored.log_seq != self._next_log_seq:
            found.append(f"its log position is {stored.log_seq}, the next one is {self._next_log_seq}")
        length = self._lengths.get(stored.trace_id, 0)
        if stored.trace_seq != length:
            found.append(f"its trace_seq is {stored.trace_seq}, the trace's next one is {length}")
        if (stored.event_type == vocabulary.TRACE_STARTED) != (stored.trace_seq == 0):
            found.append("a trace begins with its only TraceStarted, and this event breaks that")
        if stored.trace_id in self._finished:
            found.append("its trace was finished before it")
        return found


def _check_content(row: LogRow) -> list[str]:
    stored = row.stored
    found = []
    if canonical.payload_hash(stored.canonical_payload) != stored.payload_hash:
        found.append("its payload does not have its payload_hash")
    if event_digest.digest(stored, row.occurred_at_micros) != row.digest:
        found.append("a column differs from what was stored")
    try:
        if timestamps.parse_rfc3339(stored.occurred_at) != row.occurred_at_micros:
            found.append("occurred_at and its instant differ")
    except ValueError:
        found.append("occurred_at is no timestamp")
    return found
