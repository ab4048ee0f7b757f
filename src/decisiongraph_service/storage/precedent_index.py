"""Rows of the precedent index: their columns, and reading a generation in its order."""

from collections.abc import AsyncIterator, Iterable
from typing import Final

from decisiongraph_service.domain.precedent_index import PolicyEvaluationRow, PrecedentRow
from decisiongraph_service.storage.database import TenantTransaction

TABLES: Final = ("policy_evaluations", "precedents")

# A range of the primary key, sorted by the server.
_PRECEDENTS: Final = """
    SELECT source_event_id, log_seq, trace_id, policy_id, policy_version, exception_id, primary_entity_type,
           primary_entity_system, primary_entity_id
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


def evaluation_columns(
    tenant_id: str, generation: int, rows: Iterable[PolicyEvaluationRow]
) -> list[tuple[object, ...]]:
    """Rows of `policy_evaluations`, in the order of its columns."""
    return [(tenant_id, generation, *row) for row in rows]


def precedent_columns(tenant_id: str, generation: int, rows: Iterable[PrecedentRow]) -> list[tuple[object, ...]]:
    """Rows of `precedents`, in the order of its columns."""
    return [(tenant_id, generation, *row) for row in rows]


async def iterate_precedents(transaction: TenantTransaction, generation: int) -> AsyncIterator[PrecedentRow]:
    """The precedent rows of a generation by `source_event_id`."""
    async for row in transaction.iterate(_PRECEDENTS, generation):
        yield PrecedentRow(*row)


async def iterate_evaluations(transaction: TenantTransaction, generation: int) -> AsyncIterator[PolicyEvaluationRow]:
    """The policy evaluations of a generation by `log_seq`."""
    async for row in transaction.iterate(_EVALUATIONS, generation):
        yield PolicyEvaluationRow(*row)
