"""Measures projections beside the ceiling that they are judged by.

`python -m bench.projections` starts a Postgres and the service of its own, and prints how fast logs of several lengths
are caught up and rebuilt, what a digest takes, how far the projections lag behind constant appends, and what a rebuild
costs those who append. Needs Go for the load program. See docs/benchmarks/PROJECTIONS.md.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import grpc
from rich.console import Console

from bench import bare_rows, load_program, log_loader, machine, stack
from bench.load_program import Group
from bench.stack import Stack
from decisiongraph.v1 import admin_service_pb2, admin_service_pb2_grpc, replay_pb2
from decisiongraph_service.projection import rebuild

_OUTPUT: Final = Path(__file__).parent.parent / ".run" / "bench" / "projections.json"
_POSITIONS: Final = """
    SELECT head.log_seq AS head, (SELECT min(log_seq) FROM projection_generations
                                  WHERE tenant_id = $1 AND state = 'live') AS position
    FROM log_heads AS head
    WHERE head.tenant_id = $1
"""
_WAKE: Final = "SELECT pg_notify('decisiongraph_commits', $1)"
_LOOK_SECONDS: Final = 0.005


async def _replay(running: Stack, headers: dict[str, str], mode: str) -> tuple[replay_pb2.ReplayJob, float]:
    """Run a job of all projections to its end; also the seconds from its request to its end, as it tells them."""
    metadata = tuple(headers.items())
    async with grpc.aio.insecure_channel(running.service) as channel:
        admin = admin_service_pb2_grpc.AdminServiceStub(channel)
        request = admin_service_pb2.StartReplayRequest(projection="all", mode=mode, reason="bench")
        job = (await admin.StartReplay(request, metadata=metadata)).job
        async for answer in admin.WatchReplay(
            admin_service_pb2.WatchReplayRequest(job_id=job.job_id), metadata=metadata
        ):
            job = answer.job
    if job.status != "completed":
        raise RuntimeError(f"the {mode} {job.status}: {job.error_message}")
    times = [datetime.fromisoformat(text.removesuffix("Z")) for text in (job.requested_at, job.finished_at)]
    return job, (times[1] - times[0]).total_seconds()


async def _positions(running: Stack, tenant_id: str) -> tuple[int, int]:
    """The head of the log, and how far all projections are."""
    row = await running.connection.fetchrow(_POSITIONS, tenant_id)
    if row is None:
        raise RuntimeError(f"tenant {tenant_id} does not exist")
    return row["head"], row["position"]


async def _length(running: Stack, wanted: int) -> dict[str, float]:
    """Catch-up, digest and rebuild of one log, and the bare insert of its rows."""
    tenant_id, headers = await running.tenant()
    events = await log_loader.load(running.connection, tenant_id, wanted)
    await running.connection.execute("CHECKPOINT")
    began = time.perf_counter()
    await running.connection.execute(_WAKE, json.dumps([tenant_id]))
    while (await _positions(running, tenant_id))[1] < events:  # noqa: ASYNC110 - another process applies them
        await asyncio.sleep(0.01)
    caught_up = time.perf_counter() - began
    # Nothing is left to apply: what the job takes is the digests of all rows.
    digests = (await _replay(running, headers, "catch_up"))[1]
    rebuilt = (await _replay(running, headers, "rebuild"))[1]
    figures = {
        "events": events,
        "catch_up_per_second": events / caught_up,
        "digest_seconds": digests,
        # Its end computes the digests as well.
        "rebuild_per_second": events / max(0.001, rebuilt - digests),
        "rebuild_with_digests_per_second": events / rebuilt,
    }
    if wanted <= 100_000:
        rows = await bare_rows.fetch(running.connection, tenant_id, 2, rebuild.BATCH_EVENTS)
        figures["bare_per_second"] = events / await bare_rows.insert(running.connection, rows)
    return figures


async def _lag(running: Stack, seconds: float) -> dict[str, float]:
    """How long what is committed waits to be projected while 2,000 events/s arrive."""
    tenant_id, headers = await running.tenant()
    group = Group("unary", running.service, 1, [headers], method="AppendEvents", events_per_call=100, interval_ms=50)
    load = asyncio.create_task(load_program.run([group], run_id="1a91a91a", seconds=seconds, warmup_seconds=1))
    waiting: list[tuple[int, float]] = []
    lags: list[float] = []
    seen = 0
    while not load.done() or waiting:
        head, position = await _positions(running, tenant_id)
        now = time.perf_counter()
        if head > seen:
            seen = head
            waiting.append((seen, now))
        while waiting and waiting[0][0] <= position:
            lags.append(1000 * (now - waiting.pop(0)[1]))
        await asyncio.sleep(_LOOK_SECONDS)
    figures = (await load).groups[0]
    lags.sort()
    return {
        "events_per_second": figures.events_per_second,
        "lag_p50_ms": statistics.median(lags),
        "lag_p99_ms": lags[int(len(lags) * 0.99)],
    }


async def _beside(running: Stack, seconds: float, log_events: int) -> dict[str, float]:
    """What an append takes alone, and while another tenant's log is rebuilt again and again."""
    (headers,) = await running.tenants(1)
    group = Group("unary", running.service, 4, [headers], interval_ms=20)
    alone = (await load_program.run([group], run_id="a10ea10e", seconds=seconds, warmup_seconds=1)).groups[0]
    other, other_headers = await running.tenant()
    await log_loader.load(running.connection, other, log_events)
    await running.settle()

    async def rebuild_all_the_time() -> None:
        while True:
            await _replay(running, other_headers, "rebuild")

    rebuilding = asyncio.create_task(rebuild_all_the_time())
    try:
        beside = (await load_program.run([group], run_id="be51debe", seconds=seconds, warmup_seconds=1)).groups[0]
    finally:
        rebuilding.cancel()
    return {
        "alone_p50_ms": alone.p50_ms,
        "alone_p99_ms": alone.p99_ms,
        "beside_p50_ms": beside.p50_ms,
        "beside_p99_ms": beside.p99_ms,
        "p99_ratio": beside.p99_ms / alone.p99_ms,
    }


