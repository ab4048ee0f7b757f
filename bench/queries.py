"""Measures queries beside the ceiling that they are judged by.

`python -m bench.queries` starts a Postgres, the service, an empty server and Envoy of its own, makes a log, waits for
its projections, and asks every kind of question by gRPC, by REST and by bare statements. Needs Go only to tell its
version. See docs/benchmarks/QUERIES.md.
"""

import argparse
import asyncio
import contextlib
import functools
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
from rich.console import Console

from bench import machine, query_cases, query_freshness, query_log, query_report, stack
from bench.bare_queries import BareQueries, Step
from bench.cases import Measurement
from bench.query_calls import CallFailed, GrpcCaller, NotImplementedYet, RestCaller, figures, timed
from bench.query_cases import Case
from bench.query_log import Shape
from bench.query_rows import RowCounter
from bench.stack import Stack
from decisiongraph.v1 import ingestion_service_pb2, query_service_pb2

_OUTPUT: Final = Path(__file__).parent.parent / ".run" / "bench" / "queries.json"
_WIDTH: Final = 200
_HUB_PAGES: Final = 10
_FRESH_RPCS: Final = ("GetTrace", "ListNodeEdges")
_STILL_SECONDS: Final = 120
_FAILED: Final = "failed: "
_COMPARED: Final = 10
"""So many answers of a case are compared with those of the bare statements."""
_POSITION: Final = """
    SELECT coalesce(min(log_seq), 0)
    FROM projection_generations
    WHERE tenant_id = $1 AND state = 'live'
"""
_WAKE: Final = "SELECT pg_notify('decisiongraph_commits', $1)"

_Note = Callable[[str], None]
_Way = Callable[[int], Awaitable[object]]


