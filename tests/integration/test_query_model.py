"""Random logs: what every query answers is what a plain model answers, now and in the past, page by page."""

import dataclasses
import itertools
import json
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.asking import Queries
from tests.integration.query_model import QueryModel, pages
from tests.log_models import Row, Sent, checked, logs
from tests.replaying import Projections

from decisiongraph_service.domain import errors, vocabulary
from decisiongraph_service.domain.context_graph import EdgeRow
from decisiongraph_service.domain.events import StoredEvent
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries import traces
from decisiongraph_service.queries.freshness import Freshness, ReadPosition
from decisiongraph_service.queries.graph import EdgesPage, GraphWanted
from decisiongraph_service.queries.precedents import PrecedentsPage
from decisiongraph_service.queries.traces import Trace, TraceEventsPage
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database
from decisiongraph_service.storage.precedent_index import PrecedentFilter

# Few texts, so that much is connected and several traces match.
_IDS: Final = st.sampled_from(["a", "a:a", "😀"])
_TRACES: Final = ["t", "a:b", "a", "A", "\uff5e", "😀", "b/\x7f"]
_LOGS: Final = logs(
    _IDS,
    _IDS | st.just("\uff5e"),
    _TRACES,
    often=["TraceFinished", "ActionProposed", *["PolicyEvaluated", "ExceptionRequested", "PrecedentCited"] * 3],
    sizes=(30, 60),
    many_traces=True,
)
_SHORT_TRACES: Final = logs(
    st.sampled_from(["a", "😀"]),
    st.sampled_from(["a", "\uff5e", "😀"]),
    _TRACES,
    often=["TraceFinished", "PolicyEvaluated", "ExceptionRequested"] * 6,
    sizes=(30, 60),
    many_traces=True,
)
_NOWHERE: Final = ["trace:nowhere", "entity:a", "unheard-of:a", "trace:", "\uff5e"]
_NODE_TYPES: Final = ["trace", "actor", "entity", "input", "policy", "exception", "action", "unheard-of"]
_EDGE_TYPES: Final = [
    "trace_involves_entity",
    "trace_observed_input",
    "trace_evaluated_policy",
    "trace_requested_exception",
    "trace_cited_precedent",
    "trace_proposed_action",
    "trace_committed_action",
    "action_targets_entity",
    "exception_approved_by",
    "unheard-of",
]
_DIRECTIONS: Final = ["outgoing", "incoming", "both", ""]
_OUTCOMES: Final = [*vocabulary.TRACE_OUTCOMES, "unheard-of"]
_SETTINGS: Final = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@dataclass(frozen=True)
class Asked:
    """The queries to a tenant whose log is projected to its end."""

    tenant_id: TenantId
    queries: Queries


Ask = Callable[[Sequence[Sent]], Awaitable[Asked]]


@pytest.fixture
def ask(own_database: Database, own_database_url: str) -> Ask:
    """Puts a log into a tenant of its own, to be asked about."""
    projections = Projections(own_database, CommitSignal(own_database_url))
    queries = Queries.of(own_database, projections.signal, wait_seconds=0)

    async def put(log: Sequence[Sent]) -> Asked:
        tenant_id = await projections.make_tenant(f"asked-{uuid.uuid4().hex}")
        await projections.append(tenant_id, [checked(sent, log_seq) for log_seq, sent in enumerate(log, start=1)])
        await projections.projector().catch_up(tenant_id)
        return Asked(tenant_id, queries)

    return put


class Page(Protocol):
    """Any page of any list."""

    @property
    def next_page_token(self) -> str | None: ...


async def all_pages(fetch: Callable[[str], Awaitable[Page]]) -> list[Any]:
    """The pages of a list up to its end."""
    found: list[Any] = []
    tokens: list[str | None] = [""]
    while (token := tokens[-1]) is not None:
        page = await fetch(token)
        assert page.next_page_token not in tokens, "the list goes in circles"
        found.append(page)
        tokens.append(page.next_page_token)
    return found


async def refused_fields(answer: Awaitable[object]) -> list[str]:
    """The fields that an invalid question is refused for."""
    with pytest.raises(errors.InvalidArgument) as caught:
        await answer
    return [violation.field for violation in caught.value.violations]


# --- the context graph ---


def graph_questions(log: Sequence[Sent]) -> st.SearchStrategy[GraphWanted]:
    known = sorted(QueryModel(log).rows.nodes)
    small = st.integers(1, 8)
    return st.builds(
        GraphWanted,
        center=st.sampled_from(known) | st.sampled_from(known) | st.sampled_from([*known, *_NOWHERE]),
        max_depth=st.integers(0, 4),
        max_nodes=small | st.just(100),
        max_edges=small | st.just(100),
        node_types=st.just([]) | st.lists(st.sampled_from(_NODE_TYPES), max_size=4),
        edge_types=st.just([]) | st.lists(st.sampled_from(_EDGE_TYPES), max_size=5),
        as_of_log_seq=st.none() | st.integers(0, len(log) + 2),
    )


