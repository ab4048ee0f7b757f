"""How fresh an answer from a projection must be, and waiting until it can be given.

Never silently stale: docs/reference/QUERY_AND_ORDERING_INVARIANTS.md section 3.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Final

from decisiongraph_service.domain import errors
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import event_log, projection_state
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database, TenantTransaction

WHOLE_LOG: Final = 2**63 - 1
"""A position beyond every log."""

_LOOK_AGAIN_SECONDS: Final = 0.02
"""The projector of another process does not wake this one."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """What a request asks for."""

    min_log_seq: int | None = None
    """The answer must include at least this position. None: everything committed before the request arrived."""
    allow_stale: bool = False
    """Answer at once, whatever the position."""


@dataclass(frozen=True, slots=True)
class ReadPosition:
    """How old an answer is."""

    log_seq: int
    head_log_seq: int


async def fetch_position(transaction: TenantTransaction, projection: str) -> ReadPosition:
    """Where a projection and its log stand in a snapshot."""
    position = await projection_state.fetch_position(transaction, projection)
    return ReadPosition(position, await event_log.fetch_head(transaction))


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
    """Waits until a projection has reached what a read needs."""

    def __init__(self, database: Database, signal: CommitSignal, *, wait_seconds: float) -> None:
        """`wait_seconds`: the longest wait of one read."""
        self._database = database
        self._signal = signal
        self._wait_seconds = wait_seconds

    async def until_fresh(self, tenant_id: TenantId, projection: str, freshness: Freshness) -> None:
        """Return when the projection includes what `freshness` asks for.

        Raises:
            ProjectionOutOfDate: it does not within the longest wait.
        """
        if freshness.allow_stale:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + self._wait_seconds
        needed = freshness.min_log_seq
        with self._signal.listen_to_projection(tenant_id) as moved:
            while True:
                moved.clear()
                async with self._database.tenant_statements(tenant_id) as statements:
                    position = await fetch_position(statements, projection)
                if needed is None:
                    needed = position.head_log_seq
                if position.log_seq >= needed:
                    return
                if loop.time() >= until:
                    raise errors.ProjectionOutOfDate(needed, position.log_seq, position.head_log_seq)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_AGAIN_SECONDS):
                        await moved.wait()
