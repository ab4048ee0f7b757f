"""The log that queries are measured on, made by the database itself: traces of every event type, with words and a hub.

Twenty stretches of equal length. Each has finished traces of ten events, eight of them interleaved, then one trace of
a hundred events and fifteen open traces of four. What a trace is about is drawn from its number, by the same rule here
and in the database, so that questions about it can be asked without looking it up. Every row passes the checks of a
replay: canonical payload, its hash, positions without gaps. The column `digest`, which replays do not look at, holds
the hash of the payload.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from bench import query_words

if TYPE_CHECKING:
    import asyncpg

STRETCHES: Final = 20
LONG_TRACE_EVENTS: Final = 100
LEAST_EVENTS: Final = 10_000
HUB: Final = ("customer", "customer-hub")
"""Type and id of the entity that every second trace observes, those of even numbers."""

_INTERLEAVED: Final = 8
_OPEN: Final = 15
_ENTITY_TYPES: Final = ("order", "customer", "invoice", "claim", "shipment")
_COMMON_SHARE: Final = 4
"""Power of the draw of a word: it takes the first common word at every fourth place, the last at every 1,000th."""
_RARE_EVERY: Final = 20
"""Every so many-th trace has a rare word in its title."""


def _multiplier(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") | 1


@dataclass(frozen=True, slots=True)
class _Draw:
    """One of `count` values for each number of a trace, spread evenly."""

    name: str
    count: int

    def of(self, number: int) -> int:
        return ((number + 1) * _multiplier(self.name) % 2**32 * self.count) >> 32

    @property
    def sql(self) -> str:
        return f"((number + 1) * {_multiplier(self.name)} % 4294967296 * {self.count} >> 32)"


_WORKFLOW: Final = _Draw("workflow", 20)
_ENTITY: Final = _Draw("entity", 5_000)
_OBSERVED: Final = _Draw("observed", 5_000)
_POLICY: Final = _Draw("policy", 50)
_VERSION: Final = _Draw("version", 3)
_APPROVER: Final = _Draw("approver", 200)
_ACTION: Final = _Draw("action", 30)
_AGENT: Final = _Draw("agent", 40)
_OUTCOME: Final = _Draw("outcome", 100)
_AMOUNT: Final = _Draw("amount", 50_000)


def workflow(number: int) -> str:
    """The workflow of a trace."""
    return f"workflow-{_WORKFLOW.of(number)}"


def entity(number: int) -> tuple[str, str]:
    """Type and id of the primary entity of a trace."""
    drawn = _ENTITY.of(number)
    entity_type = _ENTITY_TYPES[drawn % len(_ENTITY_TYPES)]
    return entity_type, f"{entity_type}-{drawn}"


def policy(number: int) -> tuple[str, str]:
    """Id and version of the policy that a finished trace evaluates and asks an exception from."""
    return f"policy-{_POLICY.of(number)}", f"2026-0{_VERSION.of(number) + 1}"


def event_id(log_seq: int) -> str:
    """The id of the event at a position: as long and as scattered as those that the service makes."""
    return f"evt-{hashlib.sha256(f'event {log_seq}'.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Shape:
    """How long a log is, and where its traces are."""

    finished_per_stretch: int
    """Finished traces of ten events."""

    @classmethod
    def of(cls, events: int) -> Self:
        """The longest log of at most so many events.

        Raises:
            ValueError: there are fewer than `LEAST_EVENTS`.
        """
        if events < LEAST_EVENTS:
            raise ValueError(f"a log has at least {LEAST_EVENTS} events")
        room = events // STRETCHES - LONG_TRACE_EVENTS - _OPEN * len(_OPEN_KINDS)
        traces = room // len(_KINDS)
        return cls(traces - traces % _INTERLEAVED)

    @property
    def finished(self) -> int:
        """How many finished traces of ten events there are: `trace-0` and so on."""
        return self.finished_per_stretch * STRETCHES

    @property
    def events(self) -> int:
        """The length of the log."""
        return self._stretch_events * STRETCHES

    @property
    def hub_edges(self) -> int:
        """How many edges the hub has: from every second trace, open ones included."""
        return self.finished // 2 + STRETCHES * _OPEN // 2

    def log_seq(self, number: int, trace_seq: int) -> int:
        """The position of an event of `trace-<number>`."""
        stretch, place = divmod(number, self.finished_per_stretch)
        block, lane = divmod(place, _INTERLEAVED)
        before = stretch * self._stretch_events + block * _INTERLEAVED * len(_KINDS)
        return before + trace_seq * _INTERLEAVED + lane + 1

    @property
    def _stretch_events(self) -> int:
        return self.finished_per_stretch * len(_KINDS) + LONG_TRACE_EVENTS + _OPEN * len(_OPEN_KINDS)


# Keys in code-point order, so that the text is canonical. The arguments are those of _DRAWN, in their order.
_PRIMARY: Final = '{"entity_id":"%5$s","entity_type":"%4$s"}'
_POLICY_REF: Final = '{"policy_id":"%8$s","policy_version":"%9$s"}'
_NOTE: Final = "The carrier has confirmed it in writing, photographs are attached to the case."
_STARTED: Final = (
    "TraceStarted",
    '{"primary_entity":{"entity_id":"%5$s","entity_type":"%4$s","system":"shop"},"title":"%14$s","workflow":"%3$s"}',
)
_INPUT: Final = (
    "InputObserved",
    (
        f'{{"facts":[{{"name":"amount_cents","value":%13$s}}],"input_id":"input-%1$s-%2$s","note":"{_NOTE}",'
        '"source":{"object_id":"%1$s","object_type":"ticket","system":"support"}}'
    ),
)
_ENTITY_SEEN: Final = (
    "EntityObserved",
    f'{{"entity":{{"entity_id":"%7$s","entity_type":"%6$s"}},"facts":[],"note":"{_NOTE}","role":"related"}}',
)
_EVALUATED: Final = (
    "PolicyEvaluated",
    (
        '{"decision":"require_exception","inputs":[{"name":"amount_cents","value":%13$s}],'
        f'"note":"{_NOTE}","policy":{_POLICY_REF}}}'
    ),
)
_FINISHED: Final = ("TraceFinished", '{"outcome":"%12$s","summary":"%15$s"}')
_KINDS: Final = (
    _STARTED,
    _INPUT,
    _ENTITY_SEEN,
    _EVALUATED,
    ("ExceptionRequested", f'{{"exception_id":"exception-%1$s","policy":{_POLICY_REF},"reason":"%16$s"}}'),
    (
        "ApprovalRecorded",
        (
            '{"approval_id":"approval-%1$s","approver":{"actor_id":"lead-%10$s","actor_type":"person"},'
            '"decision":"approved","reason":"%17$s",'
            '"subject":{"subject_id":"exception-%1$s","subject_type":"exception"}}'
        ),
    ),
    ("PrecedentCited", '{"cited_trace_id":"trace-%19$s","reason":"%18$s"}'),
    (
        "ActionProposed",
        (
            f'{{"action_id":"action-%1$s","action_type":"action-type-%11$s","changes":[],"note":"{_NOTE}",'
            f'"target_entity":{_PRIMARY},"target_system":"payments"}}'
        ),
    ),
    ("ActionCommitted", '{"action_id":"action-%1$s","status":"success"}'),
    _FINISHED,
)
_OPEN_KINDS: Final = (_STARTED, _INPUT, _ENTITY_SEEN, _EVALUATED)
_LONG_KINDS: Final = (_STARTED, *[_INPUT] * (LONG_TRACE_EVENTS - 2), _FINISHED)


def _entity_type(number: str) -> str:
    return f"({_array(_ENTITY_TYPES)})[1 + {number} % {len(_ENTITY_TYPES)}]"


def _array(texts: tuple[str, ...]) -> str:
    return "ARRAY[" + ", ".join(f"'{text}'" for text in texts) + "]"


def _common(place: str) -> str:
    drawn = f"(number + 1) * {_multiplier(place)} % 4294967296 / 4294967296.0::float8"
    return f"common[1 + floor({len(query_words.COMMON)} * power({drawn}, {_COMMON_SHARE}))::integer]"


def _sentence(name: str, words: int) -> str:
    return " || ' ' || ".join(_common(f"{name} {place}") for place in range(words))


_TITLE: Final = (
    f"{_sentence('title', 3)} || CASE number % {_RARE_EVERY} WHEN 7"
    f" THEN ' ' || rare[1 + number / {_RARE_EVERY} % {len(query_words.RARE)}] ELSE '' END || ' ' || number"
)
_OUTCOME_OF: Final = (
    f"CASE WHEN {_OUTCOME.sql} < 85 THEN 'success' WHEN {_OUTCOME.sql} < 95 THEN 'failure' ELSE 'abandoned' END"
)
# The arguments of the payloads, one row per trace. The offset keeps the planner from working them out for each event.
_DRAWN: Final = f"""
    SELECT lane, number, $4 || '-' || number AS trace_id, 'agent-' || {_AGENT.sql} AS agent_id,
           'workflow-' || {_WORKFLOW.sql} AS workflow,
           {_entity_type(_ENTITY.sql)} AS entity_type,
           {_entity_type(_ENTITY.sql)} || '-' || {_ENTITY.sql} AS entity_id,
           CASE number % 2 WHEN 0 THEN '{HUB[0]}' ELSE {_entity_type(_OBSERVED.sql)} END AS observed_type,
           CASE number % 2 WHEN 0 THEN '{HUB[1]}' ELSE {_entity_type(_OBSERVED.sql)} || '-' || {_OBSERVED.sql} END
               AS observed_id,
           'policy-' || {_POLICY.sql} AS policy_id, '2026-0' || {_VERSION.sql} + 1 AS policy_version,
           {_APPROVER.sql} AS approver, {_ACTION.sql} AS action, {_OUTCOME_OF} AS outcome,
           {_AMOUNT.sql} + 100 AS amount, {_TITLE} AS title, {_sentence("summary", 6)} AS summary,
           {_sentence("request", 5)} AS request_reason, {_sentence("approval", 4)} AS approval_reason,
           {_sentence("citation", 3)} AS citation_reason
    FROM (
        SELECT lane, $5::bigint + lane AS number, {_array(query_words.COMMON)} AS common,
               {_array(query_words.RARE)} AS rare
        FROM generate_series(0::bigint, $6::bigint - 1) AS lane
    ) AS numbered
    OFFSET 0
