"""`decisiongraph replay …`: jobs that replay the log of a tenant into its projections."""

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from decisiongraph_service.cli import failure, output, service_connection
from decisiongraph_service.cli.group import Group
from decisiongraph_service.cli.options import AsJson, Reason, Server, Tenant

if TYPE_CHECKING:
    from decisiongraph.v1 import replay_pb2
    from decisiongraph_service.cli.service_connection import AdminService

app = Group(help="Jobs that replay the log of a tenant into its projections.")

Mode = Literal["catch_up", "rebuild", "verify"]
Target = Literal["all", "context_graph", "trace_summary", "precedent_index"]
Status = Literal["queued", "running", "completed", "failed", "cancelled"]
JobId = Annotated[str, typer.Argument(help="Id of the job, see `decisiongraph replay list`.")]


@app.named("start")
def start(
    mode: Annotated[Mode, typer.Argument(help="What the job does.")],
    reason: Reason,
    projection: Annotated[Target, typer.Argument(help="What is replayed.")] = "all",
    until: Annotated[
        int | None, typer.Option(min=0, metavar="LOG_SEQ", help="Stop after this position. Unset: the end of the log.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not follow the job: print it and end.")] = False,
    server: Server = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Start a job and follow it to its end. Ctrl-C leaves it at work.

    catch_up applies what the live rows lack and computes digests. rebuild makes the rows anew beside the live ones and
    switches readers over. verify makes them anew, compares, and throws them away. A rebuild needs the permission
    projection_rebuild, the others projection_replay.

    Exits with 1 if the job fails, is cancelled, or finds a difference.
    """
    run(mode, projection, reason, server, tenant, as_json, until=until, detach=detach)


@app.named("list")
def list_jobs(
    projection: Annotated[Target | None, typer.Option(help="Only jobs that were started for this.")] = None,
    status: Annotated[Status | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many jobs, the newest.")] = 20,
    server: Server = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, the newest first."""
    from decisiongraph.v1 import admin_service_pb2

    request = admin_service_pb2.ListReplaysRequest(page_size=limit, projection=projection, status=status)
    with service_connection.admin(server, tenant) as service:
        found = service.call("ListReplays", request)
    if as_json:
        output.print_json([output.as_dict(job) for job in found.jobs])
        return
    for job in found.jobs:
        progress = f"{job.progress.done_events}/{job.progress.total_events} events"
        print(f"{job.job_id}  {job.requested_at}  {job.mode:<8} {job.projection:<16} {job.status:<10} {progress}")
    if not found.jobs:
        print("no jobs")


@app.named("show")
def show(job_id: JobId, server: Server = None, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """Show a job: how far it is, or how it ended."""
    from decisiongraph.v1 import admin_service_pb2

    with service_connection.admin(server, tenant) as service:
        job = service.call("GetReplay", admin_service_pb2.GetReplayRequest(job_id=job_id)).job
    _print(job, as_json)


@app.named("watch")
def watch(job_id: JobId, server: Server = None, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """Follow a job to its end. Ctrl-C leaves it at work.

    Exits with 1 if the job fails, is cancelled, or finds a difference.
    """
    from decisiongraph.v1 import admin_service_pb2

    with service_connection.admin(server, tenant) as service:
        job = service.call("GetReplay", admin_service_pb2.GetReplayRequest(job_id=job_id)).job
        job = _follow(service, job)
    _end_with(job, as_json)


@app.named("cancel")
def cancel(
    job_id: JobId, reason: Reason, server: Server = None, tenant: Tenant = None, as_json: AsJson = False
) -> None:
    """End a job; what it committed to live rows stays."""
    from decisiongraph.v1 import admin_service_pb2

    request = admin_service_pb2.CancelReplayRequest(job_id=job_id, reason=reason)
    with service_connection.admin(server, tenant) as service:
        job = service.call("CancelReplay", request).job
    _print(job, as_json)


def run(
    mode: Mode,
    projection: str,
    reason: str,
    server: str | None,
    tenant: str | None,
    as_json: bool,
    *,
    until: int | None = None,
    detach: bool = False,
) -> None:
    """Start a job, follow it, print it, and end with 1 unless it did what was asked."""
    from decisiongraph.v1 import admin_service_pb2

    request = admin_service_pb2.StartReplayRequest(projection=projection, mode=mode, reason=reason, until_log_seq=until)
    with service_connection.admin(server, tenant) as service:
        job = service.call("StartReplay", request).job
        if detach:
            _print(job, as_json)
            return
        job = _follow(service, job)
    _end_with(job, as_json)


def _follow(service: "AdminService", job: "replay_pb2.ReplayJob") -> "replay_pb2.ReplayJob":
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
        try:
            for answer in service.stream("WatchReplay", admin_service_pb2.WatchReplayRequest(job_id=job.job_id)):
                job = answer.job
                bar.update(
                    task,
                    completed=job.progress.done_events,
                    total=job.progress.total_events or None,
                    rate=job.progress.events_per_second,
                )
        except KeyboardInterrupt:
            failure.exit_with(
                f"job {job.job_id} goes on; see `decisiongraph replay show {job.job_id}`, or end it with "
                f"`decisiongraph replay cancel {job.job_id} --reason …`"
            )
    return job


def _end_with(job: "replay_pb2.ReplayJob", as_json: bool) -> None:
    _print(job, as_json)
    if job.status != "completed" or any(not result.matches for result in job.verify_results):
        raise typer.Exit(1)


def _print(job: "replay_pb2.ReplayJob", as_json: bool) -> None:
    if as_json:
        output.print_json(output.as_dict(job))
        return
    if job.status in ("queued", "running"):
        done = f"{job.progress.done_events}/{job.progress.total_events} events"
        print(f"{job.job_id}: {job.mode} {job.projection}: {job.status}, {done}")
        return
    print(f"{job.mode} {job.projection}: {job.status}, {job.processed_events} events up to {job.last_log_seq}")
    if job.error_code:
        print(f"  {job.error_code}: {output.plain(job.error_message)}")
    for result in job.verify_results:
        if result.matches:
            print(f"  {result.projection:<16} matches at {result.log_seq}: {result.live_digest}")
        else:
            print(f"  {result.projection:<16} DIFFERS at {result.log_seq}, first in {result.first_difference!r}")
            print(f"  {'':<16} live     {result.live_digest}")
            print(f"  {'':<16} expected {result.expected_digest}")
            print(f"  {'':<16} `decisiongraph projections rebuild {result.projection}` makes them anew")
