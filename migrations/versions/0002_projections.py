"""All projections with generations, their failures and digests, replay jobs and the audit log.

Rows of a projection belong to a generation; readers see the live one. Keys made of payload texts, which have no limit,
are the first 16 bytes of their SHA-256.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UPGRADE = (
    # `live`: what readers see, one per projection. `building`: filled by a job. `retired`: removed in steps.
    """
    CREATE TABLE projection_generations (
        tenant_id text COLLATE "C" NOT NULL,
        projection text COLLATE "C" NOT NULL,
        generation bigint NOT NULL CHECK (generation > 0),
        state text COLLATE "C" NOT NULL CHECK (state IN ('live', 'building', 'retired')),
        log_seq bigint NOT NULL CHECK (log_seq >= 0),
        moved_at timestamptz,
        traces bigint NOT NULL DEFAULT 0,
        job_id text COLLATE "C",
        PRIMARY KEY (tenant_id, projection, generation)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE UNIQUE INDEX projection_generations_live ON projection_generations (tenant_id, projection)
    WHERE state = 'live'
    """,
    """
    INSERT INTO projection_generations (tenant_id, projection, generation, state, log_seq, traces)
    SELECT head.tenant_id, named.projection, 1, 'live', coalesce(position.log_seq, 0),
           CASE named.projection
               WHEN 'trace_summary'
               THEN (SELECT count(*) FROM trace_summaries AS summary WHERE summary.tenant_id = head.tenant_id)
               ELSE 0
           END
    FROM log_heads AS head
    CROSS JOIN unnest(ARRAY['context_graph', 'trace_summary', 'precedent_index']) AS named (projection)
    LEFT JOIN projection_positions AS position
        ON position.tenant_id = head.tenant_id AND position.projection = named.projection
    """,
    "DROP TABLE projection_positions",
    "ALTER TABLE trace_summaries ADD COLUMN generation bigint NOT NULL DEFAULT 1",
    "ALTER TABLE trace_summaries ALTER COLUMN generation DROP DEFAULT",
    "ALTER TABLE trace_summaries DROP CONSTRAINT trace_summaries_pkey",
    "ALTER TABLE trace_summaries ADD PRIMARY KEY (tenant_id, generation, trace_id)",
    """
    CREATE INDEX trace_summaries_finished ON trace_summaries (tenant_id, generation, last_log_seq DESC)
    WHERE outcome IS NOT NULL
    """,
    # By entity: only a hash fits an index whatever the id. The function is what readers look up by.
    """
    CREATE FUNCTION entity_key(entity_type text, entity_id text) RETURNS bytea
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN substring(sha256(convert_to(entity_type || E'\\x1f' || entity_id, 'UTF8')) FROM 1 FOR 16)
    """,
    """
    CREATE INDEX trace_summaries_of_entity
    ON trace_summaries (
        tenant_id, generation, entity_key(primary_entity_type, primary_entity_id), last_log_seq DESC
    )
    WHERE outcome IS NOT NULL
    """,
    """
    CREATE TABLE graph_nodes (
        tenant_id text COLLATE "C" NOT NULL,
        generation bigint NOT NULL,
        node_key bytea NOT NULL,
        node_id text COLLATE "C" NOT NULL,
        trace_id text COLLATE "C" NOT NULL,
        log_seq bigint NOT NULL,
        created_at text COLLATE "C" NOT NULL,
        PRIMARY KEY (tenant_id, generation, node_key)
    )
    """,
    # An event makes at most one edge of a type, so the two name it.
    """
    CREATE TABLE graph_edges (
        tenant_id text COLLATE "C" NOT NULL,
        generation bigint NOT NULL,
        log_seq bigint NOT NULL,
        edge_type text COLLATE "C" NOT NULL,
        from_node_key bytea NOT NULL,
        to_node_key bytea NOT NULL,
        from_node_id text COLLATE "C" NOT NULL,
        to_node_id text COLLATE "C" NOT NULL,
        event_id text COLLATE "C" NOT NULL,
        trace_id text COLLATE "C" NOT NULL,
        created_at text COLLATE "C" NOT NULL,
        PRIMARY KEY (tenant_id, generation, log_seq, edge_type)
    )
    """,
    "CREATE INDEX graph_edges_from ON graph_edges (tenant_id, generation, from_node_key, log_seq)",
    "CREATE INDEX graph_edges_to ON graph_edges (tenant_id, generation, to_node_key, log_seq)",
    """
    CREATE TABLE policy_evaluations (
        tenant_id text COLLATE "C" NOT NULL,
        generation bigint NOT NULL,
        event_id text COLLATE "C" NOT NULL,
        trace_id text COLLATE "C" NOT NULL,
        policy_id text COLLATE "C" NOT NULL,
        policy_version text COLLATE "C" NOT NULL,
        log_seq bigint NOT NULL,
        created_at text COLLATE "C" NOT NULL,
        PRIMARY KEY (tenant_id, generation, log_seq)
    )
    """,
    """
    CREATE TABLE precedents (
        tenant_id text COLLATE "C" NOT NULL,
        generation bigint NOT NULL,
        source_event_id text COLLATE "C" NOT NULL,
        log_seq bigint NOT NULL,
        trace_id text COLLATE "C" NOT NULL,
        policy_id text COLLATE "C" NOT NULL,
        policy_version text COLLATE "C" NOT NULL,
        exception_id text COLLATE "C",
        primary_entity_type text COLLATE "C" NOT NULL,
        primary_entity_system text COLLATE "C",
        primary_entity_id text COLLATE "C" NOT NULL,
        policy_key bytea NOT NULL,
        finished_log_seq bigint NOT NULL,
        PRIMARY KEY (tenant_id, generation, trace_id, log_seq)
    )
    """,
    "CREATE INDEX precedents_of_policy ON precedents (tenant_id, generation, policy_key, finished_log_seq DESC)",
    "COMMENT ON COLUMN precedents.finished_log_seq IS 'Position of its trace''s TraceFinished: the order of answers'",
    """
    CREATE TABLE projection_failures (
        tenant_id text COLLATE "C" NOT NULL,
        projection text COLLATE "C" NOT NULL,
        log_seq bigint NOT NULL,
        trace_id text COLLATE "C" NOT NULL,
        event_id text COLLATE "C" NOT NULL,
        category text COLLATE "C" NOT NULL,
        message text COLLATE "C" NOT NULL,
        recoverable boolean NOT NULL,
        retry_count integer NOT NULL DEFAULT 0,
        blocks boolean NOT NULL DEFAULT true,
        failed_at timestamptz NOT NULL,
        resolved_at timestamptz,
        PRIMARY KEY (tenant_id, projection, log_seq)
    )
    """,
    "COMMENT ON COLUMN projection_generations.traces IS 'Of trace_summary: how many rows it has'",
    "COMMENT ON COLUMN projection_failures.blocks IS 'Whether the projector waits for somebody to ask for a retry'",
    """
    CREATE INDEX projection_failures_open ON projection_failures (tenant_id, projection, log_seq)
    WHERE resolved_at IS NULL
    """,
    # The digest that was computed last. `full_projection` has generation 0.
    """
    CREATE TABLE projection_digests (
        tenant_id text COLLATE "C" NOT NULL,
        projection text COLLATE "C" NOT NULL,
        generation bigint NOT NULL,
        log_seq bigint NOT NULL,
        digest text COLLATE "C" NOT NULL,
        computed_at timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, projection)
    )
    """,
    """
    CREATE TABLE replay_jobs (
        tenant_id text COLLATE "C" NOT NULL,
        job_seq bigint NOT NULL CHECK (job_seq > 0),
        job_id text COLLATE "C" NOT NULL,
        projection text COLLATE "C" NOT NULL,
        mode text COLLATE "C" NOT NULL,
        status text COLLATE "C" NOT NULL
            CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled')),
        reason text COLLATE "C" NOT NULL,
        requested_by text COLLATE "C" NOT NULL,
        requested_at timestamptz NOT NULL,
        started_at timestamptz,
        finished_at timestamptz,
        since_log_seq bigint NOT NULL,
        until_log_seq bigint,
        processed_events bigint NOT NULL DEFAULT 0,
        total_events bigint NOT NULL DEFAULT 0,
        last_log_seq bigint NOT NULL DEFAULT 0,
        events_per_second double precision NOT NULL DEFAULT 0,
        error_code text COLLATE "C",
        error_message text COLLATE "C",
        metadata text COLLATE "C" NOT NULL,
        verify_results text COLLATE "C" NOT NULL DEFAULT '[]',
        runner_id text COLLATE "C",
        alive_at timestamptz,
        PRIMARY KEY (tenant_id, job_seq),
        CONSTRAINT replay_jobs_job_id UNIQUE (tenant_id, job_id)
    )
    """,
    """
    CREATE UNIQUE INDEX replay_jobs_active ON replay_jobs (tenant_id, projection)
    WHERE status IN ('queued', 'running')
    """,
    # Numbers a tenant's audit log.
    """
    CREATE TABLE audit_heads (
        tenant_id text COLLATE "C" PRIMARY KEY,
        audit_seq bigint NOT NULL
    )
    """,
    """
    CREATE TABLE audit_entries (
        tenant_id text COLLATE "C" NOT NULL,
        audit_seq bigint NOT NULL CHECK (audit_seq > 0),
        recorded_at timestamptz NOT NULL,
        account_id text COLLATE "C" NOT NULL,
        action text COLLATE "C" NOT NULL,
        target text COLLATE "C" NOT NULL,
        reason text COLLATE "C" NOT NULL,
        outcome text COLLATE "C" NOT NULL CHECK (outcome IN ('done', 'refused')),
        refusal_reason text COLLATE "C",
        request_id text COLLATE "C" NOT NULL,
        PRIMARY KEY (tenant_id, audit_seq)
    )
    """,
    # Writes what a pass changed and moves the positions, all or nothing; false if somebody else moved one, or is about
    # to. One function, so that a batch is one round trip and, where tenants are sharded, stays on the tenant's node.
    """
    CREATE FUNCTION apply_projections(
        tenant text, projections text[], generations bigint[], from_log_seq bigint, to_log_seq bigint,
        moved timestamptz, new_nodes graph_nodes[], new_edges graph_edges[], new_summaries trace_summaries[],
        finished_traces text[], finished_outcomes text[], finished_times text[], finished_log_seqs bigint[],
        new_evaluations policy_evaluations[], new_precedents precedents[]
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
                event_count = summary.event_count + 1,
                last_log_seq = finish.log_seq
            FROM unnest(finished_traces, finished_outcomes, finished_times, finished_log_seqs)
                AS finish (trace_id, outcome, finished_at, log_seq)
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
    """
    GRANT SELECT, INSERT, UPDATE, DELETE
    ON projection_generations, trace_summaries, graph_nodes, graph_edges, policy_evaluations, precedents,
       projection_failures, projection_digests
    TO decisiongraph_runtime
    """,
    "GRANT SELECT, INSERT, UPDATE ON replay_jobs, audit_heads TO decisiongraph_runtime",
    # Append-only, as the log.
    "GRANT SELECT, INSERT ON audit_entries TO decisiongraph_runtime",
)

