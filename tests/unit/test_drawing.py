"""Pictures of graphs: complete, the same for the same graph, and well-formed whatever the ids hold."""

import random
import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisiongraph_service.cli.drawing import dot, layout, mermaid, picture, svg, tree
from decisiongraph_service.cli.drawing.picture import Picture
from decisiongraph_service.cli.output import plain, shortened
from decisiongraph_service.domain import context_graph, vocabulary

Links = list[tuple[str, str, str]]

_SVG: Final = "{http://www.w3.org/2000/svg}"
_HOSTILE: Final = (
    *(
        'a"b',
        "a\\",
        "\\N\\n",
        "&lt;&amp;",
        "<script>",
        "end",
        "`x` **b**",
        "%%{init: {}}%%",
        "x]:::y",
        "#quot;",
        "a\nb",
    ),
    *("\x1b[31m", "日本語", '"]; n9 [label="', "--> n1", "|x|", "\u202eabc", "", ";", "a" * 200, "\x00", "\uffff"),
)
_TYPES: Final = ("trace", "actor", "entity", "input", "policy", "exception", "action", 'une"xpected')
_NAMES = st.sampled_from(_HOSTILE) | st.text(max_size=6)
_IDS = st.builds(lambda kind, name: f"{kind}:{name}", st.sampled_from(_TYPES), _NAMES)
_EDGE_TYPES = st.sampled_from([vocabulary.TRACE_INVOLVES_ENTITY, vocabulary.TRACE_CITED_PRECEDENT, 'we"ird|\n&type'])


@st.composite
def _graphs(draw: st.DrawFn) -> tuple[str, list[str], Links]:
    ids = draw(st.lists(_IDS, min_size=1, max_size=7, unique=True))
    end = st.sampled_from(ids)
    return ids[0], ids, draw(st.lists(st.tuples(end, end, _EDGE_TYPES), max_size=12))


_REFUND: Final = picture.make(
    "entity:order:A-1",
    ["entity:order:A-1"],
    [
        ("trace:t-1", "entity:order:A-1", "trace_involves_entity"),
        ("trace:t-1", "policy:limit:7", "trace_evaluated_policy"),
        ("trace:t-1", "action:act", "trace_proposed_action"),
        ("trace:t-1", "action:act", "trace_committed_action"),
        ("action:act", "entity:order:A-1", "action_targets_entity"),
        ("trace:t-1", "trace:t-0", "trace_cited_precedent"),
        ("trace:t-1", "trace:t-0", "trace_cited_precedent"),
    ],
)


def test_nodes_have_their_distance_and_equal_edges_are_counted() -> None:
    assert [(node.node_id, node.distance) for node in _REFUND.nodes] == [
        ("entity:order:A-1", 0),
        ("action:act", 1),
        ("trace:t-1", 1),
        ("policy:limit:7", 2),
        ("trace:t-0", 2),
    ]
    assert [edge.label for edge in _REFUND.edges] == [
        "targets", "committed", "proposed", "involves", "evaluated", "cited (2)",
    ]  # fmt: skip


def test_every_edge_type_has_words_of_its_own() -> None:
    edge_types = [one for types in context_graph.INCOMING_EDGE_TYPES.values() for one in types]
    labels = {picture.Edge("a", "b", edge_type, 1).label for edge_type in edge_types}
    assert len(labels) == len(edge_types)
    assert not any("_" in label or label.startswith("trace") for label in labels)


def test_the_tree_goes_outwards_and_names_what_it_shows_elsewhere() -> None:
    assert tree.render(_REFUND) == (
        "entity order:A-1\n"
        "├─ ← targets  action act\n"
        "│  ├─ ← committed  trace t-1  (see there)\n"
        "│  └─ ← proposed  trace t-1  (see there)\n"
        "└─ ← involves  trace t-1\n"
        "   ├─ → evaluated  policy limit:7\n"
        "   └─ → cited (2)  trace t-0\n"
    )


def test_a_centre_that_nothing_is_known_of_stands_alone() -> None:
    alone = picture.make("entity:x", [], [])
    assert tree.render(alone) == "entity x\n"
    assert len(_read_svg(alone).findall(f"{_SVG}g")) == 1


@pytest.mark.parametrize("renderer", [dot.render, mermaid.render, svg.render, tree.render])
def test_it_is_said_when_there_is_more(renderer: "picture.Renderer") -> None:
    assert "more" in renderer(picture.make("trace:t", [], [], truncated=True))
    assert "more" not in renderer(picture.make("trace:t", [], []))


@settings(deadline=None)
@given(_graphs(), st.randoms(use_true_random=False))
def test_the_order_in_which_a_graph_comes_changes_nothing(
    graph: tuple[str, list[str], Links], rng: random.Random
) -> None:
    center, ids, links = graph
    other_ids, other_links = rng.sample(ids, len(ids)), rng.sample(links, len(links))
    for renderer in (dot.render, mermaid.render, svg.render, tree.render):
        first = renderer(picture.make(center, ids, links))
        assert renderer(picture.make(center, other_ids, other_links)) == first


@settings(deadline=None)
@given(_graphs())
def test_the_tree_shows_every_node_and_every_edge_once(graph: tuple[str, list[str], Links]) -> None:
    drawn = picture.make(*graph)
    lines = tree.render(drawn).splitlines()
    assert len(lines) == len(drawn.edges) + sum(1 for line in lines if not line.lstrip("│ ").startswith(("├", "└")))
    shown = [line for line in lines if not line.endswith("  (see there)")]
    assert len(shown) == len(drawn.nodes)
    assert all(line.isprintable() for line in lines)


# Each format is read back by the rules of its language


