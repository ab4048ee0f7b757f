"""A stream of events: many on their way at once, acknowledged in the order sent, each after its commit.

How many are on their way is bounded; a faster producer is held back by the flow control of its own stream. A refused
event is acknowledged with its error and does not end the stream.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from decisiongraph_service.domain import errors
from decisiongraph_service.domain.append_batch import Placed, Refusal
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.ingestion.append import Appender, Checkable

ON_THEIR_WAY: Final = 256
"""Most events of a stream that are read and not acknowledged yet."""

_WAIT_FOR_ROOM_SECONDS: Final = 0.02

_Sent: TypeAlias = "asyncio.Future[list[Placed] | Refusal] | errors.DecisionGraphError"


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What became of one event of a stream."""

    index: int
    result: Placed | errors.DecisionGraphError


async def ingest(
    appender: Appender, tenant_id: TenantId, events: AsyncIterator[Checkable | errors.DecisionGraphError]
) -> AsyncGenerator[Acknowledgement, None]:
    """Append the events of a stream and acknowledge each in order.

    An item that is an error could not even be decoded; it is acknowledged with it. If the caller goes away, what is
    being committed is committed, and what waits is taken back.
    """
    sent: asyncio.Queue[_Sent | None] = asyncio.Queue()
    room = asyncio.Semaphore(ON_THEIR_WAY)

    async def send_all() -> None:
        try:
            async for item in events:
                await room.acquire()
                sent.put_nowait(await _send(appender, tenant_id, item))
        finally:
            sent.put_nowait(None)

    sender = asyncio.create_task(send_all(), name=f"ingest:{tenant_id}")
    on_its_way: _Sent | None = None
    index = 0
    try:
        while (on_its_way := await sent.get()) is not None:
            yield Acknowledgement(index, await _result(on_its_way))
            room.release()
            index += 1
        await sender
    finally:
        sender.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sender
        left: list[_Sent | None] = [on_its_way]
        while not sent.empty():
            left.append(sent.get_nowait())
        for waiting in left:
            if isinstance(waiting, asyncio.Future):
                waiting.cancel()


async def _send(appender: Appender, tenant_id: TenantId, item: Checkable | errors.DecisionGraphError) -> _Sent:
    """Check an event and put it into its tenant's queue; while that is full, wait: the next events wait behind it."""
    if isinstance(item, errors.DecisionGraphError):
        return item
    event, payload_violations = item
    try:
        checked = appender.check(event, payload_violations)
    except errors.DecisionGraphError as error:
        return error
    while True:
        try:
            return appender.enqueue(tenant_id, checked)
        except errors.RateLimited:
            await asyncio.sleep(_WAIT_FOR_ROOM_SECONDS)


async def _result(sent: _Sent) -> Placed | errors.DecisionGraphError:
    if isinstance(sent, errors.DecisionGraphError):
        return sent
    try:
        outcome = await sent
    except errors.DecisionGraphError as error:
        return error
    return outcome.error if isinstance(outcome, Refusal) else outcome[0]
