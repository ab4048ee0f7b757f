"""What is measured of all tenants together, and which servers may go on working after a migration.

The functions run with the rights of the schema's owner, as those of 0005: they tell sums and no tenant.

From here on a migration says, in `schema_compatibility`, the oldest revision whose servers still work with the schema
that it leaves. One that only adds says nothing; one that changes or removes what older servers use sets it, and they
stop being ready.
"""

import sqlalchemy
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

FUNCTIONS = {
    # The age of a lag is that of the first event that waits, of the 100 tenants that are furthest behind.
    "projection_lag()": """
    CREATE FUNCTION projection_lag() RETURNS TABLE (
        projection text, lagging_tenants bigint, lag_events bigint, largest_lag_events bigint,
        lag_seconds double precision
    )
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp
    AS $$
        WITH lagging AS MATERIALIZED (
            SELECT live.tenant_id, live.projection, live.log_seq, head.log_seq - live.log_seq AS events
            FROM log_heads AS head
            JOIN projection_generations AS live ON live.tenant_id = head.tenant_id AND live.state = 'live'
            WHERE head.log_seq > live.log_seq
        ), oldest AS (
            SELECT furthest.projection, min(event.recorded_at) AS recorded_at
            FROM (SELECT * FROM lagging ORDER BY events DESC LIMIT 300) AS furthest
            JOIN events AS event ON event.tenant_id = furthest.tenant_id AND event.log_seq = furthest.log_seq + 1
            GROUP BY furthest.projection
        )
        SELECT lagging.projection, count(*), sum(events)::bigint, max(events),
               coalesce(extract(epoch FROM clock_timestamp() - min(oldest.recorded_at)), 0)::double precision
        FROM lagging
        LEFT JOIN oldest ON oldest.projection = lagging.projection
        GROUP BY lagging.projection
    $$
    """,
    "stopped_projections()": """
    CREATE FUNCTION stopped_projections() RETURNS TABLE (projection text, tenants bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp
    AS $$
        SELECT projection, count(DISTINCT tenant_id)
        FROM projection_failures
        WHERE resolved_at IS NULL AND blocks
        GROUP BY projection
    $$
    """,
    "running_replays()": """
    CREATE FUNCTION running_replays() RETURNS TABLE (
        projection text, mode text, jobs bigint, processed_events bigint, total_events bigint
    )
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp
    AS $$
        SELECT projection, mode, count(*), sum(processed_events)::bigint, sum(total_events)::bigint
        FROM replay_jobs
        WHERE status IN ('queued', 'running')
        GROUP BY projection, mode
    $$
    """,
}


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE schema_compatibility (
            one boolean PRIMARY KEY DEFAULT true CHECK (one),
            oldest_server text COLLATE "C" NOT NULL
        )
        """
    )
    op.execute("INSERT INTO schema_compatibility (oldest_server) VALUES ('0005')")
    op.execute("GRANT SELECT ON schema_compatibility TO decisiongraph_runtime")
    schema = op.get_bind().scalar(sqlalchemy.text("SELECT quote_ident(current_schema())"))
    for signature, statement in FUNCTIONS.items():
        op.execute(statement.format(schema=schema))
        op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO decisiongraph_runtime")


def downgrade() -> None:
    op.execute("DROP TABLE schema_compatibility")
    for signature in FUNCTIONS:
        op.execute(f"DROP FUNCTION {signature}")
