"""`decisiongraph check-log`: whether the stored logs are what was stored."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from decisiongraph_service.cli import database_url, failure

if TYPE_CHECKING:
    from decisiongraph_service.domain.log_check import Damage
    from decisiongraph_service.domain.vocabulary import TenantId
    from decisiongraph_service.storage.database import Database

_SHOWN = 20


def check_log(
    tenant: Annotated[str | None, typer.Option(help="Check this tenant only.")] = None,
) -> None:
    """Check the logs: positions complete, traces whole, every event as it was stored.

    Names each event that is damaged and exits with 1 if there is one. Changes nothing. Works on DG_DATABASE_URL, or on
    the database of the running `decisiongraph run`.
    """
    from decisiongraph_service.domain import errors
    from decisiongraph_service.runtime.settings import Settings

    url = database_url.find(Settings())
    try:
        damaged = asyncio.run(_check(url, tenant))
    except errors.DecisionGraphError as error:
        failure.exit_with(error.message)
    if damaged:
        raise typer.Exit(1)


async def _check(url: str, tenant: str | None) -> bool:
    from decisiongraph_service.access import tenancy
    from decisiongraph_service.queries import log_audit
    from decisiongraph_service.storage.database import Database

    database = await Database.open(url, pool_size=1)
    try:
        chosen = [tenancy.parse_tenant_id(tenant, field="tenant")] if tenant else await log_audit.list_tenants(database)
        damaged = False
        for tenant_id in chosen:
            found, events = await _check_with_progress(database, tenant_id)
            damaged = damaged or bool(found)
            print(f"{tenant_id}: {events} events, {f'{len(found)} DAMAGED' if found else 'ok'}")
            for damage in found[:_SHOWN]:
                print(f"  log position {damage.log_seq}, event {damage.event_id!r}: {damage.what}")
            if len(found) > _SHOWN:
                print(f"  … and {len(found) - _SHOWN} more")
    finally:
        await database.close()
    return damaged


async def _check_with_progress(database: "Database", tenant_id: "TenantId") -> "tuple[list[Damage], int]":
    from rich.progress import Progress

    from decisiongraph_service.queries import log_audit

    # Where nobody watches a bar, its place would be left as an empty line.
    with Progress(transient=True, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task(f"checking {tenant_id}", total=None)
        events = 0

        def progress(done: int, total: int) -> None:
            nonlocal events
            events = done
            bar.update(task, completed=done, total=total)

        return await log_audit.check_log(database, tenant_id, progress=progress), events
