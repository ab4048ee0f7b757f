"""What is measured: each case by its name, and one run of it."""

import statistics
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from bench import bare_insert, load_program
from bench.load_program import Figures, Group, LoadResult
from bench.stack import CpuTimes, Stack

WARMUP_SECONDS: Final = 1.0
BATCH: Final = 100
_MANY_TENANTS: Final = 50
_QUIET_INTERVAL_MS: Final = 10.0
_MEMORY_EVENTS: Final = 200_000
_MEMORY_SAMPLE_EVENTS: Final = 20_000

Measurement: TypeAlias = dict[str, float]
"""Figures of one run by name."""


class WrongCount(Exception):
    """The log did not grow by what was acknowledged."""


@dataclass
class Bench:
    """One bench run: what is measured, for how long, and what each case's tenants are."""

    stack: Stack
    seconds: float
    tenants: dict[str, Sequence[Mapping[str, str]]] = field(default_factory=dict)

    async def headers(self, name: str, count: int = 1) -> Sequence[Mapping[str, str]]:
        """The headers of the tenants of this name, which stay the same from repeat to repeat."""
        if name not in self.tenants:
            self.tenants[name] = await self.stack.tenants(count)
        return self.tenants[name]

    async def load(self, *groups: Group, stored: bool = True) -> Measurement:
        """Run the load program and return the figures of the first group.

        Raises:
            LoadFailed: a call was not answered with OK.
            WrongCount: not everything that was acknowledged is in the log, or more than that.
        """
        return (await self.load_all(*groups, stored=stored))[0]

    async def load_all(self, *groups: Group, stored: bool = True) -> list[Measurement]:
        """The same, with the figures of every group; how much processor time was used is in each.

        Raises:
            LoadFailed: a call was not answered with OK.
            WrongCount: not everything that was acknowledged is in the log, or more than that.
        """
        await self.stack.settle()
        head, before = await self.stack.total_head(), self.stack.cpu_times()
        result = await load_program.run(groups, run_id=_run_id(), seconds=self.seconds, warmup_seconds=WARMUP_SECONDS)
        used = _used(before, self.stack.cpu_times())
        grown = await self.stack.total_head() - head
        appended = sum(
            figures.acknowledged for group, figures in zip(groups, result.groups, strict=True) if group.requests is None
        )
        if grown != (appended if stored else 0):
            raise WrongCount(f"{appended} events were acknowledged and the log grew by {grown}")
        processor = _processor(result, used, empty=not stored)
        return [{**_figures(figures), **processor} for figures in result.groups]


def _used(before: CpuTimes, after: CpuTimes) -> dict[str, float]:
    return {name: getattr(after, name) - getattr(before, name) for name in CpuTimes.__dataclass_fields__}


def _figures(group: Figures) -> Measurement:
    return {
        "events_per_second": group.events_per_second,
        "p50_ms": group.p50_ms,
        "p95_ms": group.p95_ms,
        "p99_ms": group.p99_ms,
        "p999_ms": group.p999_ms,
        "max_ms": group.max_ms,
    }


def _processor(result: LoadResult, used: Mapping[str, float], *, empty: bool) -> Measurement:
    """Shares of one processor, and what the server used per event."""
    wall = result.wall_seconds
    server = used["empty" if empty else "server"]
    return {
        "server_cpu": server / wall,
        "postgres_cpu": used["postgres"] / wall,
        "envoy_cpu": used["envoys"] / wall,
        "client_cpu": result.client_cpu_seconds / wall,
        "others_cpu": _others(used) / wall,
        "server_us_per_event": server / result.acknowledged * 1e6,
    }


def _others(used: Mapping[str, float]) -> float:
    """Seconds that nothing of this bench has used."""
    return used["machine"] - sum(used[name] for name in CpuTimes.__dataclass_fields__ if name != "machine")


def _run_id() -> str:
    return uuid.uuid4().hex[:8]


async def _empty(bench: Bench, callers: int) -> Measurement:
    headers = await bench.headers("empty")
    return await bench.load(Group("unary", bench.stack.empty, callers, headers), stored=False)


async def _unary(bench: Bench, callers: int, tenants: int) -> Measurement:
    headers = await bench.headers(f"unary-{tenants}", tenants)
    return await bench.load(Group("unary", bench.stack.service, callers, headers))


async def _batches(bench: Bench, callers: int) -> Measurement:
    headers = await bench.headers("batches")
    return await bench.load(
        Group("unary", bench.stack.service, callers, headers, method="AppendEvents", events_per_call=BATCH)
    )


async def _streams(bench: Bench, streams: int) -> Measurement:
    headers = await bench.headers("streams")
    return await bench.load(Group("stream", bench.stack.service, streams, headers, method="IngestEvents"))


async def _rest(bench: Bench, callers: int, *, empty: bool = False) -> Measurement:
    headers = await bench.headers("rest")
    target = bench.stack.empty_rest if empty else bench.stack.rest
    return await bench.load(Group("rest", target, callers, headers), stored=not empty)


async def _bare(bench: Bench, rows_per_transaction: int) -> Measurement:
    await bench.stack.settle()
    before, began = bench.stack.cpu_times(), time.perf_counter()
    figures = await bare_insert.insert(
        bench.stack.connection,
        run_id=_run_id(),
        seconds=bench.seconds,
        rows_per_transaction=rows_per_transaction,
    )
    latencies = figures.seconds
    ranks = {f"p{rank}_ms": latencies[int(len(latencies) * rank / 100)] * 1000 for rank in (50, 95, 99)}
    used, wall = _used(before, bench.stack.cpu_times()), time.perf_counter() - began
    shares = {"postgres_cpu": used["postgres"] / wall, "client_cpu": used["bench"] / wall}
    return {"events_per_second": figures.rows_per_second, **ranks, **shares, "others_cpu": _others(used) / wall}


