"""A database with a million events and what the projections make of them, filled by the database itself.

Only numbers and kinds of rows are true: half of the log belongs to one tenant, one entity has 50,000 edges.
"""

import asyncpg

EVENTS = 1_000_000
_OTHERS = 50
"""Small tenants, each with as many events as the others."""

# Every tenant with the number of its events; ten events make a trace.
_TENANTS = """
    CREATE TEMPORARY TABLE owners (tenant_id text, events integer)
"""
_ADD_TENANTS = """
    INSERT INTO owners
    SELECT 'large', $1
    UNION ALL
    SELECT 'small-' || n, $1 / $2 FROM generate_series(1, $2) AS n
"""
_PER_EVENT = "FROM owners, generate_series(1, owners.events) AS n"
_PER_TRACE = "FROM owners, generate_series(1, owners.events / 10) AS t"
_KEY = "substring(sha256(convert_to({}, 'UTF8')) FROM 1 FOR 16)"

_ROWS = (
    "INSERT INTO log_heads SELECT tenant_id, events FROM owners",
    """
    INSERT INTO projection_generations (tenant_id, projection, generation, state, log_seq)
    SELECT tenant_id, projection, 1, 'live', events
    FROM owners, unnest(ARRAY['context_graph', 'trace_summary', 'precedent_index']) AS projection
    """,
    f"""
    INSERT INTO events
    SELECT tenant_id, n, 'event-' || n, 'trace-' || (n - 1) / 10, (n - 1) % 10, 'InputObserved', '2026-03-02T10:00:00Z',
           '2026-03-02T10:00:00Z', 'bench', 'bench', NULL, 'agent', 'a', 'key-' || n, '{{}}', 'sha256:', NULL, NULL, 1,
           '{{}}', '2026-03-02T10:00:00Z', '\\x00'
    {_PER_EVENT}
    """,
    f"""
    INSERT INTO graph_nodes
    SELECT tenant_id, 1, {_KEY.format("'input:' || n")}, 'input:' || n, 'trace-' || (n - 1) / 10, n, ''
    {_PER_EVENT} WHERE n % 2 = 0
    """,
    f"""
    INSERT INTO graph_edges
    SELECT tenant_id, 1, n, 'trace_involves_entity', {_KEY.format("'trace:trace-' || (n - 1) / 10")},
           {_KEY.format("CASE WHEN n % 10 = 0 THEN 'entity:hub' ELSE 'entity:' || n END")},
           'trace:trace-' || (n - 1) / 10, CASE WHEN n % 10 = 0 THEN 'entity:hub' ELSE 'entity:' || n END,
           'event-' || n, 'trace-' || (n - 1) / 10, '',
           {_KEY.format("CASE WHEN n % 10 = 0 THEN 'entity:hub' ELSE 'entity:' || n END")}
               || 'trace_involves_entity'::bytea
    {_PER_EVENT}
    """,
    f"""
    INSERT INTO trace_summaries
    SELECT tenant_id, 'trace-' || t, 'workflow-' || t % 20, 'title', 'order', 'order-' || t % 5000, NULL,
           CASE WHEN t % 200 > 0 THEN 'success' END, '2026-03-02T10:00:00Z', '2026-03-02T10:00:00Z', 2, t * 10, 1,
           t * 10 - 9, '2026-03-02T10:00:00Z', '2026-03-02T10:00:00Z', '{{title}}',
           {_KEY.format("'order' || chr(31) || 'order-' || t % 5000")}
    {_PER_TRACE}
    """,
    f"INSERT INTO policy_evaluations SELECT tenant_id, 1, 'event-' || t, 'trace-' || t, 'p', '1', t, '' {_PER_TRACE}",
    f"""
    INSERT INTO precedents
    SELECT tenant_id, 1, 'event-' || t, t * 10 - 5, 'trace-' || t, 'policy-' || t % 50, '1', NULL, 'order', NULL,
           'order-' || t % 5000, {_KEY.format("'policy-' || t % 50")}, t * 10
    {_PER_TRACE}
    """,
    f"""
    INSERT INTO precedent_documents SELECT tenant_id, 1, t * 10, 'trace-' || t, '[]', ARRAY[t % 50, t % 5000, t]
    {_PER_TRACE}
    """,
    f"""
    INSERT INTO precedent_postings SELECT tenant_id, 1, unnest(ARRAY[t % 50, t % 5000, t]), t * 10, ARRAY[t * 10]
    {_PER_TRACE} ON CONFLICT DO NOTHING
    """,
)


async def fill(url: str) -> None:
    """Fill a migrated, empty database, and let it learn what it holds. Takes half a minute."""
    connection = await asyncpg.connect(url, command_timeout=600)
    try:
        indexes = await connection.fetch(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename = ANY ($1) "
            "AND indexname NOT IN (SELECT conname FROM pg_constraint)",
            ["events", "graph_edges", "trace_summaries", "precedents"],
        )
        # Built at the end they cost a tenth.
        for index in indexes:
            await connection.execute(f"DROP INDEX {index['indexname']}")
        await connection.execute(_TENANTS)
        await connection.execute(_ADD_TENANTS, EVENTS // 2, _OTHERS)
        for table in ("events", "graph_edges", "graph_nodes", "trace_summaries", "precedents"):
            # What is known of them shall not change between two tests.
            await connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        for statement in _ROWS:
            await connection.execute(statement)
        for index in indexes:
            await connection.execute(index["indexdef"])
        await connection.execute("ANALYZE")
    finally:
        await connection.close()
