"""`decisiongraph health`: whether the service lives and is ready, and how far its projections are."""

from typing import TYPE_CHECKING, Any, Final

import typer

from decisiongraph_service.cli import failure, output, projections, service_connection
from decisiongraph_service.cli.options import AsJson, Server, Tenant

if TYPE_CHECKING:
    from decisiongraph.v1.query_service_pb2 import GetProjectionHealthResponse
    from decisiongraph_client import Client

_CALL_SECONDS: Final = 10.0


def health(server: Server = None, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """Show whether the service lives and is ready, and how far the projections of the tenant are.

    Liveness and readiness need no token; projections are shown if it is known who calls, with the role reader. With
    --json an object: server, live, version, ready, checks, problem, and projections as GetProjectionHealth answers.

    Exit codes: 0 ready; 1 not ready, or the projections of the tenant have failed or cannot be asked for.
    """
    from decisiongraph_client import RetryPolicy, errors

    place = service_connection.find(server, anonymous=True)
    standing: GetProjectionHealthResponse | None = None
    with service_connection.client(
        place, "reader", tenant, timeout=_CALL_SECONDS, retries=RetryPolicy(attempts=1)
    ) as client:
        told = {"server": place.name, **_look(client)}
        if told["ready"] and place.has_identity:
            try:
                standing = client.get_projection_health()
            except errors.ServiceError as error:
                told["problem"] = failure.of_service(error, place.name)
    if as_json:
        output.print_json({**told, "projections": None if standing is None else output.as_dict(standing)})
    else:
        _print(told)
        if standing is not None:
            projections.print_health(standing)
    has_failed = standing is not None and any(one.state == "failed" for one in standing.projections)
    if told["problem"] or has_failed:
        raise typer.Exit(1)


def _look(client: "Client") -> dict[str, Any]:
    from decisiongraph_client import errors

    told: dict[str, Any] = {"live": False, "version": "", "ready": False, "checks": [], "problem": ""}
    try:
        told |= {"version": client.get_liveness().version, "live": True}
        checks = [output.as_dict(check) for check in client.get_readiness().checks]
        told |= {"checks": checks, "ready": True}
    except errors.ServiceError as error:
        told["problem"] = f"{error.code.name}: {error.message}"
    return told


def _print(told: dict[str, Any]) -> None:
    print(f"server: {told['server']}, {'live, version ' + told['version'] if told['live'] else 'not live'}")
    checks = ", ".join(f"{check['name']} {check['status']}" for check in told["checks"])
    if told["ready"]:
        print(f"ready: {checks}")
    if told["problem"]:
        print(f"{'projections' if told['ready'] else 'not ready'}: {output.plain(told['problem'])}")
