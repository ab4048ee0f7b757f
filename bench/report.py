"""The figures as a table, and the goals that they are judged by."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from rich import box
from rich.table import Table

from bench.cases import CASES, Measurement, spread

Runs: TypeAlias = Mapping[str, Sequence[Measurement]]
"""The repeats of each case, by its name."""

_SHARES: Final = {
    "server_cpu": "server",
    "postgres_cpu": "postgres",
    "envoy_cpu": "envoy",
    "client_cpu": "client",
    "others_cpu": "others",
}


_FLAT: Final = 0.05
"""Memory that grows by more than this share is not flat."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure with its bound."""

    text: str
    needs: tuple[str, ...]
    """The cases that it is made of."""
    value: Callable[[Mapping[str, Measurement]], float]
    """From one repeat of each of them."""
    least: float | None = None
    most: float | None = None

    def is_met(self, value: float) -> bool:
        """Whether a value is within the bound."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    @property
    def bound(self) -> str:
        """The bound in words."""
        return f">= {self.least:,g}" if self.least is not None else f"<= {self.most:,g}"


def _rate(name: str) -> Callable[[Mapping[str, Measurement]], float]:
    return lambda run: run[name]["events_per_second"]


GOALS: Final = (
    Goal(
        "AppendEvent at 64 callers / empty handler at 64",
        ("b64", "a64"),
        lambda run: run["b64"]["events_per_second"] / run["a64"]["events_per_second"],
        least=0.6,
    ),
    Goal("AppendEvents of 100, 1 caller, events/s", ("c1",), _rate("c1"), least=12_000),
    Goal("AppendEvents of 100, 4 callers, events/s", ("c4",), _rate("c4"), least=12_000),
    Goal(
        "AppendEvents of 100, 4 callers / bare insert",
        ("c4", "f"),
        lambda run: run["c4"]["events_per_second"] / run["f"]["events_per_second"],
        least=0.2,
    ),
    Goal(
        "one caller's p50 / (empty call + bare one-row commit)",
        ("b1", "a1", "f1"),
        lambda run: run["b1"]["p50_ms"] / (run["a1"]["p50_ms"] + run["f1"]["p50_ms"]),
        most=2.0,
    ),
    Goal(
        "quiet tenant's p99 beside a flood / alone",
        ("q64", "q"),
        lambda run: run["q64"]["p99_ms"] / run["q"]["p99_ms"],
        most=2.0,
    ),
    Goal(
        "for comparison: the same of the empty handler",
        ("aq64", "aq"),
        lambda run: run["aq64"]["p99_ms"] / run["aq"]["p99_ms"],
    ),
    Goal(
        "for comparison: REST AppendEvent / REST empty handler, 64 callers",
        ("e64", "ea64"),
        lambda run: run["e64"]["events_per_second"] / run["ea64"]["events_per_second"],
    ),
)


def judged(runs: Runs) -> list[dict[str, Any]]:
    """Each goal whose cases were measured: median and spread of the repeats, and whether the median meets it."""
    found: list[dict[str, Any]] = []
    for goal in GOALS:
        if not all(runs.get(name) for name in goal.needs):
            continue
        repeats = zip(*(runs[name] for name in goal.needs), strict=False)
        values = spread([goal.value(dict(zip(goal.needs, repeat, strict=True))) for repeat in repeats])
        bounded = goal.least is not None or goal.most is not None
        found.append(
            {
                "goal": goal.text,
                "bound": goal.bound if bounded else None,
                **values,
                "met": goal.is_met(values["median"]) if bounded else None,
            }
        )
    return found


def judged_memory(samples: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """The same of the server's memory: its growth from the first sample, as a share of it."""
    first = samples[0][1]
    growth = [(held - first) / first for _, held in samples]
    return {
        "goal": f"growth of the server's memory over {samples[-1][0]:,} events",
        "bound": f"<= {_FLAT:g}",
        "median": growth[-1],
        "min": min(growth),
        "max": max(growth),
        "met": growth[-1] <= _FLAT,
    }


def summary(runs: Runs) -> dict[str, Any]:
    """Each case's figures with the spread of its repeats."""
    return {
        case.name: {
            "title": case.title,
            **{figure: spread([run[figure] for run in runs[case.name]]) for figure in runs[case.name][0]},
        }
        for case in CASES
        if runs.get(case.name)
    }


def figures_table(runs: Runs) -> Table:
    """The figures: medians of the repeats, with least and greatest where they matter most."""
    table = Table(title="medians of the repeats (least - greatest)", box=box.SIMPLE)
    for column in ("case", "what"):
        table.add_column(column, no_wrap=True)
    for column in ("events/s", "p50 ms", "p95 ms", "p99 ms", "us/event", *_SHARES.values()):
        table.add_column(column, justify="right", no_wrap=True)
    for name, case in summary(runs).items():
        table.add_row(
            name,
            case["title"],
            _with_spread(case["events_per_second"], "{:,.0f}"),
            _with_spread(case["p50_ms"], "{:.2f}"),
            f"{case['p95_ms']['median']:.2f}",
            f"{case['p99_ms']['median']:.2f}",
            f"{case['server_us_per_event']['median']:,.0f}" if "server_us_per_event" in case else "",
            *(f"{case[share]['median']:.2f}" if share in case else "" for share in _SHARES),
        )
    table.caption = "us/event: the server's processor time. The last columns: processors used by each, and by others."
    return table


def goals_table(goals: Sequence[Mapping[str, Any]]) -> Table:
    """The goals with what was reached."""
    table = Table("goal", "bound", "seen", "met", title="goals", box=box.SIMPLE)
    for goal in goals:
        met = {True: "yes", False: "NO", None: ""}[goal["met"]]
        table.add_row(goal["goal"], goal["bound"] or "", _with_spread(goal, "{:,.2f}"), met)
    return table


def _with_spread(values: Mapping[str, float], form: str) -> str:
    return f"{form.format(values['median'])} ({form.format(values['min'])} - {form.format(values['max'])})"
