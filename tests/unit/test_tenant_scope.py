"""The check that the proof of sharding rests on finds the statements that leave their tenant, and only those."""

import pytest
from tests import tenant_scope

SCHEMA = tenant_scope.Schema(
    frozenset({"events", "log_heads", "jobs"}), frozenset({"append"}), wide_functions=frozenset({"lagging"})
)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1",
        "SELECT display_name FROM tenants",
        "SELECT * FROM events WHERE tenant_id = $1 AND log_seq > $2",
        "SELECT * FROM events WHERE $1::text = events.tenant_id",
        "SELECT * FROM events AS e JOIN log_heads AS h ON h.tenant_id = e.tenant_id WHERE e.tenant_id = $1",
        "SELECT * FROM log_heads AS h LEFT JOIN events AS e ON e.tenant_id = $1 WHERE h.tenant_id = $1",
        "SELECT * FROM log_heads AS h LEFT JOIN events AS e ON e.tenant_id = h.tenant_id WHERE h.tenant_id = $1",
        "SELECT * FROM log_heads AS h RIGHT JOIN events AS e ON h.tenant_id = $1 WHERE e.tenant_id = $1",
        (
            "SELECT f.* FROM unnest($2::text[]) AS c (k) CROSS JOIN LATERAL "
            "(SELECT * FROM events WHERE tenant_id = $1 AND event_id = c.k) AS f"
        ),
        (
            "SELECT (SELECT count(*) FROM events AS e WHERE e.tenant_id = h.tenant_id) FROM log_heads AS h "
            "WHERE h.tenant_id = $1"
        ),
        "WITH found AS (SELECT * FROM events WHERE tenant_id = $1) SELECT * FROM found",
        "SELECT 1 FROM events WHERE tenant_id = $1 UNION ALL SELECT 2 FROM jobs WHERE tenant_id = $1",
        "INSERT INTO events VALUES ($1, 1), ($1, 2)",
        "INSERT INTO events (log_seq, tenant_id) SELECT n, $1 FROM unnest($2::bigint[]) AS n",
        "INSERT INTO jobs (tenant_id) VALUES ($1) ON CONFLICT (tenant_id, job_id) DO UPDATE SET status = 'done'",
        "UPDATE jobs SET status = 'done' WHERE tenant_id = $1",
        "UPDATE jobs AS j SET status = 'x' FROM log_heads AS h WHERE h.tenant_id = $1 AND j.tenant_id = h.tenant_id",
        "DELETE FROM jobs USING log_heads AS h WHERE jobs.tenant_id = $1 AND h.tenant_id = $1",
        "SELECT append($1, $2)",
        "SELECT log_seq FROM log_heads WHERE tenant_id = $1 FOR UPDATE",
    ],
)
def test_what_stays_with_its_tenant_passes(statement: str) -> None:
    assert tenant_scope.faults(statement, SCHEMA) == []


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("SELECT * FROM events", "events (events) is not tied"),
        ("SELECT * FROM events WHERE tenant_id = $2", "not tied"),
        ("SELECT * FROM events WHERE tenant_id <> $1", "not tied"),
        ("SELECT * FROM events WHERE tenant_id >= $1", "not tied"),
        ("SELECT * FROM events WHERE tenant_id = ANY ($1)", "not tied"),
        ("SELECT * FROM events WHERE tenant_id IN ($1, $2)", "not tied"),
        ("SELECT * FROM events WHERE tenant_id = $1 OR true", "not tied"),
        ("SELECT * FROM events WHERE NOT tenant_id = $1", "not tied"),
        ("SELECT * FROM events WHERE trace_id = $1", "not tied"),
        ("SELECT * FROM events WHERE lower(tenant_id) = $1", "not tied"),
        ("SELECT * FROM events WHERE tenant_id = tenant_id", "not tied"),
        ("SELECT * FROM public.events", "not tied"),
        ("SELECT * FROM events AS e, log_heads AS h WHERE e.tenant_id = $1", "log_heads (h) is not tied"),
        ("SELECT * FROM events AS e, log_heads AS h WHERE e.tenant_id = h.tenant_id", "not tied"),
        ("SELECT * FROM events AS e, log_heads AS h WHERE tenant_id = $1", "not tied"),
        # A condition of an outer join does not restrict the side that is kept.
        ("SELECT * FROM log_heads AS h LEFT JOIN events AS e ON h.tenant_id = $1 AND e.tenant_id = $1", "(h)"),
        ("SELECT * FROM log_heads AS h FULL JOIN events AS e ON e.tenant_id = $1 WHERE h.tenant_id = $1", "(e)"),
        ("SELECT * FROM log_heads AS h LEFT JOIN events AS e ON true WHERE h.tenant_id = $1", "(e)"),
        ("SELECT (SELECT count(*) FROM events) FROM log_heads WHERE tenant_id = $1", "events"),
        ("SELECT * FROM log_heads WHERE tenant_id = $1 AND EXISTS (SELECT FROM jobs)", "jobs"),
        ("SELECT * FROM log_heads WHERE tenant_id = $1 ORDER BY (SELECT max(log_seq) FROM events)", "events"),
        ("SELECT * FROM tenants AS t JOIN events AS e ON e.tenant_id = t.tenant_id", "events"),
        ("WITH found AS (SELECT * FROM events) SELECT * FROM found", "events"),
        ("WITH gone AS (DELETE FROM jobs RETURNING 1) SELECT count(*) FROM gone", "jobs"),
        ("SELECT 1 FROM events WHERE tenant_id = $1 UNION ALL SELECT 2 FROM jobs", "jobs"),
        ("INSERT INTO events VALUES ($2, 1)", "another tenant's"),
        ("INSERT INTO events VALUES ($1, 1), ($2, 1)", "another tenant's"),
        ("INSERT INTO events SELECT * FROM unnest($1::events[])", "another tenant's"),
        ("INSERT INTO events (log_seq) VALUES ($1)", "no tenant"),
        ("INSERT INTO events (log_seq, tenant_id) VALUES ($1, $2)", "another tenant's"),
        ("INSERT INTO events DEFAULT VALUES", "another tenant's"),
        ("INSERT INTO jobs VALUES ($1) ON CONFLICT (job_id) DO NOTHING", "the key of the conflict"),
        ("INSERT INTO jobs VALUES ($1) ON CONFLICT (tenant_id) DO UPDATE SET tenant_id = $1", "is changed"),
        ("INSERT INTO jobs SELECT $1, log_seq FROM log_heads", "log_heads"),
        ("INSERT INTO jobs VALUES ($1) RETURNING (SELECT count(*) FROM events)", "events"),
        ("UPDATE jobs SET status = 'done'", "jobs"),
        ("UPDATE jobs SET tenant_id = $2 WHERE tenant_id = $1", "is changed"),
        ("UPDATE jobs SET status = 'x' FROM log_heads AS h WHERE jobs.tenant_id = $1", "(h)"),
        ("DELETE FROM jobs WHERE job_id = $2", "jobs"),
        ("SELECT append($2, $1)", "append() is not given the tenant"),
        ("SELECT * FROM append($2)", "append() is not given the tenant"),
        ("SELECT tenant_id FROM lagging() AS tenant_id", "lagging() looks over all tenants"),
        ("MERGE INTO jobs USING events ON true WHEN MATCHED THEN DELETE", "cannot be judged"),
        ("TRUNCATE events", "cannot be judged"),
    ],
)
def test_what_may_leave_its_tenant_is_found(statement: str, fault: str) -> None:
    found = tenant_scope.faults(statement, SCHEMA)
    assert any(fault in one for one in found), found


