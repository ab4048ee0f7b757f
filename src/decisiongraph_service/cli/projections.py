"""`decisiongraph projections …`: how the projections of a tenant stand, and replaying the log into them."""

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from decisiongraph_service.cli import failure, service_connection

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from decisiongraph.v1 import replay_pb2
    from decisiongraph_service.cli.service_connection import ServiceConnection

_TIMEOUT_SECONDS: Final = 30

app = typer.Typer(help="How the projections of a tenant stand, and replaying the log into them.", no_args_is_help=True)

Server = Annotated[str | None, typer.Option(help="host:port of the gRPC server. Unset: DG_SERVER, or the running one.")]
Tenant = Annotated[str | None, typer.Option(help="Tenant to act in, if the token allows several.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Projection = Annotated[str, typer.Argument(help="context_graph, trace_summary, precedent_index or all.")]
Reason = Annotated[str, typer.Option(help="Why; recorded in the audit log.")]


@app.command()
def status(server: Server = None, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """Show how far each projection is, its digest, open failures and running job."""
    asyncio.run(_status(server, tenant, as_json))


@app.command("catch-up")
def catch_up(
    reason: Reason,
    projection: Projection = "all",
    server: Server = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Apply to the live rows what they lack, and compute their digests. Needs the permission projection_replay."""
    asyncio.run(_replay("catch_up", projection, reason, server, tenant, as_json))


@app.command()
def rebuild(
    reason: Reason,
    projection: Projection = "all",
    server: Server = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Make the rows anew from the log beside the live ones, then switch readers over.

    Reads go on meanwhile. Ctrl-C leaves the job at work; `cancel` ends it and leaves the live rows as they are. Needs
    the permission projection_rebuild.
    """
    asyncio.run(_replay("rebuild", projection, reason, server, tenant, as_json))


@app.command()
def verify(
    reason: Reason,
    projection: Projection = "all",
    server: Server = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Make the rows anew beside the live ones and compare. Changes nothing; exits with 1 if they differ.

    Needs the permission projection_replay.
    """
    asyncio.run(_replay("verify", projection, reason, server, tenant, as_json))


@app.command()
def jobs(server: Server = None, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """List the newest jobs."""
    asyncio.run(_jobs(server, tenant, as_json))


@app.command()
def cancel(
    job_id: Annotated[str, typer.Argument(help="Id of the job.")],
    reason: Reason,
    server: Server = None,
    tenant: Tenant = None,
) -> None:
    """End a job; what it committed to live rows stays."""
    asyncio.run(_cancel(job_id, reason, server, tenant))


@app.command()
def failures(server: Server = None, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """List the events that could not be applied and stop a projection."""
    asyncio.run(_failures(server, tenant, as_json))


@app.command()
def retry(
    projection: Annotated[str, typer.Argument(help="context_graph, trace_summary or precedent_index.")],
    reason: Reason,
    server: Server = None,
    tenant: Tenant = None,
) -> None:
    """Let a stopped projection try again from its position."""
    asyncio.run(_retry(projection, reason, server, tenant))


async def _status(server: str | None, tenant: str | None, as_json: bool) -> None:
    from decisiongraph.v1 import query_service_pb2, query_service_pb2_grpc

    async with service_connection.connect(server, tenant) as connection:
        health = await query_service_pb2_grpc.QueryServiceStub(connection.channel).GetProjectionHealth(
            query_service_pb2.GetProjectionHealthRequest(),
            metadata=connection.metadata("reader"),
            timeout=_TIMEOUT_SECONDS,
        )
    if as_json:
        print(_json(health))
        return
    print(f"log: {health.event_count} events in {health.trace_count} traces")
    for one in health.projections:
        lag = f", {one.lag_events} events behind ({one.lag_seconds:.1f} s)" if one.lag_events else ""
        trouble = f", {one.open_failures} open failures: see `decisiongraph projections failures`"
        job = f", job {one.running_job_id}" if one.running_job_id else ""
        print(
            f"{one.projection:<16} {one.state:<12} at {one.log_seq}{lag}, generation {one.generation}"
            f"{trouble if one.open_failures else ''}{job}"
        )
        digest = f"{one.digest} at {one.digest_log_seq}" if one.digest else "not computed yet; a catch-up computes it"
        print(f"{'':<16} digest {digest}")
    if health.full_digest:
        print(f"{'all':<16} digest {health.full_digest}")


async def _replay(
    mode: str, projection: str, reason: str, server: str | None, tenant: str | None, as_json: bool
) -> None:
    from decisiongraph.v1 import admin_service_pb2, admin_service_pb2_grpc

    async with service_connection.connect(server, tenant) as connection:
        admin = admin_service_pb2_grpc.AdminServiceStub(connection.channel)
        started = await admin.StartReplay(
            admin_service_pb2.StartReplayRequest(projection=projection, mode=mode, reason=reason),
            metadata=connection.metadata("admin"),
            timeout=_TIMEOUT_SECONDS,
        )
        job = await _follow(admin, connection, started.job)
    if as_json:
        print(_json(job))
    else:
        _tell(job)
    if job.status != "completed" or any(not result.matches for result in job.verify_results):
        raise typer.Exit(1)


async def _follow(admin: Any, connection: "ServiceConnection", job: "replay_pb2.ReplayJob") -> "replay_pb2.ReplayJob":
    """Show how far the job is until it ends."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from decisiongraph.v1 import admin_service_pb2

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("events, {task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
    )
    # On standard error, so that what is printed can go into a file.
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(f"{job.mode} {job.projection}", total=None, rate=0.0)
        request = admin_service_pb2.WatchReplayRequest(job_id=job.job_id)
        try:
            async for answer in admin.WatchReplay(request, metadata=connection.metadata("admin")):
                job = answer.job
                bar.update(
                    task,
                    completed=job.progress.done_events,
                    total=job.progress.total_events or None,
                    rate=job.progress.events_per_second,
                )
        except asyncio.CancelledError:
            failure.exit_with(
                f"job {job.job_id} goes on; see `decisiongraph projections jobs`, or end it with "
                f"`decisiongraph projections cancel {job.job_id} --reason …`"
            )
    return job


def _tell(job: "replay_pb2.ReplayJob") -> None:
    print(f"{job.mode} {job.projection}: {job.status}, {job.processed_events} events up to {job.last_log_seq}")
    if job.error_code:
        print(f"  {job.error_code}: {job.error_message}")
    for result in job.verify_results:
        if result.matches:
            print(f"  {result.projection:<16} matches at {result.log_seq}: {result.live_digest}")
        else:
            print(f"  {result.projection:<16} DIFFERS at {result.log_seq}, first in {result.first_difference!r}")
            print(f"  {'':<16} live     {result.live_digest}")
            print(f"  {'':<16} expected {result.expected_digest}")
            print(f"  {'':<16} `decisiongraph projections rebuild {result.projection}` makes them anew")


async def _ask(server: str | None, tenant: str | None, rpc: str, request: "Message") -> Any:
    """Call a unary rpc of AdminService."""
    from decisiongraph.v1 import admin_service_pb2_grpc

    async with service_connection.connect(server, tenant) as connection:
        call = getattr(admin_service_pb2_grpc.AdminServiceStub(connection.channel), rpc)
        return await call(request, metadata=connection.metadata("admin"), timeout=_TIMEOUT_SECONDS)


async def _jobs(server: str | None, tenant: str | None, as_json: bool) -> None:
    from decisiongraph.v1 import admin_service_pb2

    found = await _ask(server, tenant, "ListReplays", admin_service_pb2.ListReplaysRequest(page_size=20))
    if as_json:
        print(_json(found))
        return
    for job in found.jobs:
        progress = f"{job.progress.done_events}/{job.progress.total_events} events"
        print(f"{job.job_id}  {job.requested_at}  {job.mode:<8} {job.projection:<16} {job.status:<10} {progress}")
    if not found.jobs:
        print("no jobs")


async def _cancel(job_id: str, reason: str, server: str | None, tenant: str | None) -> None:
    from decisiongraph.v1 import admin_service_pb2

    request = admin_service_pb2.CancelReplayRequest(job_id=job_id, reason=reason)
    _tell((await _ask(server, tenant, "CancelReplay", request)).job)


async def _failures(server: str | None, tenant: str | None, as_json: bool) -> None:
    from decisiongraph.v1 import admin_service_pb2

    request = admin_service_pb2.ListProjectionFailuresRequest(page_size=100)
    found = await _ask(server, tenant, "ListProjectionFailures", request)
    if as_json:
        print(_json(found))
        return
    for one in found.failures:
        print(
            f"{one.projection:<16} stopped before log position {one.log_seq}, event {one.event_id!r}, {one.failed_at}"
        )
        print(f"{'':<16} {one.category}: {one.message}; retried {one.retry_count} times")
    if not found.failures:
        print("no open failures")


async def _retry(projection: str, reason: str, server: str | None, tenant: str | None) -> None:
    from decisiongraph.v1 import admin_service_pb2

    request = admin_service_pb2.RetryProjectionRequest(projection=projection, reason=reason)
    one = (await _ask(server, tenant, "RetryProjection", request)).projection
    print(f"{one.projection} tries again from {one.log_seq}; see `decisiongraph projections status`")


def _json(message: "Message") -> str:
    from google.protobuf import json_format

    as_dict = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return json.dumps(as_dict, indent=2, ensure_ascii=False)
