"""The statements that give the answers of QueryService, written by hand: the tenant is `$1` of each.

The first column of rows that the answer lists is the id that the answer gives them.
"""

from typing import Final

_EVENT: Final = """
    event_id, log_seq, trace_id, trace_seq, event_type, occurred_at, producer_id, source_system, source_subsystem,
    actor_type, actor_id, idempotency_key, payload, payload_hash, correlation_id, causation_event_id, schema_version,
    tags, recorded_at
"""
_SUMMARY: Final = """
    summary.trace_id, summary.workflow, summary.title, summary.primary_entity_type, summary.primary_entity_id,
    summary.primary_entity_system, summary.outcome, summary.started_at, summary.finished_at
"""
_EDGE_ID: Final = "edge_type || ':' || from_node_id || ':' || to_node_id || ':' || event_id"
_EDGE_AFTER_TYPE: Final = "from_node_id || ':' || to_node_id || ':' || event_id"
_EDGE: Final = f"{_EDGE_ID} AS edge_id, edge_type, from_node_id, to_node_id, trace_id, log_seq, created_at, event_id"

STANDING: Final = """
    SELECT head.log_seq AS head, live.projection, live.generation, live.log_seq
    FROM log_heads AS head
    JOIN projection_generations AS live ON live.tenant_id = $1 AND live.state = 'live'
    WHERE head.tenant_id = $1
"""

SUMMARY: Final = f"""
    SELECT {_SUMMARY}
    FROM trace_summaries AS summary
    WHERE tenant_id = $1 AND generation = $2 AND trace_id >= $3 AND trace_id <= $3
    ORDER BY summary.trace_id
    LIMIT 1
"""  # noqa: S608 - constants of this file

TRACE_EVENTS: Final = f"""
    SELECT {_EVENT}
    FROM events
    WHERE tenant_id = $1 AND trace_id = $2 AND log_seq <= $3
    ORDER BY trace_seq
    LIMIT $4
"""  # noqa: S608 - constants of this file

TRACE_PAYLOADS: Final = """
    SELECT event_type, payload
    FROM events
    WHERE tenant_id = $1 AND trace_id = $2
    ORDER BY trace_seq
    LIMIT $3
"""

EVENT: Final = f"""
    SELECT {_EVENT}
    FROM events
    WHERE tenant_id = $1 AND event_id >= $2 AND event_id <= $2
    ORDER BY events.event_id
    LIMIT 1
"""  # noqa: S608 - constants of this file

HEAD: Final = "SELECT log_seq FROM log_heads WHERE tenant_id = $1"

EVENTS_AFTER: Final = f"""
    SELECT {_EVENT}
    FROM events
    WHERE tenant_id = $1 AND log_seq > $2
    ORDER BY events.log_seq
    LIMIT $3
"""  # noqa: S608 - constants of this file


def newest_traces(*, of: str = "true", only: str = "true") -> str:
    """Summaries of traces, newest first, at most `$3`, of the newest `$4` at most.

    Args:
        of: Which traces are looked through, something that an index gives; may use parameters from `$5` on.
        only: Which of them are wanted; likewise.
    """
    return f"""
        SELECT {_SUMMARY}, newest.trace_seq + 1 AS event_count, newest.log_seq
        FROM (
            SELECT *
            FROM (
                SELECT *
                FROM trace_summaries
                WHERE tenant_id = $1 AND generation = $2 AND {of}
                ORDER BY started_log_seq DESC
                LIMIT $4
            ) AS looked_at
            WHERE {only}
            ORDER BY started_log_seq DESC
            LIMIT $3
        ) AS summary
        CROSS JOIN LATERAL (
            SELECT trace_seq, log_seq
            FROM events
            WHERE tenant_id = $1 AND trace_id = summary.trace_id
            ORDER BY trace_seq DESC
            LIMIT 1
        ) AS newest
        ORDER BY summary.started_log_seq DESC
    """  # noqa: S608 - constants of this package


def newest_finished(condition: str) -> str:
    """Finished traces, newest first, at most `$3`; `condition` may use parameters from `$4` on."""
    return f"""
        SELECT trace_id, workflow, title, outcome, finished_at, last_log_seq
        FROM trace_summaries
        WHERE tenant_id = $1 AND generation = $2 AND outcome IS NOT NULL AND {condition}
        ORDER BY last_log_seq DESC
        LIMIT $3
    """  # noqa: S608 - constants of this package


def of_policy(condition: str = "true") -> str:
    """The best precedent of each trace of a policy, newest first; `condition` may use parameters from `$7` on."""
    return f"""
        SELECT summary.trace_id, summary.workflow, summary.title, summary.outcome, summary.finished_at,
               best.finished_log_seq, best.policy_id, best.policy_version
        FROM (
            SELECT DISTINCT ON (finished_log_seq) finished_log_seq, trace_id, policy_id, policy_version
            FROM precedents
            WHERE tenant_id = $1 AND generation = $3 AND policy_key = $5 AND policy_id = $6 AND {condition}
            ORDER BY finished_log_seq DESC, exception_id IS NULL, log_seq DESC, source_event_id
            LIMIT $4
        ) AS best
        CROSS JOIN LATERAL (
            SELECT *
            FROM trace_summaries
            WHERE tenant_id = $1 AND generation = $2 AND trace_id >= best.trace_id AND trace_id <= best.trace_id
            ORDER BY trace_summaries.trace_id
            LIMIT 1
        ) AS summary
        ORDER BY best.finished_log_seq DESC
    """  # noqa: S608 - constants of this package


