"""Reading with the Python client, both kinds: every rpc of QueryService, pages as iterators, and what reads include."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from tests.calling import Callers, Service, Tenant
from tests.clients import KINDS, PRODUCER, all_of, client_of, record_trace, taken
from tests.logs import held_up

from decisiongraph_client import AsyncClient, Client, _methods, errors
from decisiongraph_client._async.session import AsyncSession
from decisiongraph_service.rpc import contract
from decisiongraph_service.storage.database import Database


@pytest.fixture(params=KINDS)
async def client(request: pytest.FixtureRequest, service: Service, tenant: Tenant) -> AsyncIterator[Any]:
    async with client_of(request.param, service, tenant) as made:
        yield made


def test_every_rpc_of_the_contract_is_known_by_its_path() -> None:
    known = {method.path for name, method in vars(_methods).items() if name.isupper()}
    paths = {path for path, _ in contract.methods()}
    assert known <= paths
    assert {path for path in paths if "/decisiongraph.v1.QueryService/" in path} <= known


def test_what_needs_no_token_is_public_in_the_contract() -> None:
    rules = contract.authorization_rules()
    for name, method in vars(_methods).items():
        if name.isupper():
            assert method.public == rules[method.path].public, name


def test_both_kinds_have_the_same_methods() -> None:
    assert {name for name in dir(AsyncClient) if not name.startswith("_")} == {
        name for name in dir(Client) if not name.startswith("_")
    }


async def test_a_trace_as_it_is_and_as_it_was(client: Any) -> None:
    trace_id = await record_trace(client, title="Title", steps=3)
    full = await client.get_trace(trace_id)
    assert (full.summary.title, len(full.events), full.events[1].HasField("payload")) == ("Title", 5, True)
    short = await client.get_trace(trace_id, view="SUMMARY")
    assert not any(event.HasField("payload") for event in short.events)
    before = await client.get_trace(trace_id, as_of_log_seq=2)
    assert (len(before.events), before.summary.outcome) == (2, "")
    with pytest.raises(errors.NotFound):
        await client.get_trace("unknown")


async def test_lists_go_over_all_pages(client: Any) -> None:
    traces = [await record_trace(client, title=f"Title {n}") for n in range(7)]
    found = await all_of(client.list_traces(page_size=2))
    assert [summary.trace_id for summary in found] == traces[::-1]
    events = await all_of(client.list_events(page_size=4))
    assert [event.log_seq for event in events] == list(range(1, 22))
    pages = await all_of(client.list_events(page_size=4).pages())
    assert [len(page.events) for page in pages] == [4, 4, 4, 4, 4, 1]
    rest = await all_of(client.list_events(page_size=4).pages(pages[3].next_page_token))
    assert [event for page in rest for event in page.events] == events[16:]


async def test_a_list_can_be_read_again_and_left_early(client: Any) -> None:
    await record_trace(client, steps=10)
    pages = client.list_events(page_size=3)
    assert len(await taken(pages, 5)) == 5
    assert len(await all_of(pages)) == len(await all_of(pages)) == 12


async def test_filters_are_handed_on(client: Any) -> None:
    trace_id = await record_trace(client, title="A broken vase", tags=["vip"], correlation_id="case-7", steps=2)
    await record_trace(client, title="Another")
    for given in (
        {"trace_id": trace_id},
        {"tag": "vip"},
        {"correlation_id": "case-7"},
        {"until_log_seq": 4},
        {"producer_id": PRODUCER, "until_log_seq": 4},
        {"actor_type": "agent", "actor_id": PRODUCER, "until_log_seq": 4},
        {"since_occurred_at": "2020-01-01T00:00:00Z", "until_log_seq": 4},
    ):
        assert {event.trace_id for event in await all_of(client.list_events(**given))} == {trace_id}, given
    assert await all_of(client.list_events(until_occurred_at="2020-01-01T00:00:00Z")) == []
    assert len(await all_of(client.list_events(event_type="PolicyEvaluated"))) == 3
    assert len(await all_of(client.list_trace_events(trace_id, since_trace_seq=1, page_size=1))) == 2
    for given in ({"query": "vase"}, {"workflow": "refund", "query": "vase"}, {"status": "finished", "query": "vase"}):
        assert [one.trace_id for one in await all_of(client.list_traces(**given))] == [trace_id], given
    assert await all_of(client.list_traces(outcome="failure")) == []


async def test_graph_precedents_and_health(client: Any) -> None:
    trace_id = await record_trace(client, title="A broken vase", steps=3)
    graph = await client.get_context_graph("trace", trace_id, max_depth=2)
    assert {node.node_type for node in graph.nodes} == {"trace", "entity", "policy"}
    assert not (await client.get_context_graph("trace", "unknown")).nodes
    edges = await all_of(client.list_node_edges("trace", trace_id, page_size=2, direction="outgoing"))
    assert len(edges) == 4
    found = await all_of(client.find_precedents(policy_id="policy-1", page_size=1))
    assert [one.trace_id for one in found] == [trace_id]
    assert [one.trace_id for one in await all_of(client.find_precedents(query="vase"))] == [trace_id]
    assert (await client.get_projection_health()).head_log_seq == 5
    assert await client.get_readiness() is not None


async def test_a_wrong_bound_is_named(client: Any) -> None:
    with pytest.raises(errors.InvalidArgument) as raised:
        await all_of(client.list_events(page_size=10**6))
    assert raised.value.violations[0].field == "page_size"


@pytest.mark.parametrize("kind", KINDS)
async def test_own_writes_ask_for_their_position(
    service: Service, tenant: Tenant, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int | None] = []
    async with client_of(kind, service, tenant, reads="own_writes") as client:
        transport = client._session._transport
        unary = transport.unary

        def noticing(method: Any, request: Any, *rest: Any) -> Any:
            if hasattr(request, "min_log_seq"):
                asked.append(request.min_log_seq if request.HasField("min_log_seq") else None)
            return unary(method, request, *rest)

        monkeypatch.setattr(transport, "unary", noticing)
        assert await all_of(client.list_traces()) == []
        trace_id = await record_trace(client)
        assert (await client.get_trace(trace_id)).summary.outcome == "success"
        assert len(await all_of(client.find_precedents(policy_id="policy-0"))) == 1
        await client.get_trace(trace_id, min_log_seq=2)
        await client.get_trace(trace_id, allow_stale=True)
    assert asked == [0, 3, 3, 2, None]


async def test_own_writes_are_read_at_once_however_busy_the_log_is(service: Service, tenant: Tenant) -> None:
    async with client_of("asyncio", service, tenant, reads="own_writes") as client:

        async def write_and_read() -> None:
            for _ in range(10):
                trace_id = await record_trace(client)
                assert (await client.get_trace(trace_id)).summary.outcome == "success"

        await asyncio.gather(*(write_and_read() for _ in range(8)))


async def test_a_read_that_cannot_be_fresh_says_how_far_it_is(client: Any) -> None:
    await record_trace(client)
    with pytest.raises(errors.ProjectionOutOfDate) as raised:
        await client.get_trace("any", min_log_seq=1_000, timeout=3.0)
    assert (raised.value.position_log_seq, raised.value.head_log_seq) == (3, 3)


async def test_a_call_ends_by_its_deadline(
    client: Any, callers: Callers, database: Database, database_url: str
) -> None:
    """The service cannot commit, so an append gets no answer."""
    owner = await asyncpg.connect(database_url)
    await record_trace(client)
    try:
        async with held_up(owner, callers.tenant.tenant_id):
            client._session.timeout = 0.7
            begin = asyncio.get_running_loop().time()
            with pytest.raises(errors.DeadlineExceeded):
                async with client.trace(workflow="w", title="t", primary_entity=("order", "1")):
                    raise AssertionError("the block is not entered")
            assert asyncio.get_running_loop().time() - begin < 3
    finally:
        await owner.close()


async def test_no_call_is_without_a_deadline(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    transport = client._session._transport
    unary = transport.unary

    def noticing(method: Any, request: Any, metadata: Any, timeout: float) -> Any:
        seen.append(timeout)
        return unary(method, request, metadata, timeout)

    monkeypatch.setattr(transport, "unary", noticing)
    trace_id = await record_trace(client)
    await client.get_trace(trace_id, timeout=4.0)
    await all_of(client.list_events())
    assert len(seen) == 5
    assert all(0 < timeout <= 10 for timeout in seen)
    assert 3.5 < seen[3] <= 4


def test_the_session_is_the_only_way_to_the_service() -> None:
    assert set(vars(AsyncSession)) >= {"call", "stream"}