async def _quiet(bench: Bench, *, flood: int, empty: bool = False) -> Measurement:
    target = bench.stack.empty if empty else bench.stack.service
    quiet = Group("unary", target, 1, await bench.headers("quiet"), interval_ms=_QUIET_INTERVAL_MS, name="quiet")
    flooding = [Group("unary", target, flood, await bench.headers("flood"))] if flood else []
    return await bench.load(quiet, *flooding, stored=not empty)


@dataclass(frozen=True, slots=True)
class Case:
    """Something that is measured."""

    name: str
    title: str
    run: Callable[[Bench], Awaitable[Measurement]]


def _case(name: str, title: str, run: Callable[[Bench], Awaitable[Measurement]]) -> Case:
    return Case(name, title, run)


CASES: Final = (
    _case("a1", "empty handler, 1 caller", lambda bench: _empty(bench, 1)),
    _case("a64", "empty handler, 64 callers", lambda bench: _empty(bench, 64)),
    _case("b1", "AppendEvent, 1 caller", lambda bench: _unary(bench, 1, 1)),
    _case("b8", "AppendEvent, 8 callers", lambda bench: _unary(bench, 8, 1)),
    _case("b64", "AppendEvent, 64 callers", lambda bench: _unary(bench, 64, 1)),
    _case("b1t50", "AppendEvent, 1 caller, 50 tenants", lambda bench: _unary(bench, 1, _MANY_TENANTS)),
    _case("b8t50", "AppendEvent, 8 callers, 50 tenants", lambda bench: _unary(bench, 8, _MANY_TENANTS)),
    _case("b64t50", "AppendEvent, 64 callers, 50 tenants", lambda bench: _unary(bench, 64, _MANY_TENANTS)),
    _case("c1", f"AppendEvents of {BATCH}, 1 caller", lambda bench: _batches(bench, 1)),
    _case("c4", f"AppendEvents of {BATCH}, 4 callers", lambda bench: _batches(bench, 4)),
    _case("d1", "IngestEvents, 1 stream", lambda bench: _streams(bench, 1)),
    _case("d4", "IngestEvents, 4 streams", lambda bench: _streams(bench, 4)),
    _case("e64", "REST AppendEvent, 64 callers", lambda bench: _rest(bench, 64)),
    _case("ea64", "REST empty handler, 64 callers", lambda bench: _rest(bench, 64, empty=True)),
    _case(
        "f",
        f"bare insert, {bare_insert.ROWS_PER_TRANSACTION} rows each",
        lambda bench: _bare(bench, bare_insert.ROWS_PER_TRANSACTION),
    ),
    _case("f1", "bare insert and commit of 1 row", lambda bench: _bare(bench, 1)),
    _case("q", "quiet tenant alone, 100 calls/s", lambda bench: _quiet(bench, flood=0)),
    _case("q64", "quiet tenant beside 64 flooding callers", lambda bench: _quiet(bench, flood=64)),
    _case("aq", "empty handler, 100 calls/s", lambda bench: _quiet(bench, flood=0, empty=True)),
    _case("aq64", "empty handler, the same beside 64 callers", lambda bench: _quiet(bench, flood=64, empty=True)),
)


def chosen(only: str | None) -> list[Case]:
    """The cases that are named; a letter names all cases that begin with it.

    Raises:
        ValueError: a name that no case has.
    """
    if only is None:
        return list(CASES)
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    for name in wanted:
        if not any(_names(name, case) for case in CASES):
            raise ValueError(f"no case is named {name}; there are {', '.join(case.name for case in CASES)}")
    return [case for case in CASES if any(_names(name, case) for name in wanted)]


def _names(name: str, case: Case) -> bool:
    return name == case.name or (len(name) == 1 and name.isalpha() and case.name.startswith(name))


async def repeated(
    bench: Bench, wanted: Sequence[Case], repeats: int, note: Callable[[str], None]
) -> dict[str, list[Measurement]]:
    """All cases once, then all once more: what disturbs the machine for a while disturbs figure and ceiling alike.

    Raises:
        LoadFailed: a call was not answered with OK.
        WrongCount: not everything that was acknowledged is in the log, or more than that.
    """
    runs: dict[str, list[Measurement]] = {case.name: [] for case in wanted}
    for repeat in range(repeats):
        for case in wanted:
            figures = await case.run(bench)
            runs[case.name].append(figures)
            note(
                f"{repeat + 1}/{repeats} {case.name:7} {case.title:40} {figures['events_per_second']:9,.0f} events/s"
                f"   p50 {figures['p50_ms']:.2f}  p99 {figures['p99_ms']:.2f} ms"
                f"   (others used {figures.get('others_cpu', 0):.0%} of a core)"
            )
    return runs


async def memory(bench: Bench, note: Callable[[str], None]) -> list[tuple[int, int]]:
    """How many events were sent in all, and how many bytes the server then held, again and again."""
    headers = await bench.headers("memory")
    group = Group("unary", bench.stack.service, 64, headers)
    samples: list[tuple[int, int]] = []
    began = next_sample = await bench.stack.total_head()
    while True:
        sent = await bench.stack.total_head() - began
        if sent + began >= next_sample:
            samples.append((sent, bench.stack.server_memory()))
            next_sample += _MEMORY_SAMPLE_EVENTS
            note(f"memory: {samples[-1][1] / 2**20:.1f} MiB after {sent} events")
        if sent >= _MEMORY_EVENTS:
            return samples
        await bench.load(group)


def spread(runs: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest of the repeats."""
    return {"median": statistics.median(runs), "min": min(runs), "max": max(runs)}
