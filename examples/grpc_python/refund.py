"""Records decisions over gRPC with the generated stubs, as a program in production does, and reads them back.

    make run                                                 # in another terminal
    .venv/bin/python examples/grpc_python/refund.py [NUMBER]

NUMBER is that of the refund; left out, a new one. The same number again records nothing twice: every event has an
idempotency key that is made of it. So a program that broke off in the middle just begins from the start.

Another service than that of `make run`: set DG_SERVER=host:port (TLS unless it is on this machine), and DG_API_KEY (a
key, exchanged for tokens) or DG_TOKEN (a token) of an account with the roles reader and writer. Needs the stubs
(`generated/python`, in the package `decisiongraph`), `grpcio` and `grpcio-status`.
"""

import asyncio
import contextlib
import json
import logging
import os
import random
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from decisiongraph.v1 import access_service_pb2 as access
from decisiongraph.v1 import event_pb2, payload_pb2
from decisiongraph.v1 import ingestion_service_pb2 as ingestion
from decisiongraph.v1 import query_service_pb2 as query
from decisiongraph.v1.access_service_pb2_grpc import AccessServiceStub
from decisiongraph.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from decisiongraph.v1.query_service_pb2_grpc import QueryServiceStub

CALL_SECONDS = 10
"""Deadline of one attempt. Every call has a deadline; one without may wait for ever."""
STREAM_SECONDS = 600
"""Deadline of one attempt of a stream, which is then opened anew where it stood."""
SILENCE_SECONDS = 30
"""How long a watch may be silent before its connection counts as dead; the service speaks every 5 s."""
PATIENCE_SECONDS = 60
"""How long attempts may fail one after another before the last failure is raised."""
WORTH_TRYING_AGAIN = {"RATE_LIMITED", "STORAGE_UNAVAILABLE", "PROJECTION_OUT_OF_DATE", "NO_ANSWER"}
BROKEN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL}
"""What gRPC itself says when a connection fails or breaks. The service says more: its errors have an ErrorInfo."""

Answer = TypeVar("Answer")
Detail = TypeVar("Detail", bound=Message)
log = logging.getLogger(__name__)


class Refused(Exception):
    """A call failed. Programs decide by `reason`; the text is for people and says what to change."""

    def __init__(self, status: status_pb2.Status, reason: str = "NO_ANSWER") -> None:
        super().__init__(status.message)
        self.status = status
        info = self.detail(error_details_pb2.ErrorInfo)
        self.reason = info.reason if info else reason

    def detail(self, kind: type[Detail]) -> Detail | None:
        """The detail of that type: ErrorInfo, BadRequest (which fields), RetryInfo, RequestInfo, QuotaFailure."""
        for packed in self.status.details:
            found = kind()
            if packed.Unpack(found):
                return found
        return None


def refusal(error: "grpc.aio.AioRpcError | TimeoutError | Refused") -> Refused:
    """What failed, in one form."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, TimeoutError):
        return Refused(status_pb2.Status(message=f"silent for {SILENCE_SECONDS} s"))
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has all that is asked of a call
    reason = "NO_ANSWER" if error.code() in BROKEN else error.code().name
    return Refused(status or status_pb2.Status(message=error.details() or ""), reason)


class Patience:
    """Decides after each failure whether to try again, and when."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Something went well."""
        self._pause = 0.5
        self._give_up_at = time.monotonic() + PATIENCE_SECONDS

    async def wait_after(self, refused: Refused) -> None:
        """Wait as long as the service asks for, else longer each time; raises when that is of no use, or too long."""
        retry = refused.detail(error_details_pb2.RetryInfo)
        wait = retry.retry_delay.ToTimedelta().total_seconds() if retry else self._pause
        wait *= random.uniform(1, 1.5)  # who was refused together does not come back together
        if refused.reason not in WORTH_TRYING_AGAIN or time.monotonic() + wait > self._give_up_at:
            raise refused
        log.warning("%s: %s; trying again in %.1f s", refused.reason, refused, wait)
        await asyncio.sleep(wait)
        self._pause = min(2 * self._pause, 10)