@dataclass
class _Bench:
    """One run: whom to ask, and what was seen until now."""

    running: Stack
    arguments: argparse.Namespace
    note: _Note
    shape: Shape
    grpc: GrpcCaller
    rest: RestCaller
    empty_grpc: GrpcCaller
    empty_rest: RestCaller
    bare: BareQueries
    cases: Sequence[Case] = ()
    runs: dict[str, list[Measurement]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    """By case, why it has no figures, or in what its answer differs from that of the bare statements."""
    without_bare: set[str] = field(default_factory=set)
    """Cases that the bare statements fail for."""


async def make_log(running: Stack, tenant_id: str, shape: Shape, note: _Note) -> dict[str, float]:
    """Fill the tenant's log and wait for its projections; returns what both took, in seconds."""
    began = time.perf_counter()
    await query_log.load(running.connection, tenant_id, shape, note)
    loaded = time.perf_counter()
    await running.connection.execute(_WAKE, json.dumps([tenant_id]))
    position, moved, told = 0, loaded, loaded
    while position < shape.events:
        await asyncio.sleep(0.2)
        now, before = time.perf_counter(), position
        position = int(await running.connection.fetchval(_POSITION, tenant_id))
        moved = now if position > before else moved
        if now - moved > _STILL_SECONDS:
            raise RuntimeError(f"the projections stay at {position} of {shape.events}")
        if now - told >= 5:
            told = now
            note(f"{position:,} of {shape.events:,} events are projected")
    projected = time.perf_counter()
    note("collecting statistics of the tables ...")
    # With the vacuum that would come by itself sooner or later, so that it does not come while something is measured.
    await running.connection.execute("VACUUM (ANALYZE)", timeout=1200)
    await running.connection.execute("CHECKPOINT", timeout=1200)
    return {"load_seconds": loaded - began, "projection_seconds": projected - loaded}


@contextlib.asynccontextmanager
async def _callers(
    running: Stack, arguments: argparse.Namespace, note: _Note, tenant: tuple[str, Mapping[str, str]], shape: Shape
) -> AsyncIterator[_Bench]:
    tenant_id, headers = tenant
    with contextlib.ExitStack() as opened:
        grpc, empty_grpc = (GrpcCaller(address, headers) for address in (running.service, running.empty))
        rest, empty_rest = (RestCaller(url, headers) for url in (running.rest, running.empty_rest))
        for caller in (grpc, empty_grpc, rest, empty_rest):
            opened.callback(caller.close)
        async with BareQueries.opened(running.dsn, tenant_id) as bare:
            yield _Bench(running, arguments, note, shape, grpc, rest, empty_grpc, empty_rest, bare)


def _look_for_hub_pages(bench: _Bench) -> list[str]:
    """Page tokens all over the edges of the hub, whose places the bare queries then know too."""
    token = ""
    size = max(1, bench.shape.hub_edges // _HUB_PAGES)
    while len(bench.bare.places) < _HUB_PAGES - 1:
        request = query_service_pb2.ListNodeEdgesRequest(
            node_type="entity", node_id=":".join(query_log.HUB), page_size=size, page_token=token
        )
        answer: Any = bench.grpc.ask("ListNodeEdges", request)
        if not answer.HasField("next_page_token"):
            break
        token = answer.next_page_token
        bench.bare.places[token] = (answer.edges[-1].log_seq, answer.edges[-1].edge_id)
    return list(bench.bare.places)


async def _first_look(bench: _Bench, case: Case) -> bool:
    """Ask by every way, and compare some of the answers; False if the case cannot be measured."""
    for number in range(min(_COMPARED, len(case.requests))):
        request = case.request(number)
        try:
            answer = bench.grpc.ask(case.rpc, request)
            bench.rest.ask(query_cases.rest_path(case.rpc, request))
            plan = await bench.bare.plan(case.rpc, request)
            difference = await bench.bare.disagreement(plan, answer)
        except NotImplementedYet:
            bench.notes[case.name] = "not implemented"
            return False
        except CallFailed as error:
            bench.notes[case.name] = f"{_FAILED}{error}"
            return False
        except asyncpg.PostgresError as error:
            bench.notes[case.name] = f"no bare statements: {error}"
            bench.without_bare.add(case.name)
            return True
        if difference is not None:
            bench.notes[case.name] = f"not the answer of the bare statements: {difference}"
            return True
    return True


async def _ways(bench: _Bench, case: Case, numbers: range) -> dict[str, _Way]:
    """One call of a case by each way in, by its number; everything that can be made beforehand is."""
    requests = {number: case.request(number) for number in numbers}
    paths = {number: query_cases.rest_path(case.rpc, request) for number, request in requests.items()}

    async def by_grpc(number: int) -> object:
        return bench.grpc.ask(case.rpc, requests[number])

    async def by_rest(number: int) -> object:
        return bench.rest.ask(paths[number])

    if case.name in bench.without_bare:
        return {"grpc": by_grpc, "rest": by_rest}
    plans: dict[int, list[Step]] = {
        number: await bench.bare.plan(case.rpc, request) for number, request in requests.items()
    }

    async def by_bare(number: int) -> None:
        await bench.bare.run(plans[number])

    return {"grpc": by_grpc, "rest": by_rest, "bare": by_bare}


def _empty_ways(bench: _Bench) -> dict[str, _Way]:
    async def by_grpc(_: int) -> object:
        return bench.empty_grpc.append(ingestion_service_pb2.AppendEventRequest())

    async def by_rest(_: int) -> object:
        return bench.empty_rest.ask("/api/v1/events", body="{}")

    return {"grpc": by_grpc, "rest": by_rest}


async def _measure(bench: _Bench, ways: Mapping[str, _Way], first: int, repeat: int) -> Measurement:
    """One way after another; which is first changes from repeat to repeat, for it finds the rows least at hand."""
    found: Measurement = {}
    names = list(ways)
    turn = repeat % len(names)
    for name in names[turn:] + names[:turn]:
        taken = await timed(
            ways[name],
            first=first,
            warmup=bench.arguments.warmup,
            calls=bench.arguments.calls,
            most_seconds=bench.arguments.most_seconds,
        )
        found.update(figures(name, taken))
    return found


async def _repeat(bench: _Bench, cases: Sequence[Case], repeat: int) -> None:
    """The empty call and then each case by all ways. A case that fails is not measured any more."""
    calls, warmup = bench.arguments.calls, bench.arguments.warmup
    first = repeat * (calls + warmup) + warmup
    empty = await _measure(bench, _empty_ways(bench), first, repeat)
    bench.runs.setdefault(query_report.EMPTY, []).append(empty)
    for case in cases:
        if bench.notes.get(case.name, "").startswith(_FAILED):
            continue
        try:
            ways = await _ways(bench, case, range(first - warmup, first + calls))
            run = query_report.with_ratios(await _measure(bench, ways, first, repeat), empty)
        except CallFailed as error:
            bench.notes[case.name] = told = f"{_FAILED}{error}"
            bench.runs.pop(case.name, None)
        else:
            bench.runs.setdefault(case.name, []).append(run)
            told = query_report.in_a_line(run)
        bench.note(f"{repeat + 1}/{bench.arguments.repeats} {case.name:16} {told}")


def _ask(bench: _Bench, case: Case, number: int) -> None:
    bench.grpc.ask(case.rpc, case.request(number))


async def _count_rows(bench: _Bench, cases: Sequence[Case]) -> None:
    counter = RowCounter(bench.running.connection)
    idle = await counter.look_at_idle()
    bench.note(f"rows: without calls {idle.table_rows:.0f} rows and {idle.index_entries:.0f} entries a second")
    for case in cases:
        read = await counter.per_call(functools.partial(_ask, bench, case))
        for run in bench.runs[case.name]:
            run.update(table_rows=read.table_rows, index_entries=read.index_entries)
        bench.note(f"rows: {case.name:16} {read.table_rows:10,.1f} rows  {read.index_entries:10,.1f} entries a call")


def _measure_freshness(bench: _Bench) -> None:
    for repeat in range(bench.arguments.repeats):
        for rpc in _FRESH_RPCS:
            run = query_freshness.measure(bench.grpc, rpc)
            bench.runs.setdefault(query_report.fresh(rpc), []).append(run)
            bench.note(
                f"{repeat + 1}/{bench.arguments.repeats} {rpc} of an own write: p50 {run['own_p50_ms']:.2f}, "
                f"p95 {run['own_p95_ms']:.2f}, again {run['again_p50_ms']:.2f} ms"
            )


async def _all(bench: _Bench) -> None:
    bench.cases = query_cases.build(bench.shape, _look_for_hub_pages(bench))
    if bench.arguments.only:
        bench.cases = [case for case in bench.cases if case.name in bench.arguments.only]
    able = []
    for case in bench.cases:
        if await _first_look(bench, case):
            able.append(case)
        if case.name in bench.notes:
            bench.note(f"{case.name}: {bench.notes[case.name]}")
    for repeat in range(bench.arguments.repeats):
        await _repeat(bench, able, repeat)
    able = [case for case in able if case.name in bench.runs]
    if not bench.arguments.skip_rows:
        await _count_rows(bench, able)
    _measure_freshness(bench)


async def _bench(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    def note(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    note("starting Postgres, servers and Envoys ...")
    shape = Shape.of(arguments.events)
    async with stack.running() as running:
        tenant = await running.tenant()
        result: dict[str, Any] = {
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": await machine.describe(running),
            "events": shape.events,
            "finished_traces": shape.finished,
            "hub_edges": shape.hub_edges,
            "repeats": arguments.repeats,
            "calls": arguments.calls,
            **await make_log(running, tenant[0], shape, note),
            "load_average_before": machine.load_average(),
        }
        async with _callers(running, arguments, note, tenant, shape) as bench:
            await _all(bench)
        result["load_average_after"] = machine.load_average()
    result["cases"] = query_report.summary(bench.runs)
    result["notes"] = bench.notes
    result["goals"] = query_report.judged(bench.cases, bench.runs, _FRESH_RPCS)
    result["runs"] = bench.runs
    tables = Console(width=_WIDTH)
    tables.print(query_report.figures_table(bench.cases, bench.runs, bench.notes))
    for name, text in bench.notes.items():
        tables.print(f"{name}: {text}", highlight=False, markup=False)
    tables.print(query_report.freshness_table(bench.runs, _FRESH_RPCS))
    tables.print(query_report.goals_table(result["goals"]))
    return result


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.queries",
        description="Measure queries beside the ceiling that they are judged by.",
    )
    parser.add_argument("--events", type=int, default=1_000_000, help="length of the log (default: 1000000)")
    parser.add_argument("--calls", type=int, default=200, help="measured calls of a case by each way (default: 200)")
    parser.add_argument("--warmup", type=int, default=20, help="calls before them (default: 20)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of everything; medians are told (default: 3)")
    parser.add_argument(
        "--most-seconds", type=float, default=20.0, help="a case ends after so long by each way (default: 20)"
    )
    parser.add_argument("--skip-rows", action="store_true", help="do not count rows, which takes 12 seconds a case")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), metavar="CASE,CASE", help="only the cases of these names"
    )
    parser.add_argument(
        "--json", type=Path, default=_OUTPUT, metavar="FILE", help=f"where to write (default: {_OUTPUT})"
    )
    arguments = parser.parse_args()
    if arguments.events < query_log.LEAST_EVENTS:
        parser.error(f"--events must be at least {query_log.LEAST_EVENTS}")
    if min(arguments.calls, arguments.repeats) < 1 or arguments.warmup < 0:
        parser.error("--calls and --repeats must be greater than 0, --warmup not below it")
    return arguments


def main() -> None:
    """Run the command line."""
    arguments = _arguments()
    console = Console(stderr=True)
    try:
        result = asyncio.run(_bench(arguments, console))
    except (CallFailed, RuntimeError) as error:
        console.print(f"error: {error}", highlight=False, markup=False)
        sys.exit(1)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    console.print(f"written to {arguments.json}", highlight=False, markup=False)


if __name__ == "__main__":
    main()
