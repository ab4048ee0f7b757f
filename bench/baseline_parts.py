"""The parts of the baseline: what each measures, and which of its figures are ratios."""

import dataclasses
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench import cases, footprint, growth, machine, observability, open_load, report, resting, stack
from bench.cases import Bench, Measurement, spread
from bench.ratios import Ratio, Ratios

_INGESTION: Final = "a1,a64,b1,b64,c4,d4,e64,ea64,f,f1,q,q64"
_COST_EVENTS: Final = 10_000
_MEMORY_SECONDS: Final = 20.0
_MEMORY_GOAL_MIB: Final = 400e6 / 2**20
_LATENCIES: Final = ("p50_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms")


@dataclass
class Run:
    """How often and how long is measured, and what later parts need of earlier ones."""

    repeats: int
    seconds: float
    note: Callable[[str], None]
    machine: dict[str, Any] = field(default_factory=dict)
    most_per_second: float | None = None
    """Events that 64 callers append who wait for their answers."""


@dataclass(frozen=True)
class Found:
    """What a part has measured."""

    figures: Any
    """For the JSON file."""
    lines: Sequence[str]
    """For reading."""
    ratios: Mapping[str, Ratio]


@dataclass(frozen=True, slots=True)
class Part:
    """Something that is measured on a stack of its own."""

    name: str
    title: str
    measure: Callable[[Run], Awaitable[Found]]


async def _ingestion(run: Run) -> Found:
    """The cases of bench.ingest, each once and then all once more."""
    async with stack.running() as running:
        run.machine.update(await machine.describe(running))
        wanted = cases.chosen(_INGESTION)
        runs = await cases.repeated(Bench(running, run.seconds), wanted, run.repeats, run.note)
    run.most_per_second = _median(runs["b64"], "events_per_second")
    ratios = Ratios()
    for goal in report.judged(runs):
        if "/s" not in goal["goal"]:
            ratios[goal["goal"]] = Ratio(goal["median"], "lower" if _is_latency(goal["goal"]) else "higher")
    processor = [
        b["server_us_per_event"] / a["server_us_per_event"] for b, a in zip(runs["b64"], runs["a64"], strict=True)
    ]
    ratios["processor time of AppendEvent / empty handler, 64 callers"] = Ratio(statistics.median(processor), "lower")
    lines = [
        f"{name:6} {case['title']:40} {_told(case['events_per_second'], '{:>8,.0f}')} events/s   "
        f"{_ranks(case)} ms   {_us(case)}"
        for name, case in report.summary(runs).items()
    ]
    return Found({"cases": report.summary(runs), "goals": report.judged(runs)}, lines, ratios)


def _is_latency(goal: str) -> bool:
    return "p50" in goal or "p99" in goal


def _ranks(case: Mapping[str, Any]) -> str:
    return "  ".join(f"{name.removesuffix('_ms')} {case[name]['median']:7.2f}" for name in _LATENCIES[:3])


def _us(case: Mapping[str, Any]) -> str:
    return f"{case['server_us_per_event']['median']:6,.0f} us/event" if "server_us_per_event" in case else ""


async def _open_load(run: Run) -> Found:
    async with stack.running() as running:
        bench = Bench(running, run.seconds)
        most = run.most_per_second
        if most is None:
            (case,) = cases.chosen("b64")
            most = statistics.median([(await case.run(bench))["events_per_second"] for _ in range(run.repeats)])
        loads = await open_load.OpenLoad.on_a_log(bench, most_per_second=most, note=run.note)
        runs: dict[str, list[Measurement]] = {}
        for repeat in range(run.repeats):
            for way in open_load.WAYS:
                for share in open_load.SHARES:
                    title = f"AppendEvent by {way}, {share:.0%} ({share * most:,.0f} calls/s)"
                    runs.setdefault(title, []).append(await loads.appends(way, share * most))
                    run.note(f"{repeat + 1}/{run.repeats} {title}: p99 {runs[title][-1]['p99_ms']:.1f} ms")
            for title, figures in (await loads.beside_reads()).items():
                runs.setdefault(f"mixed: {title}", []).append(figures)
    lines = [
        f"{title:48} "
        + "  ".join(f"{name.removesuffix('_ms')} {_median(of_title, name):8.2f}" for name in _LATENCIES)
        + f" ms   {_median(of_title, 'events_per_second'):7,.0f}/s"
        for title, of_title in runs.items()
    ]
    spreads = {title: {name: spread([one[name] for one in of]) for name in _LATENCIES} for title, of in runs.items()}
    return Found({"most_per_second": most, "loads": spreads}, lines, {})