def test_a_cte_of_a_tables_name_hides_the_table_but_not_what_it_reads() -> None:
    assert tenant_scope.faults("WITH events AS (SELECT 1) SELECT * FROM events", SCHEMA) == []
    assert tenant_scope.faults("WITH events AS (SELECT 1) SELECT * FROM public.events", SCHEMA)


def test_in_a_function_the_first_argument_stands_for_the_tenant() -> None:
    statement = "SELECT * FROM events WHERE tenant_id = tenant"
    assert tenant_scope.faults(statement, SCHEMA, argument="tenant") == []
    assert tenant_scope.faults(statement, SCHEMA)
    assert tenant_scope.faults("SELECT * FROM events WHERE tenant_id = other", SCHEMA, argument="tenant")


def test_every_statement_of_a_function_is_read() -> None:
    body = """
    DECLARE n bigint := (SELECT count(*) FROM events);
    BEGIN
        IF EXISTS (SELECT FROM jobs) THEN
            PERFORM FROM log_heads;
            n := (SELECT max(log_seq) FROM log_heads);
        END IF;
        UPDATE jobs SET status = 'done' WHERE tenant_id = tenant;
        RETURN (SELECT min(log_seq) FROM events);
    END
    """
    statements = tenant_scope.statements_of_plpgsql(["tenant"], body)
    faulty = [one for one in statements if tenant_scope.faults(one, SCHEMA, argument="tenant")]
    assert len(faulty) == 5, statements


def test_a_function_that_puts_statements_together_is_refused() -> None:
    with pytest.raises(ValueError, match="put together"):
        tenant_scope.statements_of_plpgsql(["tenant"], "BEGIN EXECUTE 'DELETE FROM ' || tenant; END")


def test_what_writes_or_locks_is_told_from_what_reads() -> None:
    assert tenant_scope.only_reads("SELECT * FROM events")
    assert not tenant_scope.only_reads("SELECT * FROM events FOR UPDATE")
    assert not tenant_scope.only_reads("WITH gone AS (DELETE FROM jobs RETURNING 1) SELECT 1")
