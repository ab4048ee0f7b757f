"""`decisiongraph db …`: the database of the service."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from decisiongraph_service.cli import configuration, database_url, distribute, failure, output
from decisiongraph_service.cli.group import Group
from decisiongraph_service.cli.options import AsJson

if TYPE_CHECKING:
    from decisiongraph_service.domain.log_check import Damage
    from decisiongraph_service.domain.vocabulary import TenantId
    from decisiongraph_service.storage.database import Database

_SHOWN = 20

app = Group(help="The database of the service.")
app.add("distribute", distribute.distribute)


@app.named("check")
def check(
    tenant: Annotated[str | None, typer.Option(help="Check this tenant only.")] = None, as_json: AsJson = False
) -> None:
    """Check the logs: positions complete, traces whole, every event as it was stored.

    Names each event that is damaged and exits with 1 if there is one. Changes nothing. Works on DG_DATABASE_URL, or on
    the database of the running `decisiongraph run`.
    """
    import asyncio

    from decisiongraph_service.domain import errors

    url = database_url.find(configuration.settings())
    try:
        checked = asyncio.run(_check(url, tenant, as_json))
    except errors.DecisionGraphError as error:
        failure.exit_with(error.message)
    if as_json:
        output.print_json(checked)
    if any(one["damages"] for one in checked):
        raise typer.Exit(1)


async def _check(url: str, tenant: str | None, as_json: bool) -> list[dict[str, Any]]:
    from decisiongraph_service.access import tenancy
    from decisiongraph_service.queries import log_audit
    from decisiongraph_service.storage.database import Database

    database = await Database.open(url, pool_size=1)
    try:
        chosen = [tenancy.parse_tenant_id(tenant, field="tenant")] if tenant else await log_audit.list_tenants(database)
        checked = []
        for tenant_id in chosen:
            found, events = await _check_with_progress(database, tenant_id)
            damages = [{"log_seq": str(d.log_seq), "event_id": d.event_id, "what": d.what} for d in found]
            checked.append({"tenant_id": tenant_id, "events": events, "damages": damages})
            if not as_json:
                _print(tenant_id, found, events)
    finally:
        await database.close()
    return checked


def _print(tenant_id: "TenantId", found: "list[Damage]", events: int) -> None:
    print(f"{tenant_id}: {events} events, {f'{len(found)} DAMAGED' if found else 'ok'}")
    for damage in found[:_SHOWN]:
        print(f"  log position {damage.log_seq}, event {damage.event_id!r}: {damage.what}")
    if len(found) > _SHOWN:
        print(f"  … and {len(found) - _SHOWN} more")


async def _check_with_progress(database: "Database", tenant_id: "TenantId") -> "tuple[list[Damage], int]":
    from rich.console import Console
    from rich.progress import Progress

    from decisiongraph_service.queries import log_audit

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(f"checking {tenant_id}", total=None)
        events = 0

        def progress(done: int, total: int) -> None:
            nonlocal events
            events = done
            bar.update(task, completed=done, total=total)

        return await log_audit.check_log(database, tenant_id, progress=progress), events