"""  # noqa: S608 - constants of this file
_LOAD: Final = f"""
    INSERT INTO events
        (tenant_id, log_seq, event_id, trace_id, trace_seq, event_type, occurred_at, occurred_instant, producer_id,
         source_system, actor_type, actor_id, idempotency_key, payload, payload_hash, schema_version, tags, recorded_at,
         digest)
    SELECT $1, log_seq, 'evt-' || encode(sha256(convert_to('event ' || log_seq, 'UTF8')), 'hex'), trace_id, trace_seq,
           event_type, to_char(instant AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), instant, 'bench', 'bench',
           'agent', agent_id, trace_id || '/' || trace_seq, payload,
           'sha256:' || encode(sha256(convert_to(payload, 'UTF8')), 'hex'), 1, '{{}}', instant,
           sha256(convert_to(payload, 'UTF8'))
    FROM (
        SELECT trace_id, agent_id, kind.event_type, kind.place - 1 AS trace_seq, log_seq,
               timestamptz '2026-03-02T10:00:00Z' + log_seq * interval '1 second' AS instant,
               format(kind.payload, trace_id, kind.place - 1, workflow, entity_type, entity_id, observed_type,
                      observed_id, policy_id, policy_version, approver, action, outcome, amount, title, summary,
                      request_reason, approval_reason, citation_reason, number / 2) AS payload
        FROM ({_DRAWN}) AS drawn
        CROSS JOIN unnest($7::text[], $8::text[]) WITH ORDINALITY AS kind (event_type, payload, place)
        CROSS JOIN LATERAL (
            SELECT $2::bigint + lane / $3 * $3 * cardinality($7) + (kind.place - 1) * $3 + lane % $3 AS log_seq
        ) AS placed
        ORDER BY log_seq
    ) AS made
