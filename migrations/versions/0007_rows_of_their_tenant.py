"""The functions that write in bulk put the tenant that they are given into every row.

They took it from the rows, which only row-level security compared with the tenant of the session. Now a statement of
theirs says itself whose rows it writes, as every other one does, so that where tenants are sharded it goes to one
shard. Rows of another tenant are refused as before.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

APPEND_EVENTS = """
    CREATE OR REPLACE FUNCTION append_events(tenant text, expected_head bigint, new_events events[]) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
    DECLARE
        head bigint;
        written bigint;
    BEGIN
        SELECT log_seq INTO STRICT head FROM log_heads WHERE tenant_id = tenant FOR UPDATE;
        IF head = expected_head THEN
            INSERT INTO events
                (tenant_id, log_seq, event_id, trace_id, trace_seq, event_type, occurred_at, occurred_instant,
                 producer_id, source_system, source_subsystem, actor_type, actor_id, idempotency_key, payload,
                 payload_hash, correlation_id, causation_event_id, schema_version, tags, recorded_at, digest)
            SELECT tenant, e.log_seq, e.event_id, e.trace_id, e.trace_seq, e.event_type, e.occurred_at,
                   e.occurred_instant, e.producer_id, e.source_system, e.source_subsystem, e.actor_type, e.actor_id,
                   e.idempotency_key, e.payload, e.payload_hash, e.correlation_id, e.causation_event_id,
                   e.schema_version, e.tags, e.recorded_at, e.digest
            FROM unnest(new_events) AS e
            WHERE e.tenant_id = tenant;
            GET DIAGNOSTICS written = ROW_COUNT;
            IF written <> cardinality(new_events) THEN
                RAISE EXCEPTION 'append_events(%) was given events of another tenant', tenant
                    USING ERRCODE = 'insufficient_privilege';
            END IF;
            UPDATE log_heads SET log_seq = head + cardinality(new_events) WHERE tenant_id = tenant;
        END IF;
        RETURN head;
    END
    $$
"""

# As in 0003, but for the tenant of the rows.
APPLY_PROJECTIONS = """
    CREATE OR REPLACE FUNCTION apply_projections(
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
        IF EXISTS (
            SELECT FROM unnest(new_nodes) AS n WHERE n.tenant_id IS DISTINCT FROM tenant
            UNION ALL SELECT FROM unnest(new_edges) AS n WHERE n.tenant_id IS DISTINCT FROM tenant
            UNION ALL SELECT FROM unnest(new_summaries) AS n WHERE n.tenant_id IS DISTINCT FROM tenant
            UNION ALL SELECT FROM unnest(new_evaluations) AS n WHERE n.tenant_id IS DISTINCT FROM tenant
            UNION ALL SELECT FROM unnest(new_precedents) AS n WHERE n.tenant_id IS DISTINCT FROM tenant
            UNION ALL SELECT FROM unnest(new_documents) AS n WHERE n.tenant_id IS DISTINCT FROM tenant
        ) THEN
            RAISE EXCEPTION 'apply_projections(%) was given rows of another tenant', tenant
                USING ERRCODE = 'insufficient_privilege';
        END IF;
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
            INSERT INTO graph_nodes (tenant_id, generation, node_key, node_id, trace_id, log_seq, created_at)
            SELECT tenant, n.generation, n.node_key, n.node_id, n.trace_id, n.log_seq, n.created_at
            FROM unnest(new_nodes) AS n
            ON CONFLICT DO NOTHING;
        END IF;
        IF cardinality(new_edges) > 0 THEN
            INSERT INTO graph_edges
                (tenant_id, generation, log_seq, edge_type, from_node_key, to_node_key, from_node_id, to_node_id,
                 event_id, trace_id, created_at, incoming_key)
            SELECT tenant, n.generation, n.log_seq, n.edge_type, n.from_node_key, n.to_node_key, n.from_node_id,
                   n.to_node_id, n.event_id, n.trace_id, n.created_at, n.incoming_key
            FROM unnest(new_edges) AS n
            ON CONFLICT DO NOTHING;
        END IF;
        IF cardinality(new_summaries) > 0 THEN
            INSERT INTO trace_summaries
                (tenant_id, trace_id, workflow, title, primary_entity_type, primary_entity_id, primary_entity_system,
                 outcome, started_at, finished_at, event_count, last_log_seq, generation, started_log_seq,
                 started_instant, finished_instant, title_words, entity_key)
            SELECT tenant, n.trace_id, n.workflow, n.title, n.primary_entity_type, n.primary_entity_id,
                   n.primary_entity_system, n.outcome, n.started_at, n.finished_at, n.event_count, n.last_log_seq,
                   n.generation, n.started_log_seq, n.started_instant, n.finished_instant, n.title_words, n.entity_key
            FROM unnest(new_summaries) AS n;
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
            INSERT INTO policy_evaluations
                (tenant_id, generation, event_id, trace_id, policy_id, policy_version, log_seq, created_at)
            SELECT tenant, n.generation, n.event_id, n.trace_id, n.policy_id, n.policy_version, n.log_seq, n.created_at
            FROM unnest(new_evaluations) AS n;
        END IF;
        IF cardinality(new_precedents) > 0 THEN
            INSERT INTO precedents
                (tenant_id, generation, source_event_id, log_seq, trace_id, policy_id, policy_version, exception_id,
                 primary_entity_type, primary_entity_system, primary_entity_id, policy_key, finished_log_seq)
            SELECT tenant, n.generation, n.source_event_id, n.log_seq, n.trace_id, n.policy_id, n.policy_version,
                   n.exception_id, n.primary_entity_type, n.primary_entity_system, n.primary_entity_id, n.policy_key,
                   n.finished_log_seq
            FROM unnest(new_precedents) AS n;
        END IF;
        IF cardinality(new_documents) > 0 THEN
            INSERT INTO precedent_documents (tenant_id, generation, finished_log_seq, trace_id, features, keys)
            SELECT tenant, n.generation, n.finished_log_seq, n.trace_id, n.features, n.keys
            FROM unnest(new_documents) AS n;
            INSERT INTO precedent_postings (tenant_id, generation, key, until_log_seq, finished_log_seqs)
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
"""


def upgrade() -> None:
    op.execute(APPEND_EVENTS)
    op.execute(APPLY_PROJECTIONS)


def downgrade() -> None:
    environment = op.get_context().environment_context
    if environment is None:
        raise LookupError("migrations run in an environment")
    for revision_before, function in (("0001", "append_events"), ("0003", "apply_projections")):
        before = environment.script.get_revision(revision_before).module.UPGRADE
        statement = next(one for one in before if f"CREATE FUNCTION {function}" in one)
        op.execute(statement.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