async def _bench(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    def note(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    note("building the load program, starting Postgres and the server ...")
    await load_program.build()
    async with stack.running() as running:
        result: dict[str, Any] = {
            "machine": await machine.describe(running),
            "load_average_before": machine.load_average(),
            "lengths": [],
            "lag": [],
            "beside": [],
        }
        for repeat in range(arguments.repeats):
            lag = await _lag(running, arguments.seconds)
            note(f"{repeat + 1}/{arguments.repeats} lag at {lag['events_per_second']:,.0f} events/s: {_told(lag)}")
            result["lag"].append(lag)
            beside = await _beside(running, arguments.seconds, 50_000)
            note(f"{repeat + 1}/{arguments.repeats} append alone and beside a rebuild: {_told(beside)}")
            result["beside"].append(beside)
            for events in arguments.events:
                figures = await _length(running, events)
                note(f"{repeat + 1}/{arguments.repeats} {events:,} events: {_told(figures)}")
                result["lengths"].append(figures)
        result["load_average_after"] = machine.load_average()
    return result


def _told(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:,.1f}" for name, value in figures.items())


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.projections",
        description="Measure projections beside the ceiling that they are judged by.",
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs of everything (default: 3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured time of runs under load (default: 5)")
    parser.add_argument(
        "--events",
        type=lambda text: [int(part) for part in text.split(",")],
        default=[10_000, 100_000],
        metavar="N,N",
        help="lengths of the logs (default: 10000,100000); 1000000 takes about five minutes",
    )
    parser.add_argument(
        "--json", type=Path, default=_OUTPUT, metavar="FILE", help=f"where to write (default: {_OUTPUT})"
    )
    arguments = parser.parse_args()
    console = Console(stderr=True)
    try:
        result = asyncio.run(_bench(arguments, console))
    except (load_program.LoadFailed, RuntimeError) as error:
        console.print(f"error: {error}", highlight=False, markup=False)
        sys.exit(1)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    console.print(f"written to {arguments.json}", highlight=False, markup=False)


if __name__ == "__main__":
    main()