class DecisionGraph:
    """The service by its generated stubs. Whatever a method sends twice is stored once. All of them raise Refused."""

    def __init__(self, channel: grpc.aio.Channel, tokens: dict[str, str], api_key: str | None) -> None:
        self._access = AccessServiceStub(channel)
        self._ingestion = IngestionServiceStub(channel)
        self._queries = QueryServiceStub(channel)
        self._tokens = tokens
        self._api_key = api_key
        self._renew_at = 0.0

    async def append_all(self, events: Sequence[event_pb2.Event]) -> Sequence[event_pb2.EventReceipt]:
        """Append up to 1,000 events, all or none."""
        request = ingestion.AppendEventsRequest(events=events)
        return (await self._call("writer", self._ingestion.AppendEvents, request)).receipts

    async def trace(self, trace_id: str, *, min_log_seq: int) -> query.GetTraceResponse:
        """A trace, in an answer that includes at least that log position."""
        request = query.GetTraceRequest(trace_id=trace_id, min_log_seq=min_log_seq)
        return await self._call("reader", self._queries.GetTrace, request)

    async def ingest(self, events: Sequence[event_pb2.Event]) -> AsyncGenerator[event_pb2.EventReceipt | Refused, None]:
        """Append any number of events by a stream. Gives for each, in order, its receipt or why it was refused.

        When the stream breaks, what was not answered is sent again. What of it was stored all the same is answered
        `reused`.
        """
        answered = 0
        patience = Patience()
        while answered < len(events):
            metadata = await self._metadata("writer")
            call = self._ingestion.IngestEvents(metadata=metadata, timeout=STREAM_SECONDS)
            sender = asyncio.create_task(send(call, events[answered:]))
            try:
                async for answer in call:
                    result = answer.receipt if answer.HasField("receipt") else Refused(answer.refusal)
                    if isinstance(result, Refused) and result.reason in WORTH_TRYING_AGAIN:
                        raise result  # begin again with this event
                    patience.renew()
                    answered += 1
                    yield result
                if answered < len(events):
                    raise ended()
            except (grpc.aio.AioRpcError, Refused) as error:
                await patience.wait_after(refusal(error))
            finally:
                call.cancel()
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)

    async def watch(self, since_log_seq: int) -> AsyncGenerator[event_pb2.StoredEvent, None]:
        """The events after a log position and then new ones, without end, each once, whatever breaks meanwhile.

        Keep the `log_seq` of an event together with what you made of it, and begin there after a restart.
        """
        patience = Patience()
        while True:
            request = query.WatchEventsRequest(since_log_seq=since_log_seq)
            metadata = await self._metadata("reader")
            call = self._queries.WatchEvents(request, metadata=metadata, timeout=STREAM_SECONDS)
            try:
                while True:
                    async with asyncio.timeout(SILENCE_SECONDS):
                        message = await call.read()
                    if not isinstance(message, query.WatchEventsResponse):
                        raise ended()
                    patience.renew()
                    if message.HasField("event"):
                        since_log_seq = message.event.log_seq
                        yield message.event
                    else:
                        since_log_seq = message.heartbeat.head_log_seq
            except (grpc.aio.AioRpcError, TimeoutError, Refused) as error:
                await patience.wait_after(refusal(error))
            finally:
                call.cancel()

    async def _call(self, role: str, method: Callable[..., Awaitable[Answer]], request: Message) -> Answer:
        """Try until there is an answer.

        When none came, the events may be stored all the same; they are sent again with the same idempotency keys, and
        so are never stored twice.
        """
        patience = Patience()
        while True:
            try:
                metadata = await self._metadata(role) if role else ()
                return await method(request, metadata=metadata, timeout=CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                await patience.wait_after(refusal(error))

    async def _metadata(self, role: str) -> tuple[tuple[str, str], ...]:
        """Who calls. An API key is exchanged for a token when there is none yet, and in time before it expires."""
        if self._api_key and time.time() >= self._renew_at:
            request = access.IssueTokenRequest(api_key=self._api_key)
            issued = await self._call("", self._access.IssueToken, request)
            self._tokens = dict.fromkeys(("reader", "writer"), issued.token)
            self._renew_at = datetime.fromisoformat(issued.expires_at).timestamp() - 60
        return (("authorization", f"Bearer {self._tokens[role]}"),)


async def send(call: Any, events: Sequence[event_pb2.Event]) -> None:
    """Send events and close this side; each waits until the service takes it, by gRPC's flow control."""
    for event in events:
        await call.write(ingestion.IngestEventsRequest(event=event))
    await call.done_writing()


def ended() -> Refused:
    """The service ended a stream early, e.g. because it is being replaced."""
    return Refused(status_pb2.Status(message="the service ended the stream"))


@contextlib.asynccontextmanager
async def connect() -> AsyncGenerator[DecisionGraph, None]:
    """The service that the environment names, or that of `make run`."""
    server, api_key, token = (os.environ.get(name) for name in ("DG_SERVER", "DG_API_KEY", "DG_TOKEN"))
    tokens = dict.fromkeys(("reader", "writer"), token) if token else {}
    if not server:
        try:
            running = json.loads((Path(__file__).parents[2] / ".run" / "service.json").read_text())
        except FileNotFoundError:
            sys.exit("no service: start one with `make run`, or set DG_SERVER, and DG_API_KEY or DG_TOKEN")
        server, tokens = running["grpc"], tokens or running["tokens"]
    if not tokens and not api_key:
        sys.exit("DG_SERVER is set, so set DG_API_KEY or DG_TOKEN too")
    if server.rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]"):
        channel = grpc.aio.insecure_channel(server)
    else:
        channel = grpc.aio.secure_channel(server, grpc.ssl_channel_credentials())
    async with channel:
        yield DecisionGraph(channel, tokens, api_key)


