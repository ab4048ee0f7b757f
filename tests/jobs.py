"""Calling the rpcs of replay jobs and projections by both ways, and holding up what they do."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import asyncpg

from decisiongraph_service.domain import vocabulary
from decisiongraph_service.domain.vocabulary import TenantId
from tests.calling import BOTH_WAYS, Answer, Callers
from tests.logs import Connection
from tests.traces import whole_trace

TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_HTTP: Final = {"INVALID_ARGUMENT": 400, "FORBIDDEN": 403, "NOT_FOUND": 404, "REPLAY_CONFLICT": 409}
_CODES: Final = {"INVALID_ARGUMENT": 3, "FORBIDDEN": 7, "NOT_FOUND": 5, "REPLAY_CONFLICT": 10}


def admin(callers: Callers) -> dict[str, str]:
    """The metadata, or headers, of an administrator with all permissions."""
    return {"authorization": f"Bearer {callers.tenant.tokens['admin']}"}


def without_request_id(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a refusal without what differs from call to call."""
    details = [detail for detail in body.get("details", []) if "request_id" not in detail]
    return {**body, "details": details} if details else dict(body)


async def ask(callers: Callers, rpc: str, request: Mapping[str, Any], *, token: str | None = None) -> Answer:
    """What is answered over REST, after it was found to be what is answered over gRPC."""
    by_rest, by_grpc = [await callers.call(way, rpc, request, token=token) for way in BOTH_WAYS]
    assert without_request_id(by_rest.body) == without_request_id(by_grpc.body)
    return by_rest


def assert_refused(answer: Answer, reason: str) -> None:
    """It is this refusal, with the status that belongs to it."""
    assert not answer.ok
    assert (answer.reason, answer.code) == (reason, _CODES[reason]), answer.body
    assert answer.http_status in (None, _HTTP[reason])


async def append(callers: Callers, events: Sequence[Mapping[str, Any]]) -> None:
    """Append events, all or none."""
    answer = await callers.call("grpc", "AppendEvents", {"events": list(events)})
    assert answer.ok, answer.body


async def health(callers: Callers) -> dict[str, dict[str, Any]]:
    """The health of each projection, by its name."""
    answer = await callers.call("grpc", "GetProjectionHealth", {})
    assert answer.ok, answer.body
    return {one["projection"]: one for one in answer.body["projections"]}


async def until_projected(callers: Callers) -> None:
    """Return when every projection has come to the end of the log, and health no longer changes by itself."""
    await until_all(callers, "current")


async def until_all(callers: Callers, state: str) -> None:
    """Return when every projection is in this state."""
    async with asyncio.timeout(15):
        # The projector is in another process: there is nothing to wait for but what it tells.
        while any(one["state"] != state for one in (await health(callers)).values()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def start(callers: Callers, way: str = "grpc", *, token: str | None = None, **request: Any) -> dict[str, Any]:
    """Start a job, a catch-up of everything unless told otherwise."""
    asked = {"projection": "all", "mode": "catch_up", "reason": "to see", **request}
    answer = await callers.call(way, "StartReplay", asked, token=token)
    assert answer.ok, answer.body
    return dict(answer.body["job"])


async def until_in(callers: Callers, job: Mapping[str, Any], *states: str) -> dict[str, Any]:
    """The job as soon as it is in one of these states."""
    async with asyncio.timeout(20):
        while True:
            answer = await callers.call("grpc", "GetReplay", {"job_id": job["job_id"]})
            if answer.body["job"]["status"] in states:
                return dict(answer.body["job"])
            await asyncio.sleep(0.02)


async def ended(callers: Callers, job: Mapping[str, Any]) -> dict[str, Any]:
    """The job after its end."""
    return await until_in(callers, job, "completed", "failed", "cancelled")


@contextlib.asynccontextmanager
async def jobs_held(database_url: str, tenant_id: TenantId) -> AsyncIterator[None]:
    """No job of this tenant completes inside this block: each remembers digests last, and their rows are taken."""
    owner = await asyncpg.connect(database_url)
    try:
        await owner.execute("BEGIN")
        await owner.execute(
            """
            INSERT INTO projection_digests (tenant_id, projection, generation, log_seq, digest, computed_at)
            SELECT $1, name, 1, 0, '', now() FROM unnest($2::text[]) AS name
            ON CONFLICT (tenant_id, projection) DO UPDATE SET digest = projection_digests.digest
            """,
            tenant_id,
            [*vocabulary.PROJECTIONS, vocabulary.FULL_PROJECTION],
        )
        yield
    finally:
        await owner.close()  # and with it goes the transaction


async def keep_projector_out(owner: Connection, callers: Callers) -> None:
    """From now on only jobs move the projections: each has a failure on record, at the third event."""
    await owner.execute(
        """
        INSERT INTO projection_failures
            (tenant_id, projection, log_seq, trace_id, event_id, category, message, recoverable, failed_at)
        SELECT $1, name, 3, '', '', 'conflict', '', false, now() FROM unnest($2::text[]) AS name
        """,
        callers.tenant.tenant_id,
        list(vocabulary.PROJECTIONS),
    )


async def damage(owner: Connection, callers: Callers, events: list[dict[str, Any]], log_seq: int) -> None:
    """Append events, of which the one at this position is damaged; the projections stand before it."""
    # A held projection would not do: the projector may have read the event whole, and write it when it is let go.
    await keep_projector_out(owner, callers)
    await append(callers, events)
    await owner.execute(
        "UPDATE events SET payload = payload || ' ' WHERE tenant_id = $1 AND log_seq = $2",
        callers.tenant.tenant_id,
        log_seq,
    )
    await let_projector_in(owner, callers)
    # Wakes the projector, which else would look again after a second.
    await append(callers, whole_trace("after", 2))


async def let_projector_in(owner: Connection, callers: Callers) -> None:
    """Forget the failures."""
    await owner.execute("DELETE FROM projection_failures WHERE tenant_id = $1", callers.tenant.tenant_id)
