"""Who may have to do with which replay jobs: permission by mode, the role, and the switch that forbids rebuilds."""

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from tests.another_server import another_server, callers_of
from tests.calling import BOTH_WAYS, Callers, Service
from tests.jobs import ask, assert_refused, ended, health, jobs_held, start

_REPLAY: Final = ("projection_replay",)
_REBUILD: Final = ("projection_rebuild",)
_OTHERS: Final = ("audit_read", "access_manage")
_OF: Final = {"catch_up": _REPLAY, "verify": _REPLAY, "rebuild": _REBUILD}
_OF_OTHERS: Final = {mode: _REBUILD if permissions == _REPLAY else _REPLAY for mode, permissions in _OF.items()}
_CALLS: Final[dict[str, dict[str, str]]] = {
    "StartReplay": {"projection": "all", "mode": "verify", "reason": "to see"},
    "GetReplay": {"job_id": "job-1"},
    "WatchReplay": {"job_id": "job-1"},
    "CancelReplay": {"job_id": "job-1", "reason": "to see"},
    "ListReplays": {},
    "ListProjectionFailures": {},
    "RetryProjection": {"projection": "trace_summary", "reason": "to see"},
}


def _token(callers: Callers, service: Service, *permissions: str) -> str:
    """Of an administrator with these permissions and no others."""
    return service.token(tenant_ids=[callers.tenant.tenant_id], roles=["admin"], permissions=permissions)


def _about(rpc: str, job: dict[str, Any]) -> dict[str, Any]:
    return {**_CALLS[rpc], "job_id": job["job_id"]}


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize("mode", _OF)
async def test_the_permission_of_its_mode_starts_reads_and_cancels_a_job(
    callers: Callers, service: Service, database_url: str, way: str, mode: str
) -> None:
    token = _token(callers, service, *_OF[mode])
    async with jobs_held(database_url, callers.tenant.tenant_id):
        job = await start(callers, way, mode=mode, token=token)
        for rpc in ("GetReplay", "CancelReplay", "WatchReplay"):
            answer = await callers.call(way, rpc, _about(rpc, job), token=token)
            assert answer.ok, f"{rpc}: {answer.body}"
    assert (await ended(callers, job))["status"] == "cancelled"


@pytest.mark.parametrize("mode", _OF)
async def test_the_permission_of_another_mode_starts_no_job(callers: Callers, service: Service, mode: str) -> None:
    token = _token(callers, service, *_OF_OTHERS[mode], *_OTHERS)
    answer = await ask(callers, "StartReplay", {**_CALLS["StartReplay"], "mode": mode}, token=token)
    assert_refused(answer, "FORBIDDEN")
    assert _OF[mode][0] in answer.body["message"], "the message names what is missing"
    assert (await ask(callers, "ListReplays", {})).body["jobs"] == []


@pytest.mark.parametrize("mode", _OF)
@pytest.mark.parametrize("rpc", ["GetReplay", "WatchReplay", "CancelReplay"])
async def test_the_permission_of_another_mode_opens_no_job(
    callers: Callers, service: Service, database_url: str, rpc: str, mode: str
) -> None:
    token = _token(callers, service, *_OF_OTHERS[mode], *_OTHERS)
    async with jobs_held(database_url, callers.tenant.tenant_id):
        job = await start(callers, mode=mode)
        answer = await ask(callers, rpc, _about(rpc, job), token=token)
        assert_refused(answer, "FORBIDDEN")
        assert _OF[mode][0] in answer.body["message"]
    assert (await ended(callers, job))["status"] == "completed"


@pytest.mark.parametrize(
    ("permissions", "modes"),
    [
        (_REPLAY, ["verify", "catch_up"]),
        (_REBUILD, ["rebuild"]),
        ((*_REPLAY, *_REBUILD), ["rebuild", "verify", "catch_up"]),
    ],
    ids=["replay", "rebuild", "both"],
)
async def test_a_list_shows_the_modes_that_the_caller_may_see(
    callers: Callers, service: Service, permissions: tuple[str, ...], modes: list[str]
) -> None:
    for mode in ("catch_up", "verify", "rebuild"):
        await ended(callers, await start(callers, mode=mode))
    token = _token(callers, service, *permissions)
    answer = await ask(callers, "ListReplays", {}, token=token)
    assert [job["mode"] for job in answer.body["jobs"]] == modes
    first = await ask(callers, "ListReplays", {"page_size": len(modes)}, token=token)
    assert "next_page_token" not in first.body, "a token would tell of jobs that are not shown"


@pytest.mark.parametrize("rpc", _CALLS)
@pytest.mark.parametrize("permissions", [(), _OTHERS], ids=["none", "others"])
async def test_an_administrator_without_either_permission_is_refused(
    callers: Callers, service: Service, permissions: tuple[str, ...], rpc: str
) -> None:
    assert_refused(await ask(callers, rpc, _CALLS[rpc], token=_token(callers, service, *permissions)), "FORBIDDEN")


@pytest.mark.parametrize("rpc", _CALLS)
async def test_permissions_without_the_role_are_refused(callers: Callers, service: Service, rpc: str) -> None:
    token = service.token(
        tenant_ids=[callers.tenant.tenant_id], roles=["reader", "writer"], permissions=[*_REPLAY, *_REBUILD]
    )
    assert_refused(await ask(callers, rpc, _CALLS[rpc], token=token), "FORBIDDEN")


@pytest.mark.parametrize("rpc", ["ListProjectionFailures", "RetryProjection"])
async def test_failures_and_retries_need_the_permission_to_replay(callers: Callers, service: Service, rpc: str) -> None:
    token = _token(callers, service, *_REBUILD, *_OTHERS)
    assert_refused(await ask(callers, rpc, _CALLS[rpc], token=token), "FORBIDDEN")
    assert (await ask(callers, rpc, _CALLS[rpc], token=_token(callers, service, *_REPLAY))).ok


@pytest.fixture(scope="module")
async def cautious(service: Service, database_url: str) -> AsyncIterator[Service]:
    """One more server on the same database, on which rebuilds are switched off."""
    async with another_server(service, database_url, DG_REBUILD_ENABLED="false") as server:
        yield server


@pytest.fixture
async def cautious_callers(cautious: Service, callers: Callers) -> AsyncIterator[Callers]:
    """Both ways to call that server, for the tenant of `callers`."""
    async with callers_of(cautious, callers.tenant) as both:
        yield both


async def test_where_rebuilds_are_switched_off_no_permission_helps(cautious_callers: Callers) -> None:
    answer = await ask(cautious_callers, "StartReplay", {**_CALLS["StartReplay"], "mode": "rebuild"})
    assert_refused(answer, "FORBIDDEN")
    assert "DG_REBUILD_ENABLED" in answer.body["message"], "the message names the switch"
    assert (await ask(cautious_callers, "ListReplays", {})).body["jobs"] == []
    assert {one["generation"] for one in (await health(cautious_callers)).values()} == {"1"}


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize("mode", ["catch_up", "verify"])
async def test_where_rebuilds_are_switched_off_the_other_modes_work(
    cautious_callers: Callers, way: str, mode: str
) -> None:
    job = await start(cautious_callers, way, mode=mode)
    assert (await ended(cautious_callers, job))["status"] == "completed"


async def test_a_rebuild_that_was_started_elsewhere_may_be_read_where_they_are_switched_off(
    callers: Callers, cautious_callers: Callers
) -> None:
    job = await ended(callers, await start(callers, mode="rebuild"))
    assert (await ask(cautious_callers, "GetReplay", {"job_id": job["job_id"]})).body["job"] == job
