"""The timeline of a trace as a tree: every event once, below what caused it, whatever the causes are."""

from hypothesis import given
from hypothesis import strategies as st

from decisiongraph.v1.event_pb2 import StoredEvent
from decisiongraph_service.cli import trace_tree


def _events(causes: list[str | None]) -> list[StoredEvent]:
    return [
        StoredEvent(event_id=f"e{position}", trace_seq=position, causation_event_id=cause)
        for position, cause in enumerate(causes)
    ]


def _drawn(causes: list[str | None]) -> list[str]:
    return [f"{line.branch}{line.event.event_id}" for line in trace_tree.lines(_events(causes))]


def test_an_event_stands_below_the_one_that_caused_it() -> None:
    assert _drawn([None, "e0", "e1", "e0", None]) == ["├─ e0", "│  ├─ e1", "│  │  └─ e2", "│  └─ e3", "└─ e4"]


def test_a_cause_that_is_elsewhere_or_later_or_the_event_itself_is_named_instead() -> None:
    lines = list(trace_tree.lines(_events([None, "foreign", "e3", "e3", ""])))
    assert [(line.event.event_id, line.cause) for line in lines] == [
        ("e0", None),
        ("e1", "foreign"),
        ("e2", "e3"),
        ("e3", "e3"),
        ("e4", ""),
    ]


def test_a_long_chain_stays_readable() -> None:
    chain = [None, *(f"e{position}" for position in range(999))]
    lines = list(trace_tree.lines(_events(chain)))
    assert [line.event.trace_seq for line in lines] == list(range(1000))
    assert max(len(line.branch) for line in lines) == 3 * (trace_tree.DEEPEST + 1)


def test_what_is_said_further_stands_beside_the_tree() -> None:
    lines = {line.event.event_id: line.stem for line in trace_tree.lines(_events([None, "e0", None]))}
    assert lines == {"e0": "│  │  ", "e1": "│        ", "e2": "      "}


@given(st.lists(st.none() | st.integers(0, 12).map(lambda number: f"e{number}"), max_size=12))
def test_every_event_is_there_once_and_after_its_cause(causes: list[str | None]) -> None:
    order = [line.event.event_id for line in trace_tree.lines(_events(causes))]
    assert sorted(order) == sorted(f"e{position}" for position in range(len(causes)))
    for position, cause in enumerate(causes):
        if cause is not None and int(cause[1:]) < position:
            assert order.index(cause) < order.index(f"e{position}")
