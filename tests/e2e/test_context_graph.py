"""The context graph by both ways: the golden answers, pages, the past, and what is refused."""

from typing import Any

import pytest
from tests import traces
from tests.calling import BOTH_WAYS, Callers
from tests.golden_files import SCENARIOS

_SCENARIO = SCENARIOS["refunds"]


async def append_scenario(callers: Callers) -> None:
    answer = await callers.call("grpc", "AppendEvents", {"events": _SCENARIO["events"]})
    assert answer.ok, answer.body


def of_node(node_id: str) -> dict[str, str]:
    node_type, _, rest = node_id.partition(":")
    return {"node_type": node_type, "node_id": rest}


def on_the_surface(row: dict[str, Any]) -> dict[str, Any]:
    """A golden row as JSON of the contract: 64-bit integers are texts."""
    return {**row, "log_seq": str(row["log_seq"])}


async def all_edges(callers: Callers, way: str, request: dict[str, Any]) -> list[list[str]]:
    """The edge ids of each page."""
    pages: list[list[str]] = []
    token = ""
    while True:
        answer = await callers.call(way, "ListNodeEdges", {**request, "page_token": token})
        assert answer.ok, answer.body
        pages.append([edge["edge_id"] for edge in answer.body["edges"]])
        token = answer.body.get("next_page_token", "")
        if not token:
            return pages


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_every_subgraph_is_the_golden_one(callers: Callers, way: str) -> None:
    await append_scenario(callers)
    nodes = {row["node_id"]: on_the_surface(row) for row in _SCENARIO["expected"]["nodes"]}
    edges = {row["edge_id"]: on_the_surface(row) for row in _SCENARIO["expected"]["edges"]}
    for query in _SCENARIO["queries"]["context_graph"]:
        center, parameters = query["params"]["center"], {k: v for k, v in query["params"].items() if k != "center"}
        answer = await callers.call(way, "GetContextGraph", {**of_node(center), **parameters})
        assert answer.ok, answer.body
        expected = query["result"]
        assert answer.body["center"] == expected["center"]
        assert answer.body["truncated"] is expected["truncated"], query["params"]
        assert answer.body["nodes"] == [nodes[node_id] for node_id in expected["nodes"]], query["params"]
        assert answer.body["edges"] == [edges[edge_id] for edge_id in expected["edges"]], query["params"]
        head = str(len(_SCENARIO["events"]))
        assert answer.body["position"] == {"log_seq": head, "head_log_seq": head}


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_every_page_of_edges_is_the_golden_one(callers: Callers, way: str) -> None:
    await append_scenario(callers)
    for query in _SCENARIO["queries"]["edges"]:
        request = {**of_node(query["node"]), "direction": query["direction"], "page_size": query["page_size"]}
        assert await all_edges(callers, way, request) == query["pages"], request


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_the_past_is_the_golden_one(callers: Callers, way: str) -> None:
    await append_scenario(callers)
    for query in _SCENARIO["queries"]["as_of"]:
        request = {
            **of_node(query["params"]["center"]),
            "max_depth": query["params"]["max_depth"],
            "as_of_log_seq": str(query["log_seq"]),
        }
        answer = await callers.call(way, "GetContextGraph", request)
        assert [edge["edge_id"] for edge in answer.body["edges"]] == query["result"]
        assert answer.body["position"]["log_seq"] == str(query["log_seq"])
        assert all(int(node["log_seq"]) <= query["log_seq"] for node in answer.body["nodes"])


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_pages_neither_skip_nor_repeat_while_the_log_grows(callers: Callers, way: str) -> None:
    entity = {"node_type": "entity", "node_id": "order:1"}
    seen: list[str] = []
    token = ""
    for n in range(12):
        answer = await callers.call("grpc", "AppendEvents", {"events": traces.whole_trace(f"t{n}", 2)})
        assert answer.ok, answer.body
        page = await callers.call(way, "ListNodeEdges", {**entity, "page_size": 1, "page_token": token})
        seen.extend(edge["edge_id"] for edge in page.body["edges"])
        token = page.body.get("next_page_token", token)
    whole = [edge_id for page in await all_edges(callers, way, entity) for edge_id in page]
    assert len(whole) == 12
    assert list(dict.fromkeys(seen)) == whole[: len(set(seen))]


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"node_type": " "}, "node_type"),
        ({"node_id": ""}, "node_id"),
        ({"max_depth": 11}, "max_depth"),
        ({"max_nodes": 0}, "max_nodes"),
        ({"max_edges": 0}, "max_edges"),
        ({"as_of_log_seq": "1"}, "as_of_log_seq"),
    ],
)
async def test_what_is_out_of_range_is_named(callers: Callers, way: str, changes: dict[str, Any], field: str) -> None:
    answer = await callers.call(way, "GetContextGraph", {"node_type": "trace", "node_id": "t", **changes})
    assert not answer.ok
    assert (answer.reason, answer.fields) == ("INVALID_ARGUMENT", [field])


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_page_token_of_another_direction_is_refused(callers: Callers, way: str) -> None:
    await append_scenario(callers)
    node = {"node_type": "trace", "node_id": "rf-1001", "page_size": 1}
    first = await callers.call(way, "ListNodeEdges", {**node, "direction": "outgoing"})
    other = await callers.call(
        way, "ListNodeEdges", {**node, "direction": "both", "page_token": first.body["next_page_token"]}
    )
    assert (other.ok, other.reason, other.fields) == (False, "INVALID_ARGUMENT", ["page_token"])


async def test_an_id_longer_than_an_index_takes_is_a_node_like_others(callers: Callers) -> None:
    long_id = "x" * 5_000
    event = traces.event_of_trace("t", 0)
    event["payload"]["primary_entity"]["entity_id"] = long_id
    appended = await callers.call("grpc", "AppendEvent", {"event": event})
    assert appended.ok, appended.body
    for way in BOTH_WAYS:
        answer = await callers.call(way, "GetContextGraph", {"node_type": "entity", "node_id": f"order:{long_id}"})
        assert [node["node_id"] for node in answer.body["nodes"]] == [f"entity:order:{long_id}", "trace:t"]
