"""How far each projection of a tenant has come, in which generation, and writing what a pass changed.

A generation is one set of a projection's rows. Readers see the live one; a job fills another beside it, and one
transaction makes that the live one (docs/reference/PROJECTION_AND_REPLAY_SEMANTICS.md, rebuild).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from decisiongraph_service.domain import vocabulary
from decisiongraph_service.domain.projection_pass import Changes
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import context_graph, precedent_documents, precedent_index, trace_summary
from decisiongraph_service.storage.database import Database, TenantTransaction

_TABLES: Final = {
    vocabulary.CONTEXT_GRAPH: context_graph.TABLES,
    vocabulary.TRACE_SUMMARY: trace_summary.TABLES,
    vocabulary.PRECEDENT_INDEX: precedent_index.TABLES,
}
_REMOVED_AT_ONCE: Final = 5_000

# The unique index of live generations; a look-up among the open failures for each.
_LIVE: Final = """
    SELECT live.projection, live.generation, live.log_seq, live.moved_at,
           EXISTS (
               SELECT FROM projection_failures AS failure
               WHERE failure.tenant_id = $1 AND failure.projection = live.projection
                 AND failure.resolved_at IS NULL AND failure.blocks
           ) AS blocked
    FROM projection_generations AS live
    WHERE live.tenant_id = $1 AND live.state = 'live'
    ORDER BY live.projection
"""
_LIVE_LOCKED: Final = """
    SELECT live.projection, live.generation, live.log_seq, live.moved_at, false AS blocked
    FROM projection_generations AS live
    WHERE live.tenant_id = $1 AND live.state = 'live' AND live.projection = ANY ($2::text[])
    ORDER BY live.projection
    FOR UPDATE
"""

# The tenant's row of the heads, and the unique index of live generations.
_HEAD_AND_LIVE: Final = """
    SELECT head.log_seq AS head, live.projection, live.generation, live.log_seq
    FROM log_heads AS head
    LEFT JOIN projection_generations AS live ON live.tenant_id = $1 AND live.state = 'live'
    WHERE head.tenant_id = $1
"""

# A row of the unique index of live generations, and the end of the log in the order of the primary key. The limit is
# there because only it makes the planner care for the order, and with it for the right index.
_TRACES: Final = """
    SELECT live.traces + (
               SELECT count(*) FILTER (WHERE later.event_type = 'TraceStarted')
               FROM (
                   SELECT event_type
                   FROM events
                   WHERE tenant_id = $1 AND log_seq > live.log_seq
                   ORDER BY events.log_seq
                   LIMIT 1000000000
               ) AS later
           )
    FROM projection_generations AS live
    WHERE live.tenant_id = $1 AND live.projection = 'trace_summary' AND live.state = 'live'
"""

_BEGIN: Final = """
    INSERT INTO projection_generations (tenant_id, projection, generation, state, log_seq)
    SELECT $1, named.projection, 1, 'live', 0
    FROM unnest($2::text[]) AS named (projection)
    WHERE NOT EXISTS (
        SELECT FROM projection_generations AS present
        WHERE present.tenant_id = $1 AND present.projection = named.projection
    )
    ON CONFLICT DO NOTHING
"""

# See the migration that creates them: they look at all tenants. What lags is locked tenant by tenant afterwards.
_LAGGING: Final = "SELECT tenant_id FROM lagging_tenants() AS tenant_id"
_TENANTS_WITH_RETIRED: Final = "SELECT tenant_id FROM tenants_with_retired_generations() AS tenant_id"

_RETIRED: Final = """
    SELECT projection, generation
    FROM projection_generations
    WHERE tenant_id = $1 AND state = 'retired'
"""

_BUILD: Final = """
    INSERT INTO projection_generations (tenant_id, projection, generation, state, log_seq, job_id)
    SELECT $1, $2, 1 + max(generation), 'building', 0, $3
    FROM projection_generations
    WHERE tenant_id = $1 AND projection = $2
    RETURNING generation
"""

_BUILDING: Final = """
    SELECT projection, generation, log_seq, moved_at, false AS blocked
    FROM projection_generations
    WHERE tenant_id = $1 AND state = 'building' AND job_id = $2
    ORDER BY projection
"""

_SET_STATE: Final = """
    UPDATE projection_generations
    SET state = $4
    WHERE tenant_id = $1 AND projection = $2 AND generation = $3
"""

_RETIRE_BUILDING: Final = """
    UPDATE projection_generations
    SET state = 'retired'
    WHERE tenant_id = $1 AND state = 'building' AND job_id = $2
"""

_FORGET: Final = """
    DELETE FROM projection_generations
    WHERE tenant_id = $1 AND projection = $2 AND generation = $3 AND state = 'retired'
