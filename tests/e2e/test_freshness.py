"""How fresh answers from projections are: readers beside writers, their own writes, and projections that stand still.

Projections are held up through the rows that their writers lock.
"""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import asyncpg
import grpc
import httpx
import pytest
from tests.another_server import another_server
from tests.calling import BOTH_WAYS, METHODS, Answer, Callers, Service
from tests.jobs import append, ended, keep_projector_out, start, until_projected
from tests.logs import Connection
from tests.traces import event_of_trace, started_payload

from decisiongraph.v1 import query_service_pb2

_WRITERS: Final = 4
_WAIT_SECONDS: Final = 6
"""DG_FRESHNESS_WAIT of the server: long enough that a busy machine does not end a wait before the test does."""
_DEADLINE_SECONDS: Final = 5
"""Of impatient callers. Shorter than the server's wait."""
_FROM_PROJECTIONS: Final = sorted(
    rpc.name
    for rpc in query_service_pb2.DESCRIPTOR.services_by_name["QueryService"].methods
    if "min_log_seq" in rpc.input_type.fields_by_name
)
_NUMBERS: Final = itertools.count()


@pytest.fixture(scope="module")
async def service(service: Service, database_url: str) -> AsyncIterator[Service]:
    """A server whose reads wait longer for the projections than by default."""
    unlimited = {f"DG_LIMIT_{name}": "off" for name in ("READ", "WRITE", "ADMIN", "EVENTS", "BYTES")}
    async with another_server(service, database_url, DG_FRESHNESS_WAIT=str(_WAIT_SECONDS), **unlimited) as patient:
        yield patient


def own_trace(trace_id: str) -> list[dict[str, Any]]:
    """A finished trace about an entity and under a policy of its own."""
    started = started_payload(trace_id)
    started["primary_entity"]["entity_id"] = trace_id
    policy = {"policy_id": trace_id, "policy_version": "1"}
    evaluated = {"policy": policy, "inputs": [], "decision": "allow"}
    return [
        event_of_trace(trace_id, 0, payload=started),
        event_of_trace(trace_id, 1, event_type="PolicyEvaluated", payload=evaluated),
        event_of_trace(trace_id, 2, last=True),
    ]


def request_for(rpc: str, trace_id: str) -> dict[str, Any]:
    """A request whose answer has exactly one trace, once it is projected to its finish."""
    requests: dict[str, dict[str, Any]] = {
        "GetTrace": {"trace_id": trace_id},
        "ListTraces": {"primary_entity_type": "order", "primary_entity_id": trace_id, "status": "finished"},
        "GetContextGraph": {"node_type": "policy", "node_id": f"{trace_id}:1"},
        "ListNodeEdges": {"node_type": "policy", "node_id": f"{trace_id}:1"},
        "FindPrecedents": {"policy_id": trace_id, "entity_type": "order", "entity_id": trace_id},
    }
    return requests[rpc]


def traces_in(rpc: str, body: Mapping[str, Any]) -> list[str]:
    """The finished traces, or traces with edges, that an answer tells of."""
    found: dict[str, Callable[[], list[str]]] = {
        "GetTrace": lambda: [body["summary"]["trace_id"]] if body["summary"]["status"] == "finished" else [],
        "ListTraces": lambda: [trace["trace_id"] for trace in body["traces"]],
        "GetContextGraph": lambda: [edge["trace_id"] for edge in body["edges"]],
        "ListNodeEdges": lambda: [edge["trace_id"] for edge in body["edges"]],
        "FindPrecedents": lambda: [hit["trace_id"] for hit in body["precedents"]],
    }
    return found[rpc]()


async def append_trace(callers: Callers) -> tuple[int, str]:
    """Append a trace; gives the position of its last event, and its id."""
    trace_id = f"trace-{next(_NUMBERS)}"
    answer = await callers.call("grpc", "AppendEvents", {"events": own_trace(trace_id)})
    assert answer.ok, answer.body
    return int(answer.body["receipts"][-1]["log_seq"]), trace_id


def position(answer: Answer) -> tuple[int, int]:
    """How old an answer says it is, and the head."""
    told = answer.body["position"]
    return int(told["log_seq"]), int(told["head_log_seq"])


# --- beside writers ---


async def test_readers_beside_writers_always_get_what_was_committed_before(callers: Callers) -> None:
    written = [await append_trace(callers)]
    reads: Counter[str] = Counter()

    def over() -> bool:
        # A read that waits for the end of the writing never becomes one of ten.
        return len(written) > 100 and all(reads[rpc] >= 10 for rpc in _FROM_PROJECTIONS)

    async def write() -> None:
        while not over():
            written.append(await append_trace(callers))

    async def read(rpc: str) -> None:
        while not over():
            log_seq, trace_id = max(written)
            answer = await callers.call("grpc", rpc, request_for(rpc, trace_id))
            assert answer.ok, answer.body
            assert traces_in(rpc, answer.body) == [trace_id], f"committed at {log_seq}, not in {answer.body}"
            at, head = position(answer)
            assert log_seq <= at <= head
            reads[rpc] += 1

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(_WRITERS):
            group.create_task(write())
        for rpc in _FROM_PROJECTIONS:
            group.create_task(read(rpc))


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_a_read_does_not_wait_for_what_is_committed_after_it_began(callers: Callers, owner: Connection) -> None:
    await keep_projector_out(owner, callers)
    *before, after = own_trace("t")
    await append(callers, before)
    rpcs = ("GetContextGraph", "ListNodeEdges")
    reading = [asyncio.create_task(callers.call("grpc", rpc, request_for(rpc, "t"))) for rpc in rpcs]
    await asyncio.sleep(_WAIT_SECONDS / 4)
    await append(callers, [after])
    # The projections go no further than to what was there before: they are behind for ever.
    await ended(callers, await start(callers, until_log_seq="2"))
    for rpc, answer in zip(rpcs, await asyncio.gather(*reading), strict=True):
        assert answer.ok, f"{rpc}: {answer.body}"
        assert traces_in(rpc, answer.body) == ["t"]
        assert position(answer) == (2, 3)


