"""Lists of traces, ranked precedents, and the edges of a node in the order of their ids.

Trace summaries get the columns that lists are sorted and filtered by, the precedent index gets what a ranked search
looks up. What is looked up by a hash has it in a column: an expression with a function serves no index where row-level
security is on.

Only the log knows what they hold, so both projections begin anew: the projector fills them again after the start of the
new servers, and reads of them wait or are refused as out of date until it has caught up. Jobs that were filling a
generation of either begin it anew too.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BEGIN_ANEW = (
    "TRUNCATE trace_summaries, precedents, policy_evaluations",
    """
    UPDATE projection_generations
    SET log_seq = 0, traces = 0
    WHERE projection IN ('trace_summary', 'precedent_index') AND state <> 'retired'
    """,
    """
    DELETE FROM projection_digests
    WHERE projection IN ('trace_summary', 'precedent_index', 'full_projection')
    """,
)

UPGRADE = (
    *BEGIN_ANEW,
    "ALTER TABLE trace_summaries ADD COLUMN started_log_seq bigint NOT NULL",
    "ALTER TABLE trace_summaries ADD COLUMN started_instant timestamptz NOT NULL",
    "ALTER TABLE trace_summaries ADD COLUMN finished_instant timestamptz",
    'ALTER TABLE trace_summaries ADD COLUMN title_words text[] COLLATE "C" NOT NULL',
    "ALTER TABLE trace_summaries ADD COLUMN entity_key bytea NOT NULL",
    "DROP INDEX trace_summaries_of_entity",
    "DROP FUNCTION entity_key",
    """
    CREATE INDEX trace_summaries_of_entity ON trace_summaries (tenant_id, generation, entity_key, last_log_seq DESC)
    WHERE outcome IS NOT NULL
    """,
    "COMMENT ON COLUMN trace_summaries.started_log_seq IS 'Position of its TraceStarted: the order of lists'",
    "CREATE INDEX trace_summaries_started ON trace_summaries (tenant_id, generation, started_log_seq DESC)",
    """
    CREATE INDEX trace_summaries_open ON trace_summaries (tenant_id, generation, started_log_seq DESC)
    WHERE outcome IS NULL
    """,
    """
    CREATE INDEX trace_summaries_started_of_entity
    ON trace_summaries (tenant_id, generation, entity_key, started_log_seq DESC)
    """,
    # A node with very many edges is nearly always at their to-end: those of one type in the order of their ids. An
    # index takes only the beginning of a long id, what is equal so far is sorted by the reader. Node and type are one
    # column, so that there is no other index to choose, whatever the planner believes of the number of edges.
    "ALTER TABLE graph_edges ADD COLUMN incoming_key bytea",
    "UPDATE graph_edges SET incoming_key = to_node_key || convert_to(edge_type, 'UTF8')",
    "ALTER TABLE graph_edges ALTER COLUMN incoming_key SET NOT NULL",
    """
    CREATE INDEX graph_edges_to_by_id
    ON graph_edges (
        tenant_id, generation, incoming_key,
        "left"(from_node_id || ':' || to_node_id || ':' || event_id, 64)
    )
    """,
    # What a finished trace is found by in a ranked search. `keys`: 64 bits of the SHA-256 of each of its features and
    # words. `features`: JSON, for telling what matched.
    """
    CREATE TABLE precedent_documents (
        tenant_id text COLLATE "C" NOT NULL,
        generation bigint NOT NULL,
        finished_log_seq bigint NOT NULL,
        trace_id text COLLATE "C" NOT NULL,
        features text COLLATE "C" NOT NULL,
        keys bigint[] NOT NULL,
        PRIMARY KEY (tenant_id, generation, finished_log_seq)
    )
    """,
    # By key the documents that have it, those of one batch in one row; read from the newest on. Batches follow each
    # other, so every position of a row is greater than those of the rows before it.
    """
    CREATE TABLE precedent_postings (
        tenant_id text COLLATE "C" NOT NULL,
        generation bigint NOT NULL,
        key bigint NOT NULL,
        until_log_seq bigint NOT NULL,
        finished_log_seqs bigint[] NOT NULL,
        PRIMARY KEY (tenant_id, generation, key, until_log_seq)
    )
    """,
    """
    GRANT SELECT, INSERT, UPDATE, DELETE ON precedent_documents, precedent_postings TO decisiongraph_runtime
    """,
    "DROP FUNCTION apply_projections",
    # As before, with what is new in trace summaries, and the documents of finished traces with their postings.
    """
    CREATE FUNCTION apply_projections(
        tenant text, projections text[], generations bigint[], from_log_seq bigint, to_log_seq bigint,
        moved timestamptz, new_nodes graph_nodes[], new_edges graph_edges[], new_summaries trace_summaries[],
        finished_traces text[], finished_outcomes text[], finished_times text[], finished_instants timestamptz[],
        finished_log_seqs bigint[], new_evaluations policy_evaluations[], new_precedents precedents[],
        new_documents precedent_documents[]
    ) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
    DECLARE
        locked integer;
        summary_generation bigint;
    BEGIN
        PERFORM FROM projection_generations AS g
        JOIN unnest(projections, generations) AS target (projection, generation)
            ON target.projection = g.projection AND target.generation = g.generation
        WHERE g.tenant_id = tenant AND g.state <> 'retired' AND g.log_seq = from_log_seq
        FOR UPDATE OF g SKIP LOCKED;
        GET DIAGNOSTICS locked = ROW_COUNT;
        IF locked <> cardinality(projections) THEN
            RETURN false;
        END IF;
        IF cardinality(new_nodes) > 0 THEN
            INSERT INTO graph_nodes SELECT * FROM unnest(new_nodes) ON CONFLICT DO NOTHING;
        END IF;
        IF cardinality(new_edges) > 0 THEN
            INSERT INTO graph_edges SELECT * FROM unnest(new_edges) ON CONFLICT DO NOTHING;
        END IF;
        IF cardinality(new_summaries) > 0 THEN
            INSERT INTO trace_summaries SELECT * FROM unnest(new_summaries);
        END IF;
        IF cardinality(finished_traces) > 0 THEN
            summary_generation := generations[array_position(projections, 'trace_summary')];
            UPDATE trace_summaries AS summary
            SET outcome = finish.outcome,
                finished_at = finish.finished_at,
                finished_instant = finish.finished_instant,
                event_count = summary.event_count + 1,
                last_log_seq = finish.log_seq
            FROM unnest(finished_traces, finished_outcomes, finished_times, finished_instants, finished_log_seqs)
                AS finish (trace_id, outcome, finished_at, finished_instant, log_seq)
            WHERE summary.tenant_id = tenant
              AND summary.generation = summary_generation
              AND summary.trace_id = finish.trace_id;
        END IF;
        IF cardinality(new_evaluations) > 0 THEN
            INSERT INTO policy_evaluations SELECT * FROM unnest(new_evaluations);
        END IF;
        IF cardinality(new_precedents) > 0 THEN
            INSERT INTO precedents SELECT * FROM unnest(new_precedents);
        END IF;
        IF cardinality(new_documents) > 0 THEN
            INSERT INTO precedent_documents SELECT * FROM unnest(new_documents);
            INSERT INTO precedent_postings
            SELECT tenant, document.generation, key, to_log_seq, array_agg(document.finished_log_seq)
            FROM unnest(new_documents) AS document, unnest(document.keys) AS key
            GROUP BY document.generation, key;
        END IF;
        UPDATE projection_generations AS g
        SET log_seq = to_log_seq,
            moved_at = moved,
            traces = g.traces + CASE g.projection WHEN 'trace_summary' THEN cardinality(new_summaries) ELSE 0 END
        FROM unnest(projections, generations) AS target (projection, generation)
        WHERE g.tenant_id = tenant AND g.projection = target.projection AND g.generation = target.generation;
        UPDATE projection_failures AS failure
        SET resolved_at = moved, blocks = false
        FROM projection_generations AS g
        WHERE g.tenant_id = tenant AND g.projection = ANY (projections) AND g.state = 'live'
          AND failure.tenant_id = tenant AND failure.projection = g.projection
          AND failure.resolved_at IS NULL AND failure.log_seq <= g.log_seq;
        RETURN true;
    END
    $$
    """,
)

DOWNGRADE = (
    *BEGIN_ANEW,
    "DROP FUNCTION apply_projections",
    "DROP TABLE precedent_postings",
    "DROP TABLE precedent_documents",
    "DROP INDEX graph_edges_to_by_id",
    "ALTER TABLE graph_edges DROP COLUMN incoming_key",
    # Indexes go with their columns.
    "ALTER TABLE trace_summaries DROP COLUMN entity_key",
    "ALTER TABLE trace_summaries DROP COLUMN started_log_seq",
    "ALTER TABLE trace_summaries DROP COLUMN started_instant",
    "ALTER TABLE trace_summaries DROP COLUMN finished_instant",
    "ALTER TABLE trace_summaries DROP COLUMN title_words",
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.execute(statement)
    environment = op.get_context().environment_context
    if environment is None:
        raise LookupError("migrations run in an environment")
    before = environment.script.get_revision("0002").module.UPGRADE
    for made in ("FUNCTION apply_projections", "FUNCTION entity_key", "INDEX trace_summaries_of_entity"):
        op.execute(next(statement for statement in before if f"CREATE {made}" in statement))
