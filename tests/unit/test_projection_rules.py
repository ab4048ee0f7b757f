"""What each event does to each projection: the rules that are easily missed.

Rows as the pure part of the service makes them of a small log; no database.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import pytest
from tests.projected_logs import (
    ACTION,
    EXCEPTION,
    ORDER,
    POLICY,
    STARTED,
    Entry,
    approval,
    ends,
    entity,
    log_of,
    nodes_of,
    undamaged,
)

from decisiongraph_service.domain.context_graph import (
    INCOMING_EDGE_TYPES,
    TYPES_WITH_OUTGOING_EDGES,
    EdgeRow,
    NodeRow,
)
from decisiongraph_service.domain.precedent_index import PrecedentRow, precedents, source
from decisiongraph_service.domain.timestamps import parse_rfc3339 as micros
from decisiongraph_service.domain.trace_summary import TraceSummaryRow

# --- context graph ---

NO_NODES: Final[list[str]] = []
EMITTED: Final[list[tuple[str, Mapping[str, Any], list[str], list[tuple[str, str, str]]]]] = [
    ("EntityObserved", entity("e", "2"), ["entity:e:2"], [("trace_involves_entity", "trace:t", "entity:e:2")]),
    ("EntityObserved", entity(), NO_NODES, [("trace_involves_entity", "trace:t", "entity:order:1")]),
    ("InputObserved", {"input_id": "i"}, ["input:i"], [("trace_observed_input", "trace:t", "input:i")]),
    ("PolicyEvaluated", POLICY, ["policy:cap:1"], [("trace_evaluated_policy", "trace:t", "policy:cap:1")]),
    ("ExceptionRequested", EXCEPTION, ["exception:x"], [("trace_requested_exception", "trace:t", "exception:x")]),
    *(
        (
            "ApprovalRecorded",
            approval(decision=decision),
            ["actor:person:boss", "exception:x"],
            [("exception_approved_by", "exception:x", "actor:person:boss")],
        )
        for decision in ("approved", "rejected")
    ),
    *(
        ("ApprovalRecorded", approval(subject), ["actor:person:boss"], [])
        for subject in ("action", "Exception", "exception ")
    ),
    ("PrecedentCited", {"cited_trace_id": "c"}, ["trace:c"], [("trace_cited_precedent", "trace:t", "trace:c")]),
    (
        "ActionProposed",
        ACTION,
        ["action:a", "entity:account:9"],
        [
            ("trace_proposed_action", "trace:t", "action:a"),
            ("action_targets_entity", "action:a", "entity:account:9"),
        ],
    ),
    (
        "ActionCommitted",
        {"action_id": "a", "status": "success"},
        ["action:a"],
        [("trace_committed_action", "trace:t", "action:a")],
    ),
    ("TraceFinished", {"outcome": "success"}, NO_NODES, []),
    ("WorkflowReviewRequested", {"review_id": "r"}, NO_NODES, []),
]


@pytest.mark.parametrize(("event_type", "payload", "nodes", "edges"), EMITTED)
def test_an_event_emits_its_nodes_and_edges_in_order_and_nothing_else(
    event_type: str, payload: Mapping[str, Any], nodes: list[str], edges: list[tuple[str, str, str]]
) -> None:
    changes = undamaged(("t", "TraceStarted", STARTED), ("t", event_type, payload))
    when = "2026-01-01T00:00:02Z"
    owners = {node_id: "c" if node_id == "trace:c" else "t" for node_id in nodes}
    assert changes.graph.nodes[3:] == [NodeRow(node_id, owners[node_id], 2, when) for node_id in nodes]
    assert changes.graph.edges[1:] == [EdgeRow(2, *edge, "e2", "t", when) for edge in edges]


def test_a_start_emits_trace_envelope_actor_and_entity_and_one_edge() -> None:
    changes = undamaged(("t", "TraceStarted", STARTED))
    when = "2026-01-01T00:00:01Z"
    assert changes.graph.nodes == [
        NodeRow(node_id, "t", 1, when) for node_id in ("trace:t", "actor:agent:a1", "entity:order:1")
    ]
    assert changes.graph.edges == [EdgeRow(1, "trace_involves_entity", "trace:t", "entity:order:1", "e1", "t", when)]
    assert [node.node_type for node in changes.graph.nodes] == ["trace", "actor", "entity"]


def test_ids_join_their_parts_unescaped_and_the_type_ends_at_the_first_colon() -> None:
    changes = undamaged(("a:b", "TraceStarted", STARTED), ("a:b", "InputObserved", {"input_id": "::"}))
    assert changes.graph.edges[1].edge_id == "trace_observed_input:trace:a:b:input::::e2"
    assert nodes_of(changes)["input:::"].node_type == "input"
    assert nodes_of(changes)["trace:a:b"].trace_id == "a:b"


def test_the_first_writer_of_a_node_wins_and_every_mention_makes_an_edge() -> None:
    changes = undamaged(
        ("t", "TraceStarted", STARTED),
        ("u", "TraceStarted", STARTED),
        ("u", "PolicyEvaluated", POLICY),
        ("t", "PolicyEvaluated", POLICY),
        ("t", "EntityObserved", entity()),
    )
    nodes = nodes_of(changes)
    assert nodes["entity:order:1"] == NodeRow("entity:order:1", "t", 1, "2026-01-01T00:00:01Z")
    assert nodes["policy:cap:1"] == NodeRow("policy:cap:1", "u", 3, "2026-01-01T00:00:03Z")
    assert [(edge.log_seq, edge.trace_id) for edge in changes.graph.edges] == [
        (1, "t"), (2, "u"), (3, "u"), (4, "t"), (5, "t"),
    ]  # fmt: skip


def test_the_system_of_an_entity_is_not_part_of_its_id() -> None:
    systems = [entity(), entity(system="crm"), entity(system=""), entity(system=None)]
    changes = undamaged(("t", "TraceStarted", STARTED), *(("t", "EntityObserved", one) for one in systems))
    assert len(changes.graph.nodes) == 3
    assert {edge.to_node_id for edge in changes.graph.edges} == {"entity:order:1"}


def test_different_parts_of_the_same_id_are_one_node() -> None:
    changes = undamaged(
        ("t", "TraceStarted", STARTED),
        ("t", "EntityObserved", entity("a", "b:c")),
        ("t", "EntityObserved", entity("a:b", "c")),
    )
    assert nodes_of(changes)["entity:a:b:c"].log_seq == 2
    assert len(changes.graph.nodes) == 4


@pytest.mark.parametrize("cited", ["c", "c:1", ":", "trace:c"])
def test_a_cited_trace_owns_its_own_placeholder_and_its_start_changes_nothing_of_it(cited: str) -> None:
    changes = undamaged(
        ("t", "TraceStarted", STARTED),
        ("t", "PrecedentCited", {"cited_trace_id": cited}),
        (cited, "TraceStarted", STARTED),
    )
    assert nodes_of(changes)[f"trace:{cited}"] == NodeRow(f"trace:{cited}", cited, 2, "2026-01-01T00:00:02Z")


def test_a_trace_that_cites_itself_has_a_self_loop_and_no_second_node() -> None:
    changes = undamaged(("t", "TraceStarted", STARTED), ("t", "PrecedentCited", {"cited_trace_id": "t"}))
    assert ends(changes.graph.edges[1]) == ("trace_cited_precedent", "trace:t", "trace:t")
    assert nodes_of(changes)["trace:t"].log_seq == 1
    assert len(changes.graph.nodes) == 3


def test_walks_look_for_edges_wherever_events_make_them() -> None:
    ends = [(edge_type, start, end) for row in EMITTED for edge_type, start, end in row[3]]
    into = {(end.partition(":")[0], edge_type) for edge_type, _, end in ends}
    assert into == {(kind, edge_type) for kind, types in INCOMING_EDGE_TYPES.items() for edge_type in types}
    assert {start.partition(":")[0] for _, start, _ in ends} == TYPES_WITH_OUTGOING_EDGES


def test_a_placeholder_belongs_to_the_trace_that_mentions_it_first() -> None:
    changes = undamaged(
        ("t", "TraceStarted", STARTED),
        ("u", "TraceStarted", STARTED),
        ("u", "ApprovalRecorded", approval()),
        ("u", "ActionCommitted", {"action_id": "a", "status": "success"}),
        ("t", "ExceptionRequested", EXCEPTION),
        ("t", "ActionProposed", ACTION),
    )
    owners = {node_id: (row.trace_id, row.log_seq) for node_id, row in nodes_of(changes).items()}
    assert owners["exception:x"] == ("u", 3)
    assert owners["action:a"] == ("u", 4)
    assert owners["entity:account:9"] == ("t", 6)


# --- trace summary, policy-evaluation index, precedent index ---

OTHERS: Final = sorted({row[0]: row for row in EMITTED if row[0] != "TraceFinished"}.items())


@pytest.mark.parametrize("system", [None, "", "crm"])
def test_an_open_trace_counts_one_event_and_stays_at_its_start(system: str | None) -> None:
    started = {**STARTED, "primary_entity": ORDER if system is None else {**ORDER, "system": system}}
    others: list[Entry] = [("t", row[0], row[1]) for _, row in OTHERS]
    changes = undamaged(("t", "TraceStarted", started), *others)
    when = "2026-01-01T00:00:01Z"
    expected = TraceSummaryRow("t", "w", "t", "order", "1", system, None, when, None, 1, 1, 1, micros(when), None)
    assert changes.summaries.started == [expected]
    assert changes.summaries.finishes == []


def test_a_finished_trace_counts_two_events_however_many_it_has() -> None:
    others: list[Entry] = [("t", row[0], row[1]) for _, row in OTHERS]
    changes = undamaged(("t", "TraceStarted", STARTED), *others, ("t", "TraceFinished", {"outcome": "failure"}))
    end = 2 + len(others)
    began, ended = "2026-01-01T00:00:01Z", f"2026-01-01T00:00:{end:02}Z"
    expected = TraceSummaryRow(
        "t", "w", "t", "order", "1", None, "failure", began, ended, 2, end, 1, micros(began), micros(ended)
    )
    assert changes.summaries.started == [expected]


def test_a_policy_evaluation_is_indexed_at_once() -> None:
    changes = undamaged(("t", "TraceStarted", STARTED), ("t", "PolicyEvaluated", POLICY))
    (row,) = changes.evaluations
    assert (row.index_id, row.log_seq, row.created_at) == ("t:cap:1:e2", 2, "2026-01-01T00:00:02Z")
    assert changes.precedents == []


@pytest.mark.parametrize("system", [None, "", "crm"])
def test_precedents_appear_at_the_finish_only_and_of_evaluations_and_exceptions_only(system: str | None) -> None:
    primary = ORDER if system is None else {**ORDER, "system": system}
    entries: list[Entry] = [
        ("t", "TraceStarted", {**STARTED, "primary_entity": primary}),
        ("u", "TraceStarted", {**STARTED, "primary_entity": {"entity_type": "other", "entity_id": "2"}}),
        ("t", "ExceptionRequested", EXCEPTION),
        ("u", "PolicyEvaluated", POLICY),
        ("t", "PrecedentCited", {"cited_trace_id": "u"}),
        ("t", "ApprovalRecorded", approval()),
        ("t", "PolicyEvaluated", POLICY),
        ("t", "EntityObserved", entity("e", "other")),
        ("t", "TraceFinished", {"outcome": "abandoned"}),
    ]
    assert undamaged(*entries[:-1]).precedents == []
    expected = [
        PrecedentRow("e3", 3, "t", "cap", "2", "x", "order", system, "1"),
        PrecedentRow("e7", 7, "t", "cap", "1", None, "order", system, "1"),
    ]
    assert undamaged(*entries).precedents == expected
    found = [source(one, json.loads(one.canonical_payload)) for one in log_of(*entries) if one.trace_id == "t"]
    assert precedents("t", [one for one in found if one is not None]) == expected
