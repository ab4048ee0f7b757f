"""What was changed by hand in the log is found and named."""

import subprocess
import sys
from collections.abc import AsyncIterator  # noqa: TC003 - pytest reads the annotation

import asyncpg
import pytest
from tests.logs import append_all
from tests.traces import whole_trace

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries import log_audit
from decisiongraph_service.storage.database import Database

_CHANGES = {
    "event_id": "'another'",
    "event_type": "'ActionProposed'",
    "occurred_at": "'2020-01-01T00:00:00Z'",
    "occurred_instant": "now()",
    "producer_id": "'another'",
    "source_system": "'another'",
    "source_subsystem": "'another'",
    "actor_type": "'person'",
    "actor_id": "'another'",
    "idempotency_key": "'another'",
    "payload": "replace(payload, 'success', 'failure')",
    "payload_hash": "'sha256:00'",
    "correlation_id": "'another'",
    "causation_event_id": "'another'",
    "schema_version": "2",
    "tags": "ARRAY['another']",
    "recorded_at": "now()",
    "trace_seq": "99",
    "trace_id": "'another'",
    "log_seq": "99",
    "digest": "'\\x00'",
}


@pytest.fixture
async def owner(database_url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_an_untouched_log_is_sound(database: Database, tenant_id: TenantId) -> None:
    await append_all(database, tenant_id, [*whole_trace("a", 6), *whole_trace("b", 6)])
    assert await log_audit.check_log(database, tenant_id) == []


@pytest.mark.parametrize("column", _CHANGES)
async def test_a_changed_column_is_caught_and_its_event_named(
    database: Database, tenant_id: TenantId, owner: "asyncpg.Connection[asyncpg.Record]", column: str
) -> None:
    placed = await append_all(database, tenant_id, whole_trace("trace", 4))
    damaged = placed[2].stored
    change = f"UPDATE events SET {column} = {_CHANGES[column]} WHERE tenant_id = $1 AND log_seq = 3"  # noqa: S608
    await owner.execute(change, tenant_id)
    found = await log_audit.check_log(database, tenant_id)
    named = {"another"} if column == "event_id" else {damaged.event_id}
    assert named & {damage.event_id for damage in found}, found


async def test_a_removed_event_is_caught(
    database: Database, tenant_id: TenantId, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await append_all(database, tenant_id, whole_trace("trace", 4))
    await owner.execute("DELETE FROM events WHERE tenant_id = $1 AND log_seq = 2", tenant_id)
    assert any("position" in damage.what for damage in await log_audit.check_log(database, tenant_id))


async def test_a_removed_end_is_caught(
    database: Database, tenant_id: TenantId, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await append_all(database, tenant_id, whole_trace("trace", 4))
    await owner.execute("DELETE FROM events WHERE tenant_id = $1 AND log_seq = 4", tenant_id)
    assert any("head" in damage.what for damage in await log_audit.check_log(database, tenant_id))


async def test_the_command_names_the_event_and_fails(
    database: Database, database_url: str, tenant_id: TenantId, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    placed = await append_all(database, tenant_id, whole_trace("trace", 4))

    def check() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "decisiongraph_service.cli.main", "check-log", "--tenant", tenant_id],
            env={"PATH": "/usr/bin:/bin", "DG_DATABASE_URL": database_url},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    sound = check()
    assert (sound.returncode, "4 events, ok" in sound.stdout) == (0, True), sound.stdout + sound.stderr
    await owner.execute("UPDATE events SET actor_id = 'x' WHERE tenant_id = $1 AND log_seq = 2", tenant_id)
    damaged = check()
    assert damaged.returncode == 1
    assert placed[1].stored.event_id in damaged.stdout
