"""A plain model of ranked precedents and of lists of traces.

It is written from the text of the contract alone and shares nothing with the searches of the service.
"""

import itertools
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final

Row = dict[str, Any]
Log = Sequence[Row]

TIMES: Final = {
    "2026-01-01T00:00:00Z": 0,
    "2026-01-01T01:00:00.0000009+01:00": 0,
    "2025-12-31T18:30:00.000001-05:30": 1,
    "2025-12-31T23:59:59.999999Z": -1,
    "2026-06-30T12:00:00Z": 2,
    "0001-01-01T00:00:00+23:59": -2,
}

# --- the model of ranked precedents ---

Thing = tuple[str, str | None]
"""A feature and its value."""
_WEIGHTS: Final = {
    "policy": 30, "entity": 25, "exception": 20, "workflow": 15, "policy_version": 15, "action_type": 10,
    "approver": 10, "entity_type": 5, "text": 4,
}  # fmt: skip


def _belongs(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character).startswith("M")


def words(*texts: str | None) -> list[str]:
    found: list[str] = []
    for text in texts:
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", (text or "")[:10_000]).casefold())
        runs = ("".join(run) for is_word, run in itertools.groupby(folded, _belongs) if is_word)
        found.extend(run[:64] for run in runs if any(map(str.isalnum, run)))
    return list(dict.fromkeys(found))


class Trace:
    """One trace, as its events up to some position tell of it."""

    def __init__(self, events: Log) -> None:
        self.events = events
        self.trace_id: str = events[0]["trace_id"]
        self.start: Row = events[0]["payload"]
        self.finish: Row | None = events[-1] if events[-1]["event_type"] == "TraceFinished" else None
        self.outcome: str | None = None if self.finish is None else self.finish["payload"]["outcome"]
        self.results: dict[Thing, str | None] = {}
        self.policies: list[tuple[bool, int, Row]] = []
        self._named: dict[str, list[Thing]] = {}
        for sent in events:
            self._hear(sent["log_seq"], sent["event_type"], sent["payload"])
        reasons = [sent["payload"].get("reason") for sent in events]
        self.words = words(self.start["title"], events[-1]["payload"].get("summary"), *reasons)[:64]
        self.things = {*self.results, *(("text", word) for word in self.words), ("outcome", self.outcome)}

    def _hear(self, log_seq: int, event_type: str, payload: Row) -> None:
        match event_type:
            case "TraceStarted":
                kind, name = (payload["primary_entity"][key] for key in ("entity_type", "entity_id"))
                self._have(
                    None, ("workflow", payload["workflow"]), ("entity_type", kind), ("entity", f"{kind}\0{name}")
                )
            case "PolicyEvaluated" | "ExceptionRequested":
                policy_id, version = (payload["policy"][key] for key in ("policy_id", "policy_version"))
                self._have(
                    payload.get("decision"), ("policy", policy_id), ("policy_version", f"{policy_id}\0{version}")
                )
                self.policies.append((event_type == "ExceptionRequested", log_seq, payload["policy"]))
                if event_type == "ExceptionRequested":
                    self._have(None, asked := ("exception", policy_id))
                    self._named.setdefault(f"exception {payload['exception_id']}", []).append(asked)
            case "ActionProposed":
                self._have(None, proposed := ("action_type", payload["action_type"]))
                self._named.setdefault(f"action {payload['action_id']}", []).append(proposed)
            case "ApprovalRecorded":
                kind, name = (payload["approver"][key] for key in ("actor_type", "actor_id"))
                self._have(payload["decision"], ("approver", f"{kind}\0{name}"))
                if payload["subject"]["subject_type"] == "exception":
                    named = self._named.get(f"exception {payload['subject']['subject_id']}", [])
                    self._have(payload["decision"], *named)
            case "ActionCommitted":
                self._have(payload["status"], *self._named.get(f"action {payload['action_id']}", []))

    def _have(self, result: str | None, *things: Thing) -> None:
        for thing in things:
            self.results[thing] = result or self.results.get(thing)

    def policy(self, filters: Mapping[str, str]) -> Row | None:
        """The policy of the row that a hit names: an exception's first, then the newest."""
        found = [row for row in self.policies if row[2].items() <= {**row[2], **filters}.items()]
        return max(found, key=lambda row: row[:2])[2] if found else None

    def passes(self, filters: Mapping[str, str]) -> bool:
        mine = {"workflow": self.start["workflow"], "outcome": self.outcome, **self.start["primary_entity"]}
        others = all(value == mine.get(name, value) for name, value in filters.items())
        return others and ("policy_id" not in filters or self.policy(filters) is not None)


