"""`decisiongraph bench …`: a light load of one's own service."""

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from decisiongraph_service.cli import configuration, database_url, failure, output, service_connection
from decisiongraph_service.cli.group import Group
from decisiongraph_service.cli.options import AsJson, Server, Tenant

if TYPE_CHECKING:
    from decisiongraph_service.cli.load import Load
    from decisiongraph_service.cli.service_connection import Place

app = Group(help="A light load of your own service: how fast it answers from here.")

TENANT: Final = "bench"
"""Where the load goes on the service of `decisiongraph run`."""
_CALL_SECONDS: Final = 30.0
_COLUMNS: Final = ("rpc", "calls", "per_second", "p50_ms", "p90_ms", "p99_ms", "max_ms", "failures")

Seconds = Annotated[int, typer.Option(min=1, max=300, help="How long.")]
Callers = Annotated[int, typer.Option(min=1, max=64, help="So many at once, each one call after the other.")]
Yes = Annotated[
    bool, typer.Option("--yes", help="Also on a service that is not the `decisiongraph run` of this folder.")
]


@app.named("append")
def append(
    seconds: Seconds = 10,
    callers: Callers = 4,
    yes: Yes = False,
    server: Server = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Append events, one a call, and show how long that took.

    The events stay in the log for good: on the service of `decisiongraph run` in a tenant of their own, `bench`,
    elsewhere in the tenant that the account acts in, in traces whose ids begin with `bench-`. One Python process makes
    the load, so it shows what a caller sees and not what the service can do at most.

    With --json an object: server, tenant, seconds, callers, and per rpc calls, per_second, p50_ms, p90_ms, p99_ms,
    max_ms, failures by reason. Exits with 1 if no call was answered.
    """
    _bench("append", seconds, callers, yes, server, tenant, as_json)


@app.named("read")
def read(
    seconds: Seconds = 10,
    callers: Callers = 4,
    yes: Yes = False,
    server: Server = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Read traces, lists, graphs and precedents in turn, and show how long that took.

    Appends 200 events before, to have something of its own to read; otherwise as `bench append`. Needs the roles reader
    and writer.
    """
    _bench("read", seconds, callers, yes, server, tenant, as_json)


def _bench(
    kind: Literal["append", "read"],
    seconds: int,
    callers: int,
    yes: bool,
    server: str | None,
    tenant: str | None,
    as_json: bool,
) -> None:
    import asyncio

    from decisiongraph_client import errors

    place = service_connection.find(server)
    if not yes and not (place.of_run and service_connection.is_on_this_machine(place)):
        failure.exit_with(
            f"{place.name} is not the service of a `decisiongraph run` in this folder: a load may disturb others, "
            "and what it appends stays in the log for good; say --yes if that is right"
        )
    place, tenant = _own_tenant(place, tenant)
    if sys.stderr.isatty():
        print(f"{kind} for {seconds} s by {callers} callers at {place.name} ...", file=sys.stderr)
    try:
        load = asyncio.run(_run(kind, place, tenant, seconds, callers))
    except errors.ServiceError as error:
        failure.exit_with(failure.of_service(error, place.name))
    _print(load, {"server": place.name, "tenant": tenant, "callers": callers}, as_json)
    if not any(measured.seconds for measured in load.by_rpc.values()):
        raise typer.Exit(1)


async def _run(
    kind: Literal["append", "read"], place: "Place", tenant: str | None, seconds: int, callers: int
) -> "Load":
    import secrets

    from decisiongraph_client import AsyncClient, RetryPolicy
    from decisiongraph_service.cli import load

    run_id = secrets.token_hex(4)
    async with AsyncClient(
        place.server,
        **service_connection.identity(place, "writer"),
        tenant=tenant,
        timeout=_CALL_SECONDS,
        retries=RetryPolicy(attempts=1),
    ) as client:
        calls = load.appending(client, run_id) if kind == "append" else await load.reading(client, run_id)
        return await load.run(calls, seconds=seconds, callers=callers)


def _own_tenant(place: "Place", tenant: str | None) -> "tuple[Place, str | None]":
    """On the service of `decisiongraph run` a tenant of its own, unless it is told which one or who calls."""
    if not place.of_run or tenant is not None or place.api_key or place.token(""):
        return place, tenant
    import asyncio

    from decisiongraph_service.domain import errors
    from decisiongraph_service.runtime import demo

    settings = configuration.settings()
    try:
        asyncio.run(demo.create_tenant(database_url.find(settings), TENANT))
        token = demo.development_token(
            settings, tenant_id=TENANT, roles=["reader", "writer"], account_id="decisiongraph-bench"
        )
    except errors.DecisionGraphError as error:
        failure.exit_with(error.message)
    except ValueError as error:
        failure.exit_with(str(error))
    return replace(place, tokens={"": token}), TENANT


def _print(load: "Load", told: dict[str, Any], as_json: bool) -> None:
    rpcs = [measured.as_dict(rpc, load.lasted) for rpc, measured in sorted(load.by_rpc.items())]
    if as_json:
        output.print_json({**told, "seconds": round(load.lasted, 2), "rpcs": rpcs})
        return
    for row in rpcs:
        row["failures"] = ", ".join(f"{count} {reason}" for reason, count in row["failures"].items())
    output.print_table(rpcs, _COLUMNS)