"""  # noqa: S608 - constants of this file

_MOVE_HEAD: Final = "UPDATE log_heads SET log_seq = $2 WHERE tenant_id = $1"
_LOAD_SECONDS: Final = 1200


async def load(
    connection: "asyncpg.Connection[asyncpg.Record]", tenant_id: str, shape: Shape, note: Callable[[str], None]
) -> None:
    """Give a tenant with an empty log such a log; the head, and with it the projections, move at the end."""
    for stretch in range(STRETCHES):
        finished = shape.finished_per_stretch
        after = 1 + stretch * shape.events // STRETCHES
        groups = (
            ("trace", finished * stretch, finished, _INTERLEAVED, _KINDS),
            ("long", stretch, 1, 1, _LONG_KINDS),
            ("open", _OPEN * stretch, _OPEN, _OPEN, _OPEN_KINDS),
        )
        for prefix, first, traces, interleaved, kinds in groups:
            types, payloads = [kind for kind, _ in kinds], [payload for _, payload in kinds]
            await connection.execute(
                _LOAD, tenant_id, after, interleaved, prefix, first, traces, types, payloads, timeout=_LOAD_SECONDS
            )
            after += traces * len(kinds)
        note(f"{after - 1:,} of {shape.events:,} events are in the log")
    await connection.execute(_MOVE_HEAD, tenant_id, shape.events)