BOT = event_pb2.Actor(actor_type="agent", actor_id="refund-bot")
HUBER = event_pb2.Actor(actor_type="person", actor_id="m.huber")
POLICY = payload_pb2.PolicyRef(policy_id="refund_limit", policy_version="2026-02")


def event(key: str, trace_id: str, actor: event_pb2.Actor, **payload: Any) -> event_pb2.Event:
    """An event with a typed payload, which names the type of the event too."""
    return event_pb2.Event(
        trace_id=trace_id,
        occurred_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        source=event_pb2.Source(producer_id="refund-agent", system="support"),
        actor=actor,
        idempotency_key=f"{trace_id}/{key}",
        **payload,
    )


def decision(number: str) -> list[event_pb2.Event]:
    """The events of a refund over the limit."""
    trace_id = f"refund-{number}"
    order = payload_pb2.EntityRef(entity_type="order", entity_id=f"A-{number}", system="shop")
    started = payload_pb2.TraceStartedPayload(
        workflow="refund", title="Refund of 240 EUR for a damaged espresso machine", primary_entity=order
    )
    over_limit = payload_pb2.PolicyViolation(
        code="amount_over_limit", message="240.00 EUR is over the limit of 200.00 EUR"
    )
    evaluated = payload_pb2.PolicyEvaluatedPayload(policy=POLICY, decision="require_exception", violations=[over_limit])
    requested = payload_pb2.ExceptionRequestedPayload(
        exception_id=f"exc-{number}", policy=POLICY, reason="Damage is proven, customer since 2019"
    )
    approved = payload_pb2.ApprovalRecordedPayload(
        approval_id=f"apr-{number}",
        subject=payload_pb2.ApprovalSubject(subject_type="exception", subject_id=f"exc-{number}"),
        approver=payload_pb2.Approver(actor_type="person", actor_id="m.huber"),
        decision="approved",
        reason="Photo is clear",
    )
    amount = payload_pb2.TypedValue(type="decimal", value="240.00")
    proposed = payload_pb2.ActionProposedPayload(
        action_id=f"act-{number}",
        action_type="refund",
        target_entity=order,
        target_system="payments",
        changes=[payload_pb2.Change(path="refunded", new_value=amount)],
    )
    committed = payload_pb2.ActionCommittedPayload(
        action_id=f"act-{number}", status="success", external_reference=f"pay-{number}"
    )
    finished = payload_pb2.TraceFinishedPayload(outcome="success", summary="Refunded in full")
    return [
        event("start", trace_id, BOT, trace_started=started),
        event("policy", trace_id, BOT, policy_evaluated=evaluated),
        event("exception", trace_id, BOT, exception_requested=requested),
        event("approval", trace_id, HUBER, approval_recorded=approved),
        event("proposal", trace_id, BOT, action_proposed=proposed),
        event("payment", trace_id, BOT, action_committed=committed),
        event("end", trace_id, BOT, trace_finished=finished),
    ]


