"""The database of the servers: reachable, new enough, migrated, durable, and with the same time as here."""

import time
from collections.abc import AsyncIterator
from typing import Final

from decisiongraph_service.cli import database_url
from decisiongraph_service.cli.checkup import clock
from decisiongraph_service.cli.checkup.finding import Finding, fail, ok, warn
from decisiongraph_service.domain import errors
from decisiongraph_service.queries.readiness import Readiness
from decisiongraph_service.runtime import server
from decisiongraph_service.storage import installation, migrations
from decisiongraph_service.storage.database import Database

_OLDEST_POSTGRES: Final = 15


async def look(url: str) -> AsyncIterator[Finding]:
    """Everything, one after another; ends at what makes the rest impossible."""
    try:
        await database_url.require_reachable(url)
    except database_url.Unreachable as error:
        yield fail("database", str(error), "start it, or mend DG_DATABASE_URL")
        return
    yield ok("database", f"{database_url.place(url)} takes connections")
    try:
        database = await Database.open(url, pool_size=1)
    except errors.StorageUnavailable as error:
        yield fail("migrations", error.message, "decisiongraph migrate")
        return
    try:
        async for finding in _look_inside(database):
            yield finding
    except errors.StorageUnavailable as error:
        yield fail("database", error.message, "look at the log of Postgres")
    finally:
        await database.close()


async def _look_inside(database: Database) -> AsyncIterator[Finding]:
    before = time.time()
    postgres = await installation.fetch_postgres(database)
    yield version(postgres.major)
    yield clock.compare("database clock", postgres.now_micros / 1e6, before, time.time())
    revision = migrations.newest_revision(server.migrations_folder())
    try:
        await Readiness(database, needed_revision=revision, projector_follows=None).check_database()
    except errors.StorageUnavailable as error:
        yield fail("migrations", error.message, "decisiongraph migrate")
    else:
        yield ok("migrations", f"at revision {await installation.fetch_revision(database)}")
    yield durability(await installation.fetch_unsafe_settings(database))


def version(major: int) -> Finding:
    """Of Postgres."""
    if major < _OLDEST_POSTGRES:
        return fail("postgres", f"version {major}", f"use Postgres {_OLDEST_POSTGRES} or newer")
    return ok("postgres", f"version {major}")


def durability(unsafe: list[str]) -> Finding:
    """Settings with which a commit may be lost."""
    if unsafe:
        return warn(
            "durability",
            f"acknowledged events may be lost after a crash: {', '.join(unsafe)}",
            "turn these settings of Postgres on; DG_ALLOW_UNSAFE_DATABASE=true lets servers start nevertheless",
        )
    return ok("durability", "what is acknowledged is on disk")
