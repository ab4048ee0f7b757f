"""Appending to logs in process, without a server."""

from collections.abc import Sequence
from typing import Any

from decisiongraph_service.domain.append_batch import Placed, Refusal
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.ingestion.group_commit import GroupCommitter, QueueLimits
from decisiongraph_service.runtime.server import clock_micros
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database
from tests.traces import checked


def committer(database: Database, *, limits: QueueLimits | None = None, parallel_commits: int = 4) -> GroupCommitter:
    """A group committer as a process has one; its signal reaches nobody."""
    return GroupCommitter(
        database, CommitSignal(""), clock=clock_micros, parallel_commits=parallel_commits, limits=limits
    )


async def append_all(database: Database, tenant_id: TenantId, events: Sequence[dict[str, Any]]) -> list[Placed]:
    """Append events in one batch that must be accepted."""
    outcome = await committer(database).submit(tenant_id, [checked(event) for event in events])
    assert not isinstance(outcome, Refusal), outcome
    return outcome
