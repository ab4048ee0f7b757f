"""Random logs: the rows and digests of every projection are those of a plain model, followed, rebuilt and verified.

The model is written from the text of the contract alone and shares nothing with the projections of the service.
"""

import hashlib
import itertools
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests import samples
from tests.replaying import Projections

from decisiongraph_service.domain import vocabulary
from decisiongraph_service.domain.events import Actor, CheckedEvent, Source
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import context_graph, precedent_index, projection_state, trace_summary
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database

Row = dict[str, Any]
Rows = dict[str, list[Row]]
Sent = dict[str, Any]

# --- logs ---

# Few, so that traces share what they name; colons, so that different parts make the same id; and characters whose
# order or escape differs between encodings, locales and kinds of JSON.
_IDS: Final = st.sampled_from(
    ["a", "A", "a:b", ":", "b:a", "ü", "u\u0308", "😀", "\uff5e", "\x7f", "\u2028", '"\\/', "\x01\t"]
)
_ANY_TEXT: Final = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=3)
_NAMES: Final = _IDS | _ANY_TEXT
_TIMES: Final = st.sampled_from(
    ["2026-01-01T00:00:00Z", "2025-12-31T23:59:59.1234567+05:30", "0001-01-01T00:00:00Z", "2026-01-01T00:00:00.0-00:00"]
)
_TRACES: Final = ["t", "a:b", "😀", "\uff5e/\x7f"]
_ACTOR_TYPES: Final = st.sampled_from(vocabulary.ACTOR_TYPES)
_ACTOR_IDS: Final = _IDS.map(lambda text: text + ".")  # an envelope takes no blank one
_ENTITY: Final = st.fixed_dictionaries(
    {"entity_type": _IDS, "entity_id": _NAMES}, optional={"system": st.none() | st.just("") | _NAMES}
)
_POLICY: Final = st.fixed_dictionaries({"policy_id": _IDS, "policy_version": _IDS})


def _fields(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Row]:
    return st.fixed_dictionaries(fields)


_STARTED: Final = _fields(workflow=_NAMES, title=_NAMES, primary_entity=_ENTITY)
_PAYLOADS: Final = {
    "EntityObserved": _fields(entity=_ENTITY, role=st.sampled_from(vocabulary.ENTITY_ROLES), facts=st.just([])),
    "InputObserved": _fields(
        input_id=_NAMES,
        source=st.just({"system": "s", "object_type": "t", "object_id": "i"}),
        facts=st.just([]),
    ),
    "PolicyEvaluated": _fields(
        policy=_POLICY,
        inputs=st.lists(_IDS, max_size=2),
        decision=st.sampled_from(vocabulary.POLICY_DECISIONS),
    ),
    "ExceptionRequested": _fields(exception_id=_IDS, policy=_POLICY, reason=_NAMES),
    "ApprovalRecorded": _fields(
        approval_id=_IDS,
        subject=_fields(subject_type=st.sampled_from(["exception", "action", "Exception"]), subject_id=_IDS),
        approver=_fields(actor_type=_ACTOR_TYPES | _IDS, actor_id=_IDS | _ACTOR_IDS),
        decision=st.sampled_from(vocabulary.APPROVAL_DECISIONS),
    ),
    "PrecedentCited": _fields(cited_trace_id=st.sampled_from(_TRACES) | _IDS, reason=_NAMES),
    "ActionProposed": _fields(
        action_id=_IDS,
        action_type=_IDS,
        target_entity=_ENTITY,
        target_system=_IDS,
        changes=st.just([]),
    ),
    "ActionCommitted": _fields(action_id=_IDS, status=st.sampled_from(vocabulary.ACTION_STATUSES)),
    "TraceFinished": _fields(outcome=st.sampled_from(vocabulary.TRACE_OUTCOMES), summary=st.none() | st.just("")),
}
# Rows that need several of these events, and citations of traces that start later, would be rare otherwise.
_TYPES: Final = [*_PAYLOADS, *["PolicyEvaluated", "ExceptionRequested", "PrecedentCited"] * 2]
_STEPS: Final = st.lists(
    st.fixed_dictionaries(
        {
            "trace_id": st.sampled_from(["t", "t", "t", "a:b", "a:b", *_TRACES]),
            "started": _STARTED,
            "other": st.sampled_from(_TYPES).flatmap(lambda name: st.tuples(st.just(name), _PAYLOADS[name])),
            "id": _NAMES,
            "occurred_at": _TIMES,
            "actor": st.tuples(_ACTOR_TYPES, _ACTOR_IDS),
        }
    ),
    min_size=14,
    max_size=34,
)