# The candidates are the newest of each key, as the service bounds them.
RANKED: Final = """
    SELECT hit.trace_id, hit.score, hit.features, hit.keys, summary.workflow, summary.title, summary.outcome,
           summary.finished_at
    FROM (
        SELECT document.*,
               (SELECT sum(weight) FROM unnest($4::bigint[], $5::integer[]) AS term (key, weight)
                WHERE key = ANY (document.keys)) AS score
        FROM (
            SELECT DISTINCT posting.finished_log_seq
            FROM unnest($4::bigint[]) AS wanted (key)
            CROSS JOIN LATERAL (
                SELECT position.finished_log_seq
                FROM (
                    SELECT until_log_seq, finished_log_seqs
                    FROM precedent_postings
                    WHERE tenant_id = $1 AND generation = $2 AND key = wanted.key
                    ORDER BY precedent_postings.until_log_seq DESC
                    LIMIT 1000000000
                ) AS of_batch
                CROSS JOIN LATERAL unnest(of_batch.finished_log_seqs) AS position (finished_log_seq)
                ORDER BY of_batch.until_log_seq DESC, position.finished_log_seq DESC
                LIMIT $6
            ) AS posting
        ) AS candidate
        CROSS JOIN LATERAL (
            SELECT finished_log_seq, trace_id, features, keys
            FROM precedent_documents
            WHERE tenant_id = $1 AND generation = $2
              AND finished_log_seq >= candidate.finished_log_seq AND finished_log_seq <= candidate.finished_log_seq
            ORDER BY precedent_documents.finished_log_seq
            LIMIT 1
        ) AS document
        WHERE document.trace_id <> $7
        ORDER BY score DESC, finished_log_seq DESC
        LIMIT $8
    ) AS hit
    CROSS JOIN LATERAL (
        SELECT *
        FROM trace_summaries
        WHERE tenant_id = $1 AND generation = $3 AND trace_id >= hit.trace_id AND trace_id <= hit.trace_id
        ORDER BY trace_summaries.trace_id
        LIMIT 1
    ) AS summary
    ORDER BY hit.score DESC, hit.finished_log_seq DESC
"""

# An edge that begins at one of the nodes is of the first half, wherever it ends.
EDGES_TOUCHING: Final = f"""
    SELECT {_EDGE}
    FROM (
        SELECT edge.*
        FROM unnest($3::bytea[]) AS node (node_key)
        CROSS JOIN LATERAL (
            SELECT *
            FROM graph_edges
            WHERE tenant_id = $1 AND generation = $2 AND from_node_key = node.node_key
            ORDER BY graph_edges.log_seq
            LIMIT 1000000000
        ) AS edge
        UNION ALL
        SELECT edge.*
        FROM unnest($4::bytea[]) AS node (incoming_key)
        CROSS JOIN LATERAL (
            SELECT *
            FROM graph_edges
            WHERE tenant_id = $1 AND generation = $2 AND incoming_key = node.incoming_key
              AND from_node_key <> ALL ($3::bytea[])
            ORDER BY "left"({_EDGE_AFTER_TYPE}, 64), {_EDGE_AFTER_TYPE}
            LIMIT $5
        ) AS edge
    ) AS touching
    ORDER BY {_EDGE_ID}
    LIMIT $5
"""  # noqa: S608 - constants of this file

NODES: Final = """
    SELECT node_id, trace_id, log_seq, created_at
    FROM graph_nodes
    WHERE tenant_id = $1 AND generation = $2 AND node_key = ANY ($3::bytea[])
    ORDER BY node_id
"""

NODE_EDGES: Final = f"""
    SELECT {_EDGE}
    FROM (
        (
            SELECT *
            FROM graph_edges
            WHERE tenant_id = $1 AND generation = $2 AND from_node_key = $3 AND log_seq >= $4
            ORDER BY graph_edges.log_seq
            LIMIT $6
        )
        UNION ALL
        (
            SELECT *
            FROM graph_edges
            WHERE tenant_id = $1 AND generation = $2 AND to_node_key = $3 AND log_seq >= $4 AND from_node_key <> $3
            ORDER BY graph_edges.log_seq
            LIMIT $6
        )
    ) AS edge
    WHERE (log_seq, {_EDGE_ID}) > ($4, $5)
    ORDER BY log_seq, edge_id
    LIMIT $6
"""  # noqa: S608 - constants of this file

HEALTH: Final = """
    SELECT live.projection, live.generation, live.log_seq, live.moved_at, live.traces, head.log_seq AS head,
           digest.digest, digest.log_seq AS digest_log_seq,
           (SELECT digest FROM projection_digests WHERE tenant_id = $1 AND projection = 'full_projection') AS whole,
           (SELECT count(*) FROM projection_failures AS failure
            WHERE failure.tenant_id = $1 AND failure.projection = live.projection AND failure.resolved_at IS NULL)
               AS open_failures,
           (SELECT job_id FROM replay_jobs
            WHERE tenant_id = $1 AND status IN ('queued', 'running') AND projection IN (live.projection, 'all')
            LIMIT 1) AS job_id
    FROM log_heads AS head
    JOIN projection_generations AS live ON live.tenant_id = $1 AND live.state = 'live'
    LEFT JOIN projection_digests AS digest
        ON digest.tenant_id = $1 AND digest.projection = live.projection AND digest.generation = live.generation
    WHERE head.tenant_id = $1
"""