"""

# See the migration that creates it.
_APPLY: Final = f"SELECT apply_projections({', '.join(f'${number}' for number in range(1, 18))})"


@dataclass(frozen=True, slots=True)
class Generation:
    """One set of rows of one projection."""

    projection: str
    generation: int
    log_seq: int
    """Log position of the last event whose effect is committed."""
    moved_at_micros: int | None = None
    blocked: bool = False
    """An open failure waits for somebody to ask for a retry."""


async def fetch_head_and_live(transaction: TenantTransaction) -> tuple[int, dict[str, Generation]]:
    """The newest position of the log, 0 for an empty one, and by projection the generation that readers see."""
    rows = await transaction.fetch(_HEAD_AND_LIVE)
    live = {row["projection"]: Generation(*row[1:]) for row in rows if row["projection"] is not None}
    return (rows[0]["head"] if rows else 0), live


async def fetch_live(transaction: TenantTransaction) -> list[Generation]:
    """The generations that readers see, by name of the projection."""
    return [Generation(*row) for row in await transaction.fetch(_LIVE)]


async def count_traces(transaction: TenantTransaction) -> int:
    """The number of traces of the log: those of the live trace summary, and those that started after its position."""
    return int(await transaction.fetch_value(_TRACES) or 0)


async def lock_live(transaction: TenantTransaction, projections: Collection[str]) -> list[Generation]:
    """Those of `projections`, locked to the end of the transaction: they stay where they are."""
    while True:
        locked = [Generation(*row) for row in await transaction.fetch(_LIVE_LOCKED, list(projections))]
        live = [one for one in await fetch_live(transaction) if one.projection in projections]
        # A lock that was waited for is of a row as it is now, but the rows were chosen as they were before: of a
        # projection that was switched meanwhile neither the old one, which is not live, nor the new one is among them.
        if len(locked) >= len(live):
            return locked


async def begin(transaction: TenantTransaction) -> None:
    """Make the first generation of each projection of a tenant that has none."""
    await transaction.execute(_BEGIN, list(vocabulary.PROJECTIONS))


async def fetch_lagging_tenants(database: Database) -> list[TenantId]:
    """Tenants with a projection behind their log, at most 1,000."""
    return [TenantId(row["tenant_id"]) for row in await database.fetch_installation_rows(_LAGGING)]


async def apply(
    transaction: TenantTransaction,
    targets: Sequence[Generation],
    changes: Changes,
    *,
    from_log_seq: int,
    moved_at_micros: int,
) -> bool:
    """Write what a pass changed and move the position of all `targets`, all or nothing.

    Returns:
        False if another writer moved one of them, or is about to: nothing was written.
    """
    tenant_id = transaction.tenant_id
    by_name = {target.projection: target.generation for target in targets}
    graph = by_name.get(vocabulary.CONTEXT_GRAPH, 0)
    precedents = by_name.get(vocabulary.PRECEDENT_INDEX, 0)
    finishes = changes.summaries.finishes
    return bool(
        await transaction.fetch_value(
            _APPLY,
            list(by_name),
            list(by_name.values()),
            from_log_seq,
            changes.position,
            moved_at_micros,
            context_graph.node_columns(tenant_id, graph, changes.graph.nodes),
            context_graph.edge_columns(tenant_id, graph, changes.graph.edges),
            trace_summary.columns(tenant_id, by_name.get(vocabulary.TRACE_SUMMARY, 0), changes.summaries.started),
            [finish.trace_id for finish in finishes],
            [finish.outcome for finish in finishes],
            [finish.finished_at for finish in finishes],
            [finish.finished_micros for finish in finishes],
            [finish.last_log_seq for finish in finishes],
            precedent_index.evaluation_columns(tenant_id, precedents, changes.evaluations),
            precedent_index.precedent_columns(tenant_id, precedents, changes.precedents, changes.finished),
            precedent_documents.columns(tenant_id, precedents, changes.documents),
        )
    )


async def begin_building(transaction: TenantTransaction, projection: str, job_id: str) -> Generation:
    """Make an empty generation beside the live one."""
    return Generation(projection, int(await transaction.fetch_value(_BUILD, projection, job_id)), 0)


async def fetch_building(transaction: TenantTransaction, job_id: str) -> list[Generation]:
    """The generations that a job fills, by name of the projection."""
    return [Generation(*row) for row in await transaction.fetch(_BUILDING, job_id)]


async def switch(transaction: TenantTransaction, live: Generation, building: Generation) -> None:
    """Let readers see `building` from the commit on. Both are locked by the caller."""
    await transaction.execute(_SET_STATE, live.projection, live.generation, "retired")
    await transaction.execute(_SET_STATE, building.projection, building.generation, "live")


async def retire_building(transaction: TenantTransaction, job_id: str) -> None:
    """Give up what a job has filled; the rows go later, in steps."""
    await transaction.execute(_RETIRE_BUILDING, job_id)


async def fetch_tenants_with_retired(database: Database) -> list[TenantId]:
    """Tenants with generations to remove, at most 100."""
    return [TenantId(row["tenant_id"]) for row in await database.fetch_installation_rows(_TENANTS_WITH_RETIRED)]


async def remove_retired_step(transaction: TenantTransaction) -> int:
    """Remove some rows of retired generations, at most 5,000 of each table; 0 when nothing is left."""
    removed = 0
    for projection, generation in await transaction.fetch(_RETIRED):
        of_generation = 0
        for table in _TABLES[projection]:
            of_generation += int(await transaction.fetch_value(_remove(table), generation, _REMOVED_AT_ONCE))
        if not of_generation:
            await transaction.execute(_FORGET, projection, generation)
        removed += of_generation
    return removed


def _remove(table: str) -> str:
    # By physical place: a range of the primary key gives them, whatever the key is made of.
    return f"""
        WITH removed AS (
            DELETE FROM {table}
            WHERE tenant_id = $1 AND generation = $2
              AND ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE tenant_id = $1 AND generation = $2 LIMIT $3))
            RETURNING 1
        )
        SELECT count(*) FROM removed
    """
