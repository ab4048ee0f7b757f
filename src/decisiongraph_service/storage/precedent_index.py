"""Rows of the precedent index: their columns, finding precedents, and reading a generation in its order."""

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from decisiongraph_service.domain.precedent_index import PolicyEvaluationRow, PrecedentRow
from decisiongraph_service.storage import trace_summary
from decisiongraph_service.storage.database import TenantTransaction

TABLES: Final = ("policy_evaluations", "precedents", "precedent_postings", "precedent_documents")

# A range of the primary key, sorted by the server.
_PRECEDENTS: Final = """
    SELECT source_event_id, log_seq, trace_id, policy_id, policy_version, exception_id, primary_entity_type,
           primary_entity_system, primary_entity_id, policy_key, finished_log_seq
    FROM precedents
    WHERE tenant_id = $1 AND generation = $2
    ORDER BY source_event_id
"""

# The natural order: a range of the primary key.
_EVALUATIONS: Final = """
    SELECT event_id, trace_id, policy_id, policy_version, log_seq, created_at
    FROM policy_evaluations
    WHERE tenant_id = $1 AND generation = $2
    ORDER BY log_seq
"""


_HIT: Final = "summary.trace_id, summary.workflow, summary.title, summary.outcome, summary.finished_at"

_MATCHING: Final = """
      AND summary.tenant_id = $1 AND summary.generation = $2 AND summary.outcome IS NOT NULL
      AND ($5::text IS NULL OR summary.outcome = $5)
      AND ($6::text IS NULL OR summary.workflow = $6)
      AND ($7::text IS NULL OR summary.primary_entity_type = $7)
"""

# The index of finished traces, in its order.
_FINISHED: Final = f"""
    SELECT {_HIT}, summary.last_log_seq, NULL::text AS policy_id, NULL::text AS policy_version
    FROM trace_summaries AS summary
    WHERE summary.last_log_seq < $3 {_MATCHING}
    ORDER BY summary.last_log_seq DESC
    LIMIT $4
"""

# The index of the finished traces of an entity, in its order.
_OF_ENTITY: Final = f"""
    SELECT {_HIT}, summary.last_log_seq, NULL::text AS policy_id, NULL::text AS policy_version
    FROM trace_summaries AS summary
    WHERE summary.entity_key = $9 AND summary.primary_entity_id = $8
      AND summary.last_log_seq < $3 {_MATCHING}
    ORDER BY summary.last_log_seq DESC
    LIMIT $4
"""

# The index of the precedents of a policy, in its order; the summaries by their primary key. One row per trace, the best
# one: with an exception first, then the later one.
_OF_POLICY: Final = f"""
    SELECT DISTINCT ON (precedent.finished_log_seq)
           {_HIT}, precedent.finished_log_seq, precedent.policy_id, precedent.policy_version
    FROM precedents AS precedent
    CROSS JOIN LATERAL (
        -- A range of one value, in order: what only the primary key gives.
        SELECT *
        FROM trace_summaries
        WHERE tenant_id = $1 AND generation = $2
          AND trace_id >= precedent.trace_id AND trace_id <= precedent.trace_id
        ORDER BY trace_summaries.trace_id
        LIMIT 1
    ) AS summary
    WHERE precedent.tenant_id = $1 AND precedent.generation = $9
      AND precedent.policy_key = $10 AND precedent.policy_id = $11
      AND ($12::text IS NULL OR precedent.policy_version = $12)
      AND precedent.finished_log_seq < $3
      AND ($8::text IS NULL OR summary.primary_entity_id = $8) {_MATCHING}
    ORDER BY precedent.finished_log_seq DESC, precedent.exception_id IS NULL, precedent.log_seq DESC,
             precedent.source_event_id
    LIMIT $4
"""


@dataclass(frozen=True, slots=True)
class PrecedentFilter:
    """Which finished traces are wanted; an empty text is no filter."""

    policy_id: str = ""
    policy_version: str = ""
    entity_type: str = ""
    entity_id: str = ""
    outcome: str = ""
    workflow: str = ""


@dataclass(frozen=True, slots=True)
class Generations:
    """The generations that an answer is made from."""

    trace_summary: int
    precedent_index: int


@dataclass(frozen=True, slots=True)
class PrecedentHit:
    """A finished trace that matches."""

    trace_id: str
    workflow: str
    title: str
    outcome: str
    finished_at: str
    last_log_seq: int
    policy_id: str | None
    """Of the row that matched; None if no policy was asked for."""
    policy_version: str | None


def evaluation_columns(
    tenant_id: str, generation: int, rows: Iterable[PolicyEvaluationRow]
) -> list[tuple[object, ...]]:
    """Rows of `policy_evaluations`, in the order of its columns."""
    return [(tenant_id, generation, *row) for row in rows]


def policy_key(policy_id: str) -> bytes:
    """What a policy is found by: its id is payload text, which may be longer than an index takes."""
    return hashlib.sha256(policy_id.encode()).digest()[:16]


def precedent_columns(
    tenant_id: str, generation: int, rows: Iterable[PrecedentRow], finished: Mapping[str, int]
) -> list[tuple[object, ...]]:
    """Rows of `precedents`, in the order of its columns. `finished`: by trace, the position of its TraceFinished."""
    return [(tenant_id, generation, *row, policy_key(row.policy_id), finished[row.trace_id]) for row in rows]


async def find(
    transaction: TenantTransaction, generations: Generations, wanted: PrecedentFilter, *, before: int, limit: int
) -> list[PrecedentHit]:
    """Finished traces that match, newest first: those that were finished before a log position, at most `limit`."""
    shared = (
        generations.trace_summary,
        before,
        limit,
        wanted.outcome or None,
        wanted.workflow or None,
        wanted.entity_type or None,
    )
    if wanted.policy_id:
        policy = policy_key(wanted.policy_id), wanted.policy_id, wanted.policy_version or None
        rows = await transaction.fetch(
            _OF_POLICY, *shared, wanted.entity_id or None, generations.precedent_index, *policy
        )
    elif wanted.entity_id:
        key = trace_summary.entity_key(wanted.entity_type, wanted.entity_id)
        rows = await transaction.fetch(_OF_ENTITY, *shared, wanted.entity_id, key)
    else:
        rows = await transaction.fetch(_FINISHED, *shared)
    return [PrecedentHit(*row) for row in rows]


async def iterate_precedents(
    transaction: TenantTransaction, generation: int
) -> AsyncIterator[tuple[PrecedentRow, tuple[bytes, int]]]:
    """The precedent rows of a generation by `source_event_id`, each with what it is found and sorted by."""
    async for row in transaction.iterate(_PRECEDENTS, generation):
        *columns, key, finished_log_seq = row
        yield PrecedentRow(*columns), (key, finished_log_seq)


async def iterate_evaluations(transaction: TenantTransaction, generation: int) -> AsyncIterator[PolicyEvaluationRow]:
    """The policy evaluations of a generation by `log_seq`."""
    async for row in transaction.iterate(_EVALUATIONS, generation):
        yield PolicyEvaluationRow(*row)
