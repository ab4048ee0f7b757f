"""The ceiling of queries: the answer's rows by bare statements on one connection, and nothing else.

Which statements with which parameters is found out beforehand: the walk through the graph and the terms of a ranked
search cost nothing here, nor does making a message of the rows.
"""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

import asyncpg
import orjson
from google.protobuf.message import Message

from bench import bare_statements as sql
from decisiongraph_service.domain import context_graph, precedent_search
from decisiongraph_service.domain.context_graph import EdgeRow
from decisiongraph_service.domain.graph_walk import GraphWalk
from decisiongraph_service.domain.precedent_search import Term
from decisiongraph_service.domain.words import words
from decisiongraph_service.storage.database import _PLANNER, RUNTIME_ROLE
from decisiongraph_service.storage.precedent_documents import CANDIDATES_OF_A_KEY
from decisiongraph_service.storage.trace_summary import entity_key

_PAGE: Final = 100
_MOST_EVENTS: Final = 1_000
_MOST_NODES: Final = 100
_MOST_EDGES: Final = 500
_WHOLE_LOG: Final = 2**63 - 1
_LOOKED_AT: Final = 20_000
"""Through so many traces the service looks for one page of a list; then the page ends, however few were found."""


class Step(NamedTuple):
    """One statement of an answer."""

    statement: str
    arguments: tuple[object, ...] = ()
    lists: str = ""
    """The field of the answer that its rows are listed in, and that of their id, with a dot between."""


