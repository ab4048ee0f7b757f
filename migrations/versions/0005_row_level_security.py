"""The second wall between tenants: a session of the runtime role sees and writes rows of the tenant that it entered.

Servers say which with `dg.tenant_id`; without it they see nothing. Three questions concern all tenants and nothing but
their ids: they are functions that run with the rights of the schema's owner.
"""

import sqlalchemy
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = (
    "log_heads",
    "events",
    "projection_generations",
    "trace_summaries",
    "graph_nodes",
    "graph_edges",
    "policy_evaluations",
    "precedents",
    "precedent_documents",
    "precedent_postings",
    "projection_failures",
    "projection_digests",
    "replay_jobs",
    "audit_heads",
    "audit_entries",
)

FUNCTIONS = {
    "lagging_tenants()": """
    CREATE FUNCTION lagging_tenants() RETURNS SETOF text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp
    AS $$
        SELECT DISTINCT head.tenant_id
        FROM log_heads AS head
        JOIN projection_generations AS live ON live.tenant_id = head.tenant_id AND live.state = 'live'
        WHERE head.log_seq > live.log_seq
        LIMIT 1000
    $$
    """,
    "tenants_with_retired_generations()": """
    CREATE FUNCTION tenants_with_retired_generations() RETURNS SETOF text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp
    AS $$
        SELECT DISTINCT tenant_id
        FROM projection_generations
        WHERE state = 'retired'
        LIMIT 100
    $$
    """,
    "claimable_replay_jobs(interval)": """
    CREATE FUNCTION claimable_replay_jobs(lost_after interval) RETURNS TABLE (tenant_id text, job_id text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp
    AS $$
        SELECT job.tenant_id, job.job_id
        FROM replay_jobs AS job
        WHERE job.status IN ('queued', 'running')
          AND (job.runner_id IS NULL OR job.alive_at < clock_timestamp() - lost_after)
        ORDER BY job.requested_at
        LIMIT 20
    $$
    """,
}


def upgrade() -> None:
    # What runs with the owner's rights finds its tables where they are, and not among temporary ones of its caller.
    schema = op.get_bind().scalar(sqlalchemy.text("SELECT quote_ident(current_schema())"))
    for statement in FUNCTIONS.values():
        op.execute(statement.format(schema=schema))
    for signature in FUNCTIONS:
        op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO decisiongraph_runtime")
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY of_the_entered_tenant ON {table} TO decisiongraph_runtime "
            "USING (tenant_id = current_setting('dg.tenant_id', true))"
        )


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"DROP POLICY of_the_entered_tenant ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    for signature in FUNCTIONS:
        op.execute(f"DROP FUNCTION {signature}")
