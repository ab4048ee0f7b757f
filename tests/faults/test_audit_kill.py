"""What a server did before it was killed is in the audit log, and nothing that it did not do."""

import asyncio
import itertools
import json
import os
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final, TypeAlias

import asyncpg
import pytest
from tests.another_server import another_server, callers_of
from tests.calling import Callers, Service, Tenant

from decisiongraph_service.access import tenancy
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.runtime import server
from decisiongraph_service.storage.database import Database

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
_CALLERS: Final = 8
_NUMBERS: Final = itertools.count()


@pytest.fixture
async def tenant(service: Service, database: Database) -> Tenant:
    tenant_id = TenantId(f"audited-{uuid.uuid4().hex[:12]}")
    await tenancy.create_tenant(database, tenant_id, clock=server.clock_micros)
    return Tenant(tenant_id, {"admin": service.token(tenant_ids=[tenant_id], roles=["admin"])})


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def _act_until_it_is_gone(callers: Callers, account_id: str, acknowledged: list[str]) -> None:
    """Make and revoke keys of an account until the server does not answer."""
    account = {"account_id": account_id, "tenant_ids": [callers.tenant.tenant_id], "roles": ["ROLE_READER"]}
    await callers.call("grpc", "CreateServiceAccount", {**account, "reason": "to see"})
    while True:
        made = await callers.call("grpc", "CreateApiKey", {"account_id": account_id, "reason": "to see"})
        if not made.ok:
            return
        key_id = made.body["key"]["key_id"]
        acknowledged.append(f"CreateApiKey key {key_id} of {account_id}")
        revoked = {"account_id": account_id, "key_id": key_id, "reason": "to see"}
        if not (await callers.call("grpc", "RevokeApiKey", revoked)).ok:
            return
        acknowledged.append(f"RevokeApiKey key {key_id} of {account_id}")


async def _kill(running: Service) -> None:
    children = json.loads((running.folder / "children.json").read_text())["children"]
    (pid,) = [child["pid"] for child in children if child["name"] == "server"]
    os.kill(pid, signal.SIGKILL)


async def test_acts_and_their_entries_are_the_same_after_a_kill(
    service: Service, database_url: str, tenant: Tenant, owner: Connection
) -> None:
    accounts = [f"{tenant.tenant_id}-{next(_NUMBERS)}" for _ in range(_CALLERS)]
    acknowledged: list[str] = []
    limits = {"DG_LIMIT_ADMIN": "off"}
    async with another_server(service, database_url, **limits) as running, callers_of(running, tenant) as callers:
        acting = [asyncio.create_task(_act_until_it_is_gone(callers, one, acknowledged)) for one in accounts]
        async with asyncio.timeout(30):
            while len(acknowledged) <= 8 * _CALLERS:  # noqa: ASYNC110 - eight callers fill it
                await asyncio.sleep(0.05)
        await _kill(running)
        await asyncio.gather(*acting)

    keys = await owner.fetch("SELECT * FROM api_keys WHERE account_id = ANY ($1)", accounts)
    done = Counter(
        [f"CreateApiKey key {row['key_id']} of {row['account_id']}" for row in keys]
        + [f"RevokeApiKey key {row['key_id']} of {row['account_id']}" for row in keys if row["revoked_at"] is not None]
    )
    entries = await owner.fetch(
        "SELECT action, target FROM audit_entries WHERE tenant_id = 'decisiongraph-system' AND outcome = 'done' "
        "AND target LIKE 'key %' AND target LIKE $1",
        f"%of {tenant.tenant_id}-%",
    )
    assert Counter(f"{row['action'].rpartition('.')[2]} {row['target']}" for row in entries) == done
    assert len(acknowledged) > 2 * _CALLERS, "the server was killed before it did anything"
    assert set(acknowledged) <= set(done), "what was answered is there"
