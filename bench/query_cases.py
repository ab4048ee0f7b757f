"""What is asked: each case by its name, and its requests, which differ from call to call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

from google.api import annotations_pb2
from google.protobuf.message import Message

from bench import query_log, query_words
from bench.query_log import Shape
from decisiongraph.v1 import query_service_pb2 as q

_DIFFERENT: Final = 509
"""How many different requests a case has at most."""
_SPREAD: Final = 2_654_435_761


@dataclass(frozen=True, slots=True)
class Case:
    """Something that is asked."""

    name: str
    title: str
    rpc: str
    """Of QueryService."""
    requests: Sequence[Message]
    """Call after call takes the next one, and after the last the first again."""

    def request(self, call: int) -> Message:
        """The request of a call."""
        return self.requests[call % len(self.requests)]


def rest_path(rpc: str, request: Message) -> str:
    """Path and query of the same request over REST."""
    method = q.DESCRIPTOR.services_by_name["QueryService"].methods_by_name[rpc]
    template: str = method.GetOptions().Extensions[annotations_pb2.http].get  # type: ignore[index]
    values = {field.name: value for field, value in request.ListFields()}
    in_path = {name for name in values if f"{{{name}}}" in template}
    path = template.format(**{name: quote(str(values[name]), safe="") for name in in_path})
    query = urlencode({name: value for name, value in values.items() if name not in in_path})
    return f"{path}?{query}" if query else path


def build(shape: Shape, hub_tokens: Sequence[str]) -> list[Case]:
    """All cases for a log. `hub_tokens`: page tokens of the edges of the hub."""
    return [*_log_cases(shape), *_trace_lists(shape), *_graph_cases(shape, hub_tokens), *_precedent_cases(shape)]


def _varied(make: Callable[[int], Message], among: int) -> list[Message]:
    """Requests about different ones of `among`, in an order that jumps."""
    return [make((call + 1) * _SPREAD % 2**32 * among >> 32) for call in range(min(among, _DIFFERENT))]


def _each(make: Callable[[str], Message], values: Sequence[str]) -> list[Message]:
    return [make(value) for value in values]


def _log_cases(shape: Shape) -> list[Case]:
    finished, events = shape.finished, shape.events
    long_traces = query_log.STRETCHES
    return [
        Case(
            "trace100",
            "GetTrace, 100 events",
            "GetTrace",
            _varied(lambda n: q.GetTraceRequest(trace_id=f"long-{n}"), long_traces),
        ),
        Case(
            "trace10",
            "GetTrace, 10 events",
            "GetTrace",
            _varied(lambda n: q.GetTraceRequest(trace_id=f"trace-{n}"), finished),
        ),
        Case(
            "trace-asof",
            "GetTrace as of its 6th of 10 events",
            "GetTrace",
            _varied(lambda n: q.GetTraceRequest(trace_id=f"trace-{n}", as_of_log_seq=shape.log_seq(n, 5)), finished),
        ),
        Case(
            "trace-events",
            "ListTraceEvents, 100 events",
            "ListTraceEvents",
            _varied(lambda n: q.ListTraceEventsRequest(trace_id=f"long-{n}"), long_traces),
        ),
        Case(
            "event",
            "GetEvent",
            "GetEvent",
            _varied(lambda n: q.GetEventRequest(event_id=query_log.event_id(n + 1)), events),
        ),
        Case(
            "events",
            "ListEvents after a position, 100 events",
            "ListEvents",
            _varied(lambda n: q.ListEventsRequest(since_log_seq=n), events - 200),
        ),
        Case("health", "GetProjectionHealth", "GetProjectionHealth", [q.GetProjectionHealthRequest()]),
    ]


def _trace_lists(shape: Shape) -> list[Case]:
    def about(number: int) -> Message:
        entity_type, entity_id = query_log.entity(number)
        return q.ListTracesRequest(primary_entity_type=entity_type, primary_entity_id=entity_id)

    def case(name: str, title: str, requests: Sequence[Message]) -> Case:
        return Case(name, f"ListTraces{title}", "ListTraces", requests)

    def titled(words: Sequence[str]) -> list[Message]:
        return _each(lambda word: q.ListTracesRequest(query=word), words)

    by_workflow = _varied(lambda n: q.ListTracesRequest(workflow=query_log.workflow(n)), shape.finished)
    return [
        case("traces", ", newest", [q.ListTracesRequest()]),
        case("traces-workflow", " of a workflow", by_workflow),
        case("traces-entity", " of an entity", _varied(about, shape.finished)),
        case("traces-open", ", open", [q.ListTracesRequest(status="open")]),
        case("traces-common", ", frequent word in title", titled(query_words.COMMON[:60])),
        case("traces-rare", ", rare word in title", titled(query_words.RARE)),
    ]


def _graph_cases(shape: Shape, hub_tokens: Sequence[str]) -> list[Case]:
    hub = ":".join(query_log.HUB)

    def around(depth: int, number: int) -> Message:
        return q.GetContextGraphRequest(node_type="trace", node_id=f"trace-{number}", max_depth=depth)

    def case(name: str, title: str, requests: Sequence[Message]) -> Case:
        return Case(name, f"GetContextGraph, {title}", "GetContextGraph", requests)

    def edges(token: str = "") -> Message:
        return q.ListNodeEdgesRequest(node_type="entity", node_id=hub, page_token=token)

    around_hub = q.GetContextGraphRequest(node_type="entity", node_id=hub, max_depth=2)
    half = shape.finished // 2
    return [
        # Traces of odd numbers have not observed the hub, those of even numbers have.
        case("graph1", "depth 1, a trace", _varied(lambda n: around(1, 2 * n + 1), half)),
        case("graph2", "depth 2, a trace", _varied(lambda n: around(2, 2 * n + 1), half)),
        case("graph2-hub", "depth 2, the hub", [around_hub]),
        case("graph2-near", "depth 2, beside the hub", _varied(lambda n: around(2, 2 * n), half)),
        Case("edges-hub", "ListNodeEdges of the hub, first page", "ListNodeEdges", [edges()]),
        Case("edges-later", "ListNodeEdges of the hub, later page", "ListNodeEdges", _each(edges, hub_tokens)),
    ]


def _precedent_cases(shape: Shape) -> list[Case]:
    rare, common = query_words.RARE, query_words.COMMON

    def of_policy(number: int, *, with_version: bool) -> Message:
        policy_id, version = query_log.policy(number)
        return q.FindPrecedentsRequest(policy_id=policy_id, policy_version=version if with_version else "")

    def of_entity(number: int) -> Message:
        entity_type, entity_id = query_log.entity(number)
        return q.FindPrecedentsRequest(entity_type=entity_type, entity_id=entity_id)

    def with_words(number: int) -> Message:
        return q.FindPrecedentsRequest(query=f"{rare[number % len(rare)]} {common[number % 20]}")

    def case(name: str, title: str, requests: Sequence[Message]) -> Case:
        return Case(name, f"FindPrecedents {title}", "FindPrecedents", requests)

    finished = shape.finished
    outcomes = _each(lambda one: q.FindPrecedentsRequest(outcome=one), ("success", "failure", "abandoned"))
    like = _varied(lambda n: q.FindPrecedentsRequest(like_trace_id=f"trace-{n}"), finished)
    return [
        case("prec-policy", "of a policy", _varied(lambda n: of_policy(n, with_version=False), finished)),
        case("prec-version", "of a policy's version", _varied(lambda n: of_policy(n, with_version=True), finished)),
        case("prec-entity", "of an entity", _varied(of_entity, finished)),
        case("prec-outcome", "of an outcome", outcomes),
        case("prec-query", "by a rare and a frequent word", _varied(with_words, 1_000)),
        case("prec-like", "like a trace", like),
    ]
