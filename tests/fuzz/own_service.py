"""A server on a database of its own: what is made and disabled by chance must not meet other tests."""

import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from decisiongraph_service.access import tokens
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.runtime import server
from decisiongraph_service.storage import migrations
from tests.another_server import another_server, callers_of
from tests.calling import BOTH_WAYS, Callers, Service, Tenant

_LIFETIME_SECONDS = 24 * 3600  # longer than `make fuzz` may take
_LIMITS = ("READ", "WRITE", "ADMIN", "PUBLIC", "EVENTS", "BYTES")


@dataclass(frozen=True)
class OwnService:
    """The server, its database, and a tenant with a token per role; the tenant is not made yet."""

    running: Service
    database_url: str
    callers: Callers


@contextlib.asynccontextmanager
async def own_service(
    service: Service, database_url: str, tenant_id: TenantId, **environment: str
) -> AsyncIterator[OwnService]:
    """Start it. Its database is on the Postgres of `database_url`, and it takes the tokens of `service`."""
    owner = await asyncpg.connect(database_url)
    name = f"fuzzed_{uuid.uuid4().hex[:8]}"
    await owner.execute(f"CREATE DATABASE {name}")
    url = database_url.rsplit("/", 1)[0] + f"/{name}"
    await migrations.upgrade(url, server.migrations_folder())
    limits = {f"DG_LIMIT_{limit}": "off" for limit in _LIMITS}
    given = {
        role: service.token(tenant_ids=[tenant_id], roles=[role], lifetime_seconds=_LIFETIME_SECONDS)
        for role in tokens.ROLES
    }
    tenant = Tenant(tenant_id, given)
    async with (
        another_server(service, url, DG_HEARTBEAT_SECONDS="0.5", **limits, **environment) as running,
        callers_of(running, tenant) as callers,
    ):
        yield OwnService(running, url, callers)
    await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await owner.close()


@contextlib.asynccontextmanager
async def fuzzed_callers(service: Service, database_url: str) -> AsyncIterator[Callers]:
    """Callers of such a service in a tenant. At the end it must be ready, and must have logged no failure."""
    tenant_id = TenantId("fuzzed")
    async with own_service(service, database_url, tenant_id, DG_FRESHNESS_WAIT="0.2") as own:
        answer = await own.callers.call("grpc", "CreateTenant", {"tenant_id": tenant_id, "reason": "to fuzz"})
        assert answer.ok, answer.body
        yield own.callers
        for way in BOTH_WAYS:
            alive = await own.callers.call(way, "GetReadiness", {})
            assert alive.ok, alive.body
        assert _failures(own.running.folder) == []


def _failures(folder: Path) -> list[str]:
    """The lines of the server's log that tell of a failure."""
    lines = (folder / "logs/server.log").read_text().splitlines()
    assert lines, "nothing was logged at all"
    return [line for line in lines if "Traceback" in line or '"level": "error"' in line or "never retrieved" in line]
