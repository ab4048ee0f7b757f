"""Every event type from write to read: written by each way, alone and in a whole trace, projected, read by each way.

What each type contributes: PROJECTION_AND_REPLAY_SEMANTICS.md, sections 2 (graph), 3 (summary) and 5 (precedents).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from tests.accounts import make_account, make_key, token_for
from tests.both_ways import both
from tests.calling import BOTH_WAYS
from tests.jobs import until_projected
from tests.rpc_stages import REFUNDS, Stage
from tests.traces import event_of_trace

from decisiongraph_service.domain import vocabulary

_TRACE: Final = "rf-1001"
_TITLE: Final = "Trace rf-1001"
"""Of a trace that begins with another event than the one that is followed."""


@dataclass(frozen=True)
class Follows:
    """What an event of a type leaves where it can be read."""

    nodes: tuple[str, ...] = ()
    edges: tuple[tuple[str, str, str], ...] = ()
    """Type, from-node, to-node."""
    summary: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the trace's summary that it makes."""
    precedents: tuple[Mapping[str, str], ...] = ()
    """Searches that find the finished trace because of it."""


_T: Final = f"trace:{_TRACE}"
_POLICY: Final = {"policy_id": "refund_limit", "policy_version": "2026-02"}
FOLLOWS: Final = {
    "TraceStarted": Follows(
        (_T, "actor:agent:refund-bot-2", "entity:order:A-77120"),
        (("trace_involves_entity", _T, "entity:order:A-77120"),),
        {
            "workflow": "refund",
            "title": "Refund for damaged espresso machine",
            "primary_entity": {"entity_type": "order", "entity_id": "A-77120", "system": "shop"},
            "started_at": "2026-03-02T09:00:00Z",
        },
        ({"entity_type": "order", "entity_id": "A-77120"}, {"workflow": "refund"}, {"query": "espresso"}),
    ),
    "InputObserved": Follows(("input:photo-1",), (("trace_observed_input", _T, "input:photo-1"),)),
    "EntityObserved": Follows(("entity:customer:c:991",), (("trace_involves_entity", _T, "entity:customer:c:991"),)),
    "PolicyEvaluated": Follows(
        ("policy:refund_limit:2026-02",),
        (("trace_evaluated_policy", _T, "policy:refund_limit:2026-02"),),
        precedents=(_POLICY, {"policy_id": "refund_limit"}),
    ),
    # The policy that it names becomes no node.
    "ExceptionRequested": Follows(
        ("exception:exc-1",),
        (("trace_requested_exception", _T, "exception:exc-1"),),
        precedents=(_POLICY, {"policy_id": "refund_limit"}, {"query": "goodwill"}),
    ),
    # The exception was not requested before: it is made as the end of the edge.
    "ApprovalRecorded": Follows(
        ("actor:person:m.okafor", "exception:exc-1"),
        (("exception_approved_by", "exception:exc-1", "actor:person:m.okafor"),),
        precedents=({"query": "known"},),
    ),
    "PrecedentCited": Follows(
        ("trace:rf-0900",), (("trace_cited_precedent", _T, "trace:rf-0900"),), precedents=({"query": "same"},)
    ),
    "ActionProposed": Follows(
        ("action:act-1", "entity:order:A-77120"),
        (
            ("trace_proposed_action", _T, "action:act-1"),
            ("action_targets_entity", "action:act-1", "entity:order:A-77120"),
        ),
    ),
    "ActionCommitted": Follows(("action:act-1",), (("trace_committed_action", _T, "action:act-1"),)),
    "TraceFinished": Follows(
        summary={"outcome": "success", "finished_at": "2026-03-02T09:20:04Z"},
        precedents=({"outcome": "success"}, {"query": "approval"}),
    ),
}
_EVENTS: Final = {event["event_type"]: event for event in reversed(REFUNDS) if event["trace_id"] == _TRACE}
"""Of each type the first one in the golden trace."""


def test_every_event_type_is_followed() -> None:
    assert set(vocabulary.EVENT_TYPES) == FOLLOWS.keys() == _EVENTS.keys(), "say what the type leaves, in FOLLOWS"
    edges = {edge for follows in FOLLOWS.values() for edge, _, _ in follows.edges}
    assert len(edges) == 9, "each edge type comes from one of them"


def trace_with(event_type: str) -> tuple[list[dict[str, Any]], int]:
    """A short finished trace around the event of this type, and where in it that is."""
    event = _EVENTS[event_type]
    start, finish = event_of_trace(_TRACE, 0), event_of_trace(_TRACE, 2, last=True)
    start["payload"]["workflow"] = "other"
    finish["payload"]["outcome"] = "abandoned"
    if event_type == vocabulary.TRACE_STARTED:
        return [event, {**finish, "trace_seq": 1}], 0
    if event_type == vocabulary.TRACE_FINISHED:
        return [start, {**event, "trace_seq": 1}], 1
    return [start, {**event, "trace_seq": 1}, finish], 1


async def write(stage: Stage, way: str, rpc: str, events: list[dict[str, Any]]) -> None:
    """Append with the token of a key of an account that may write, all of it by this way."""
    account_id = await make_account(stage.callers, "writer", tenant_ids=[stage.name], roles=["ROLE_WRITER"])
    _, secret = await make_key(stage.callers, account_id)
    token = await token_for(stage.callers, secret, way)
    requests = [{"event": event} for event in events] if rpc == "AppendEvent" else [{"events": events}]
    for request in requests:
        answer = await stage.callers.call(way, rpc, request, token=token)
        assert answer.ok, answer.body
    await until_projected(stage.callers)


