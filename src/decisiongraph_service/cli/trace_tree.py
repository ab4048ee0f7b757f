"""The timeline of a trace as a tree: each event below the one that caused it. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from decisiongraph.v1.event_pb2 import StoredEvent

DEEPEST: Final = 12
"""What is caused at a greater depth is shown at this one: lines stay readable."""


@dataclass(slots=True)
class _Node:
    event: "StoredEvent"
    depth: int
    siblings: "list[_Node]"
    children: "list[_Node]" = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TreeLine:
    """An event and its place in the tree."""

    branch: str
    """Drawn before it, e.g. `│  └─ `."""
    stem: str
    """Drawn before what is said of it in further lines."""
    event: "StoredEvent"
    cause: str | None
    """Id of the event that caused it, if that is not the one above it."""


def lines(events: "Sequence[StoredEvent]") -> Iterator[TreeLine]:
    """The events of a trace, given by ascending `trace_seq`, in the order of the tree: a cause, then what it caused.

    An event whose cause is not in the trace, or not before it, stands at the trunk at its own place.
    """
    roots: list[_Node] = []
    nodes: dict[str, _Node] = {}
    for event in events:
        cause = nodes.get(event.causation_event_id) if event.HasField("causation_event_id") else None
        if cause is None:
            node = _Node(event, 0, roots)
        elif cause.depth < DEEPEST:
            node = _Node(event, cause.depth + 1, cause.children)
        else:
            node = _Node(event, DEEPEST, cause.siblings)
        node.siblings.append(node)
        nodes[event.event_id] = node
    yield from _lines(roots, "", None)


def _lines(nodes: list[_Node], stem: str, parent: str | None) -> Iterator[TreeLine]:
    for node in nodes:
        is_last = node is nodes[-1]
        below = stem + ("   " if is_last else "│  ")
        given = node.event.causation_event_id if node.event.HasField("causation_event_id") else None
        yield TreeLine(
            stem + ("└─ " if is_last else "├─ "),
            below + ("│  " if node.children else "   "),
            node.event,
            None if given == parent else given,
        )
        yield from _lines(node.children, below, node.event.event_id)
