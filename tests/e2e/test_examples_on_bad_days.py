"""The examples when the service is busy or the line to it breaks: nothing is stored twice, nothing is lost."""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

import pytest
from tests.another_server import another_server, callers_of
from tests.calling import Callers, Service, Tenant
from tests.example_programs import DECISION, NUMBER, Example, Examples, recorded, run
from tests.traces import whole_trace
from tests.unreliable_line import UnreliableLine, unreliable_line

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage.database import Database

_LIMIT_SECONDS: Final = 3
_OTHERS: Final = "others-of-the-account"
_CUTS: Final = {
    "rest_httpx": (0, 900, 2500, 0, 1500),
    "grpc_python": (0, 300, 2500, 9000, 15000),
    "typescript": (0, 300, 1500),
}
"""After how many bytes of answers each connection of an example breaks."""
_FOLLOW: Final = {
    "rest_httpx": """
import sys
import refund
for event in refund.connect().watch(0):
    print(event["log_seq"])
    if event["log_seq"] == sys.argv[1]:
        break
""",
    "grpc_python": """
import asyncio, sys
import refund
async def follow():
    async with refund.connect() as service:
        async for event in service.watch(0):
            print(event.log_seq)
            if event.log_seq == int(sys.argv[1]):
                return
asyncio.run(follow())
""",
    "typescript": """
import { DecisionGraph } from "./dist/src/client.js";
const token = process.env.DG_TOKEN;
const service = new DecisionGraph(`http://${process.env.DG_SERVER}`, { tokens: { reader: token, writer: token } });
for await (const event of service.watch(0n)) {
  console.log(String(event.logSeq));
  if (event.logSeq === BigInt(process.argv[1])) break;
}
""",
}
"""Programs that use nothing but the watch of an example, up to the log position of their argument."""

_INGEST: Final = """
import asyncio, sys
import refund
async def ingest():
    async with refund.connect() as service:
        async for receipt in service.ingest(refund.small_refunds("1", int(sys.argv[1]))):
            print(receipt.trace_id, receipt.trace_seq, receipt.log_seq)
asyncio.run(ingest())
"""
"""A program that uses nothing but the stream of the gRPC example, and says what was answered to each event."""


@pytest.fixture(params=list(_CUTS))
def name(request: pytest.FixtureRequest) -> str:
    """The examples that get over a broken line by themselves."""
    return str(request.param)


@pytest.fixture(scope="module")
async def busy(service: Service, database_url: str) -> AsyncIterator[Service]:
    """A server that lets each account append eight times in three seconds."""
    async with another_server(service, database_url, DG_LIMIT_WRITE=f"8/{_LIMIT_SECONDS}second") as running:
        yield running


async def test_it_comes_back_when_a_limit_lets_it(
    example: Example, busy: Service, database: Database, tenant_id: TenantId
) -> None:
    account = f"{tenant_id}-busy"
    token = busy.token(tenant_ids=[tenant_id], roles=["reader", "writer"], account_id=account)

    async with callers_of(busy, Tenant(tenant_id, {})) as callers:

        async def use_up_the_limit() -> None:
            metadata = {"authorization": f"Bearer {token}", "x-request-id": _OTHERS}
            # Windows begin at whole multiples of their length: not one that ends before the example has called.
            await asyncio.sleep(_LIMIT_SECONDS - time.time() % _LIMIT_SECONDS)
            # At once, so that all of it comes free at once as well: the whole window lies before the example.
            calls = (callers.by_grpc("AppendEvent", {}, metadata) for _ in range(16))
            assert "RATE_LIMITED" in {answer.reason for answer in await asyncio.gather(*calls)}

        async with _line_to(example, busy, before_the_first=use_up_the_limit) as line:
            ran = await example.run(**example.at(busy, line.address), DG_TOKEN=token)
    assert _was_refused(busy, account), "no limit was met"
    ran.assert_done()
    assert await recorded(database, tenant_id) == example.events()