async def _costs(run: Run) -> Found:
    async with stack.running() as running:
        found = await footprint.measure(running, _COST_EVENTS, run.note)
    ratios = Ratios()
    for title, cost in found.items():
        # One caller's commits and the projector's batches take turns as the machine pleases; with them pages of WAL.
        if "1 caller" not in title:
            ratios[f"WAL bytes per event of {title}"] = Ratio(cost.wal_bytes, "lower", "bytes")
            ratios[f"table bytes per event of {title}"] = Ratio(cost.table_bytes, "lower", "bytes")
    figures = {title: dataclasses.asdict(cost) for title, cost in found.items()}
    return Found(figures, [cost.line(title) for title, cost in found.items()], ratios)


async def _memory(run: Run) -> Found:
    memory = await resting.measure(seconds=_MEMORY_SECONDS, note=run.note)
    held = sum(memory.at_rest.values())
    met = "met" if held <= _MEMORY_GOAL_MIB else "NOT MET"
    lines = [*memory.lines(), f"goal: at rest under {_MEMORY_GOAL_MIB:.0f} MiB: {met}"]
    return Found(dataclasses.asdict(memory), lines, {"MiB of the stack at rest": Ratio(held, "lower", "bytes")})


async def _growth(run: Run) -> Found:
    async with stack.running() as running:
        found = await growth.measure(Bench(running, run.seconds), repeats=run.repeats, note=run.note)
    shorter, longer = found.values()
    lines, ratios = [], Ratios()
    for title in shorter:
        before, after = (_median(runs[title], "p50_ms") for runs in (shorter, longer))
        lines.append(f"{title:36} p50 {before:8.2f} -> {after:8.2f} ms   times {after / before:.2f}")
        ratios[f"p50 with {growth.TIMES} times the events / before, {title}"] = Ratio(after / before, "lower")
    return Found({str(events): runs for events, runs in found.items()}, lines, ratios)


async def _observability(run: Run) -> Found:
    async with stack.running() as running:
        # Small differences: many short runs in turns find them sooner than few long ones.
        found = await observability.measure(running, repeats=5 * run.repeats, seconds=run.seconds / 2, note=run.note)
    ratios = Ratios()
    for load, of_load in found.items():
        for way, (rate, processor) in observability.shares(of_load).items():
            if way not in (observability.UNOBSERVED, observability.CONTROL):
                ratios[f"{load}, rate with {way} / with nothing"] = Ratio(rate, "higher")
                ratios[f"{load}, processor time with {way} / with nothing"] = Ratio(processor, "lower")
    return Found(found, observability.lines(found), ratios)


PARTS: Final = (
    Part("ingestion", "ingestion beside its ceilings", _ingestion),
    Part("open_load", "latency when calls come at their own pace", _open_load),
    Part("costs", "bytes and processor time of an event", _costs),
    Part("memory", "memory of the whole stack", _memory),
    Part("growth", "ten times the data", _growth),
    Part("observability", "what it costs to be observed", _observability),
)


def chosen(only: str | None) -> list[Part]:
    """The parts that are named.

    Raises:
        ValueError: a name that no part has.
    """
    if only is None:
        return list(PARTS)
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    for name in wanted:
        if name not in {part.name for part in PARTS}:
            raise ValueError(f"no part is named {name}; there are {', '.join(part.name for part in PARTS)}")
    return [part for part in PARTS if part.name in wanted]


def _median(runs: Sequence[Measurement], figure: str) -> float:
    return statistics.median(run[figure] for run in runs)


def _told(values: Mapping[str, float], form: str) -> str:
    return (
        f"{form.format(values['median'])} ({form.format(values['min']).strip()} - {form.format(values['max']).strip()})"
    )
