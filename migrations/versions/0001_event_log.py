"""The event log, its heads, tenants and the trace summary projection.

Every key begins with the tenant: a transaction touches one tenant, and the same schema can be sharded by it. Text is
compared by code point (`COLLATE "C"`).
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UPGRADE = (
    # The role that the service works as. Servers log in with the account of DG_DATABASE_URL and switch to it.
    """
    DO $$
    BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'decisiongraph_runtime') THEN
            BEGIN
                CREATE ROLE decisiongraph_runtime NOLOGIN;
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- another database of this cluster was migrated at the same moment
            END;
        END IF;
        IF NOT pg_has_role(current_user, 'decisiongraph_runtime', 'MEMBER') THEN
            EXECUTE format('GRANT decisiongraph_runtime TO %I', current_user);
        END IF;
    END
    $$
    """,
    """
    CREATE TABLE tenants (
        tenant_id text COLLATE "C" PRIMARY KEY CHECK (tenant_id ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
        display_name text NOT NULL,
        created_at timestamptz NOT NULL,
        disabled_at timestamptz
    )
    """,
    # The one place that numbers a tenant's events: an append locks the row, and holds the lock to its commit.
    """
    CREATE TABLE log_heads (
        tenant_id text COLLATE "C" PRIMARY KEY,
        log_seq bigint NOT NULL CHECK (log_seq >= 0)
    )
    """,
    """
    CREATE TABLE events (
        tenant_id text COLLATE "C" NOT NULL,
        log_seq bigint NOT NULL CHECK (log_seq > 0),
        event_id text COLLATE "C" NOT NULL,
        trace_id text COLLATE "C" NOT NULL,
        trace_seq bigint NOT NULL CHECK (trace_seq >= 0),
        event_type text COLLATE "C" NOT NULL,
        occurred_at text COLLATE "C" NOT NULL,
        occurred_instant timestamptz NOT NULL,
        producer_id text COLLATE "C" NOT NULL,
        source_system text COLLATE "C" NOT NULL,
        source_subsystem text COLLATE "C",
        actor_type text COLLATE "C" NOT NULL,
        actor_id text COLLATE "C" NOT NULL,
        idempotency_key text COLLATE "C" NOT NULL,
        payload text COLLATE "C" NOT NULL,
        payload_hash text COLLATE "C" NOT NULL,
        correlation_id text COLLATE "C",
        causation_event_id text COLLATE "C",
        schema_version integer NOT NULL CHECK (schema_version >= 1),
        tags text[] COLLATE "C" NOT NULL,
        recorded_at timestamptz NOT NULL,
        digest bytea NOT NULL,
        PRIMARY KEY (tenant_id, log_seq),
        CONSTRAINT events_event_id UNIQUE (tenant_id, event_id),
        CONSTRAINT events_trace_position UNIQUE (tenant_id, trace_id, trace_seq),
        CONSTRAINT events_idempotency_key UNIQUE (tenant_id, producer_id, idempotency_key)
    )
    """,
    "COMMENT ON COLUMN events.payload IS 'Canonical JSON: the very text that payload_hash covers'",
    "COMMENT ON COLUMN events.digest IS 'SHA-256 over all other columns: finds out what was changed by hand'",
    "COMMENT ON COLUMN events.occurred_at IS 'As the producer sent it; occurred_instant is the same as an instant'",
    # The one way into the log. Locks the tenant's head to the end of the transaction; writes only if the head is the
    # one that the rows were numbered after, and answers which one it is.
    """
    CREATE FUNCTION append_events(tenant text, expected_head bigint, new_events events[]) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
    DECLARE
        head bigint;
    BEGIN
        SELECT log_seq INTO STRICT head FROM log_heads WHERE tenant_id = tenant FOR UPDATE;
        IF head = expected_head THEN
            INSERT INTO events SELECT * FROM unnest(new_events);
            UPDATE log_heads SET log_seq = head + cardinality(new_events) WHERE tenant_id = tenant;
        END IF;
        RETURN head;
    END
    $$
    """,
    """
    CREATE TABLE trace_summaries (
        tenant_id text COLLATE "C" NOT NULL,
        trace_id text COLLATE "C" NOT NULL,
        workflow text COLLATE "C" NOT NULL,
        title text COLLATE "C" NOT NULL,
        primary_entity_type text COLLATE "C" NOT NULL,
        primary_entity_id text COLLATE "C" NOT NULL,
        primary_entity_system text COLLATE "C",
        outcome text COLLATE "C",
        started_at text COLLATE "C" NOT NULL,
        finished_at text COLLATE "C",
        event_count integer NOT NULL,
        last_log_seq bigint NOT NULL,
        PRIMARY KEY (tenant_id, trace_id)
    )
    """,
    """
    CREATE TABLE projection_positions (
        tenant_id text COLLATE "C" NOT NULL,
        projection text COLLATE "C" NOT NULL,
        log_seq bigint NOT NULL CHECK (log_seq >= 0),
        PRIMARY KEY (tenant_id, projection)
    )
    """,
    # Keys that all servers of an installation share. Page tokens are signed with the one named `page_token`.
    """
    CREATE TABLE installation_keys (
        name text COLLATE "C" PRIMARY KEY,
        key bytea NOT NULL
    )
    """,
    """
    INSERT INTO installation_keys (name, key)
    VALUES ('page_token', sha256((gen_random_uuid()::text || gen_random_uuid()::text)::bytea))
    """,
    "GRANT SELECT, INSERT ON tenants TO decisiongraph_runtime",
    # SELECT FOR UPDATE needs UPDATE of one column; the tenant of a head stays as it is.
    "GRANT SELECT, INSERT, UPDATE (log_seq) ON log_heads TO decisiongraph_runtime",
    # Insert and select: what is in the log stays as it is.
    "GRANT SELECT, INSERT ON events TO decisiongraph_runtime",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON trace_summaries, projection_positions TO decisiongraph_runtime",
    "GRANT SELECT ON installation_keys, alembic_version TO decisiongraph_runtime",
)

DOWNGRADE = (
    "DROP FUNCTION append_events",
    "DROP TABLE installation_keys",
    "DROP TABLE projection_positions",
    "DROP TABLE trace_summaries",
    "DROP TABLE events",
    "DROP TABLE log_heads",
    "DROP TABLE tenants",
    # The role stays: other databases of the cluster may use it.
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.execute(statement)
