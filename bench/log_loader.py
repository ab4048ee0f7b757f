"""Logs of any length, made by the database itself in one statement: only what comes after is measured.

Six events per trace, payloads of about 256 bytes. Every row passes the checks of a replay: canonical payload, its hash,
positions without gaps. The column `digest`, which replays do not look at, holds the hash of the payload.
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncpg

EVENTS_PER_TRACE: Final = 6

# Keys in code-point order, so that the text is canonical. %1$s is the number of the trace.
_ENTITY: Final = '{"entity_id":"order-%2$s","entity_type":"order"}'
_NOTE: Final = "The carrier has confirmed the damage in writing, photographs are attached to the case. "
_PAYLOADS: Final = (
    ("TraceStarted", f'{{"note":"{_NOTE}","primary_entity":{_ENTITY},"title":"Refund %1$s","workflow":"refund"}}'),
    (
        "InputObserved",
        (
            f'{{"facts":[],"input_id":"input-%1$s","note":"{_NOTE}","source":{{"object_id":"%1$s","object_type":"ticket",'
            '"system":"support"}}'
        ),
    ),
    (
        "PolicyEvaluated",
        (
            f'{{"decision":"require_exception","inputs":["input-%1$s"],"note":"{_NOTE}",'
            '"policy":{"policy_id":"refund-cap","policy_version":"%3$s"}}'
        ),
    ),
    (
        "ExceptionRequested",
        (
            f'{{"exception_id":"exception-%1$s","note":"{_NOTE}","policy":{{"policy_id":"refund-cap",'
            '"policy_version":"%3$s"},"reason":"damaged"}'
        ),
    ),
    (
        "ActionProposed",
        (
            f'{{"action_id":"action-%1$s","action_type":"refund","changes":[],"note":"{_NOTE}",'
            f'"target_entity":{_ENTITY},"target_system":"payments"}}'
        ),
    ),
    ("TraceFinished", f'{{"note":"{_NOTE}{_NOTE}","outcome":"success","summary":"Refunded"}}'),
)

_LOAD: Final = """
    INSERT INTO events
    SELECT $1, made.log_seq, 'event-' || made.log_seq, 'trace-' || made.trace, made.trace_seq, made.event_type,
           '2026-03-02T10:00:00Z', '2026-03-02T10:00:00Z', 'bench', 'bench', NULL, 'agent', 'agent-' || made.trace % 20,
           'key-' || made.log_seq, made.payload, 'sha256:' || encode(sha256(convert_to(made.payload, 'UTF8')), 'hex'),
           NULL, NULL, 1, '{}', '2026-03-02T10:00:00Z', sha256(convert_to(made.payload, 'UTF8'))
    FROM (
        SELECT n + 1 AS log_seq, n / 6 AS trace, n % 6 AS trace_seq, kinds.event_type,
               format(kinds.payload, n / 6, n / 6 % 5000, n / 6 % 7) AS payload
        FROM generate_series(0::bigint, $2 - 1) AS n
        JOIN unnest($3::text[], $4::text[]) WITH ORDINALITY AS kinds (event_type, payload, place)
            ON kinds.place = n % 6 + 1
    ) AS made
"""

_MOVE_HEAD: Final = "UPDATE log_heads SET log_seq = $2 WHERE tenant_id = $1"


async def load(connection: "asyncpg.Connection[asyncpg.Record]", tenant_id: str, events: int) -> int:
    """Give a tenant with an empty log about so many events, whole traces only; returns how many."""
    events -= events % EVENTS_PER_TRACE
    async with connection.transaction():
        await connection.execute(
            _LOAD, tenant_id, events, [kind for kind, _ in _PAYLOADS], [text for _, text in _PAYLOADS], timeout=1200
        )
        await connection.execute(_MOVE_HEAD, tenant_id, events)
    return events
