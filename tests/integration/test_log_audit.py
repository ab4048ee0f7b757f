"""A stored column that was changed by hand is found, and its event named, by the check and by its command."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import TypeAlias

import asyncpg
import pytest
from tests import samples

from decisiongraph_service.domain.events import Source
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.ingestion.group_commit import GroupCommitter
from decisiongraph_service.queries import log_audit
from decisiongraph_service.runtime import server
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database

Owner: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

# Each column, and another value that the table takes.
_CHANGES = {
    "tenant_id": "'nobody'",
    "log_seq": "9",
    "event_id": "'other'",
    "trace_id": "'other'",
    "trace_seq": "7",
    "event_type": "'InputObserved'",
    "occurred_at": "'2026-01-01T00:00:00.000Z'",
    "occurred_instant": "occurred_instant + interval '1 microsecond'",
    "producer_id": "'other'",
    "source_system": "'other'",
    "source_subsystem": "NULL",
    "actor_type": "'person'",
    "actor_id": "'other'",
    "idempotency_key": "'other'",
    "payload": """'{"cited_trace_id":"c","reason":"other"}'""",
    "payload_hash": "'sha256:' || repeat('0', 64)",
    "correlation_id": "''",
    "causation_event_id": "'e1'",
    "schema_version": "2",
    "tags": "ARRAY['y', 'x']",
    "recorded_at": "recorded_at + interval '1 microsecond'",
    "digest": "sha256(''::bytea)",
}


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[Owner]:
    """The one who can change the log by hand."""
    opened = await asyncpg.connect(database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def log(database_url: str, database: Database, tenant_id: TenantId) -> None:
    """Three events; the second one is changed by the tests."""
    committer = GroupCommitter(database, CommitSignal(database_url), clock=server.clock_micros, parallel_commits=1)
    events = [
        samples.start("t", event_id="e1"),
        samples.checked(key="k2", event_id="e2", source=Source("p", "s", "u"), correlation_id="c", tags=("x", "y")),
        samples.checked("TraceFinished", key="k3", event_id="e3"),
    ]
    assert isinstance(await committer.submit(tenant_id, events), list)


async def run_check(database_url: str, *arguments: str) -> tuple[int, str]:
    """Exit code and output of `decisiongraph check-log`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "decisiongraph_service.cli.main", "check-log", *arguments),
        env={**os.environ, "DG_DATABASE_URL": database_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode().removesuffix("\n")


@pytest.mark.parametrize(("column", "value"), _CHANGES.items(), ids=_CHANGES)
async def test_a_changed_column_is_found_at_its_event(
    owner: Owner, database: Database, tenant_id: TenantId, log: None, column: str, value: str
) -> None:
    await owner.execute(f"UPDATE events SET {column} = {value} WHERE tenant_id = $1 AND log_seq = 2", tenant_id)  # noqa: S608
    found = await log_audit.check_log(database, tenant_id)
    assert found, "not found"
    if column == "tenant_id":
        assert found[0].event_id == "e3", "an event that is gone is found at the next one"
        assert found[0].what == "its log position is 3, the next one is 2"
        await owner.execute("DELETE FROM events WHERE tenant_id = 'nobody'")
    elif column == "log_seq":
        assert ("e2", 9) in [(damage.event_id, damage.log_seq) for damage in found]
    else:
        name = "other" if column == "event_id" else "e2"
        assert (found[0].event_id, found[0].log_seq) == (name, 2)


async def test_every_column_of_the_table_is_tried_here(owner: Owner) -> None:
    columns = await owner.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'events'::regclass AND attnum > 0 AND NOT attisdropped"
    )
    assert {row["attname"] for row in columns} == set(_CHANGES)


async def test_an_untouched_log_has_no_damage(database: Database, tenant_id: TenantId, log: None) -> None:
    assert await log_audit.check_log(database, tenant_id) == []


async def test_a_deleted_event_is_found(owner: Owner, database: Database, tenant_id: TenantId, log: None) -> None:
    await owner.execute("DELETE FROM events WHERE tenant_id = $1 AND log_seq = 3", tenant_id)
    found = await log_audit.check_log(database, tenant_id)
    assert [damage.what for damage in found] == ["the log ends here and its head says 3"]


async def test_a_deleted_head_is_found(owner: Owner, database: Database, tenant_id: TenantId, log: None) -> None:
    await owner.execute("DELETE FROM log_heads WHERE tenant_id = $1", tenant_id)
    found = await log_audit.check_log(database, tenant_id)
    assert [damage.what for damage in found] == ["the log ends here and its head says 0"]


async def test_a_log_longer_than_one_batch_of_the_check_is_read_to_its_end(
    owner: Owner, database_url: str, database: Database, tenant_id: TenantId
) -> None:
    committer = GroupCommitter(database, CommitSignal(database_url), clock=server.clock_micros, parallel_commits=1)
    await committer.submit(tenant_id, [samples.start("t"), *(samples.checked(key=f"k{n}") for n in range(1_200))])
    progress: list[tuple[int, int]] = []
    assert await log_audit.check_log(database, tenant_id, progress=lambda *told: progress.append(told)) == []
    assert progress[-1] == (1_201, 1_201)
    await owner.execute("UPDATE events SET actor_id = 'x' WHERE tenant_id = $1 AND log_seq = 1201", tenant_id)
    assert [damage.log_seq for damage in await log_audit.check_log(database, tenant_id)] == [1_201]


async def test_the_command_names_the_damaged_event_and_exits_with_1(
    owner: Owner, database_url: str, tenant_id: TenantId, log: None
) -> None:
    assert await run_check(database_url, "--tenant", tenant_id) == (0, f"{tenant_id}: 3 events, ok")
    await owner.execute("UPDATE events SET actor_id = 'x' WHERE tenant_id = $1 AND log_seq = 2", tenant_id)
    code, output = await run_check(database_url, "--tenant", tenant_id)
    assert code == 1
    assert output == (
        f"{tenant_id}: 3 events, 1 DAMAGED\n  log position 2, event 'e2': a column differs from what was stored"
    )


async def test_the_command_checks_all_tenants_unless_told_one(
    owner: Owner, database_url: str, tenant_id: TenantId, log: None
) -> None:
    await owner.execute("UPDATE events SET actor_id = 'x' WHERE tenant_id = $1 AND log_seq = 2", tenant_id)
    code, output = await run_check(database_url)
    assert code == 1
    assert f"{tenant_id}: 3 events, 1 DAMAGED\n" in output
    assert output.count(" events, ") == await owner.fetchval("SELECT count(*) FROM tenants")


async def test_the_command_says_that_the_database_cannot_be_reached() -> None:
    code, output = await run_check("postgresql://nobody@127.0.0.1:1/nothing")
    assert code == 1
    assert "cannot be opened" in output
    assert "Traceback" not in output
