"""How fresh an answer from projections must be, and waiting until it can be given.

The one way to a snapshot of projections, so that no read can forget the wait. Never silently stale:
docs/reference/QUERY_AND_ORDERING_INVARIANTS.md section 3.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from decisiongraph_service.domain import errors
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import projection_state
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database, TenantTransaction

WHOLE_LOG: Final = 2**63 - 1
"""A position beyond every log."""

_LOOK_AGAIN_SECONDS: Final = 0.02
"""The projector of another process does not wake this one."""
_ANSWER_SECONDS: Final = 0.05
_ANSWER_SHARE: Final = 0.2
"""What a refusal needs to reach its caller before the call's deadline: at least this time, and this share of what is
left of the call, as who gives a call more time may have a slower way to here."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """What a request asks for."""

    min_log_seq: int | None = None
    """The answer must include at least this position. None: everything committed before the request arrived."""
    allow_stale: bool = False
    """Answer at once, whatever the position."""
    within_seconds: float | None = None
    """What is left of the call's deadline. None: it has none."""


@dataclass(frozen=True, slots=True)
class ReadPosition:
    """How old an answer is."""

    log_seq: int
    head_log_seq: int


@dataclass(frozen=True, slots=True)
class Reading:
    """A snapshot in which the projections of a read are fresh enough."""

    snapshot: TenantTransaction
    position: ReadPosition
    """Of the projection that is furthest behind."""
    generations: Mapping[str, int]
    """By projection, the generation to read; 0, which has no rows, if the tenant has none."""


def checked_as_of(as_of_log_seq: int | None, head: int) -> int:
    """The last position that a question about the past may see; without one the end of every log.

    Raises:
        InvalidArgument: it lies beyond the log.
    """
    if as_of_log_seq is None:
        return WHOLE_LOG
    if as_of_log_seq > head:
        raise errors.InvalidArgument(
            [
                errors.Violation(
                    "as_of_log_seq",
                    "OUT_OF_RANGE",
                    f"{as_of_log_seq} was asked for, the log ends at {head}; ask for a position up to there",
                )
            ]
        )
    return as_of_log_seq


class FreshnessWait:
    """Waits until projections have reached what a read needs."""

    def __init__(self, database: Database, signal: CommitSignal, *, wait_seconds: float) -> None:
        """`wait_seconds`: the longest wait of one read."""
        self._database = database
        self._signal = signal
        self._wait_seconds = wait_seconds

    @contextlib.asynccontextmanager
    async def reading(
        self, tenant_id: TenantId, projections: Sequence[str], freshness: Freshness
    ) -> AsyncIterator[Reading]:
        """A snapshot in which all of `projections` include what `freshness` asks for.

        Raises:
            ProjectionOutOfDate: they do not within the longest wait, or within what is left of the call's deadline.
            StorageUnavailable: the database cannot be reached or has no connection free within five seconds.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self._longest_wait(freshness)
        needed = 0 if freshness.allow_stale else freshness.min_log_seq
        moved: asyncio.Event | None = None
        with contextlib.ExitStack() as waiting:
            while True:
                if moved is not None:
                    moved.clear()
                async with self._database.tenant_snapshot(tenant_id) as snapshot:
                    reading = await _look(snapshot, projections)
                    position = reading.position
                    needed = position.head_log_seq if needed is None else needed
                    if position.log_seq >= needed:
                        waiting.close()
                        yield reading
                        return
                if loop.time() >= until:
                    raise errors.ProjectionOutOfDate(needed, position.log_seq, position.head_log_seq)
                if moved is None:
                    # What moved before this is seen by the next look.
                    moved = waiting.enter_context(self._signal.listen_to_projection(tenant_id))
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_AGAIN_SECONDS):
                        await moved.wait()

    def _longest_wait(self, freshness: Freshness) -> float:
        if freshness.within_seconds is None:
            return self._wait_seconds
        left = freshness.within_seconds
        return min(self._wait_seconds, max(0.0, left - max(_ANSWER_SECONDS, left * _ANSWER_SHARE)))


async def _look(snapshot: TenantTransaction, projections: Sequence[str]) -> Reading:
    head, live = await projection_state.fetch_head_and_live(snapshot)
    position = min(live[name].log_seq if name in live else 0 for name in projections)
    generations = {name: live[name].generation if name in live else 0 for name in projections}
    return Reading(snapshot, ReadPosition(position, head), generations)
