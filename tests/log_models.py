"""Random valid logs, and what the projections make of them by a plain model.

The model is written from the text of the contract alone and shares nothing with the projections of the service.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from hypothesis import strategies as st

from decisiongraph_service.domain import vocabulary
from decisiongraph_service.domain.events import Actor, CheckedEvent, Source
from tests import samples

Row = dict[str, Any]
Rows = dict[str, list[Row]]
Sent = dict[str, Any]
Texts: TypeAlias = st.SearchStrategy[str]

# --- logs ---

# Few, so that traces share what they name; colons, so that different parts make the same id; and characters whose
# order or escape differs between encodings, locales and kinds of JSON.
_IDS: Final = st.sampled_from(
    ["a", "A", "a:b", ":", "b:a", "ü", "u\u0308", "😀", "\uff5e", "\x7f", "\u2028", '"\\/', "\x01\t"]
)
_ANY_TEXT: Final = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=3)
_NAMES: Final = _IDS | _ANY_TEXT
_INSTANTS: Final = {
    "2026-01-01T00:00:00Z": 1_767_225_600_000_000,
    "2026-01-01T00:00:00.0-00:00": 1_767_225_600_000_000,
    "2025-12-31T23:59:59.1234567+05:30": 1_767_205_799_123_456,
    "0001-01-01T00:00:00Z": -62_135_596_800_000_000,
}
_TIMES: Final = st.sampled_from(list(_INSTANTS))
_TRACES: Final = ["t", "a:b", "😀", "\uff5e/\x7f"]
_ACTOR_TYPES: Final = st.sampled_from(vocabulary.ACTOR_TYPES)


def _fields(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Row]:
    return st.fixed_dictionaries(fields)


def _entities(ids: Texts, names: Texts) -> st.SearchStrategy[Row]:
    return st.fixed_dictionaries(
        {"entity_type": ids, "entity_id": names}, optional={"system": st.none() | st.just("") | names}
    )


def _payloads(ids: Texts, names: Texts, traces: Sequence[str]) -> dict[str, st.SearchStrategy[Row]]:
    """By event type. `ids`: texts that rows are joined by; `names`: all others."""
    entity = _entities(ids, names)
    policy = _fields(policy_id=ids, policy_version=ids)
    return {
        "TraceStarted": _fields(workflow=names, title=names, primary_entity=entity),
        "EntityObserved": _fields(entity=entity, role=st.sampled_from(vocabulary.ENTITY_ROLES), facts=st.just([])),
        "InputObserved": _fields(
            input_id=names,
            source=st.just({"system": "s", "object_type": "t", "object_id": "i"}),
            facts=st.just([]),
        ),
        "PolicyEvaluated": _fields(
            policy=policy,
            inputs=st.lists(ids, max_size=2),
            decision=st.sampled_from(vocabulary.POLICY_DECISIONS),
        ),
        "ExceptionRequested": _fields(exception_id=ids, policy=policy, reason=names),
        "ApprovalRecorded": _fields(
            approval_id=ids,
            subject=_fields(subject_type=st.sampled_from(["exception", "action", "Exception"]), subject_id=ids),
            approver=_fields(actor_type=_ACTOR_TYPES | ids, actor_id=ids | _actor_ids(ids)),
            decision=st.sampled_from(vocabulary.APPROVAL_DECISIONS),
        ),
        "PrecedentCited": _fields(cited_trace_id=st.sampled_from(traces) | ids, reason=names),
        "ActionProposed": _fields(
            action_id=ids,
            action_type=ids,
            target_entity=entity,
            target_system=ids,
            changes=st.just([]),
        ),
        "ActionCommitted": _fields(action_id=ids, status=st.sampled_from(vocabulary.ACTION_STATUSES)),
        "TraceFinished": _fields(outcome=st.sampled_from(vocabulary.TRACE_OUTCOMES), summary=st.none() | st.just("")),
    }


def _actor_ids(ids: Texts) -> Texts:
    return ids.map(lambda text: text + ".")  # an envelope takes no blank one


def logs(
    ids: Texts,
    names: Texts,
    traces: Sequence[str],
    *,
    often: Sequence[str],
    sizes: tuple[int, int],
    many_traces: bool = False,
) -> st.SearchStrategy[list[Sent]]:
    """Valid logs of at most so many events. The first traces get most of them; types in `often` come more often.

    `many_traces`: where a finished trace would get an event, another one starts.
    """
    payloads = _payloads(ids, names, traces)
    others = [*(name for name in payloads if name != "TraceStarted"), *often]
    steps = st.fixed_dictionaries(
        {
            "trace_id": st.sampled_from([*[traces[0]] * 3, *[traces[1]] * 2, *traces]),
            "started": payloads["TraceStarted"],
            "other": st.sampled_from(others).flatmap(lambda name: st.tuples(st.just(name), payloads[name])),
            "id": names,
            "occurred_at": _TIMES,
            "actor": st.tuples(_ACTOR_TYPES, _actor_ids(ids)),
        }
    )
    many_steps = st.lists(steps, min_size=sizes[0], max_size=sizes[1])
    return many_steps.map(lambda steps: valid_log(steps, many_traces=many_traces))


def valid_log(steps: Sequence[Mapping[str, Any]], *, many_traces: bool) -> list[Sent]:
    """What the rules of an append leave of the steps: a trace starts with its first and takes none after its finish."""
    log: list[Sent] = []
    lengths: dict[str, int] = {}
    finished: set[str] = set()
    for step in steps:
        trace_id = step["trace_id"]
        while many_traces and trace_id in finished:
            trace_id += "+"
        if trace_id in finished:
            continue
        event_type, payload = step["other"] if trace_id in lengths else ("TraceStarted", step["started"])
        if event_type == "TraceFinished":
            finished.add(trace_id)
        lengths[trace_id] = lengths.get(trace_id, 0) + 1
        log.append(
            {
                "event_id": f"{step['id']}/{len(log)}",
                "trace_id": trace_id,
                "trace_seq": lengths[trace_id] - 1,
                "event_type": event_type,
                "occurred_at": step["occurred_at"],
                "actor": step["actor"],
                "payload": payload,
            }
        )
    return log


# Rows that need several of these events, and citations of traces that start later, would be rare otherwise.
LOGS: Final = logs(
    _IDS, _NAMES, _TRACES, often=["PolicyEvaluated", "ExceptionRequested", "PrecedentCited"] * 2, sizes=(14, 34)
)


def checked(sent: Sent, log_seq: int) -> CheckedEvent:
    changes = {name: value for name, value in sent.items() if name != "event_type"}
    return samples.checked(
        sent["event_type"], key=f"k{log_seq}", **{**changes, "actor": Actor(*sent["actor"]), "source": Source("p", "s")}
    )


# --- the model ---


# The service's own, beside those of the contract.
_ADDED_COLUMNS: Final = ("started_log_seq", "started_micros", "finished_micros")


class Model:
    """The rows of all projections, event by event, on dictionaries (PROJECTION_AND_REPLAY_SEMANTICS.md)."""

    def __init__(self, log: Sequence[Sent]) -> None:
        self.nodes: dict[str, Row] = {}
        self.edges: dict[str, Row] = {}
        self.summaries: dict[str, Row] = {}
        self.evaluations: list[Row] = []
        self.precedents: dict[str, Row] = {}
        for at, sent in enumerate(log):
            self._graph(sent, at + 1)
            self._summary(sent, at + 1)
            if sent["event_type"] == "PolicyEvaluated":
                self._evaluation(sent, at + 1)
            if sent["event_type"] == "TraceFinished":
                self._precedents(log[:at], sent["trace_id"])

    def rows(self) -> Rows:
        """By kind, each in the order of its digest or, without one, of the log."""
        return {
            "edges": [self.edges[key] for key in sorted(self.edges)],
            "nodes": [self.nodes[key] for key in sorted(self.nodes)],
            "summaries": [self.summaries[key] for key in sorted(self.summaries)],
            "precedents": [self.precedents[key] for key in sorted(self.precedents)],
            "evaluations": self.evaluations,
        }

    def digests(self) -> dict[str, str]:
        rows = self.rows()
        hidden = ("primary_entity_system", *_ADDED_COLUMNS)
        found = {
            "context_graph": _digest({"edges": rows["edges"], "nodes": rows["nodes"]}),
            "trace_summary": _digest([{k: v for k, v in row.items() if k not in hidden} for row in rows["summaries"]]),
            "precedent_index": _digest(rows["precedents"]),
        }
        return {**found, "full_projection": _sha256(":".join(found.values()))}

    def _graph(self, sent: Sent, log_seq: int) -> None:
        asserted, links = _emitted(sent)
        for node_id in [*asserted, *itertools.chain.from_iterable(link[1:] for link in links)]:
            node_type, _, identifier = node_id.partition(":")
            if node_id not in self.nodes:
                self.nodes[node_id] = {
                    "node_id": node_id,
                    "node_type": node_type,
                    "trace_id": identifier if node_type == "trace" else sent["trace_id"],
                    "log_seq": log_seq,
                    "created_at": sent["occurred_at"],
                    "attrs": {},
                }
        for edge_type, from_node, to_node in links:
            edge_id = f"{edge_type}:{from_node}:{to_node}:{sent['event_id']}"
            self.edges[edge_id] = {
                "edge_id": edge_id,
                "edge_type": edge_type,
                "from_node_id": from_node,
                "to_node_id": to_node,
                "trace_id": sent["trace_id"],
                "log_seq": log_seq,
                "created_at": sent["occurred_at"],
                "attrs": {},
            }

    def _summary(self, sent: Sent, log_seq: int) -> None:
        trace_id, payload = sent["trace_id"], sent["payload"]
        if sent["event_type"] == "TraceStarted":
            self.summaries[trace_id] = {
                "trace_id": trace_id,
                "workflow": payload["workflow"],
                "title": payload["title"],
                **_primary_entity(payload),
                "outcome": None,
                "started_at": sent["occurred_at"],
                "finished_at": None,
                "event_count": 1,
                "last_log_seq": log_seq,
                "started_log_seq": log_seq,
                "started_micros": _INSTANTS[sent["occurred_at"]],
                "finished_micros": None,
            }
        if sent["event_type"] == "TraceFinished":
            self.summaries[trace_id].update(
                outcome=payload["outcome"],
                finished_at=sent["occurred_at"],
                event_count=2,
                last_log_seq=log_seq,
                finished_micros=_INSTANTS[sent["occurred_at"]],
            )

    def _evaluation(self, sent: Sent, log_seq: int) -> None:
        policy = sent["payload"]["policy"]
        parts = (sent["trace_id"], policy["policy_id"], policy["policy_version"], sent["event_id"])
        self.evaluations.append(
            {
                "index_id": ":".join(parts),
                "trace_id": sent["trace_id"],
                **policy,
                "log_seq": log_seq,
                "created_at": sent["occurred_at"],
            }
        )

    def _precedents(self, log: Sequence[Sent], trace_id: str) -> None:
        entity: Row = {}
        for log_seq, sent in enumerate(log, start=1):
            if sent["trace_id"] != trace_id:
                continue
            if sent["event_type"] == "TraceStarted":
                entity = _primary_entity(sent["payload"])
            if sent["event_type"] in ("PolicyEvaluated", "ExceptionRequested"):
                self.precedents[sent["event_id"]] = {
                    "source_event_id": sent["event_id"],
                    "log_seq": log_seq,
                    "trace_id": trace_id,
                    **sent["payload"]["policy"],
                    "exception_id": sent["payload"].get("exception_id"),
                    **entity,
                }


def _emitted(sent: Sent) -> tuple[list[str], list[tuple[str, str, str]]]:
    trace, payload = f"trace:{sent['trace_id']}", sent["payload"]
    match sent["event_type"]:
        case "TraceStarted":
            entity = _entity_id(payload["primary_entity"])
            actor = "actor:" + ":".join(sent["actor"])
            return [trace, actor, entity], [("trace_involves_entity", trace, entity)]
        case "EntityObserved":
            return [], [("trace_involves_entity", trace, _entity_id(payload["entity"]))]
        case "InputObserved":
            return [], [("trace_observed_input", trace, "input:" + payload["input_id"])]
        case "PolicyEvaluated":
            policy = f"policy:{payload['policy']['policy_id']}:{payload['policy']['policy_version']}"
            return [], [("trace_evaluated_policy", trace, policy)]
        case "ExceptionRequested":
            return [], [("trace_requested_exception", trace, "exception:" + payload["exception_id"])]
        case "ApprovalRecorded":
            approver = f"actor:{payload['approver']['actor_type']}:{payload['approver']['actor_id']}"
            exception = "exception:" + payload["subject"]["subject_id"]
            is_exception = payload["subject"]["subject_type"] == "exception"
            return [approver], [("exception_approved_by", exception, approver)] if is_exception else []
        case "PrecedentCited":
            return [], [("trace_cited_precedent", trace, "trace:" + payload["cited_trace_id"])]
        case "ActionProposed":
            action = "action:" + payload["action_id"]
            target = _entity_id(payload["target_entity"])
            return [], [("trace_proposed_action", trace, action), ("action_targets_entity", action, target)]
        case "ActionCommitted":
            return [], [("trace_committed_action", trace, "action:" + payload["action_id"])]
    return [], []


def _entity_id(entity: Row) -> str:
    return f"entity:{entity['entity_type']}:{entity['entity_id']}"


def _primary_entity(payload: Row) -> Row:
    entity = payload["primary_entity"]
    return {
        "primary_entity_type": entity["entity_type"],
        "primary_entity_id": entity["entity_id"],
        "primary_entity_system": entity.get("system"),
    }


def _digest(value: object) -> str:
    return _sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True))


def _sha256(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