def small_refunds(number: str, count: int) -> list[event_pb2.Event]:
    """Decisions of two events each, as an import brings them by the thousand."""
    events = []
    for index in range(count):
        trace_id = f"refund-{number}-small-{index}"
        order = payload_pb2.EntityRef(entity_type="order", entity_id=f"B-{number}-{index}")
        started = payload_pb2.TraceStartedPayload(workflow="refund", title="Refund of 5 EUR", primary_entity=order)
        events.append(event("start", trace_id, BOT, trace_started=started))
        finished = payload_pb2.TraceFinishedPayload(outcome="success")
        events.append(event("end", trace_id, BOT, trace_finished=finished))
    return events


async def main(number: str) -> None:
    """Record a decision in one call and many by a stream, and read them back."""
    async with connect() as service:
        trace_id = f"refund-{number}"
        print(f"append {trace_id}: all of its events, or none")
        receipts = await service.append_all(decision(number))
        print(f"  {count(receipts)}")

        trace = await service.trace(trace_id, min_log_seq=receipts[-1].log_seq)
        print(f"read it: {trace.summary.title}: {trace.summary.outcome}")

        print("append 100 small decisions by a stream")
        imported = []
        async for result in service.ingest(small_refunds(number, 100)):
            if isinstance(result, Refused):
                raise result
            imported.append(result)
        print(f"  {count(imported)}")

        first, last = receipts[0].log_seq, imported[-1].log_seq
        print(f"follow the log from position {first} to {last}")
        async with contextlib.aclosing(service.watch(first - 1)) as events:
            async for stored in events:
                if stored.trace_id == trace_id:
                    print(f"  {stored.log_seq} {stored.event_type} by {stored.actor.actor_id}")
                if stored.log_seq == last:
                    break
        print(f"  {last}: there")

        print("append to the finished decision once more")
        allowed = payload_pb2.PolicyEvaluatedPayload(policy=POLICY, decision="allow")
        try:
            await service.append_all([event("afterthought", trace_id, BOT, policy_evaluated=allowed)])
        except Refused as refused:
            if refused.reason != "TRACE_FINISHED":
                raise
            print(f"  refused: {refused.reason}")


def count(receipts: Sequence[event_pb2.EventReceipt]) -> str:
    """How many were stored now, and how many before."""
    reused = sum(receipt.reused for receipt in receipts)
    return f"stored {len(receipts) - reused}, reused {reused}"


def explain(refused: Refused) -> str:
    """Why a call failed, for whoever runs this."""
    request = refused.detail(error_details_pb2.RequestInfo)
    violations = refused.detail(error_details_pb2.BadRequest) or error_details_pb2.BadRequest()
    fields = [f"  {violation.field}: {violation.description}" for violation in violations.field_violations]
    request_id = request.request_id if request else "unknown"
    return "\n".join([*fields, f"{refused.reason}: {refused} (request id {request_id})"])


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else str(int(time.time()))))
    except Refused as refused:
        sys.exit(explain(refused))
