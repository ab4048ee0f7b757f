"""`decisiongraph projections …`: how the projections of a tenant stand, and what to do when one does not follow."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from decisiongraph_service.cli import output, replay, service_connection
from decisiongraph_service.cli.group import Group
from decisiongraph_service.cli.options import AsJson, Reason, Server, Tenant
from decisiongraph_service.cli.replay import Target

if TYPE_CHECKING:
    from decisiongraph.v1 import query_service_pb2

app = Group(help="How the projections of a tenant stand, and what to do when one does not follow the log.")
# As they were called before there was `decisiongraph replay`.
app.add("jobs", replay.list_jobs, hidden=True)
app.add("cancel", replay.cancel, hidden=True)

Projection = Annotated[Target, typer.Argument(help="Which.")]
OneProjection = Annotated[
    Literal["context_graph", "trace_summary", "precedent_index"], typer.Argument(help="The one that stopped.")
]


@app.named("status")
def status(server: Server = None, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """Show how far each projection is, its digest, open failures and running job."""
    place = service_connection.find(server)
    with service_connection.client(place, "reader", tenant) as client:
        health = client.get_projection_health()
    if as_json:
        output.print_json(output.as_dict(health))
        return
    print_health(health, digests=True)
    if health.full_digest:
        print(f"{'all':<16} digest {health.full_digest}")


@app.named("catch-up")
def catch_up(
    reason: Reason,
    projection: Projection = "all",
    server: Server = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Apply to the live rows what they lack, and compute their digests: `replay start catch_up`.

    Needs the permission projection_replay.
    """
    replay.run("catch_up", projection, reason, server, tenant, as_json)


@app.named("rebuild")
def rebuild(
    reason: Reason,
    projection: Projection = "all",
    server: Server = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Make the rows anew from the log beside the live ones, then switch readers over: `replay start rebuild`.

    Reads go on meanwhile. Ctrl-C leaves the job at work; `replay cancel` ends it and leaves the live rows as they are.
    Needs the permission projection_rebuild.
    """
    replay.run("rebuild", projection, reason, server, tenant, as_json)


@app.named("verify")
def verify(
    reason: Reason,
    projection: Projection = "all",
    server: Server = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Make the rows anew beside the live ones and compare: `replay start verify`.

    Changes nothing; exits with 1 if they differ. Needs the permission projection_replay.
    """
    replay.run("verify", projection, reason, server, tenant, as_json)


@app.named("failures")
def failures(server: Server = None, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """List the events that could not be applied and stop a projection."""
    from decisiongraph.v1 import admin_service_pb2

    with service_connection.admin(server, tenant) as service:
        request = admin_service_pb2.ListProjectionFailuresRequest(page_size=100)
        found = service.call("ListProjectionFailures", request)
    if as_json:
        output.print_json([output.as_dict(one) for one in found.failures])
        return
    for one in found.failures:
        print(
            f"{one.projection:<16} stopped before log position {one.log_seq}, event {one.event_id!r}, {one.failed_at}"
        )
        print(f"{'':<16} {one.category}: {output.plain(one.message)}; retried {one.retry_count} times")
    if not found.failures:
        print("no open failures")


@app.named("retry")
def retry(
    projection: OneProjection, reason: Reason, server: Server = None, tenant: Tenant = None, as_json: AsJson = False
) -> None:
    """Let a stopped projection try again from its position."""
    from decisiongraph.v1 import admin_service_pb2

    request = admin_service_pb2.RetryProjectionRequest(projection=projection, reason=reason)
    with service_connection.admin(server, tenant) as service:
        one = service.call("RetryProjection", request).projection
    if as_json:
        output.print_json(output.as_dict(one))
    else:
        print(f"{one.projection} tries again from {one.log_seq}; see `decisiongraph projections status`")


def print_health(health: "query_service_pb2.GetProjectionHealthResponse", *, digests: bool = False) -> None:
    """Show the log, and how far each projection is; with `digests` what it holds."""
    print(f"log: {health.event_count} events in {health.trace_count} traces")
    for one in health.projections:
        lag = f", {one.lag_events} events behind ({one.lag_seconds:.1f} s)" if one.lag_events else ""
        trouble = f", {one.open_failures} open failures: see `decisiongraph projections failures`"
        job = f", job {one.running_job_id}" if one.running_job_id else ""
        print(
            f"{one.projection:<16} {one.state:<12} at {one.log_seq}{lag}, generation {one.generation}"
            f"{trouble if one.open_failures else ''}{job}"
        )
        if digests:
            digest = (
                f"{one.digest} at {one.digest_log_seq}" if one.digest else "not computed yet; a catch-up computes it"
            )
            print(f"{'':<16} digest {digest}")
