"""Replay jobs beside each other: conflicts, cancelling, watching and listing, over REST as over gRPC."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.calling import BOTH_WAYS, Callers, Service, as_json, rest_answer
from tests.jobs import (
    TIME,
    admin,
    append,
    ask,
    assert_refused,
    ended,
    health,
    jobs_held,
    start,
    until_in,
    until_projected,
)
from tests.traces import whole_trace

from decisiongraph.v1 import admin_service_pb2, admin_service_pb2_grpc
from decisiongraph_service.access import tenancy
from decisiongraph_service.domain import vocabulary
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.runtime import server
from decisiongraph_service.storage.database import Database

_FINAL = ("completed", "failed", "cancelled")
_OF_ONE_JOB = ("GetReplay", "WatchReplay", "CancelReplay")


def _about(rpc: str, job_id: str) -> dict[str, str]:
    """A request about one job."""
    return {"job_id": job_id, **({"reason": "to see"} if rpc == "CancelReplay" else {})}


@pytest.mark.parametrize(
    ("first", "second"),
    [("all", "all"), ("all", "trace_summary"), ("trace_summary", "all"), ("context_graph", "context_graph")],
)
async def test_a_second_job_on_a_projection_is_refused_with_the_id_of_the_first(
    callers: Callers, database_url: str, first: str, second: str
) -> None:
    async with jobs_held(database_url, callers.tenant.tenant_id):
        job = await start(callers, projection=first)
        request = {"projection": second, "mode": "verify", "reason": "to see"}
        answer = await ask(callers, "StartReplay", request)
        assert_refused(answer, "REPLAY_CONFLICT")
        assert answer.category == "conflict"
        assert answer.detail("ErrorInfo")["metadata"]["job_id"] == job["job_id"]
    await ended(callers, job)
    assert await start(callers, **request), "when the first has ended there is nothing in the way"


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_jobs_on_different_projections_may_run_at_once(callers: Callers, database_url: str, way: str) -> None:
    async with jobs_held(database_url, callers.tenant.tenant_id):
        jobs = [await start(callers, way, projection=name) for name in vocabulary.PROJECTIONS]
    assert [(await ended(callers, job))["status"] for job in jobs] == ["completed"] * 3


@pytest.mark.parametrize("rpc", _OF_ONE_JOB)
async def test_a_job_that_nobody_started_is_not_found(callers: Callers, rpc: str) -> None:
    assert_refused(await ask(callers, rpc, _about(rpc, "job-0000000000000000")), "NOT_FOUND")


@pytest.mark.parametrize("rpc", _OF_ONE_JOB)
async def test_a_job_of_another_tenant_is_not_found_and_goes_on(
    callers: Callers, service: Service, database: Database, database_url: str, rpc: str
) -> None:
    other = TenantId(f"{callers.tenant.tenant_id}-other")
    await tenancy.create_tenant(database, other, clock=server.clock_micros)
    token = service.token(tenant_ids=[other], roles=["admin"])
    async with jobs_held(database_url, callers.tenant.tenant_id):
        job = await start(callers)
        assert_refused(await ask(callers, rpc, _about(rpc, job["job_id"]), token=token), "NOT_FOUND")
    assert (await ended(callers, job))["status"] == "completed"
    assert (await ask(callers, "ListReplays", {}, token=token)).body["jobs"] == []


@pytest.mark.parametrize("rpc", _OF_ONE_JOB)
@pytest.mark.parametrize("job_id", [" ", "x" * 101])
async def test_what_cannot_be_a_job_id_is_refused_and_named(callers: Callers, rpc: str, job_id: str) -> None:
    answer = await ask(callers, rpc, _about(rpc, job_id))
    assert_refused(answer, "INVALID_ARGUMENT")
    assert answer.fields == ["job_id"]


@pytest.mark.parametrize("reason", ["", " ", "x" * 501], ids=["none", "blank", "too long"])
async def test_a_cancellation_needs_a_reason(callers: Callers, database_url: str, reason: str) -> None:
    async with jobs_held(database_url, callers.tenant.tenant_id):
        job = await start(callers)
        answer = await ask(callers, "CancelReplay", {"job_id": job["job_id"], "reason": reason})
        assert_refused(answer, "INVALID_ARGUMENT")
        assert answer.fields == ["reason"]
    assert (await ended(callers, job))["status"] == "completed"


@pytest.mark.parametrize("way", ["/cancel", ":cancel", "grpc"])
@pytest.mark.parametrize("mode", ["catch_up", "verify"])
async def test_a_running_job_is_cancelled_for_good(callers: Callers, database_url: str, way: str, mode: str) -> None:
    async with jobs_held(database_url, callers.tenant.tenant_id):
        job = await start(callers, mode=mode)
        await until_in(callers, job, "running")
        if way == "grpc":
            answer = await callers.call("grpc", "CancelReplay", _about("CancelReplay", job["job_id"]))
        else:
            path = f"/api/v1/admin/replays/{job['job_id']}{way}"
            answer = rest_answer(await callers.client.post(path, json={"reason": "to see"}, headers=admin(callers)))
        assert answer.ok, answer.body
        cancelled = answer.body["job"]
        assert (cancelled["job_id"], cancelled["status"]) == (job["job_id"], "cancelled")
        assert TIME.fullmatch(cancelled["finished_at"])
        assert "error_code" not in cancelled, "somebody wanted it so: no error"
        # Its place is free at once, also while the runner has not noticed yet.
        following = await start(callers, mode=mode)
    assert (await ended(callers, following))["status"] == "completed"
    after = await ended(callers, job)
    assert (after["status"], after["finished_at"]) == ("cancelled", cancelled["finished_at"])


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_queued_job_is_cancelled_before_it_begins(callers: Callers, database_url: str, way: str) -> None:
    async with jobs_held(database_url, callers.tenant.tenant_id):
        # The server runs two at a time.
        running = [await start(callers, projection=name) for name in ("context_graph", "trace_summary")]
        for job in running:
            await until_in(callers, job, "running")
        queued = await start(callers, projection="precedent_index", mode="rebuild")
        answer = await callers.call(way, "CancelReplay", _about("CancelReplay", queued["job_id"]))
        assert answer.body["job"]["status"] == "cancelled", answer.body
        assert "started_at" not in answer.body["job"]
    for job in running:
        await ended(callers, job)
    later = (await ask(callers, "GetReplay", {"job_id": queued["job_id"]})).body["job"]
    assert (later["status"], "started_at" in later) == ("cancelled", False)
    assert (await health(callers))["precedent_index"]["generation"] == "1"


async def test_a_job_that_is_no_longer_active_cannot_be_cancelled(callers: Callers) -> None:
    job = await ended(callers, await start(callers))
    answer = await ask(callers, "CancelReplay", _about("CancelReplay", job["job_id"]))
    assert_refused(answer, "NOT_FOUND")
    assert (await ended(callers, job)) == job


@contextlib.asynccontextmanager
async def _watched(callers: Callers, way: str, job_id: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """The jobs of a watch, message by message to the end of the stream."""
    if way == "rest":
        path = f"/api/v1/admin/replays/{job_id}:watch"
        async with callers.client.stream("GET", path, headers=admin(callers)) as response:
            assert response.status_code == 200

            async def by_rest() -> AsyncIterator[dict[str, Any]]:
                async for line in response.aiter_lines():
                    yield json.loads(line)["job"]

            yield by_rest()
        return
    stub = admin_service_pb2_grpc.AdminServiceStub(callers.channel)
    request = admin_service_pb2.WatchReplayRequest(job_id=job_id)
    call: Any = stub.WatchReplay(request, metadata=tuple(admin(callers).items()), timeout=30)

    async def by_grpc() -> AsyncIterator[dict[str, Any]]:
        async for message in call:
            yield as_json(message)["job"]

    yield by_grpc()
    call.cancel()


async def _next(watch: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    return await anext(watch)


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize("mode", ["catch_up", "rebuild", "verify"])
async def test_a_watch_shows_each_change_and_ends_after_the_final_state(
    callers: Callers, database_url: str, way: str, mode: str
) -> None:
    await append(callers, whole_trace("trace", 20))
    await until_projected(callers)
    async with contextlib.AsyncExitStack() as held:
        await held.enter_async_context(jobs_held(database_url, callers.tenant.tenant_id))
        job = await start(callers, mode=mode)
        async with asyncio.timeout(20), _watched(callers, way, job["job_id"]) as watch:
            shown = [await anext(watch)]
            await held.aclose()
            shown += [one async for one in watch]
    assert {one["job_id"] for one in shown} == {job["job_id"]}
    assert all(before != after for before, after in itertools.pairwise(shown)), "a message without news"
    assert [one["status"] in _FINAL for one in shown] == [False] * (len(shown) - 1) + [True]
    done = [int(one["progress"]["done_events"]) for one in shown]
    assert done == sorted(done)
    assert shown[-1] == (await ask(callers, "GetReplay", {"job_id": job["job_id"]})).body["job"]


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_watch_says_nothing_while_nothing_changes(callers: Callers, database_url: str, way: str) -> None:
    async with jobs_held(database_url, callers.tenant.tenant_id):
        job = await start(callers)
        await until_in(callers, job, "running")
        async with asyncio.timeout(20), _watched(callers, way, job["job_id"]) as watch:
            assert (await anext(watch))["status"] == "running"
            # A change that nobody made would be seen at the next look, half a second later.
            following = asyncio.create_task(_next(watch))
            await asyncio.sleep(1.5)
            assert not following.done(), "the job stands still"
            await callers.call("grpc", "CancelReplay", _about("CancelReplay", job["job_id"]))
            assert (await following)["status"] == "cancelled"


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_watch_of_a_job_that_has_ended_is_its_final_state_alone(callers: Callers, way: str) -> None:
    job = await ended(callers, await start(callers))
    async with asyncio.timeout(10), _watched(callers, way, job["job_id"]) as watch:
        assert [one async for one in watch] == [job]


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_watch_ends_when_the_job_is_cancelled(callers: Callers, database_url: str, way: str) -> None:
    async with jobs_held(database_url, callers.tenant.tenant_id):
        job = await start(callers)
        async with asyncio.timeout(10), _watched(callers, way, job["job_id"]) as watch:
            await anext(watch)
            await callers.call("grpc", "CancelReplay", _about("CancelReplay", job["job_id"]))
            assert [one async for one in watch][-1]["status"] == "cancelled"


async def _some_jobs(callers: Callers) -> list[str]:
    """The ids of five ended jobs, oldest first."""
    found = []
    for projection, mode in (
        ("trace_summary", "catch_up"),
        ("context_graph", "verify"),
        ("all", "rebuild"),
        ("trace_summary", "verify"),
        ("all", "catch_up"),
    ):
        job = await start(callers, projection=projection, mode=mode)
        await ended(callers, job)
        found.append(str(job["job_id"]))
    return found


def _ids(body: dict[str, Any]) -> list[str]:
    return [job["job_id"] for job in body["jobs"]]


async def test_jobs_are_listed_newest_first_as_they_are_read_one_by_one(callers: Callers) -> None:
    jobs = await _some_jobs(callers)
    body = (await ask(callers, "ListReplays", {})).body
    assert _ids(body) == jobs[::-1]
    assert "next_page_token" not in body
    for job in body["jobs"]:
        assert (await ask(callers, "GetReplay", {"job_id": job["job_id"]})).body["job"] == job


async def test_a_tenant_without_jobs_has_an_empty_list(callers: Callers) -> None:
    assert (await ask(callers, "ListReplays", {})).body == {"jobs": []}


async def test_filters_keep_the_jobs_of_a_projection_and_of_a_state(callers: Callers, database_url: str) -> None:
    first, second, third, fourth, fifth = await _some_jobs(callers)
    async with jobs_held(database_url, callers.tenant.tenant_id):
        active = await start(callers, projection="context_graph")
        await callers.call("grpc", "CancelReplay", _about("CancelReplay", active["job_id"]))
        last = await start(callers, projection="context_graph")
        await until_in(callers, last, "running")
        for request, expected in (
            ({"projection": "all"}, [fifth, third]),
            ({"status": "completed"}, [fifth, fourth, third, second, first]),
            ({"status": "cancelled"}, [active["job_id"]]),
            ({"status": "running"}, [last["job_id"]]),
            ({"status": "failed"}, []),
            ({"projection": "all", "status": "cancelled"}, []),
        ):
            assert _ids((await ask(callers, "ListReplays", request)).body) == expected, request
        of_summary = _ids((await ask(callers, "ListReplays", {"projection": "trace_summary"})).body)
        assert {fourth, first} <= set(of_summary)
        assert not {second, active["job_id"], last["job_id"]} & set(of_summary)
    await ended(callers, last)


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize("page_size", [1, 2, 5])
async def test_pages_add_up_to_the_whole_list(callers: Callers, way: str, page_size: int) -> None:
    jobs = await _some_jobs(callers)
    collected: list[str] = []
    request: dict[str, Any] = {"page_size": page_size}
    for _ in range(6):
        page = await callers.call(way, "ListReplays", request)
        assert len(page.body["jobs"]) <= page_size
        collected += _ids(page.body)
        if "next_page_token" not in page.body:
            break
        request["page_token"] = page.body["next_page_token"]
    assert collected == jobs[::-1], "a gap or a double at the seam of two pages"


async def test_a_token_of_another_request_is_refused(callers: Callers, service: Service, database: Database) -> None:
    await _some_jobs(callers)
    token = (await ask(callers, "ListReplays", {"status": "completed", "page_size": 2})).body["next_page_token"]
    for request in (
        {"page_token": token},
        {"status": "failed", "page_token": token},
        {"status": "completed", "projection": "all", "page_token": token},
        {"status": "completed", "page_token": token[:-2]},
        {"status": "completed", "page_token": "nonsense"},
    ):
        answer = await ask(callers, "ListReplays", request)
        assert_refused(answer, "INVALID_ARGUMENT")
        assert answer.fields == ["page_token"], request
    other = TenantId(f"{callers.tenant.tenant_id}-other")
    await tenancy.create_tenant(database, other, clock=server.clock_micros)
    foreign = service.token(tenant_ids=[other], roles=["admin"])
    answer = await ask(callers, "ListReplays", {"status": "completed", "page_token": token}, token=foreign)
    assert_refused(answer, "INVALID_ARGUMENT")
    assert (await ask(callers, "ListReplays", {"status": "completed", "page_size": 5, "page_token": token})).ok


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"page_size": 0}, "page_size"),
        ({"page_size": 1_001}, "page_size"),
        ({"projection": "nothing"}, "projection"),
        ({"status": "active"}, "status"),
    ],
    ids=str,
)
async def test_a_list_that_makes_no_sense_is_refused_and_named(
    callers: Callers, request_: dict[str, Any], field: str
) -> None:
    answer = await ask(callers, "ListReplays", request_)
    assert_refused(answer, "INVALID_ARGUMENT")
    assert answer.fields == [field]
