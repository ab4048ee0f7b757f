"""Recording with the Python client, both kinds, directly and through Envoy: what is in the log afterwards."""

import asyncio
import threading
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from tests.calling import Service, Tenant
from tests.clients import KINDS, PRODUCER, Kind, all_of, client_of, record_trace, token_of, types_of

from decisiongraph.v1 import payload_pb2
from decisiongraph.v1.event_pb2 import Actor, Event, Source
from decisiongraph_client import Client, errors, payloads


@pytest.fixture(params=KINDS)
async def client(request: pytest.FixtureRequest, service: Service, tenant: Tenant) -> AsyncIterator[Any]:
    async with client_of(request.param, service, tenant) as made:
        yield made


async def events_of(client: Any, trace_id: str) -> list[Any]:
    return await all_of(client.list_trace_events(trace_id))


async def record_everything(client: Any) -> str:
    """A trace with every kind of event."""
    async with client.trace(
        workflow="refund", title="Refund", primary_entity=("order", "A-1"), context={"channel": "mail"}, tags=["vip"]
    ) as trace:
        seen = await trace.observe_input("crm", "order", "A-1", facts={"amount": Decimal("240.00"), "paid": True})
        await trace.observe_entity(("customer", "c-7"), facts={"since": "2019"})
        await trace.evaluate_policy(
            ("limit", "7"), "require_exception", inputs=[seen], violations=[payloads.violation("over", "too much")]
        )
        asked = await trace.request_exception(("limit", "7"), "loyal customer")
        await trace.record_approval("approved", ("person", "ann"), exception=asked)
        await trace.cite_precedent("earlier", "the same case", similarity_score="0.92")
        action = await trace.propose_action(
            "refund", ("order", "A-1"), "shop", changes=[payloads.change("state", "refunded", old_value="paid")]
        )
        await trace.commit_action(action, external_reference="r-1")
        await trace.record(
            {"action_id": "by hand", "status": "partial", "more": [1, None]}, event_type="ActionCommitted"
        )
    return str(trace.trace_id)


