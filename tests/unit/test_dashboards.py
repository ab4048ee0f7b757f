"""The dashboard and the alerts ask for metrics that there are, with labels that they have."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from decisiongraph_service.observer import EndedCall
from decisiongraph_service.runtime.metrics import Gauges, InstallationMetrics, Metrics, Standing
from decisiongraph_service.storage.database import Connections, Database
from decisiongraph_service.storage.measurements import Lag, Measurements, RunningReplays

_DEPLOY = Path(__file__).parents[2] / "deploy"
_NAME = re.compile(r"\bdecisiongraph_[a-z0-9_]+")
_LABELS = re.compile(r"(decisiongraph_[a-z0-9_]+)\{([^}]*)\}")
_GROUPED = re.compile(r"\bby \(([a-z_, ]+)\)")
_OF_PROMETHEUS = {"le", "instance", "job"}


def samples() -> dict[str, set[str]]:
    """The labels of every sample that a server can tell, by its name."""
    metrics = Metrics(["/s.S/M"], {})
    for reason in ("", "INTERNAL"):
        metrics.call_ended(EndedCall("/s.S/M", "OK", reason, None, 0.1))
    metrics.batch_committed(callers=1, stored=1, reused=1, seconds=0.1)
    metrics.batch_projected(events=1, seconds=0.1)
    metrics.add(Standing(Gauges(lambda: 0, lambda: 0, lambda: (0, 0), lambda: Connections(0, 0, 0), lambda: 0)))
    # Nothing is asked of the database here.
    installation = InstallationMetrics(Database.__new__(Database), metrics.registry)
    installation._show(
        Measurements((Lag("context_graph", 1, 1, 1, 1.0),), {}, (RunningReplays("all", "verify", 1, 1, 2),))
    )
    return {sample.name: set(sample.labels) for family in metrics.registry.collect() for sample in family.samples}


def dashboard_expressions() -> list[str]:
    dashboard: dict[str, Any] = json.loads((_DEPLOY / "grafana" / "decisiongraph.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def alert_rules() -> list[dict[str, Any]]:
    alerts: dict[str, Any] = yaml.safe_load((_DEPLOY / "prometheus" / "alerts.yaml").read_text())
    return [rule for group in alerts["groups"] for rule in group["rules"]]


def test_every_expression_asks_for_samples_that_there_are() -> None:
    known = samples()
    expressions = [*dashboard_expressions(), *(rule["expr"] for rule in alert_rules())]
    assert len(expressions) > 30
    for expression in expressions:
        for name in _NAME.findall(expression):
            assert name in known, expression
        for name, selectors in _LABELS.findall(expression):
            assert {re.split(r"[=!~]", one)[0].strip() for one in selectors.split(",")} <= known[name], expression
        labels = set().union(*(known[name] for name in _NAME.findall(expression)))
        for grouped in _GROUPED.findall(expression):
            assert {one.strip() for one in grouped.split(",")} <= labels | _OF_PROMETHEUS, expression


def test_every_metric_is_shown() -> None:
    shown = {name for expression in dashboard_expressions() for name in _NAME.findall(expression)}
    stems = {re.sub(r"_(bucket|count|sum|total|created)$", "", name) for name in shown}
    told = {re.sub(r"_(bucket|count|sum|total|created)$", "", name) for name in samples()}
    assert told == stems


def test_alerts_say_how_bad_it_is_and_what_to_do() -> None:
    for rule in alert_rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}, rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]
        assert rule["annotations"]["description"].endswith("."), rule["alert"]
        assert re.fullmatch(r"\d+[sm]", rule["for"]), rule["alert"]
