"""What each event does to each projection, and the text that digests are made of: the rules that are easily missed.

Rows as the pure part of the service makes them of a small log; no database.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from decisiongraph_service.domain import canonical, projection_digest, vocabulary
from decisiongraph_service.domain.context_graph import (
    INCOMING_EDGE_TYPES,
    TYPES_WITH_OUTGOING_EDGES,
    EdgeRow,
    NodeRow,
)
from decisiongraph_service.domain.events import ProjectedEvent
from decisiongraph_service.domain.precedent_index import PrecedentRow, precedents, source
from decisiongraph_service.domain.projection_digest import DigestText
from decisiongraph_service.domain.projection_pass import Before, Changes, Pass
from decisiongraph_service.domain.timestamps import parse_rfc3339 as micros
from decisiongraph_service.domain.trace_summary import TraceSummaryRow

Entry = tuple[str, str, Mapping[str, Any]]
"""Trace, type, payload."""

ORDER: Final = {"entity_type": "order", "entity_id": "1"}
STARTED: Final[dict[str, Any]] = {"workflow": "w", "title": "t", "primary_entity": ORDER}
POLICY: Final = {"policy": {"policy_id": "cap", "policy_version": "1"}, "inputs": ["i", "j"], "decision": "deny"}
EXCEPTION: Final = {"exception_id": "x", "policy": {"policy_id": "cap", "policy_version": "2"}, "reason": "r"}
ACTION: Final = {
    "action_id": "a", "action_type": "pay", "target_entity": {"entity_type": "account", "entity_id": "9"},
    "target_system": "s", "changes": [],
}  # fmt: skip


def approval(subject_type: str = "exception", decision: str = "approved") -> dict[str, Any]:
    return {
        "approval_id": "ap",
        "subject": {"subject_type": subject_type, "subject_id": "x"},
        "approver": {"actor_type": "person", "actor_id": "boss"},
        "decision": decision,
    }


def entity(entity_type: str = "order", entity_id: str = "1", **more: Any) -> dict[str, Any]:
    return {
        "entity": {"entity_type": entity_type, "entity_id": entity_id, **more},
        "role": "related",
        "facts": [],
    }


def event(log_seq: int, trace_seq: int, entry: Entry) -> ProjectedEvent:
    trace_id, event_type, payload = entry
    text = canonical.canonical_json(payload)
    # Every event has an actor of its own, so that a node made of it cannot be overlooked.
    return ProjectedEvent(
        log_seq, f"e{log_seq}", trace_id, trace_seq, event_type, f"2026-01-01T00:00:{log_seq:02}Z", "agent",
        f"a{log_seq}", text, canonical.payload_hash(text),
    )  # fmt: skip


def log_of(*entries: Entry) -> list[ProjectedEvent]:
    counts: dict[str, int] = {}
    events = []
    for log_seq, entry in enumerate(entries, start=1):
        trace_seq = counts.setdefault(entry[0], 0)
        counts[entry[0]] += 1
        events.append(event(log_seq, trace_seq, entry))
    return events


def run(events: Sequence[ProjectedEvent]) -> Changes:
    one = Pass(0, Before(), vocabulary.PROJECTIONS)
    one.run(events)
    return one.changes


def undamaged(*entries: Entry) -> Changes:
    changes = run(log_of(*entries))
    assert changes.damage is None
    assert changes.position == changes.applied == len(entries)
    return changes


def nodes_of(changes: Changes) -> dict[str, NodeRow]:
    return {node.node_id: node for node in changes.graph.nodes}


def ends(edge: EdgeRow) -> tuple[str, str, str]:
    return edge.edge_type, edge.from_node_id, edge.to_node_id


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


# --- digests ---

_SPECIAL: Final = '\x00\x01\x08\t\n\x0b\x0c\r\x1f"\\/ ~\x7f\x80\xa0\u00e9\u2028\ud7ff\ue000\uffff\U00010000\U0010ffff'
TEXTS: Final = st.text(st.sampled_from(_SPECIAL) | st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS: Final = st.integers(0, 2**63 - 1)


def json_of(row: Mapping[str, Any]) -> str:
    return json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


@given(texts=st.lists(TEXTS, min_size=9, max_size=9), numbers=st.tuples(NUMBERS, NUMBERS), null=st.booleans())
@example(texts=[_SPECIAL] * 9, numbers=(0, 2**63 - 1), null=False)
def test_the_text_of_a_row_is_sorted_ascii_json(texts: list[str], numbers: tuple[int, int], null: bool) -> None:
    one, two, *_ = numbers
    a, b, c, d, e, f, g, h, i = texts
    maybe = None if null else i
    edge = EdgeRow(one, a, b, c, d, e, f)
    edge_row: dict[str, Any] = {**edge._asdict(), "edge_id": f"{a}:{b}:{c}:{d}", "attrs": {}}
    del edge_row["event_id"]
    assert projection_digest.edge_json(edge) == json_of(edge_row)
    node = NodeRow(f"input:{a}", b, one, c)
    assert projection_digest.node_json(node) == json_of({**node._asdict(), "node_type": "input", "attrs": {}})
    summary = TraceSummaryRow(a, b, c, d, e, f, maybe, g, None if null else h, one, two, one, two, None)
    columns = dataclasses.asdict(summary)
    for outside in ("primary_entity_system", "started_log_seq", "started_micros", "finished_micros"):
        del columns[outside]
    assert projection_digest.summary_json(summary) == json_of(columns)
    precedent = PrecedentRow(a, one, b, c, d, maybe, e, None if null else f, g)
    assert projection_digest.precedent_json(precedent) == json_of(precedent._asdict())


def test_control_characters_delete_and_astral_characters_are_escaped_and_the_slash_is_not() -> None:
    text = projection_digest.node_json(NodeRow("input:1", '\x08\t\n\x0c\r\x00\x1f\x7f/"\\~é\u2028😀', 7, ""))
    assert text == (
        r'{"attrs":{},"created_at":"","log_seq":7,"node_id":"input:1","node_type":"input",'
        r'"trace_id":"\b\t\n\f\r\u0000\u001f\u007f/\"\\~\u00e9\u2028\ud83d\ude00"}'
    )


def digests_of(changes: Changes) -> dict[str, str]:
    graph, summaries, precedents = DigestText('{"edges":['), DigestText("["), DigestText("[")
    for edge in sorted(changes.graph.edges, key=lambda row: row.edge_id):
        graph.row(projection_digest.edge_json(edge))
    graph.write('],"nodes":[')
    for node in sorted(changes.graph.nodes, key=lambda row: row.node_id):
        graph.row(projection_digest.node_json(node))
    for summary in sorted(changes.summaries.started, key=lambda row: row.trace_id):
        summaries.row(projection_digest.summary_json(summary))
    for precedent in sorted(changes.precedents, key=lambda row: row.source_event_id):
        precedents.row(projection_digest.precedent_json(precedent))
    found = {
        "context_graph": graph.close("]}"),
        "trace_summary": summaries.close("]"),
        "precedent_index": precedents.close("]"),
    }
    return {**found, "full_projection": projection_digest.full(found)}


def test_the_digests_of_an_empty_tenant_are_those_of_the_contract() -> None:
    assert digests_of(run([])) == {
        "context_graph": "sha256:57501e5c6808b3e14852a4ea21dc7873abf9409032a06f9b740c973e83f62cf7",
        "trace_summary": "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945",
        "precedent_index": "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945",
        "full_projection": "sha256:841804c04c283692e5a12d6303d274a8c10f5430b19c7cb7f2587e9297d37dde",
    }


SMALL_LOG: Final = [
    one._replace(event_id=f"ev-{n}", occurred_at=f"2026-01-01T00:00:0{n - 1}Z", actor_id="a")
    for n, one in enumerate(
        log_of(
            (
                "t-1",
                "TraceStarted",
                {
                    "workflow": "w",
                    "title": "Größe 😀",
                    "primary_entity": {"entity_type": "account", "entity_id": "42"},
                },
            ),
            (
                "t-1",
                "PolicyEvaluated",
                {"policy": {"policy_id": "cap", "policy_version": "1"}, "inputs": [], "decision": "allow"},
            ),
            ("t-1", "TraceFinished", {"outcome": "success"}),
        ),
        start=1,
    )
]


def test_the_digests_and_texts_of_the_small_log_are_those_of_the_contract() -> None:
    assert [one.payload_hash for one in SMALL_LOG] == [
        "sha256:6932dfe75f49dc2c3443dcc176df066e3bdb91c77b328ef9f059bb1d9a155232",
        "sha256:8277e7b5a47db2b487790c952c6e65aaf1cda5d724440cd79e6655ba80966097",
        "sha256:3863ee0a9a320461c866f2b3b4b746e6acf6251770f062fec4136d31ff1c0f99",
    ]
    changes = run(SMALL_LOG)
    assert projection_digest.summary_json(changes.summaries.started[0]) == (
        r'{"event_count":2,"finished_at":"2026-01-01T00:00:02Z","last_log_seq":3,"outcome":"success",'
        r'"primary_entity_id":"42","primary_entity_type":"account","started_at":"2026-01-01T00:00:00Z",'
        r'"title":"Gr\u00f6\u00dfe \ud83d\ude00","trace_id":"t-1","workflow":"w"}'
    )
    assert projection_digest.precedent_json(changes.precedents[0]) == (
        '{"exception_id":null,"log_seq":2,"policy_id":"cap","policy_version":"1","primary_entity_id":"42",'
        '"primary_entity_system":null,"primary_entity_type":"account","source_event_id":"ev-2","trace_id":"t-1"}'
    )
    assert sorted(nodes_of(changes)) == ["actor:agent:a", "entity:account:42", "policy:cap:1", "trace:t-1"]
    assert digests_of(changes) == {
        "context_graph": "sha256:706a539c3d83f6c13d76c96d4700386bea0de8491cda4aa3601b8a0c38a50a6b",
        "trace_summary": "sha256:cc29ee85b4e7e1a8005bfa2e38610d7ddd7e030a0d40be8a9cc465ea004dc4ff",
        "precedent_index": "sha256:e8e008d30a63866e08f5656bcb537d6658fa68014cbadccf7a0010ae3409ea1f",
        "full_projection": "sha256:ec2e6c1e9eb4602c665c028fa972c31465649154d4c853855c258a328d3e8be6",
    }