DOWNGRADE = (
    "DROP FUNCTION apply_projections",
    "DROP TABLE audit_entries",
    "DROP TABLE audit_heads",
    "DROP TABLE replay_jobs",
    "DROP TABLE projection_digests",
    "DROP TABLE projection_failures",
    "DROP TABLE precedents",
    "DROP TABLE policy_evaluations",
    "DROP TABLE graph_edges",
    "DROP TABLE graph_nodes",
    """
    DELETE FROM trace_summaries AS summary
    WHERE NOT EXISTS (
        SELECT FROM projection_generations AS live
        WHERE live.tenant_id = summary.tenant_id AND live.projection = 'trace_summary' AND live.state = 'live'
          AND live.generation = summary.generation
    )
    """,
    "ALTER TABLE trace_summaries DROP CONSTRAINT trace_summaries_pkey",
    "DROP INDEX trace_summaries_of_entity",
    "DROP FUNCTION entity_key",
    # The index of finished traces goes with the column.
    "ALTER TABLE trace_summaries DROP COLUMN generation",
    "ALTER TABLE trace_summaries ADD PRIMARY KEY (tenant_id, trace_id)",
    """
    CREATE TABLE projection_positions (
        tenant_id text COLLATE "C" NOT NULL,
        projection text COLLATE "C" NOT NULL,
        log_seq bigint NOT NULL CHECK (log_seq >= 0),
        PRIMARY KEY (tenant_id, projection)
    )
    """,
    """
    INSERT INTO projection_positions (tenant_id, projection, log_seq)
    SELECT tenant_id, projection, log_seq FROM projection_generations
    WHERE state = 'live' AND projection = 'trace_summary'
    """,
    "GRANT SELECT, INSERT, UPDATE, DELETE ON projection_positions TO decisiongraph_runtime",
    "DROP TABLE projection_generations",
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.execute(statement)