# --- while the projections stand still ---


@contextlib.asynccontextmanager
async def held(owner: Connection, callers: Callers) -> AsyncIterator[tuple[int, str]]:
    """The projections are at the end of a trace, whose position and id this gives, and stay there in this block."""
    written = await append_trace(callers)
    await until_projected(callers)
    async with owner.transaction():
        await owner.execute(
            "SELECT FROM projection_generations WHERE tenant_id = $1 FOR UPDATE", callers.tenant.tenant_id
        )
        yield written


@pytest.fixture
async def impatient(service: Service, callers: Callers) -> AsyncIterator[Callers]:
    """Calls over gRPC with a short deadline."""
    async with (
        grpc.aio.insecure_channel(service.grpc, interceptors=[_ShortDeadline()]) as channel,
        httpx.AsyncClient(verify=False) as client,  # noqa: S501 - not used; saves making a context
    ):
        yield Callers(callers.tenant, channel, client)


class _ShortDeadline(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(client_call_details._replace(timeout=_DEADLINE_SECONDS), request)


def assert_out_of_date(answer: Answer, at: int, head: int) -> None:
    assert (answer.reason, answer.code) == ("PROJECTION_OUT_OF_DATE", 10), answer.body
    assert answer.category == "projection_out_of_date"
    told = answer.detail("ErrorInfo")["metadata"]
    assert (told["position_log_seq"], told["head_log_seq"]) == (str(at), str(head))
    assert answer.detail("RetryInfo")["retry_delay"] == "1s"
    assert answer.http_status in (None, 409)


async def ask_all(callers: Callers, trace_id: str, **freshness: Any) -> dict[str, Answer]:
    """The answers of all rpcs that answer from projections, asked at the same time."""
    answers = await asyncio.gather(
        *(callers.call("grpc", rpc, {**request_for(rpc, trace_id), **freshness}) for rpc in _FROM_PROJECTIONS)
    )
    return dict(zip(_FROM_PROJECTIONS, answers, strict=True))


def test_every_rpc_that_answers_from_projections_is_asked() -> None:
    for rpc in _FROM_PROJECTIONS:
        assert rpc in METHODS
        assert request_for(rpc, "t")


async def test_a_read_with_the_position_of_a_receipt_waits_for_the_own_write(
    callers: Callers, owner: Connection
) -> None:
    async with held(owner, callers):
        log_seq, trace_id = await append_trace(callers)
        reading = asyncio.create_task(ask_all(callers, trace_id, min_log_seq=str(log_seq)))
        await asyncio.sleep(0.2)
        assert not reading.done()
    for rpc, answer in (await reading).items():
        assert answer.ok, f"{rpc}: {answer.body}"
        assert traces_in(rpc, answer.body) == [trace_id], rpc
        assert position(answer)[0] >= log_seq


async def test_a_read_waits_for_no_more_than_its_position(callers: Callers, owner: Connection) -> None:
    async with held(owner, callers) as (log_seq, trace_id):
        head, _ = await append_trace(callers)
        for rpc, answer in (await ask_all(callers, trace_id, min_log_seq=str(log_seq))).items():
            assert answer.ok, f"{rpc}: {answer.body}"
            assert traces_in(rpc, answer.body) == [trace_id], rpc
            assert position(answer) == (log_seq, head)


async def test_an_answer_that_may_be_old_comes_while_others_wait_and_says_how_old_it_is(
    callers: Callers, owner: Connection
) -> None:
    async with held(owner, callers) as (log_seq, trace_id):
        head, unseen = await append_trace(callers)
        waiting = asyncio.create_task(ask_all(callers, unseen))
        known = await ask_all(callers, trace_id, allow_stale=True)
        unknown = await ask_all(callers, unseen, allow_stale=True)
        assert not waiting.done()
        for rpc in _FROM_PROJECTIONS:
            assert known[rpc].ok, f"{rpc}: {known[rpc].body}"
            assert traces_in(rpc, known[rpc].body) == [trace_id], rpc
            assert position(known[rpc]) == (log_seq, head), rpc
            if rpc != "GetTrace":  # whose timeline comes from the log
                assert traces_in(rpc, unknown[rpc].body) == [], rpc
        for answer in (await waiting).values():
            assert_out_of_date(answer, log_seq, head)


@pytest.mark.parametrize("freshness", [{}, {"min_log_seq": "1000000"}])
async def test_callers_with_a_short_deadline_learn_how_far_the_projection_is(
    callers: Callers, impatient: Callers, owner: Connection, freshness: dict[str, Any]
) -> None:
    async with held(owner, callers) as (log_seq, _):
        head, trace_id = await append_trace(callers)
        for rpc, answer in (await ask_all(impatient, trace_id, **freshness)).items():
            assert not answer.ok, rpc
            assert_out_of_date(answer, log_seq, head)


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_position_beyond_the_log_is_out_of_date(callers: Callers, way: str) -> None:
    head, trace_id = await append_trace(callers)
    await until_projected(callers)
    answers = await asyncio.gather(
        *(
            callers.call(way, rpc, {**request_for(rpc, trace_id), "min_log_seq": str(head + 1)})
            for rpc in _FROM_PROJECTIONS
        )
    )
    for answer in answers:
        assert_out_of_date(answer, head, head)
        if way == "rest":
            assert answer.metadata["retry-after"] == "1"