@pytest.mark.parametrize("way", ["direct", "envoy"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_whole_trace_is_in_the_log(service: Service, tenant: Tenant, kind: Kind, way: str) -> None:
    server = service.grpc if way == "direct" else service.rest
    async with client_of(kind, service, tenant, server=server) as client:
        trace_id = await record_everything(client)
        found = await client.get_trace(trace_id)
        events = await events_of(client, trace_id)
    assert found.summary.outcome == "success"
    assert list(found.events) == events
    assert types_of(events) == [
        "TraceStarted",
        "InputObserved",
        "EntityObserved",
        "PolicyEvaluated",
        "ExceptionRequested",
        "ApprovalRecorded",
        "PrecedentCited",
        "ActionProposed",
        "ActionCommitted",
        "ActionCommitted",
        "TraceFinished",
    ]
    assert [event.trace_seq for event in events] == list(range(11))
    assert {(event.source.producer_id, tuple(event.tags)) for event in events} == {(PRODUCER, ("vip",))}
    facts = MessageToDict(events[1].payload)["facts"]
    assert facts[0] == {"key": "amount", "value": {"type": "decimal", "value": "240.00"}}
    assert MessageToDict(events[3].payload)["inputs"] == [MessageToDict(events[1].payload)["input_id"]]
    assert events[5].actor == Actor(actor_type="person", actor_id="ann")
    assert MessageToDict(events[9].payload)["more"] == [1, None]


async def test_a_receipt_says_where_the_event_is(client: Any) -> None:
    async with client.trace(workflow="w", title="t", primary_entity=("order", "1")) as trace:
        recorded = await trace.evaluate_policy(("p", "1"), "allow")
    stored = await client.get_event(recorded.event_id)
    assert (stored.log_seq, stored.trace_seq, stored.payload_hash) == (
        recorded.receipt.log_seq,
        1,
        recorded.receipt.payload_hash,
    )
    assert not recorded.receipt.reused


async def test_an_exception_ends_the_trace_as_failure_and_comes_through(client: Any) -> None:
    trace = client.trace(workflow="w", title="t", primary_entity=("order", "1"))
    with pytest.raises(ZeroDivisionError):
        async with trace:
            raise ZeroDivisionError("not in the log")
    summary = (await client.get_trace(trace.trace_id)).summary
    assert summary.outcome == "failure"
    assert MessageToDict((await events_of(client, trace.trace_id))[-1].payload)["summary"] == "ZeroDivisionError"


async def test_an_interruption_ends_the_trace_as_abandoned(service: Service, tenant: Tenant) -> None:
    with Client(service.grpc, token=token_of(service, tenant), producer=PRODUCER) as client:
        trace = client.trace(workflow="w", title="t", primary_entity=("order", "1"))
        with pytest.raises(KeyboardInterrupt), trace:
            raise KeyboardInterrupt
        assert client.get_trace(trace.trace_id).summary.outcome == "abandoned"


@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_a_cancelled_task_ends_the_trace_as_abandoned(service: Service, tenant: Tenant, how: str) -> None:
    async with client_of("asyncio", service, tenant) as client:
        trace = client.trace(workflow="w", title="t", primary_entity=("order", "1"))
        inside = asyncio.Event()

        async def decide() -> None:
            async with asyncio.timeout(None) as limit, trace:
                if how == "timeout":
                    limit.reschedule(asyncio.get_running_loop().time())
                inside.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(decide())
        await inside.wait()
        if how == "cancel":
            task.cancel()
        with pytest.raises(asyncio.CancelledError if how == "cancel" else TimeoutError):
            await task
        assert (await client.get_trace(trace.trace_id)).summary.outcome == "abandoned"


async def test_a_trace_goes_on_elsewhere_and_is_finished_there(client: Any, service: Service, tenant: Tenant) -> None:
    first = client.trace(workflow="w", title="t", primary_entity=("order", "1"))
    await first.__aenter__()
    async with (
        client_of("asyncio", service, tenant) as other,
        other.resume_trace(first.trace_id, tags=["late"]) as same,
    ):
        await same.evaluate_policy(("p", "1"), "deny")
        await same.finish("abandoned", summary="by hand")
    with pytest.raises(errors.TraceFinished):
        await first.evaluate_policy(("p", "1"), "allow")
    events = await events_of(client, first.trace_id)
    assert types_of(events) == ["TraceStarted", "PolicyEvaluated", "TraceFinished"]
    assert list(events[1].tags) == ["late"]


async def test_a_failed_end_does_not_hide_what_went_wrong(client: Any) -> None:
    trace = client.trace(workflow="w", title="t", primary_entity=("order", "1"))

    async def decide() -> None:
        async with trace, client.resume_trace(trace.trace_id) as same:
            await same.finish("success")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await decide()
    assert (await client.get_trace(trace.trace_id)).summary.outcome == "success"


async def test_a_block_with_keys_may_run_again(client: Any) -> None:
    async def decide() -> Any:
        async with client.trace(
            workflow="w", title="t", primary_entity=("order", "1"), idempotency_key="refund/A-1"
        ) as trace:
            seen = await trace.observe_input("crm", "order", "1", idempotency_key="refund/A-1/input")
            await trace.evaluate_policy(("p", "1"), "allow", inputs=[seen], idempotency_key="refund/A-1/policy")
        return trace.trace_id, seen.event_id, seen.receipt.log_seq

    assert await decide() == await decide()
    assert len(await all_of(client.list_events())) == 4


async def test_a_used_key_for_another_event_names_what_differs(client: Any) -> None:
    async with client.trace(workflow="w", title="t", primary_entity=("order", "1")) as trace:
        await trace.evaluate_policy(("p", "1"), "allow", idempotency_key="k")
        with pytest.raises(errors.IdempotencyConflict) as raised:
            await trace.evaluate_policy(("p", "1"), "deny", idempotency_key="k")
    assert raised.value.differing_fields == ("payload",)
    assert raised.value.request_id


async def test_what_the_service_refuses_is_told_with_its_fields(client: Any) -> None:
    async with client.trace(workflow="w", title="t", primary_entity=("order", "1")) as trace:
        with pytest.raises(errors.SchemaViolation) as raised:
            await trace.record(payload_pb2.PolicyEvaluatedPayload(decision="maybe"))
        assert {violation.field for violation in raised.value.violations} >= {"payload.policy", "payload.decision"}
        with pytest.raises(errors.PiiPolicyViolation) as secret:
            await trace.request_exception(("p", "1"), "AKIA" + "A" * 16)
        assert secret.value.violations[0].field == "payload.reason"


async def test_a_batch_is_appended_whole_or_not_at_all(client: Any) -> None:
    def event(number: int, trace_id: str, **changes: Any) -> Event:
        started = payload_pb2.TraceStartedPayload(
            workflow="w", title="t", primary_entity=payload_pb2.EntityRef(entity_type="o", entity_id="1")
        )
        return Event(
            trace_id=trace_id,
            occurred_at="2026-03-02T09:00:00Z",
            source=Source(producer_id="p", system="s"),
            actor=Actor(actor_type="agent", actor_id="a"),
            idempotency_key=f"key {number}",
            **({"trace_started": started} | changes),
        )

    with pytest.raises(errors.EventSequenceInvalid) as raised:
        await client.append_all([event(1, "a"), event(2, "b"), event(3, "a")])
    assert (raised.value.index, raised.value.expected_trace_seq) == (2, 1)
    receipts = await client.append_all([event(n, f"trace {n}") for n in range(300)])
    assert [receipt.log_seq for receipt in receipts] == list(range(1, 301))


async def test_a_mask_changes_what_is_stored(service: Service, tenant: Tenant) -> None:
    async with client_of(
        "asyncio", service, tenant, mask=lambda path, text: "***" if path.endswith("title") else text
    ) as client:
        trace_id = await record_trace(client, title="Ann's secret refund")
        events = await events_of(client, trace_id)
    assert MessageToDict(events[0].payload)["title"] == "***"


async def test_threads_share_a_client(service: Service, tenant: Tenant) -> None:
    traces: list[str] = []
    with Client(service.grpc, token=token_of(service, tenant), producer=PRODUCER) as client:

        def work() -> None:
            for _ in range(5):
                with client.trace(workflow="w", title="t", primary_entity=("order", "1")) as trace:
                    trace.evaluate_policy(("p", "1"), "allow")
                traces.append(trace.trace_id)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = {summary.trace_id for summary in client.list_traces(outcome="success")}
        assert found == set(traces)
        assert len(traces) == 40
        assert len(list(client.list_events())) == 120


async def test_tasks_share_a_client(service: Service, tenant: Tenant) -> None:
    async with client_of("asyncio", service, tenant) as client:
        traces = await asyncio.gather(*(record_trace(client, steps=3) for _ in range(40)))
        for trace_id in traces:
            assert len(await events_of(client, trace_id)) == 5


async def test_tasks_record_one_trace_together(service: Service, tenant: Tenant) -> None:
    async with client_of("asyncio", service, tenant) as client:
        async with client.trace(workflow="w", title="t", primary_entity=("order", "1")) as trace:
            await asyncio.gather(*(trace.evaluate_policy((f"p{n}", "1"), "allow") for n in range(30)))
        events = await events_of(client, trace.trace_id)
    assert [event.trace_seq for event in events] == list(range(32))
    assert len({MessageToDict(event.payload)["policy"]["policy_id"] for event in events[1:-1]}) == 30


async def test_after_its_end_a_client_takes_no_calls(client: Any) -> None:
    trace = client.trace(workflow="w", title="t", primary_entity=("order", "1"))
    assert await client.close() is True
    assert await client.close() is True
    with pytest.raises(errors.ClientClosed):
        await client.get_readiness()
    with pytest.raises(errors.ClientClosed):
        await client.get_trace("t")
    with pytest.raises(errors.ClientClosed):
        await trace.__aenter__()
    with pytest.raises(errors.ClientClosed):
        await all_of(client.list_events())
    with pytest.raises(errors.ClientClosed):
        await all_of(client.watch(since_log_seq=0))
