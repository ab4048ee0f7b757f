"""`decisiongraph db distribute`: spread the schema over the nodes of Citus, by tenant."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from decisiongraph_service.cli import configuration, database_url, failure

if TYPE_CHECKING:
    import asyncpg

    from decisiongraph_service.storage.sharding import Step

_MAX_SHARDS = 1024


def distribute(
    shards: Annotated[
        int, typer.Option(min=1, max=_MAX_SHARDS, help="Into how many shards tenants are spread; hard to change later.")
    ] = 32,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the statements and run none.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Spread the tenants of a migrated database over the nodes of Citus.

    Works on the coordinator of DG_DATABASE_URL, as the owner of the schema, while no server runs. What is done already
    is left out, so that a run that was stopped can be repeated. Make a backup before.
    """
    import asyncio

    from decisiongraph_service.domain import errors

    url = database_url.find(configuration.settings())
    try:
        asyncio.run(_distribute(url, shards, dry_run=dry_run, yes=yes))
    except errors.DecisionGraphError as error:
        failure.exit_with(error.message)


async def _distribute(url: str, shards: int, *, dry_run: bool, yes: bool) -> None:
    from decisiongraph_service.storage import sharding

    async with sharding.connected(url) as connection:
        steps = await sharding.plan(connection, shards=shards)
        if dry_run:
            _print(steps)
            return
        await sharding.require_ready(connection)
        open_steps = [step for step in steps if not step.done]
        if not open_steps:
            print("everything is distributed already")
            return
        if not yes:
            typer.confirm(
                f"Distribute this database in {len(open_steps)} steps? There is no command that takes it back.",
                abort=True,
            )
        await _run(connection, open_steps)


def _print(steps: "list[Step]") -> None:
    for step in steps:
        if step.done:
            print(f"-- done before: {step.what}")
        else:
            print(f"{step.statement};")


async def _run(connection: "asyncpg.Connection[asyncpg.Record]", steps: "list[Step]") -> None:
    from decisiongraph_service.storage import sharding

    done = 0
    async for step in sharding.run(connection, steps):
        done += 1
        print(f"{done}/{len(steps)}  {step.what}", file=sys.stdout, flush=True)
    print("the database is distributed; start the servers")
