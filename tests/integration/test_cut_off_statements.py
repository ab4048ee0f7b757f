"""A statement that is cut off leaves nothing behind in its connection, whenever it is cut off."""

import asyncio
from typing import Any

import asyncpg
import pytest

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import database as databases
from decisiongraph_service.storage.database import Database

TENANT = TenantId("cut-off")


async def test_a_statement_cut_off_after_its_preparation_leaves_no_transaction(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = asyncio.Event()
    connections: Any = databases._Connection
    prepare = connections._get_statement

    async def held(connection: Any, query: str, *arguments: Any, **options: Any) -> Any:
        statement = await prepare(connection, query, *arguments, **options)
        if "cut off" in query:
            prepared.set()
            await asyncio.Event().wait()
        return statement

    monkeypatch.setattr(connections, "_get_statement", held)
    database = await Database.open(database_url, pool_size=1)
    try:

        async def ask() -> None:
            async with database.tenant_statements(TENANT) as statements:
                await statements.fetch("SELECT $1::text AS cut_off -- cut off")

        asking = asyncio.create_task(ask())
        await prepared.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with database.tenant_snapshot(TENANT) as snapshot:
            assert await snapshot.fetch_value("SELECT $1::text") == TENANT
    finally:
        await database.close()


async def test_an_argument_that_does_not_fit_leaves_no_transaction(database_url: str) -> None:
    database = await Database.open(database_url, pool_size=1)
    try:
        with pytest.raises(asyncpg.DataError):
            async with database.tenant_statements(TENANT) as statements:
                await statements.fetch("SELECT $1::text, $2::bigint", 2**63)
        async with database.tenant_snapshot(TENANT) as snapshot:
            assert await snapshot.fetch_value("SELECT $1::text") == TENANT
    finally:
        await database.close()
