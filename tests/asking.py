"""The queries of the service on a database of the test, without the rpcs."""

from dataclasses import dataclass
from typing import Self

from decisiongraph_service.queries.events import EventQueries
from decisiongraph_service.queries.freshness import FreshnessWait
from decisiongraph_service.queries.graph import GraphQueries
from decisiongraph_service.queries.paging import PageTokens
from decisiongraph_service.queries.precedents import PrecedentQueries
from decisiongraph_service.queries.trace_list import TraceList
from decisiongraph_service.queries.traces import TraceQueries
from decisiongraph_service.storage.commit_signal import CommitSignal
from decisiongraph_service.storage.database import Database


@dataclass(frozen=True)
class Queries:
    """Every kind of question."""

    traces: TraceQueries
    trace_list: TraceList
    events: EventQueries
    graph: GraphQueries
    precedents: PrecedentQueries

    @classmethod
    def of(cls, database: Database, signal: CommitSignal, *, wait_seconds: float) -> Self:
        """`wait_seconds`: how long a read waits for the projections."""
        tokens = PageTokens(b"k" * 32)
        wait = FreshnessWait(database, signal, wait_seconds=wait_seconds)
        return cls(
            TraceQueries(database, tokens, wait),
            TraceList(tokens, wait),
            EventQueries(database, tokens),
            GraphQueries(tokens, wait),
            PrecedentQueries(tokens, wait),
        )