def traces_of(log: Log) -> dict[str, Trace]:
    """By id, in the order of their starts."""
    events: dict[str, list[Row]] = {}
    for log_seq, sent in enumerate(log, start=1):
        events.setdefault(sent["trace_id"], []).append({**sent, "log_seq": log_seq})
    return {trace_id: Trace(of_trace) for trace_id, of_trace in events.items()}


def ranked(log: Log, query: str, like: str, filters: Mapping[str, str], candidates: int) -> list[Row]:
    """All hits of a search, as they are told."""
    traces = traces_of(log)
    terms: list[Thing] = [("text", word) for word in words(query)]
    if like:
        of_like = list(traces[like].results)
        terms.extend(one for at, one in enumerate(of_like) if [name for name, _ in of_like[:at]].count(one[0]) < 8)
        terms.extend(("text", word) for word in traces[like].words[:12])
    joined = {"entity_id": ("entity", "entity_type"), "policy_version": ("policy_version", "policy_id")}
    wanted: list[Thing] = [
        (joined[name][0], f"{filters[joined[name][1]]}\0{value}")
        if name in joined
        else (name.replace("_id", ""), value)
        for name, value in filters.items()
    ]
    finished = sorted((one for one in traces.values() if one.finish), key=lambda one: -int(one.events[-1]["log_seq"]))
    having = ([one.trace_id for one in finished if thing in one.things] for thing in (*terms, *wanted))
    seen = {trace_id for newest_first in having for trace_id in newest_first[:candidates]} - {like}
    hits = [
        _hit(trace, [thing for thing in dict.fromkeys(terms) if thing in trace.things], filters)
        for trace in finished
        if trace.trace_id in seen and trace.passes(filters)
    ]
    return sorted((hit for hit in hits if hit["features"]), key=lambda hit: -int(hit["score"]))


def _shown(name: str, value: str | None) -> str:
    return (value or "").replace("\0", ":") if name in ("entity", "policy_version", "approver") else value or ""


def _hit(trace: Trace, having: Sequence[Thing], filters: Mapping[str, str]) -> Row:
    told = [
        {
            "feature": name,
            "value": _shown(name, value),
            "weight": str(_WEIGHTS[name]),
            "result": trace.results.get((name, value)),
        }
        for name, value in having
    ]
    return {
        "trace_id": trace.trace_id,
        "workflow": trace.start["workflow"],
        "title": trace.start["title"],
        "outcome": trace.outcome,
        "finished_at": trace.finish and trace.finish["occurred_at"],
        **((trace.policy(filters) or {}) if "policy_id" in filters else {}),
        "score": str(sum(_WEIGHTS[name] for name, _ in having)),
        "features": [{name: value for name, value in one.items() if value is not None} for one in told],
    }


# --- the model of lists ---


def listed(log: Log, wanted: Mapping[str, str]) -> list[Row]:
    """The whole list of traces, as they are told."""
    every = [(_summary(trace), trace.start["primary_entity"]) for trace in reversed(traces_of(log).values())]
    return [row for row, entity in every if all(_keeps({**row, **entity}, *one) for one in wanted.items())]


def _keeps(row: Row, name: str, value: str) -> bool:
    side, _, time = name.partition("_")
    if side in ("since", "until"):
        return time in row and (TIMES[row[time]] > TIMES[value]) is (side == "since")
    if name == "query":
        return set(words(value)) <= set(words(row["title"]))
    return bool(row.get(name.removeprefix("primary_")) == value)


def _summary(trace: Trace) -> Row:
    told = {
        "trace_id": trace.trace_id,
        **trace.start,
        "status": "open" if trace.finish is None else "finished",
        "outcome": trace.outcome,
        "started_at": trace.events[0]["occurred_at"],
        "finished_at": trace.finish and trace.finish["occurred_at"],
        "event_count": str(len(trace.events)),
        "last_log_seq": str(trace.events[-1]["log_seq"]),
    }
    return {name: value for name, value in told.items() if value is not None}