_DOT_STATEMENT: Final = re.compile(r'  (n\d+)(?: -> (n\d+))? \[((?:[a-z]+=(?:"(?:[^"\\]|\\.)*"|[\d.]+)(?:, )?)+)\];')
_DOT_ESCAPES: Final = {'"': '"', "\\": "\\", "n": "\n"}
_DOT_LABEL: Final = re.compile(r'label="((?:[^"\\]|\\.)*)"')


def _read_dot(text: str) -> tuple[list[str], Links]:
    """The labels of nodes, and edges with theirs, as Graphviz understands them."""
    nodes: dict[str, str] = {}
    links: Links = []
    for line in text.splitlines()[4:-1]:
        statement = _DOT_STATEMENT.fullmatch(line)
        assert statement, line
        start, end, attributes = statement.groups()
        label = _DOT_LABEL.search(attributes)
        assert label
        said = re.sub(r"\\(.)", lambda escape: _DOT_ESCAPES[escape[1]], label[1]).replace("&amp;", "&")
        if end is None:
            nodes[start] = said
        else:
            links.append((nodes[start], nodes[end], said))
    return list(nodes.values()), links


_MERMAID_NODE: Final = re.compile(r'  (n\d+)\["([^"]*)"\]:::[a-z]+')
_MERMAID_EDGE: Final = re.compile(r'  (n\d+) -->\|"([^"]*)"\| (n\d+)')


def _read_mermaid(text: str) -> tuple[list[str], Links]:
    """The labels of nodes, and edges with theirs, as Mermaid understands them."""
    assert re.search("[`<>%&{}\\\\]", text.replace("<br/>", "").replace("-->", "")) is None
    nodes: dict[str, str] = {}
    links: Links = []
    for line in text.splitlines()[1:]:
        if node := _MERMAID_NODE.fullmatch(line):
            nodes[node[1]] = _unescaped(node[2]).replace("<br/>", "\n", 1)
        elif edge := _MERMAID_EDGE.fullmatch(line):
            links.append((nodes[edge[1]], nodes[edge[3]], _unescaped(edge[2])))
        else:
            assert re.fullmatch(r"  (classDef [a-z]+ [a-z0-9:,#]+|style n\d+ stroke-width:3px)", line), line
    return list(nodes.values()), links


def _unescaped(text: str) -> str:
    return re.sub(r"#(\d+);", lambda number: chr(int(number[1])), text).replace("\u2060", "")


def _expected(drawn: Picture) -> tuple[list[str], Links]:
    said = {node.node_id: f"{plain(node.node_type)}\n{shortened(node.name, 60)}" for node in drawn.nodes}
    return list(said.values()), [(said[e.from_node_id], said[e.to_node_id], e.label) for e in drawn.edges]


def _read_svg(drawn: Picture) -> ET.Element:
    return ET.fromstring(svg.render(drawn))  # noqa: S314 - our own


@settings(deadline=None)
@given(_graphs())
def test_dot_says_what_the_graph_is(graph: tuple[str, list[str], Links]) -> None:
    drawn = picture.make(*graph)
    assert _read_dot(dot.render(drawn)) == _expected(drawn)


@settings(deadline=None)
@given(_graphs())
def test_mermaid_says_what_the_graph_is(graph: tuple[str, list[str], Links]) -> None:
    drawn = picture.make(*graph)
    assert _read_mermaid(mermaid.render(drawn)) == _expected(drawn)


@settings(deadline=None)
@given(_graphs())
def test_svg_shows_the_graph_in_boxes_that_stand_apart(graph: tuple[str, list[str], Links]) -> None:
    drawn = picture.make(*graph)
    root = _read_svg(drawn)
    assert [box.findtext(f"{_SVG}title") for box in root.findall(f"{_SVG}g")] == [
        plain(node.node_id) for node in drawn.nodes
    ]
    labels = [label.text for label in root.iterfind(f"{_SVG}text/{_SVG}tspan")]
    assert sorted(labels, key=str) == sorted(edge.label for edge in drawn.edges)
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    places = []
    for rect in root.iterfind(f"{_SVG}g/{_SVG}rect"):
        x, y, w, h = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
        assert x >= 0
        assert y >= 0
        assert x + w <= width
        assert y + h <= height
        places.append((x, y, x + w, y + h))
    for index, (left, top, right, bottom) in enumerate(places):
        for other_left, other_top, other_right, other_bottom in places[:index]:
            assert right < other_left or other_right < left or bottom < other_top or other_bottom < top


# Layout


@given(st.lists(st.floats(-1000, 1000), max_size=12).map(sorted), st.floats(0.5, 50))
def test_places_keep_their_distance_and_stay_near_their_wishes(wishes: list[float], spacing: float) -> None:
    places = layout.spread(wishes, spacing)
    assert all(after - before >= spacing - 1e-6 for before, after in pairwise(places))
    assert sum(places) == pytest.approx(sum(wishes), abs=1e-6)


def test_wishes_that_fit_are_fulfilled() -> None:
    assert layout.spread([0.0, 10.0, 25.0], 10.0) == [0.0, 10.0, 25.0]
    assert layout.spread([5.0, 5.0, 5.0], 10.0) == [-5.0, 5.0, 15.0]


def test_lines_do_not_cross_where_they_need_not() -> None:
    links = [(f"trace:{n}", f"policy:{9 - n}", "trace_evaluated_policy") for n in range(5)]
    links += [(f"trace:{n}", "entity:x", "trace_involves_entity") for n in range(5)]
    spots = layout.place(picture.make("entity:x", [], links), spacing=10)
    traces = [spots[f"trace:{n}"].y for n in range(5)]
    policies = [spots[f"policy:{9 - n}"].y for n in range(5)]
    assert [a < b for a, b in pairwise(traces)] == [a < b for a, b in pairwise(policies)]