def with_questions(
    questions: Callable[[Sequence[Sent]], st.SearchStrategy[Any]],
    count: int,
    logs: st.SearchStrategy[list[Sent]] = _LOGS,
) -> st.SearchStrategy[tuple[list[Sent], list[Any]]]:
    """Logs, each with so many questions about it."""
    return logs.flatmap(lambda log: st.tuples(st.just(log), st.lists(questions(log), min_size=count, max_size=count)))


@given(asked=with_questions(graph_questions, 30))
@_SETTINGS
async def test_every_subgraph_is_that_of_the_model(ask: Ask, asked: tuple[list[Sent], list[GraphWanted]]) -> None:
    log, questions = asked
    service = await ask(log)
    for wanted in questions:
        answering = service.queries.graph.get_context_graph(service.tenant_id, wanted, Freshness())
        parameters = dataclasses.asdict(wanted)
        as_of = parameters.pop("as_of_log_seq")
        if as_of is not None and as_of > len(log):
            assert await refused_fields(answering) == ["as_of_log_seq"]
            continue
        found = await answering
        assert {
            "center": found.center,
            "nodes": [{**node._asdict(), "node_type": node.node_type, "attrs": {}} for node in found.nodes],
            "edges": [edge_row(edge) for edge in found.edges],
            "truncated": found.truncated,
        } == QueryModel(log[:as_of]).subgraph(**parameters), wanted
        assert found.position.log_seq == (len(log) if as_of is None else as_of)
        assert found.position.head_log_seq == len(log)


def edge_row(edge: EdgeRow) -> Row:
    row = {**edge._asdict(), "edge_id": edge.edge_id, "attrs": {}}
    del row["event_id"]
    return row


def node_questions(log: Sequence[Sent]) -> st.SearchStrategy[str]:
    model = QueryModel(log)
    known = sorted(model.rows.nodes)
    edges = {node_id: model.node_edges(node_id, "both") for node_id in known}
    special = [
        *sorted(known, key=lambda node_id: len(edges[node_id]))[-3:],
        *(edge["from_node_id"] for edge in model.rows.edges.values() if edge["from_node_id"] == edge["to_node_id"]),
        # Nodes with two edges of one event.
        *(node_id for node_id in known if len({edge["log_seq"] for edge in edges[node_id]}) < len(edges[node_id])),
    ]
    return st.sampled_from(special) | st.sampled_from([*known, *_NOWHERE])


@given(asked=with_questions(node_questions, 3))
@_SETTINGS
async def test_every_page_of_edges_is_that_of_the_model(ask: Ask, asked: tuple[list[Sent], list[str]]) -> None:
    log, node_ids = asked
    service, model = await ask(log), QueryModel(log)
    for node_id, direction, size in itertools.product(node_ids, _DIRECTIONS, (1, 2, 3)):

        def page(
            token: str, node_id: str = node_id, direction: str = direction, size: int = size
        ) -> Awaitable[EdgesPage]:
            return service.queries.graph.list_node_edges(
                service.tenant_id,
                node_id,
                direction=direction,
                page_size=size,
                page_token=token,
                freshness_wanted=Freshness(),
            )

        found = [[edge_row(edge) for edge in one.edges] for one in await all_pages(page)]
        assert found == pages(model.node_edges(node_id, direction), size), (node_id, direction)


# --- precedents ---

_FILTERS: Final = ("policy_id", "policy_version", "entity_type", "entity_id", "outcome", "workflow")
_HIT: Final = (
    "trace_id",
    "workflow",
    "title",
    "outcome",
    "finished_at",
    "last_log_seq",
    "policy_id",
    "policy_version",
)
_COMPANIONS: Final = {"policy_version": "policy_id", "entity_id": "entity_type"}


def filter_values(log: Sequence[Sent]) -> st.SearchStrategy[Row]:
    """A value for each filter: those of one finished trace, or anything."""
    rows = QueryModel(log).rows
    finished = [
        {
            **{name: precedent[name] for name in ("policy_id", "policy_version")},
            **{name: rows.summaries[precedent["trace_id"]][name] for name in ("outcome", "workflow")},
            **{name: precedent[f"primary_{name}"] for name in ("entity_type", "entity_id")},
        }
        for precedent in rows.precedents.values()
    ]
    texts = st.sampled_from(["a", "\uff5e", "😀", "unheard-of"])
    anything = st.fixed_dictionaries({**dict.fromkeys(_FILTERS, texts), "outcome": st.sampled_from(_OUTCOMES)})
    return st.sampled_from(finished) | st.sampled_from(finished) | anything if finished else anything


