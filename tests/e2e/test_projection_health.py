"""GetProjectionHealth, ListProjectionFailures and RetryProjection: what operators see of projections, over both ways.

Projections are held up through the rows that their writers lock, and events are damaged as the database's owner.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import asyncpg
import pytest
from tests.calling import BOTH_WAYS, Answer, Callers, Service
from tests.golden_files import SCENARIOS
from tests.jobs import (
    TIME,
    append,
    ask,
    assert_refused,
    damage,
    ended,
    health,
    jobs_held,
    start,
    until_in,
    until_projected,
)
from tests.logs import Connection
from tests.traces import whole_trace

from decisiongraph_service.domain import vocabulary

_LAST_FIRST: Final = sorted(vocabulary.PROJECTIONS, reverse=True)
_DAMAGED: Final = 5
"""Log position of the event that the tests of failures damage; the log has eight."""


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@contextlib.asynccontextmanager
async def projections_held(owner: Connection, callers: Callers) -> AsyncIterator[None]:
    """No live projection of the tenant moves inside this block: who writes one must lock its row."""
    async with owner.transaction():
        await owner.execute(
            "SELECT FROM projection_generations WHERE tenant_id = $1 FOR UPDATE", callers.tenant.tenant_id
        )
        yield


async def _until(callers: Callers, field: str, value: str | int, *projections: str) -> None:
    """Return when the health of these projections says so."""
    async with asyncio.timeout(15):
        while True:
            found = await health(callers)
            if all(found[name][field] == value for name in projections):
                return
            await asyncio.sleep(0.02)


async def _repair(owner: Connection, callers: Callers) -> None:
    await owner.execute(
        "UPDATE events SET payload = rtrim(payload) WHERE tenant_id = $1 AND log_seq = $2",
        callers.tenant.tenant_id,
        _DAMAGED,
    )


@pytest.fixture
async def stopped(callers: Callers, owner: Connection) -> None:
    """All projections stand before a damaged event."""
    await damage(owner, callers, [*whole_trace("whole", 3), *whole_trace("broken", 3)], _DAMAGED)
    await _until(callers, "open_failures", 1, *vocabulary.PROJECTIONS)


async def _retry(callers: Callers, way: str, projection: str) -> Answer:
    return await callers.call(way, "RetryProjection", {"projection": projection, "reason": "repaired"})


def _digests(body: Mapping[str, Any]) -> dict[str, str]:
    digests = {one["projection"]: one["digest"] for one in body["projections"] if "digest" in one}
    return {**digests, **({"full_projection": body["full_digest"]} if "full_digest" in body else {})}


async def test_an_empty_tenant_is_current_at_the_beginning(callers: Callers) -> None:
    assert (await ask(callers, "GetProjectionHealth", {})).body == {
        "head_log_seq": "0",
        "event_count": "0",
        "trace_count": "0",
        "projections": [
            {
                "projection": name,
                "log_seq": "0",
                "lag_events": "0",
                "lag_seconds": 0,
                "state": "current",
                "generation": "1",
                "open_failures": 0,
            }
            for name in vocabulary.PROJECTIONS
        ],
    }


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_after_a_fresh_read_nothing_lags(callers: Callers, way: str) -> None:
    await append(callers, [*whole_trace("one", 3), *whole_trace("two", 4)[:2]])
    assert (await callers.call(way, "GetTrace", {"trace_id": "two"})).ok
    body = (await ask(callers, "GetProjectionHealth", {})).body
    assert (body["head_log_seq"], body["event_count"], body["trace_count"]) == ("5", "5", "2")
    for one in body["projections"]:
        assert TIME.fullmatch(one.pop("moved_at"))
        assert one.pop("projection") in vocabulary.PROJECTIONS
        assert one == {
            "log_seq": "5",
            "lag_events": "0",
            "lag_seconds": 0,
            "state": "current",
            "generation": "1",
            "open_failures": 0,
        }


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_projection_that_lags_says_by_how_much(callers: Callers, owner: Connection, way: str) -> None:
    await append(callers, whole_trace("before", 2))
    await until_projected(callers)
    async with projections_held(owner, callers):
        await append(callers, [*whole_trace("one", 3), *whole_trace("two", 2)])
        await asyncio.sleep(0.2)  # so that there is an age to tell
        body = (await callers.call(way, "GetProjectionHealth", {})).body
    assert (body["head_log_seq"], body["event_count"]) == ("7", "7")
    assert body["trace_count"] == "3", "traces that no projection knows yet are traces of the log"
    for one in body["projections"]:
        assert (one["state"], one["log_seq"], one["lag_events"]) == ("catching_up", "2", "5")
        assert 0.2 <= one["lag_seconds"] < 10
    await until_projected(callers)


async def test_a_projection_moves_with_the_log(callers: Callers) -> None:
    moved = []
    for name in ("one", "two"):
        await append(callers, whole_trace(name, 2))
        await until_projected(callers)
        moved.append({one["moved_at"] for one in (await health(callers)).values()})
    assert max(moved[0]) < min(moved[1])


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("mode", ["catch_up", "rebuild"])
async def test_after_a_job_the_digests_are_those_of_the_scenario(callers: Callers, name: str, mode: str) -> None:
    scenario = SCENARIOS[name]
    await append(callers, scenario["events"])
    await ended(callers, await start(callers, mode=mode))
    body = (await ask(callers, "GetProjectionHealth", {})).body
    assert _digests(body) == scenario["expected"]["digests"]
    assert {one["digest_log_seq"] for one in body["projections"]} == {str(len(scenario["events"]))}
    assert body["trace_count"] == str(len({event["trace_id"] for event in scenario["events"]}))


async def test_a_digest_keeps_its_position_while_the_log_goes_on(callers: Callers) -> None:
    await append(callers, SCENARIOS["loan"]["events"])
    await ended(callers, await start(callers))
    await append(callers, whole_trace("later", 2))
    await until_projected(callers)
    body = (await ask(callers, "GetProjectionHealth", {})).body
    assert {(one["log_seq"], one["digest_log_seq"]) for one in body["projections"]} == {("5", "3")}
    assert _digests(body) == SCENARIOS["loan"]["expected"]["digests"]


async def test_digests_of_different_positions_are_not_combined(callers: Callers) -> None:
    await append(callers, SCENARIOS["loan"]["events"])
    await ended(callers, await start(callers))
    await append(callers, whole_trace("later", 2))
    await ended(callers, await start(callers, projection="trace_summary"))
    await until_projected(callers)
    body = (await ask(callers, "GetProjectionHealth", {})).body
    positions = {one["projection"]: one["digest_log_seq"] for one in body["projections"]}
    assert positions == {"context_graph": "3", "trace_summary": "5", "precedent_index": "3"}
    assert "full_digest" not in body


async def test_a_job_of_one_projection_makes_its_digest_alone(callers: Callers) -> None:
    await append(callers, SCENARIOS["loan"]["events"])
    await ended(callers, await start(callers, projection="context_graph"))
    await until_projected(callers)
    expected = SCENARIOS["loan"]["expected"]["digests"]["context_graph"]
    assert _digests((await ask(callers, "GetProjectionHealth", {})).body) == {"context_graph": expected}


@pytest.mark.parametrize(
    ("projection", "raised"), [("all", vocabulary.PROJECTIONS), ("trace_summary", ["trace_summary"])]
)
async def test_a_rebuild_raises_the_generation_and_a_verification_does_not(
    callers: Callers, projection: str, raised: list[str]
) -> None:
    await append(callers, whole_trace("trace", 3))
    await until_projected(callers)
    # The number of the verification's generation is free again once that is removed, which a task does in its own time.
    for mode, generations in (("rebuild", {"2"}), ("verify", {"2"}), ("rebuild", {"3", "4"})):
        assert (await ended(callers, await start(callers, projection=projection, mode=mode)))["status"] == "completed"
        health = (await ask(callers, "GetProjectionHealth", {})).body["projections"]
        found = {one["projection"]: one["generation"] for one in health}
        assert found.keys() == set(vocabulary.PROJECTIONS)
        for name, generation in found.items():
            assert generation in (generations if name in raised else {"1"}), f"{name} after {mode}: {found}"


async def test_the_digest_of_an_older_generation_is_not_shown(callers: Callers, database_url: str) -> None:
    await append(callers, SCENARIOS["loan"]["events"])
    await ended(callers, await start(callers))
    async with jobs_held(database_url, callers.tenant.tenant_id):
        job = await start(callers, projection="trace_summary", mode="rebuild")
        # The job is held after it has switched readers over, and before it knows the digest of what they see.
        await _until(callers, "generation", "2", "trace_summary")
        known = _digests((await ask(callers, "GetProjectionHealth", {})).body)
        assert set(known) == {"context_graph", "precedent_index"}
    await ended(callers, job)
    assert _digests((await ask(callers, "GetProjectionHealth", {})).body) == SCENARIOS["loan"]["expected"]["digests"]


@pytest.mark.parametrize("projection", ["all", "precedent_index"])
@pytest.mark.parametrize("mode", ["catch_up", "rebuild", "verify"])
async def test_a_projection_names_the_job_that_works_on_it(
    callers: Callers, database_url: str, mode: str, projection: str
) -> None:
    async with jobs_held(database_url, callers.tenant.tenant_id):
        job = await start(callers, projection=projection, mode=mode)
        await until_in(callers, job, "running")
        for way in BOTH_WAYS:
            found = (await callers.call(way, "GetProjectionHealth", {})).body["projections"]
            at_work = {one["projection"]: one["running_job_id"] for one in found if "running_job_id" in one}
            targets = vocabulary.PROJECTIONS if projection == "all" else (projection,)
            assert at_work == dict.fromkeys(targets, job["job_id"])
    await ended(callers, job)
    assert not any("running_job_id" in one for one in (await health(callers)).values())


async def test_the_health_of_a_tenant_that_does_not_exist_is_not_found(callers: Callers, service: Service) -> None:
    token = service.token(tenant_ids=["no-such-tenant"], roles=["reader"])
    assert_refused(await ask(callers, "GetProjectionHealth", {}, token=token), "NOT_FOUND")


async def test_a_damaged_event_stops_the_projections_before_it(callers: Callers, stopped: None) -> None:
    for way in BOTH_WAYS:
        body = (await callers.call(way, "GetProjectionHealth", {})).body
        assert body["head_log_seq"] == "8"
        for one in body["projections"]:
            assert (one["state"], one["log_seq"], one["lag_events"]) == ("failed", "4", "4")
            assert one["open_failures"] == 1
            assert one["lag_seconds"] > 0


async def test_each_stopped_projection_has_its_failure_on_record(callers: Callers, stopped: None) -> None:
    body = (await ask(callers, "ListProjectionFailures", {})).body
    assert "next_page_token" not in body
    stored = (await callers.call("grpc", "ListEvents", {"since_log_seq": _DAMAGED - 1})).body["events"][0]
    for failure in body["failures"]:
        assert TIME.fullmatch(failure.pop("failed_at"))
        message = failure.pop("message")
        assert stored["event_id"] in message
        assert "payload_hash" in message
    assert body["failures"] == [
        {
            "projection": name,
            "log_seq": str(_DAMAGED),
            "trace_id": "broken",
            "event_id": stored["event_id"],
            "category": "conflict",
            "recoverable": False,
            "retry_count": 0,
        }
        for name in _LAST_FIRST
    ]


async def test_failures_are_filtered_by_projection(callers: Callers, stopped: None) -> None:
    for name in vocabulary.PROJECTIONS:
        body = (await ask(callers, "ListProjectionFailures", {"projection": name})).body
        assert [failure["projection"] for failure in body["failures"]] == [name]


async def test_a_tenant_without_failures_has_an_empty_list(callers: Callers) -> None:
    for request in ({}, {"include_resolved": True}):
        assert (await ask(callers, "ListProjectionFailures", request)).body == {"failures": []}


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize("page_size", [1, 2, 3])
async def test_pages_of_failures_add_up_to_the_whole_list(
    callers: Callers, stopped: None, way: str, page_size: int
) -> None:
    collected: list[str] = []
    request: dict[str, Any] = {"page_size": page_size}
    for _ in range(4):
        page = await callers.call(way, "ListProjectionFailures", request)
        assert len(page.body["failures"]) <= page_size
        collected += [failure["projection"] for failure in page.body["failures"]]
        if "next_page_token" not in page.body:
            break
        request["page_token"] = page.body["next_page_token"]
    assert collected == _LAST_FIRST


async def test_a_token_of_another_list_of_failures_is_refused(callers: Callers, stopped: None) -> None:
    token = (await ask(callers, "ListProjectionFailures", {"page_size": 1})).body["next_page_token"]
    for request in (
        {"include_resolved": True, "page_token": token},
        {"projection": "trace_summary", "page_token": token},
        {"page_token": token[:-2]},
    ):
        answer = await ask(callers, "ListProjectionFailures", request)
        assert_refused(answer, "INVALID_ARGUMENT")
        assert answer.fields == ["page_token"], request
    assert_refused(await ask(callers, "ListReplays", {"page_token": token}), "INVALID_ARGUMENT")
    assert (await ask(callers, "ListProjectionFailures", {"page_token": token})).ok


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_after_the_repair_a_retry_goes_on_and_resolves_the_failure(
    callers: Callers, owner: Connection, stopped: None, way: str
) -> None:
    await _repair(owner, callers)
    for name in vocabulary.PROJECTIONS:
        answer = await _retry(callers, way, name)
        assert answer.ok, answer.body
        told = answer.body["projection"]
        assert (told["projection"], told["state"] != "failed") == (name, True), "it is no longer stopped"
    await until_projected(callers)
    assert {(one["log_seq"], one["open_failures"]) for one in (await health(callers)).values()} == {("8", 0)}
    assert (await ask(callers, "ListProjectionFailures", {})).body == {"failures": []}
    resolved = (await ask(callers, "ListProjectionFailures", {"include_resolved": True})).body["failures"]
    assert [failure["projection"] for failure in resolved] == _LAST_FIRST
    assert all(TIME.fullmatch(one["resolved_at"]) and one["failed_at"] < one["resolved_at"] for one in resolved)


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_retry_lets_its_projection_go_on_and_no_other(
    callers: Callers, owner: Connection, stopped: None, way: str
) -> None:
    await _repair(owner, callers)
    assert (await _retry(callers, way, "trace_summary")).ok
    await _until(callers, "state", "current", "trace_summary")
    states = {name: one["state"] for name, one in (await health(callers)).items()}
    assert states == {"context_graph": "failed", "trace_summary": "current", "precedent_index": "failed"}
    open_now = (await ask(callers, "ListProjectionFailures", {})).body["failures"]
    assert [failure["projection"] for failure in open_now] == ["precedent_index", "context_graph"]


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_retry_without_a_repair_fails_again_and_is_counted(callers: Callers, stopped: None, way: str) -> None:
    request = {"projection": "context_graph"}
    before = (await ask(callers, "ListProjectionFailures", request)).body["failures"]
    for times in (1, 2):
        assert (await _retry(callers, way, "context_graph")).ok
        await _until(callers, "state", "failed", *vocabulary.PROJECTIONS)
        after = (await ask(callers, "ListProjectionFailures", request)).body["failures"]
        assert after == [{**before[0], "retry_count": times}]


@pytest.mark.parametrize("projection", vocabulary.PROJECTIONS)
async def test_a_retry_of_a_projection_that_goes_on_changes_nothing(callers: Callers, projection: str) -> None:
    await append(callers, whole_trace("trace", 3))
    await until_projected(callers)
    answer = await ask(callers, "RetryProjection", {"projection": projection, "reason": "to see"})
    assert answer.body["projection"] == (await health(callers))[projection]


@pytest.mark.parametrize(
    ("rpc", "request_", "field"),
    [
        ("RetryProjection", {"projection": "trace_summary", "reason": " "}, "reason"),
        ("RetryProjection", {"projection": "trace_summary", "reason": "x" * 501}, "reason"),
        ("RetryProjection", {"projection": "all", "reason": "to see"}, "projection"),
        ("ListProjectionFailures", {"projection": "all"}, "projection"),
        ("ListProjectionFailures", {"page_size": 0}, "page_size"),
        ("ListProjectionFailures", {"page_size": 1_001}, "page_size"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_request_that_makes_no_sense_is_refused_and_named(
    callers: Callers, rpc: str, request_: dict[str, Any], field: str
) -> None:
    answer = await ask(callers, rpc, request_)
    assert_refused(answer, "INVALID_ARGUMENT")
    assert answer.fields == [field]