def valid_log(steps: Sequence[Mapping[str, Any]]) -> list[Sent]:
    """What the rules of an append leave of the steps: a trace starts with its first and takes none after its finish."""
    log: list[Sent] = []
    lengths: dict[str, int] = {}
    finished: set[str] = set()
    for step in steps:
        trace_id = step["trace_id"]
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


LOGS: Final = _STEPS.map(valid_log)


def checked(sent: Sent, log_seq: int) -> CheckedEvent:
    changes = {name: value for name, value in sent.items() if name != "event_type"}
    return samples.checked(
        sent["event_type"], key=f"k{log_seq}", **{**changes, "actor": Actor(*sent["actor"]), "source": Source("p", "s")}
    )


# --- the model ---


class Model:
    """Sections 10 to 14 of the contract, event by event, on dictionaries."""

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
        hidden = "primary_entity_system"
        found = {
            "context_graph": _digest({"edges": rows["edges"], "nodes": rows["nodes"]}),
            "trace_summary": _digest([{k: v for k, v in row.items() if k != hidden} for row in rows["summaries"]]),
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
            }
        if sent["event_type"] == "TraceFinished":
            self.summaries[trace_id].update(
                outcome=payload["outcome"], finished_at=sent["occurred_at"], event_count=2, last_log_seq=log_seq
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


# --- the service ---


@pytest.fixture
async def projections(own_database: Database, own_database_url: str) -> AsyncIterator[Projections]:
    made = Projections(own_database, CommitSignal(own_database_url))
    yield made
    await made.stop()


async def live_rows(database: Database, tenant_id: TenantId) -> Rows:
    async with database.tenant_snapshot(tenant_id) as snapshot:
        live = {one.projection: one.generation for one in await projection_state.fetch_live(snapshot)}
        graph, summary, precedent = (live[name] for name in ("context_graph", "trace_summary", "precedent_index"))
        edges = [
            {**row._asdict(), "edge_id": row.edge_id, "attrs": {}}
            async for row, _ in context_graph.iterate_edges(snapshot, graph)
        ]
        nodes = [
            {**row._asdict(), "node_type": row.node_type, "attrs": {}}
            async for row, _ in context_graph.iterate_nodes(snapshot, graph)
        ]
        summaries = [
            {name: getattr(row, name) for name in row.__slots__}
            async for row in trace_summary.iterate(snapshot, summary)
        ]
        precedents = [row._asdict() async for row, _ in precedent_index.iterate_precedents(snapshot, precedent)]
        evaluations = [
            {**row._asdict(), "index_id": row.index_id}
            async for row in precedent_index.iterate_evaluations(snapshot, precedent)
        ]
    for row in itertools.chain(edges, evaluations):
        del row["event_id"]
    names = ("edges", "nodes", "summaries", "precedents", "evaluations")
    return dict(zip(names, (edges, nodes, summaries, precedents, evaluations), strict=True))


async def assert_as_modelled(projections: Projections, tenant_id: TenantId, log: Sequence[Sent]) -> None:
    model = Model(log)
    assert await live_rows(projections.database, tenant_id) == model.rows()
    assert await projections.digests(tenant_id) == model.digests()


TURNS: Final = st.lists(
    st.tuples(st.integers(1, 12), st.sampled_from([1, 2, 3, 5, 500]), st.sampled_from([None, *vocabulary.PROJECTIONS])),
    min_size=1,
    max_size=3,
)


@given(log=LOGS, turns=TURNS, rebuild_size=st.sampled_from([1, 3, 500]))
@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_followed_and_rebuilt_projections_are_those_of_the_model(
    projections: Projections, log: list[Sent], turns: list[tuple[int, int, str | None]], rebuild_size: int
) -> None:
    tenant_id = await projections.make_tenant(f"model-{uuid.uuid4().hex}")
    events = [checked(sent, log_seq) for log_seq, sent in enumerate(log, start=1)]
    projections.batch_events = rebuild_size
    runner = projections.start_runner()
    done = 0
    for length, size, ahead in itertools.cycle(turns):
        await projections.append(tenant_id, events[done : done + length])
        if ahead is not None:
            # The projector then finds the projections at different positions.
            job = await projections.run_job(tenant_id, "catch_up", ahead, until_log_seq=done + (length + 1) // 2)
            assert (job.status, job.error_message) == ("completed", None)
        projections.batch_events = size
        await projections.projector().catch_up(tenant_id)
        done = min(done + length, len(log))
        await assert_as_modelled(projections, tenant_id, log[:done])
        if done == len(log):
            break
    for mode in ("verify", "rebuild"):
        job = await projections.run_job(tenant_id, mode)
        assert (job.status, job.error_message) == ("completed", None)
        assert {(one.matches, one.first_difference) for one in job.verify_results} <= {(True, None)}
        assert len(job.verify_results) == (3 if mode == "verify" else 0)
        await assert_as_modelled(projections, tenant_id, log)
    await runner.stop()
