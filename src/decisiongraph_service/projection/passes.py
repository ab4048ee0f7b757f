"""One batch of the log applied to generations of a tenant's projections: read, make rows, write in one transaction.

Who writes is found out when it is written: the positions must be where the batch was read from, and their rows free to
lock. So there is one writer for each projection, whatever the number of processes.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from decisiongraph_service.domain import errors, projection_pass
from decisiongraph_service.domain.events import ProjectedEvent
from decisiongraph_service.domain.projection_pass import Before, Changes, Pass
from decisiongraph_service.storage import log_replay, projection_state
from decisiongraph_service.storage.database import TenantTransaction
from decisiongraph_service.storage.projection_state import Generation

END_OF_LOG: Final = 2**63 - 1

_EVENTS_IN_A_ROW: Final = 50
"""Then other tasks of the process have a turn."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that come next after a position, and what must be known of the log before them."""

    position: int
    events: Sequence[ProjectedEvent]
    before: Before

    @property
    def end(self) -> int:
        """Log position of its last event."""
        return self.events[-1].log_seq if self.events else self.position


async def read(transaction: TenantTransaction, position: int, *, until_log_seq: int = END_OF_LOG, limit: int) -> Batch:
    """The next events after `position`, at most `limit`."""
    events = await log_replay.fetch_after(transaction, position, until_log_seq=until_log_seq, limit=limit)
    before = await log_replay.fetch_before(transaction, projection_pass.needed(events), position)
    return Batch(position, events, before)


def log_cut(position: int) -> errors.EventOutOfSequence:
    """The log ends at `position`, although its head says that it goes on."""
    return errors.EventOutOfSequence("(missing)", position + 1, "the log ends before it")


async def make(batch: Batch, projections: Collection[str]) -> Changes:
    """What the batch changes, up to an event that is damaged."""
    one = Pass(batch.position, batch.before, projections)
    for start in range(0, len(batch.events), _EVENTS_IN_A_ROW):
        one.run(batch.events[start : start + _EVENTS_IN_A_ROW])
        await asyncio.sleep(0)
    return one.changes


async def write(
    transaction: TenantTransaction, targets: Sequence[Generation], batch: Batch, changes: Changes, *, now_micros: int
) -> bool:
    """Write the changes and move the targets; False if another writer moved one of them: nothing was written."""
    return await projection_state.apply(
        transaction, targets, changes, from_log_seq=batch.position, moved_at_micros=now_micros
    )