def _was_refused(server: Service, account: str) -> bool:
    """Whether the server refused a call of the account for a limit, other than those that use it up."""
    lines = (server.folder / "logs" / "server.log").read_text().splitlines()
    return any(
        entry.get("reason") == "RATE_LIMITED" and entry["account"] == account and entry["request_id"] != _OTHERS
        for entry in map(json.loads, lines)
    )


async def test_answers_that_get_lost_store_nothing_twice(
    examples: Examples,
    name: str,
    service: Service,
    reader_and_writer: str,
    database: Database,
    tenant_id: TenantId,
) -> None:
    example, cuts = examples.get(name), _CUTS[name]
    async with _line_to(example, service, cuts) as line:
        ran = await example.run(**example.at(service, line.address), DG_TOKEN=reader_and_writer)
    ran.assert_done()
    assert line.broken == len(cuts)
    assert sum(reused for _, reused in ran.stored) > 0, "no answer to an append was lost"
    assert await recorded(database, tenant_id) == example.events()


async def test_a_script_that_lost_its_answer_is_run_again(
    examples: Examples, service: Service, reader_and_writer: str, database: Database, tenant_id: TenantId
) -> None:
    script = examples.get("rest_curl")
    async with _line_to(script, service, [0]) as line:
        variables = {**script.at(service, line.address), "DG_TOKEN": reader_and_writer}
        (await script.run(**variables)).assert_refused("no answer", f"run it again with the same number: {NUMBER}")
        again = await script.run(**variables)
    again.assert_done()
    assert again.stored == [(0, len(DECISION))]
    assert await recorded(database, tenant_id) == script.events()


async def test_a_watch_that_breaks_goes_on_where_it_was(
    examples: Examples, name: str, service: Service, callers: Callers
) -> None:
    example, cuts = examples.get(name), [0, 5_000, 20_000, 20_000]
    events = [event for number in range(60) for event in whole_trace(f"trace-{number}", 5)]
    appended = await callers.call("grpc", "AppendEvents", {"events": events})
    assert appended.ok, appended.body
    start = ("node", "--input-type=module", "-e") if name == "typescript" else (sys.executable, "-c")
    folder = examples.root / "examples" / name
    async with _line_to(example, service, cuts) as line:
        variables = {**example.at(service, line.address), "DG_TOKEN": callers.tenant.tokens["reader"]}
        ran = await run((*start, _FOLLOW[name], str(len(events))), folder, variables)
    ran.assert_done()
    assert line.broken == len(cuts)
    assert ran.out.split() == [str(position) for position in range(1, len(events) + 1)]


async def test_a_stream_that_breaks_answers_for_each_event(
    examples: Examples, service: Service, reader_and_writer: str, database: Database, tenant_id: TenantId
) -> None:
    example, cuts, decisions = examples.get("grpc_python"), [0, 5_000, 20_000, 40_000], 500
    async with _line_to(example, service, cuts) as line:
        variables = {**example.at(service, line.address), "DG_TOKEN": reader_and_writer}
        folder = examples.root / "examples" / "grpc_python"
        ran = await run((sys.executable, "-c", _INGEST, str(decisions)), folder, variables)
    ran.assert_done()
    assert line.broken == len(cuts)
    sent = [(f"refund-1-small-{number}", seq) for number in range(decisions) for seq in (0, 1)]
    answers = [f"{trace} {seq} {position}" for position, (trace, seq) in enumerate(sent, start=1)]
    assert ran.out.splitlines() == answers, "each event is answered once, in order, with its own receipt"
    assert len(await recorded(database, tenant_id)) == len(sent)


def _line_to(
    example: Example,
    service: Service,
    cuts: Sequence[int] = (),
    before_the_first: Callable[[], Awaitable[None]] | None = None,
) -> contextlib.AbstractAsyncContextManager[UnreliableLine]:
    (address,) = example.at(service).values()
    return unreliable_line(address.removeprefix("http://"), cuts, before_the_first)
