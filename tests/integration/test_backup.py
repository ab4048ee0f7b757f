"""A base backup that is taken while events arrive: a Postgres on it holds what was acknowledged before, in order."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests import logs, samples

from decisiongraph_service.access import tenancy
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.ingestion.group_commit import GroupCommitter
from decisiongraph_service.runtime import children, embedded_postgres, postgres_placement, server
from decisiongraph_service.storage import migrations
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database

TENANT: Final = TenantId("acme")
BEFORE: Final = 50


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder for the restored Postgres, whose data folder is to be filled."""
    account = postgres_placement.account(Path("/nowhere"))
    folder = Path(tempfile.mkdtemp(prefix="decisiongraph-backup-"))
    postgres_placement.give(folder, account)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _take_base_backup(url: str, home: Path) -> None:
    binary = postgres_placement.Install.find().binary("pg_basebackup")
    options = (f"--dbname={url}", f"--pgdata={home / 'data'}", "--checkpoint=fast", "--wal-method=stream")
    taken = postgres_placement.run([binary, *options], postgres_placement.account(Path("/nowhere")))
    assert taken.returncode == 0, taken.stdout


async def _append(committer: GroupCommitter, numbers: range, acknowledged: list[str]) -> None:
    for number in numbers:
        event = samples.start(f"t{number}")
        assert isinstance(await committer.submit(TENANT, [event]), list)
        acknowledged.append(event.event.idempotency_key)


async def test_a_base_backup_taken_while_events_arrive_holds_a_complete_beginning(home: Path) -> None:
    acknowledged: list[str] = []
    async with embedded_postgres.temporary_postgres(durable=True) as source:
        await migrations.upgrade(source.dsn, server.migrations_folder())
        database = await Database.open(source.dsn, pool_size=4)
        await tenancy.create_tenant(database, TENANT, clock=server.clock_micros)
        committer = GroupCommitter(database, CommitSignal(source.dsn), clock=server.clock_micros, parallel_commits=1)
        await _append(committer, range(BEFORE), acknowledged)
        appending = asyncio.create_task(_append(committer, range(BEFORE, 1_000_000), acknowledged))
        await asyncio.to_thread(_take_base_backup, source.dsn, home)
        appending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await appending
        await committer.drain()
        await database.close()

    restored = embedded_postgres.EmbeddedPostgres(home)
    among = children.Children(home / "logs", home / "children.json")
    try:
        await restored.start(among)
        copy = await Database.open(restored.dsn, pool_size=2)
        stored = await logs.stored_keys(copy, TENANT)
        await copy.close()
    finally:
        await among.stop()
    assert len(stored) > BEFORE, "nothing arrived while the backup was taken"
    assert stored[: len(acknowledged)] == acknowledged[: len(stored)]