class BareQueries:
    """Answers of one tenant, made with one connection."""

    def __init__(
        self, connection: "asyncpg.Connection[asyncpg.Record]", tenant_id: str, generations: Mapping[str, int]
    ) -> None:
        self.places: dict[str, tuple[int, str]] = {}
        """By page token of a node's edges the position and the id of the last edge before it."""
        self._connection = connection
        self._tenant_id = tenant_id
        self._graph = generations["context_graph"]
        self._summaries = generations["trace_summary"]
        self._precedents = generations["precedent_index"]
        self._prepared: dict[str, asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]] = {}
        self._planners: Mapping[str, Callable[[Any], Awaitable[list[Step]]]] = {
            "GetTrace": self._trace,
            "ListTraceEvents": self._trace_events,
            "GetEvent": self._event,
            "ListEvents": self._events,
            "ListTraces": self._traces,
            "GetContextGraph": self._context,
            "ListNodeEdges": self._node_edges,
            "FindPrecedents": self._find_precedents,
            "GetProjectionHealth": self._health,
        }

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, dsn: str, tenant_id: str) -> AsyncIterator[Self]:
        """On a connection of its own, set up as those of the service."""
        connection = await asyncpg.connect(
            dsn, server_settings={"role": RUNTIME_ROLE, "dg.tenant_id": tenant_id, **_PLANNER}
        )
        try:
            rows = await connection.fetch(sql.STANDING, tenant_id)
            yield cls(connection, tenant_id, {row["projection"]: row["generation"] for row in rows})
        finally:
            await connection.close()

    async def plan(self, rpc: str, request: Message) -> list[Step]:
        """The statements that answer a request, prepared."""
        steps = await self._planners[rpc](request)
        for step in steps:
            await self._statement(step.statement)
        return steps

    async def run(self, steps: Sequence[Step]) -> None:
        """Run prepared statements one after another."""
        for step in steps:
            await self._prepared[step.statement].fetch(self._tenant_id, *step.arguments)

    async def disagreement(self, steps: Sequence[Step], answer: Message) -> str | None:
        """How the rows differ from what the service has answered; None: not in number, ids or order."""
        for step in steps:
            if step.lists:
                field, _, name = step.lists.partition(".")
                told = [getattr(item, name) for item in getattr(answer, field)]
                found = [row[0] for row in await self._fetch(step)]
                # One row more than a page tells that others follow.
                if found[: len(told)] != told or len(found) > len(told) + 1:
                    return f"{len(told)} {field} were answered, the statement finds {len(found)}, or others"
        return None

    async def _fetch(self, step: Step) -> list[asyncpg.Record]:
        return await (await self._statement(step.statement)).fetch(self._tenant_id, *step.arguments)

    async def _statement(self, text: str) -> "asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]":
        if text not in self._prepared:
            self._prepared[text] = await self._connection.prepare(text)
        return self._prepared[text]

    async def _trace(self, request: Any) -> list[Step]:
        if request.HasField("as_of_log_seq"):
            # The summary comes from the first and the last of the events.
            arguments = (request.trace_id, request.as_of_log_seq, _MOST_EVENTS + 1)
            return [Step(sql.STANDING), Step(sql.TRACE_EVENTS, arguments, "events.event_id")]
        return [
            Step(sql.STANDING),
            Step(sql.SUMMARY, (self._summaries, request.trace_id)),
            Step(sql.TRACE_EVENTS, (request.trace_id, _WHOLE_LOG, _MOST_EVENTS + 1), "events.event_id"),
        ]

    async def _trace_events(self, request: Any) -> list[Step]:
        return [Step(sql.TRACE_EVENTS, (request.trace_id, _WHOLE_LOG, _PAGE + 1), "events.event_id")]

    async def _event(self, request: Any) -> list[Step]:
        return [Step(sql.EVENT, (request.event_id,))]

    async def _events(self, request: Any) -> list[Step]:
        return [Step(sql.HEAD), Step(sql.EVENTS_AFTER, (request.since_log_seq, _PAGE + 1), "events.event_id")]

    async def _traces(self, request: Any) -> list[Step]:
        arguments: list[object] = []
        statement = sql.newest_traces()
        if request.workflow:
            statement, arguments = sql.newest_traces(only="workflow = $5"), [request.workflow]
        elif request.primary_entity_id:
            statement = sql.newest_traces(of="entity_key = $5", only="primary_entity_id = $6")
            key = entity_key(request.primary_entity_type, request.primary_entity_id)
            arguments = [key, request.primary_entity_id]
        elif request.status:
            statement = sql.newest_traces(of="outcome IS NULL")
        elif request.query:
            statement, arguments = sql.newest_traces(only="title_words @> $5::text[]"), [words(request.query)]
        step = Step(statement, (self._summaries, _PAGE + 1, _LOOKED_AT, *arguments), "traces.trace_id")
        return [Step(sql.STANDING), step]

    async def _context(self, request: Any) -> list[Step]:
        center = f"{request.node_type}:{request.node_id}"
        walk = GraphWalk(center, max_depth=request.max_depth, max_nodes=_MOST_NODES, max_edges=_MOST_EDGES)
        steps = [Step(sql.STANDING)]
        while walk.frontier:
            steps.append(Step(sql.EDGES_TOUCHING, (self._graph, *_ends(walk.frontier), walk.edges_wanted)))
            rows = await self._fetch(steps[-1])
            walk.step(EdgeRow(*(row[name] for name in EdgeRow._fields)) for row in rows)
        keys = [_key(node_id) for node_id in walk.node_ids]
        return [*steps, Step(sql.NODES, (self._graph, keys), "nodes.node_id")]

    async def _node_edges(self, request: Any) -> list[Step]:
        place = self.places[request.page_token] if request.page_token else (0, "")
        arguments = (self._graph, _key(f"{request.node_type}:{request.node_id}"), *place, _PAGE + 1)
        return [Step(sql.STANDING), Step(sql.NODE_EDGES, arguments, "edges.edge_id")]

    async def _find_precedents(self, request: Any) -> list[Step]:
        if request.query:
            return self._ranked(list(precedent_search.terms_of_words(words(request.query))), "")
        if request.like_trace_id:
            return self._ranked(await self._terms_like(request.like_trace_id), request.like_trace_id)
        if request.policy_id:
            arguments: list[object] = [self._summaries, self._precedents, _PAGE + 1, _key(request.policy_id)]
            arguments.append(request.policy_id)
            condition = "true"
            if request.policy_version:
                condition = "policy_version = $7"
                arguments.append(request.policy_version)
            statement = sql.of_policy(condition)
        elif request.entity_id:
            statement = sql.newest_finished("entity_key = $4 AND primary_entity_id = $5")
            key = entity_key(request.entity_type, request.entity_id)
            arguments = [self._summaries, _PAGE + 1, key, request.entity_id]
        else:
            statement = sql.newest_finished("outcome = $4")
            arguments = [self._summaries, _PAGE + 1, request.outcome]
        return [Step(sql.STANDING), Step(statement, tuple(arguments), "precedents.trace_id")]

    def _ranked(self, terms: Sequence[Term], besides: str) -> list[Step]:
        keys, weights = [term.key for term in terms], [term.weight for term in terms]
        arguments = (self._precedents, self._summaries, keys, weights, CANDIDATES_OF_A_KEY, besides, _PAGE + 1)
        steps = [Step(sql.STANDING), Step(sql.RANKED, arguments, "precedents.trace_id")]
        if besides:
            # What makes the terms has to be read as well.
            steps.insert(1, Step(sql.TRACE_PAYLOADS, (besides, _MOST_EVENTS)))
        return steps

    async def _terms_like(self, trace_id: str) -> list[Term]:
        events = await self._fetch(Step(sql.TRACE_PAYLOADS, (trace_id, _MOST_EVENTS)))
        facts = [
            (event["event_type"], found)
            for event in events
            if (found := precedent_search.facts(event["event_type"], orjson.loads(event["payload"]))) is not None
        ]
        return list(precedent_search.terms_like(precedent_search.Document(facts)))

    async def _health(self, request: Any) -> list[Step]:
        return [Step(sql.HEALTH)]


def _key(text: str) -> bytes:
    """What nodes and policies are found by."""
    return hashlib.sha256(text.encode()).digest()[:16]


def _ends(node_ids: Sequence[str]) -> tuple[list[bytes], list[bytes]]:
    """Keys of nodes that edges begin at, and keys of the edges that end at them."""
    begin: list[bytes] = []
    end: list[bytes] = []
    for node_id in node_ids:
        node_type = node_id.partition(":")[0]
        if node_type in context_graph.TYPES_WITH_OUTGOING_EDGES:
            begin.append(_key(node_id))
        end.extend(_key(node_id) + edge_type.encode() for edge_type in context_graph.INCOMING_EDGE_TYPES[node_type])
    return begin, end