async def read(stage: Stage, rpc: str, **request: Any) -> dict[str, Any]:
    """What both ways answer."""
    answer = await both(stage.callers, rpc, request, stage.headers(rpc))
    assert not answer.error, answer.error
    return dict(json.loads(answer.messages[0]))


async def assert_in_the_log(stage: Stage, events: list[dict[str, Any]], position: int) -> None:
    sent = events[position]
    stored = (await read(stage, "GetEvent", event_id=sent["event_id"]))["event"]
    expected = {"schema_version": 1, "tags": [], **sent, "trace_seq": str(position), "log_seq": str(position + 1)}
    assert {key: stored[key] for key in expected} == expected
    for timeline in (
        (await read(stage, "ListTraceEvents", trace_id=_TRACE))["events"],
        (await read(stage, "GetTrace", trace_id=_TRACE))["events"],
    ):
        assert [event["event_type"] for event in timeline] == [event["event_type"] for event in events]
        assert timeline[position] == stored
    assert (await read(stage, "ListEvents", event_type=sent["event_type"]))["events"] == [stored]
    shown = (await read(stage, "GetTrace", trace_id=_TRACE, view="SUMMARY"))["events"][position]
    assert shown == {key: value for key, value in stored.items() if key != "payload"}


async def assert_in_the_summary(stage: Stage, events: list[dict[str, Any]], follows: Follows) -> None:
    others = {
        "trace_id": _TRACE,
        "workflow": "other",
        "title": _TITLE,
        "primary_entity": {"entity_type": "order", "entity_id": "1"},
        "started_at": "2026-03-02T09:00:00Z",
        "status": "finished",
        "outcome": "abandoned",
        "finished_at": "2026-03-02T09:02:00Z",
        "event_count": str(len(events)),
        "last_log_seq": str(len(events)),
    }
    summary = (await read(stage, "GetTrace", trace_id=_TRACE))["summary"]
    assert summary == {**others, **follows.summary}
    assert (await read(stage, "ListTraces"))["traces"] == [summary]


async def assert_in_the_graph(stage: Stage, event: Mapping[str, Any], log_seq: int, follows: Follows) -> None:
    """The nodes and edges of the event are these, and no others."""
    made = {"log_seq": str(log_seq), "created_at": event["occurred_at"], "attrs": {}}
    edges = [
        {
            "edge_id": f"{edge_type}:{start}:{end}:{event['event_id']}",
            "edge_type": edge_type,
            "from_node_id": start,
            "to_node_id": end,
            "trace_id": _TRACE,
            **made,
        }
        for edge_type, start, end in follows.edges
    ]
    nodes = [
        {
            "node_id": node_id,
            "node_type": node_id.partition(":")[0],
            "trace_id": node_id.removeprefix("trace:") if node_id.startswith("trace:") else _TRACE,
            **made,
        }
        for node_id in sorted(follows.nodes)
    ]
    seen_nodes: dict[str, Any] = {}
    seen_edges: dict[str, Any] = {}
    for node_id in {_T, *follows.nodes}:
        graph = await read(stage, "GetContextGraph", **_node(node_id), max_depth=10)
        seen_nodes |= {node["node_id"]: node for node in graph["nodes"] if node["log_seq"] == str(log_seq)}
        seen_edges |= {edge["edge_id"]: edge for edge in graph["edges"] if edge["log_seq"] == str(log_seq)}
    assert [seen_nodes[node_id] for node_id in sorted(seen_nodes)] == nodes
    assert sorted(seen_edges) == sorted(edge["edge_id"] for edge in edges)
    for edge in edges:
        assert seen_edges[edge["edge_id"]] == edge
        for end, direction in (("from_node_id", "outgoing"), ("to_node_id", "incoming")):
            assert edge in (await read(stage, "ListNodeEdges", **_node(edge[end]), direction=direction))["edges"]


def _node(node_id: str) -> dict[str, str]:
    node_type, _, rest = node_id.partition(":")
    return {"node_type": node_type, "node_id": rest}


async def assert_among_precedents(stage: Stage, follows: Follows) -> None:
    for search in {json.dumps(one) for of_type in FOLLOWS.values() for one in of_type.precedents}:
        request = json.loads(search)
        found = [hit["trace_id"] for hit in (await read(stage, "FindPrecedents", **request))["precedents"]]
        assert found == ([_TRACE] if request in follows.precedents else []), request


@pytest.mark.parametrize("event_type", vocabulary.EVENT_TYPES)
async def test_what_is_written_of_a_type_is_read(stage: Stage, event_type: str) -> None:
    follows = FOLLOWS[event_type]
    events, position = trace_with(event_type)
    for way in BOTH_WAYS:
        for rpc in ("AppendEvent", "AppendEvents"):
            own = await stage.another(f"{way}-{rpc[6:].lower()}")
            await write(own, way, rpc, events)
            await assert_in_the_log(own, events, position)
            await assert_in_the_summary(own, events, follows)
            await assert_in_the_graph(own, events[position], position + 1, follows)
            await assert_among_precedents(own, follows)
