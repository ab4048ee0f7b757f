"""The text of each row that digests are made of, and the digests of small logs."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Final

from hypothesis import example, given
from hypothesis import strategies as st
from tests.projected_logs import log_of, nodes_of, run

from decisiongraph_service.domain import projection_digest
from decisiongraph_service.domain.context_graph import EdgeRow, NodeRow
from decisiongraph_service.domain.precedent_index import PrecedentRow
from decisiongraph_service.domain.projection_digest import DigestText
from decisiongraph_service.domain.projection_pass import Changes
from decisiongraph_service.domain.trace_summary import TraceSummaryRow

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
