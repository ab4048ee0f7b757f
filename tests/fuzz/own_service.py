"""A server on a database of its own: what is made and disabled by chance must not meet other tests."""

import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg

from decisiongraph_service.access import tokens
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.runtime import server
from decisiongraph_service.storage import migrations
from tests.another_server import another_server, callers_of
from tests.calling import Callers, Service, Tenant

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
    tenant = Tenant(tenant_id, {role: service.token(tenant_ids=[tenant_id], roles=[role]) for role in tokens.ROLES})
    async with (
        another_server(service, url, DG_HEARTBEAT_SECONDS="0.5", **limits, **environment) as running,
        callers_of(running, tenant) as callers,
    ):
        yield OwnService(running, url, callers)
    await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await owner.close()
