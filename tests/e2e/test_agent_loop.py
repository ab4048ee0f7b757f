"""examples/agent_loop: what the agent says it decided is what the log holds, also after a crash in the middle."""

import asyncio
import os
import sys
import uuid
from pathlib import Path

from tests.calling import Service, Tenant

from decisiongraph.v1.event_pb2 import StoredEvent
from decisiongraph_client import AsyncClient
from decisiongraph_service.access import tokens

_AGENT = Path(__file__).parents[2] / "examples" / "agent_loop" / "agent.py"
_CASE = ["TraceStarted", "InputObserved", "PolicyEvaluated"]
_WITH_EXCEPTION = [
    *_CASE,
    "ExceptionRequested",
    "ApprovalRecorded",
    "ActionProposed",
    "ActionCommitted",
    "TraceFinished",
]


async def _run(service: Service, token: str, run_id: str, *orders: str) -> tuple[int, str, str]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DG_")},
        "DG_SERVER": service.grpc,
        "DG_TOKEN": token,
        "RUN_ID": run_id,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, _AGENT, *orders, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


def _token(service: Service, tenant: Tenant) -> str:
    return service.token(tenant_ids=[tenant.tenant_id], roles=["reader", "writer"])


async def _timeline(client: AsyncClient, trace_id: str) -> list[StoredEvent]:
    return [event async for event in client.list_trace_events(trace_id)]


async def test_the_agent_records_each_step_and_cites_the_case_before(service: Service, tenant: Tenant) -> None:
    run_id, token = uuid.uuid4().hex[:8], _token(service, tenant)

    code, out, err = await _run(service, token, run_id)

    assert (code, err) == (0, "")
    assert [line.split(",")[0] for line in out.splitlines()] == [f"order A-{n}: success" for n in (1, 2, 3)]
    async with AsyncClient(service.grpc, token=token) as client:
        first, second, third = [await _timeline(client, f"refund-{run_id}-A-{n}") for n in (1, 2, 3)]
    assert [event.event_type for event in first] == [*_CASE, "ActionProposed", "ActionCommitted", "TraceFinished"]
    assert [event.event_type for event in second] == _WITH_EXCEPTION
    assert [event.event_type for event in third] == [*_CASE, "PrecedentCited", *_WITH_EXCEPTION[len(_CASE) :]]
    assert third[3].payload["cited_trace_id"] == f"refund-{run_id}-A-2"


async def test_a_second_run_records_nothing(service: Service, tenant: Tenant) -> None:
    run_id, token = uuid.uuid4().hex[:8], _token(service, tenant)
    once = await _run(service, token, run_id)
    async with AsyncClient(service.grpc, token=token) as client:
        before = (await client.get_projection_health()).head_log_seq

        again = await _run(service, token, run_id)

        assert (await client.get_projection_health()).head_log_seq == before
    assert once == again
    assert once[0] == 0


async def test_an_agent_that_crashed_goes_on_where_it_was(service: Service, tenant: Tenant) -> None:
    run_id, token = uuid.uuid4().hex[:8], _token(service, tenant)
    trace_id = f"refund-{run_id}-A-2"
    async with AsyncClient(service.grpc, token=token, producer="refund-agent", system="support") as client:
        # What a run had recorded when it died: the beginning of the trace.
        crashed = client.trace(
            workflow="refund",
            title="Refund order A-2: arrived damaged",
            primary_entity=("order", "A-2"),
            trace_id=trace_id,
            idempotency_key=f"{trace_id}/start",
        )
        await crashed.__aenter__()

        code, _, err = await _run(service, token, run_id, "A-2")

        assert (code, err) == (0, "")
        assert [event.event_type for event in await _timeline(client, trace_id)] == _WITH_EXCEPTION


async def test_a_token_without_the_role_is_told_in_one_line(service: Service, tenant: Tenant) -> None:
    code, out, err = await _run(service, tenant.tokens["reader"], "run", "A-1")

    assert (code, out) == (1, "")
    assert err.startswith("order A-1: FORBIDDEN: ")
    assert len(err.splitlines()) == 1
    assert set(tenant.tokens) == set(tokens.ROLES)
