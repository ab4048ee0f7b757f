"""The figures of queries as tables, and the goals that they are judged by."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.table import Table

from bench import report
from bench.cases import Measurement, spread
from bench.query_cases import Case
from bench.report import Goal, Runs

EMPTY: Final = "empty"
"""Name of the runs of the empty call."""
_TIMES_BARE: Final = 2.5


def with_ratios(run: Measurement, empty: Measurement) -> Measurement:
    """The figures of a case in one repeat with what one is of another; `empty`: those of the empty call in it."""
    if "bare_p50_ms" not in run:
        return run
    service = max(0.0, run["grpc_p50_ms"] - empty["grpc_p50_ms"])
    return {
        **run,
        "service_p50_ms": service,
        "grpc_to_bare": run["grpc_p50_ms"] / run["bare_p50_ms"],
        "service_to_bare": service / run["bare_p50_ms"],
    }


def _p95(text: str, name: str, most: float) -> Goal:
    return Goal(f"{text}, p95 ms", (name,), lambda run: run[name]["grpc_p95_ms"], most=most)


_LATENCY_GOALS: Final = (
    _p95("trace of 100 events", "trace100", 8),
    _p95("context graph of depth 2, a trace", "graph2", 25),
    _p95("context graph of depth 2, the hub", "graph2-hub", 25),
    _p95("context graph of depth 2, beside the hub", "graph2-near", 25),
    _p95("precedents of a policy", "prec-policy", 20),
    _p95("precedents ranked by words", "prec-query", 60),
    _p95("precedents like a trace", "prec-like", 60),
    _p95("projection health", "health", 10),
)


def _to_bare(case: Case) -> Goal:
    return Goal(
        f"{case.name}: service time / bare",
        (case.name,),
        lambda run: run[case.name]["service_to_bare"],
        most=_TIMES_BARE,
    )


def _own_write(rpc: str) -> Goal:
    name = fresh(rpc)
    return Goal(f"{rpc} of an own write, p50 ms", (name,), lambda run: run[name]["own_p50_ms"], most=15)


def fresh(rpc: str) -> str:
    """Name of the runs of reads of an own write."""
    return f"fresh {rpc}"


def judged(cases: Sequence[Case], runs: Runs, fresh_rpcs: Sequence[str]) -> list[dict[str, Any]]:
    """Each goal with median and spread of the repeats, and whether the median meets it; None without figures."""
    found: list[dict[str, Any]] = []
    for goal in (*_LATENCY_GOALS, *map(_own_write, fresh_rpcs), *map(_to_bare, cases)):
        told: dict[str, Any] = {"goal": goal.text, "bound": goal.bound, "met": None}
        values = _values(goal, runs)
        if values:
            told.update(spread(values))
            told["met"] = goal.is_met(told["median"])
        found.append(told)
    return found


def _values(goal: Goal, runs: Runs) -> list[float]:
    (name,) = goal.needs
    try:
        return [goal.value({name: run}) for run in runs.get(name, ())]
    except KeyError:
        return []  # a way that the case cannot be measured by


def goals_table(goals: Sequence[Mapping[str, Any]]) -> Table:
    """The goals with what was reached."""
    table = report.goals_table([goal for goal in goals if goal["met"] is not None])
    for goal in goals:
        if goal["met"] is None:
            table.add_row(goal["goal"], goal["bound"], "no figure", "")
    return table


def summary(runs: Runs) -> dict[str, dict[str, Any]]:
    """Each figure of each case with the spread of its repeats."""
    return {
        name: {figure: spread([run[figure] for run in repeats]) for figure in repeats[0]}
        for name, repeats in runs.items()
        if repeats
    }


def figures_table(cases: Sequence[Case], runs: Runs, notes: Mapping[str, str]) -> Table:
    """The figures of calls: medians of the repeats."""
    table = Table(title="milliseconds, medians of the repeats", box=box.SIMPLE)
    table.add_column("case", no_wrap=True)
    table.add_column("what", no_wrap=True)
    heads = ("gRPC p50", "p95", "p99", "REST p50", "p95", "p99", "bare p50", "gRPC/bare", "service/bare")
    for head in (*heads, "rows", "entries"):
        table.add_column(head, justify="right", no_wrap=True)
    told = summary(runs)
    names = [
        *(f"{way}_p{rank}_ms" for way in ("grpc", "rest") for rank in (50, 95, 99)),
        "bare_p50_ms",
        "grpc_to_bare",
        "service_to_bare",
    ]
    for name, title in ((EMPTY, "empty call"), *((case.name, case.title) for case in cases)):
        figures = told.get(name)
        if figures is None:
            table.add_row(name, title, notes.get(name, ""))
            continue
        cells = [f"{figures[one]['median']:.2f}" if one in figures else "" for one in names]
        rows = [f"{figures[one]['median']:,.0f}" if one in figures else "" for one in ("table_rows", "index_entries")]
        table.add_row(name, title, *cells, *rows)
    table.caption = (
        "service: gRPC p50 without the empty call's. rows, entries: of tables and of indexes, read per call."
    )
    return table


def in_a_line(run: Measurement) -> str:
    """The figures of a case in one repeat that matter most."""
    names = ("grpc_p50_ms", "grpc_p95_ms", "rest_p50_ms", "bare_p50_ms", "service_to_bare")
    return "  ".join(f"{name.removesuffix('_ms').replace('_', ' ')} {run[name]:.2f}" for name in names if name in run)


def freshness_table(runs: Runs, fresh_rpcs: Sequence[str]) -> Table:
    """The figures of reads of an own write."""
    table = Table(title="milliseconds, right after an append and again", box=box.SIMPLE)
    table.add_column("read", no_wrap=True)
    for head in ("p50", "p95", "p99", "again p50", "p95", "p99"):
        table.add_column(head, justify="right", no_wrap=True)
    told = summary(runs)
    for rpc in fresh_rpcs:
        figures = told.get(fresh(rpc))
        if figures is not None:
            names = (f"{read}_p{rank}_ms" for read in ("own", "again") for rank in (50, 95, 99))
            table.add_row(rpc, *(f"{figures[name]['median']:.2f}" for name in names))
    return table