@given(asked=with_questions(filter_values, 2, _SHORT_TRACES))
@_SETTINGS
async def test_every_page_of_precedents_is_that_of_the_model(ask: Ask, asked: tuple[list[Sent], list[Row]]) -> None:
    log, questions = asked
    service, model = await ask(log), QueryModel(log)
    sizes = itertools.cycle((1, 2, 3))
    for values, chosen in itertools.product(questions, itertools.product([False, True], repeat=len(_FILTERS))):
        wanted = {name: values[name] if used else "" for name, used in zip(_FILTERS, chosen, strict=True)}
        size = next(sizes)

        def find(token: str, wanted: Row = wanted, size: int = size) -> Awaitable[PrecedentsPage]:
            return service.queries.precedents.find(
                service.tenant_id,
                PrecedentFilter(**wanted),
                page_size=size,
                page_token=token,
                freshness_wanted=Freshness(),
            )

        missing = [other for name, other in _COMPANIONS.items() if wanted[name] and not wanted[other]]
        if missing:
            assert await refused_fields(find("")) == missing
            continue
        expected = model.precedents(wanted)
        found = [[{name: getattr(hit, name) for name in _HIT} for hit in page.hits] for page in await all_pages(find)]
        assert found == pages(expected, size), wanted


# --- traces ---


def trace_questions(log: Sequence[Sent]) -> st.SearchStrategy[str]:
    return st.sampled_from(sorted({sent["trace_id"] for sent in log})) | st.sampled_from(["nowhere", "T"])


@given(asked=with_questions(trace_questions, 2))
@_SETTINGS
async def test_every_trace_at_every_position_is_that_of_the_model(
    ask: Ask, asked: tuple[list[Sent], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "MAX_TIMELINE_EVENTS", 3)
    log, trace_ids = asked
    service = await ask(log)
    for trace_id, as_of in itertools.product(trace_ids, [None, *range(len(log) + 2)]):
        answering = service.queries.traces.get_trace(
            service.tenant_id, trace_id, as_of_log_seq=as_of, freshness_wanted=Freshness()
        )
        if as_of is not None and as_of > len(log):
            assert await refused_fields(answering) == ["as_of_log_seq"]
            continue
        expected = QueryModel(log[:as_of]).trace(trace_id)
        if expected is None:
            with pytest.raises(errors.NotFound):
                await answering
            continue
        found = await answering
        assert await trace_row(service, found, expected["summary"]) == expected, (trace_id, as_of)
        assert len(found.timeline.events) == min(3, expected["event_count"])
        assert found.position == ReadPosition(len(log) if as_of is None else as_of, len(log))


async def trace_row(service: Asked, trace: Trace, columns: Iterable[str]) -> Row:
    """A trace with its whole timeline, however many pages it takes."""
    events = [*trace.timeline.events]
    if trace.timeline.next_page_token is not None:
        rest = await all_pages(
            lambda token: service.queries.traces.list_trace_events(
                service.tenant_id,
                trace.summary.trace_id,
                since_trace_seq=None,
                page_size=2,
                page_token=token or trace.timeline.next_page_token or "",
            )
        )
        events += [event for page in rest for event in page.events]
    return {
        "summary": {name: getattr(trace.summary, name) for name in columns},
        "event_count": trace.event_count,
        "last_log_seq": trace.last_log_seq,
        "events": [event_row(event) for event in events],
    }


def event_row(event: StoredEvent) -> Row:
    return {
        **{name: getattr(event, name) for name in ("log_seq", "event_id", "trace_id", "trace_seq", "event_type")},
        "occurred_at": event.occurred_at,
        "actor": (event.actor.actor_type, event.actor.actor_id),
        "payload": json.loads(event.canonical_payload),
    }


@given(asked=with_questions(trace_questions, 2))
@_SETTINGS
async def test_every_page_of_a_timeline_is_that_of_the_model(ask: Ask, asked: tuple[list[Sent], list[str]]) -> None:
    log, trace_ids = asked
    service, model = await ask(log), QueryModel(log)
    for trace_id, since, size in itertools.product(trace_ids, [None, 0, 1, 3, 50], (1, 2, 3)):

        def page(
            token: str, trace_id: str = trace_id, since: int | None = since, size: int = size
        ) -> Awaitable[TraceEventsPage]:
            return service.queries.traces.list_trace_events(
                service.tenant_id, trace_id, since_trace_seq=since, page_size=size, page_token=token
            )

        if model.trace(trace_id) is None:
            with pytest.raises(errors.NotFound):
                await page("")
            continue
        expected = pages(model.trace_events(trace_id, -1 if since is None else since), size)
        found = [[event_row(event) for event in one.events] for one in await all_pages(page)]
        assert found == expected, (trace_id, since)
