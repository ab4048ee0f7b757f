"""Service accounts and their API keys, and the tenant whose audit log holds the acts on the whole installation."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UPGRADE = (
    """
    CREATE TABLE service_accounts (
        account_id text COLLATE "C" PRIMARY KEY CHECK (account_id ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
        display_name text NOT NULL,
        tenant_ids text[] COLLATE "C" NOT NULL,
        roles text[] COLLATE "C" NOT NULL,
        permissions text[] COLLATE "C" NOT NULL,
        created_at timestamptz NOT NULL,
        disabled_at timestamptz
    )
    """,
    "CREATE INDEX service_accounts_disabled ON service_accounts (account_id) WHERE disabled_at IS NOT NULL",
    # Of a secret only its hash is kept: 256 random bits need no slow hash.
    """
    CREATE TABLE api_keys (
        key_id text COLLATE "C" PRIMARY KEY,
        account_id text COLLATE "C" NOT NULL REFERENCES service_accounts,
        prefix text COLLATE "C" NOT NULL,
        secret_hash bytea NOT NULL CHECK (length(secret_hash) = 32),
        created_at timestamptz NOT NULL,
        expires_at timestamptz,
        last_used_at timestamptz,
        revoked_at timestamptz
    )
    """,
    "CREATE INDEX api_keys_of_account ON api_keys (account_id, created_at DESC)",
    "CREATE INDEX api_keys_revoked ON api_keys (revoked_at) WHERE revoked_at IS NOT NULL",
    """
    INSERT INTO tenants (tenant_id, display_name, created_at)
    VALUES ('decisiongraph-system', 'The installation itself', now())
    ON CONFLICT DO NOTHING
    """,
    "INSERT INTO log_heads (tenant_id, log_seq) VALUES ('decisiongraph-system', 0) ON CONFLICT DO NOTHING",
    """
    INSERT INTO projection_generations (tenant_id, projection, generation, state, log_seq)
    SELECT 'decisiongraph-system', projection, 1, 'live', 0
    FROM unnest(ARRAY['context_graph', 'trace_summary', 'precedent_index']) AS projection
    ON CONFLICT DO NOTHING
    """,
    "GRANT UPDATE (disabled_at) ON tenants TO decisiongraph_runtime",
    "GRANT SELECT, INSERT, UPDATE (disabled_at) ON service_accounts TO decisiongraph_runtime",
    "GRANT SELECT, INSERT, UPDATE (last_used_at, revoked_at) ON api_keys TO decisiongraph_runtime",
)

DOWNGRADE = (
    "DROP TABLE api_keys",
    "DROP TABLE service_accounts",
    "REVOKE UPDATE (disabled_at) ON tenants FROM decisiongraph_runtime",
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.execute(statement)
