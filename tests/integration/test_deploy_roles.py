"""deploy/postgres/roles.sql: what it makes is enough for migrations and servers, and no more than that."""

import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from tests.dockerfile import ROOT

from decisiongraph_service.access import tenancy
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.runtime import embedded_postgres, postgres_placement, server
from decisiongraph_service.storage import migrations
from decisiongraph_service.storage.database import Database

ROLES = ROOT / "deploy" / "postgres" / "roles.sql"


@dataclass(frozen=True)
class Urls:
    """The database for each account."""

    owner: str
    server: str


@pytest.fixture(scope="module")
async def urls() -> AsyncIterator[Urls]:
    account = postgres_placement.account(Path("/nowhere"))
    async with embedded_postgres.temporary_postgres() as postgres:
        parts = urlsplit(postgres.dsn)
        superuser = urlunsplit(parts._replace(path="/postgres"))
        connection = await asyncpg.connect(superuser)
        await connection.execute("DROP DATABASE decisiongraph")
        await connection.close()
        with tempfile.TemporaryDirectory(prefix="decisiongraph-test-") as name:
            secrets = Path(name)
            (secrets / "owner-password").write_text("of-the-owner\n")
            (secrets / "server-password").write_text("of-servers\n")
            script = secrets / "roles.sql"
            script.write_text(ROLES.read_text().replace("${SECRETS:-/run/secrets}", str(secrets)))
            postgres_placement.give(secrets, account)
            psql = postgres_placement.Install.find().binary("psql")
            ended = postgres_placement.run([psql, "--no-psqlrc", "--file", str(script), superuser], account)
            assert ended.returncode == 0, ended.stdout
        host = parts.netloc.rpartition("@")[2]

        def url(role: str, password: str) -> str:
            return urlunsplit(parts._replace(netloc=f"{role}:{password}@{host}", path="/decisiongraph"))

        made = Urls(url("decisiongraph_owner", "of-the-owner"), url("decisiongraph_server", "of-servers"))
        await migrations.upgrade(made.owner, server.migrations_folder())
        yield made


async def test_a_server_works_with_its_account(urls: Urls) -> None:
    database = await Database.open(urls.server, pool_size=2)
    try:
        await tenancy.create_tenant(database, TenantId("acme"), clock=server.clock_micros)
    finally:
        await database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM events",
        "UPDATE events SET payload = payload",
        "TRUNCATE events",
        "DROP TABLE events",
        "CREATE TABLE mine (a int)",
        "CREATE TEMPORARY TABLE mine (a int)",
        "CREATE ROLE mine",
        "SET ROLE decisiongraph_owner",
    ],
)
async def test_a_server_cannot_do_more(urls: Urls, statement: str) -> None:
    connection = await asyncpg.connect(urls.server)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_the_owner_is_no_superuser(urls: Urls) -> None:
    connection = await asyncpg.connect(urls.owner)
    try:
        row = await connection.fetchrow(
            "SELECT rolsuper, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname = user"
        )
    finally:
        await connection.close()
    assert row is not None
    assert not any(row.values())
