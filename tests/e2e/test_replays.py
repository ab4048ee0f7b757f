"""Replay jobs as their callers see them: started, read, watched, listed and cancelled, over REST as over gRPC.

What jobs do to the rows is the matter of tests that step a runner themselves; here they are told by what is answered.
"""

import math
from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg
import pytest
from google.protobuf import struct_pb2
from tests.calling import BOTH_WAYS, Callers, Service
from tests.golden_files import SCENARIOS
from tests.jobs import (
    TIME,
    admin,
    append,
    ask,
    assert_refused,
    ended,
    health,
    keep_projector_out,
    start,
    until_projected,
)
from tests.logs import Connection

from decisiongraph.v1 import admin_service_pb2
from decisiongraph_service.domain import vocabulary

MODES: Final = ("catch_up", "rebuild", "verify")
TARGETS: Final = (*vocabulary.PROJECTIONS, "all")


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def log(callers: Callers) -> list[dict[str, Any]]:
    """The three events of a golden scenario, appended and projected."""
    events: list[dict[str, Any]] = SCENARIOS["loan"]["events"]
    await append(callers, events)
    await until_projected(callers)
    return events


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize("projection", TARGETS)
@pytest.mark.parametrize("mode", MODES)
async def test_a_job_of_every_mode_and_projection_completes_and_tells_what_it_did(
    callers: Callers, log: list[dict[str, Any]], way: str, mode: str, projection: str
) -> None:
    started = await start(callers, way, mode=mode, projection=projection)
    await ended(callers, started)
    job = (await ask(callers, "GetReplay", {"job_id": started["job_id"]})).body["job"]
    targets = vocabulary.PROJECTIONS if projection == "all" else (projection,)
    done = 0 if mode == "catch_up" else len(log) * len(targets)  # the projector left nothing to catch up with
    digests = SCENARIOS["loan"]["expected"]["digests"]
    times = [job.pop(name) for name in ("requested_at", "started_at", "finished_at")]
    assert all(TIME.fullmatch(time) for time in times)
    assert times == sorted(times)
    assert job.pop("progress").pop("events_per_second") >= 0
    job["verify_results"].sort(key=lambda result: targets.index(result["projection"]))
    assert job == {
        "job_id": started["job_id"],
        "tenant_id": callers.tenant.tenant_id,
        "projection": projection,
        "mode": mode,
        "status": "completed",
        "since_log_seq": "0",
        "processed_events": str(done),
        "last_log_seq": str(len(log) if done else 0),
        "metadata": {},
        "reason": "to see",
        "requested_by": "test-admin",
        "verify_results": [
            {
                "projection": target,
                "matches": True,
                "log_seq": str(len(log)),
                "live_digest": digests[target],
                "expected_digest": digests[target],
            }
            for target in targets
            if mode == "verify"
        ],
    }


async def test_the_results_of_all_projections_come_in_their_order(callers: Callers) -> None:
    job = await ended(callers, await start(callers, mode="verify"))
    assert [result["projection"] for result in job["verify_results"]] == list(vocabulary.PROJECTIONS)


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize("mode", MODES)
async def test_progress_ends_with_everything_done(
    callers: Callers, log: list[dict[str, Any]], way: str, mode: str
) -> None:
    job = await ended(callers, await start(callers, way, mode=mode))
    done = "0" if mode == "catch_up" else str(3 * len(log))
    progress = job["progress"]
    assert (progress["done_events"], progress["total_events"]) == (done, done)
    assert "seconds_left" not in progress, "nothing is left of a job that has ended"


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_new_job_is_queued_and_has_neither_begun_nor_ended(callers: Callers, way: str) -> None:
    job = await start(callers, way)
    assert job["status"] == "queued"
    assert not {"started_at", "finished_at", "error_code", "error_message", "until_log_seq"} & set(job)
    assert job["progress"] == {"done_events": "0", "total_events": "0", "events_per_second": 0}


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_what_was_asked_for_comes_back_with_the_job(callers: Callers, way: str) -> None:
    asked: dict[str, Any] = {
        "reason": "  Prüfung 審査 \n",
        "since_log_seq": 2**53 + 1,
        "until_log_seq": 2**63 - 1,
        "metadata": {"ticket": "OPS-1", "n": -7, "half": 0.5, "b": [True, None, {}, []], "": {"ü": "\x00"}},
    }
    started = await start(callers, way, **asked)
    await ended(callers, started)
    job = (await ask(callers, "GetReplay", {"job_id": started["job_id"]})).body["job"]
    for one in (started, job):
        assert {name: one[name] for name in asked} == {
            **asked,
            "since_log_seq": "9007199254740993",
            "until_log_seq": "9223372036854775807",
        }


async def test_both_ways_make_the_same_job(callers: Callers, log: list[dict[str, Any]]) -> None:
    jobs = [await ended(callers, await start(callers, way, mode="rebuild", metadata={"a": 1})) for way in BOTH_WAYS]
    for job in jobs:
        assert job.pop("job_id")
        for name in ("requested_at", "started_at", "finished_at", "progress"):
            job.pop(name)
    assert jobs[0] == jobs[1]


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_catch_up_applies_what_is_missing_up_to_the_position_that_it_is_given(
    callers: Callers, owner: Connection, way: str
) -> None:
    await keep_projector_out(owner, callers)
    await append(callers, SCENARIOS["loan"]["events"])
    partial = await ended(callers, await start(callers, way, until_log_seq=2))
    assert (partial["status"], partial["processed_events"], partial["last_log_seq"]) == ("completed", "6", "2")
    assert {one["log_seq"] for one in (await health(callers)).values()} == {"2"}
    rest = await ended(callers, await start(callers, way, projection="trace_summary"))
    assert (rest["processed_events"], rest["last_log_seq"]) == ("1", "3")
    assert {name: one["log_seq"] for name, one in (await health(callers)).items()} == {
        "context_graph": "2",
        "trace_summary": "3",
        "precedent_index": "2",
    }


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_verification_names_the_first_row_that_differs(
    callers: Callers, log: list[dict[str, Any]], owner: Connection, way: str
) -> None:
    await owner.execute("UPDATE trace_summaries SET title = 'x' WHERE tenant_id = $1", callers.tenant.tenant_id)
    started = await start(callers, way, mode="verify")
    assert (await ended(callers, started))["status"] == "completed"
    job = (await ask(callers, "GetReplay", {"job_id": started["job_id"]})).body["job"]
    results = {result["projection"]: result for result in job["verify_results"]}
    assert [name for name in vocabulary.PROJECTIONS if not results[name]["matches"]] == ["trace_summary"]
    summary = results["trace_summary"]
    assert summary["first_difference"] == log[0]["trace_id"]
    assert summary["expected_digest"] == SCENARIOS["loan"]["expected"]["digests"]["trace_summary"]
    assert summary["live_digest"] not in ("", summary["expected_digest"])


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize("mode", ["rebuild", "verify"])
async def test_a_job_that_meets_a_damaged_event_fails_and_says_which(
    callers: Callers, log: list[dict[str, Any]], owner: Connection, way: str, mode: str
) -> None:
    await owner.execute(
        "UPDATE events SET payload = payload || ' ' WHERE tenant_id = $1 AND log_seq = 2", callers.tenant.tenant_id
    )
    started = await start(callers, way, mode=mode)
    assert (await ended(callers, started))["status"] == "failed"
    job = (await ask(callers, "GetReplay", {"job_id": started["job_id"]})).body["job"]
    assert job["error_code"] == "conflict"
    assert "ev-002" in job["error_message"]
    assert "position 2" in job["error_message"]
    assert TIME.fullmatch(job["finished_at"])
    assert job["verify_results"] == []
    live = await health(callers)
    assert {(one["generation"], one["log_seq"], one["state"]) for one in live.values()} == {("1", "3", "current")}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"reason": ""}, "reason"),
        ({"reason": " \t\n"}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"reason": "a\x00b"}, "reason"),
        ({"projection": ""}, "projection"),
        ({"projection": "policy_evaluations"}, "projection"),
        ({"projection": "ALL"}, "projection"),
        ({"mode": ""}, "mode"),
        ({"mode": "reset"}, "mode"),
        ({"since_log_seq": -1}, "since_log_seq"),
        ({"until_log_seq": -1}, "until_log_seq"),
        ({"metadata": {"a": "x" * (8192 - 7)}}, "metadata"),
        ({"metadata": {"a": "ü" * 4096}}, "metadata"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_request_that_makes_no_sense_is_refused_and_named(
    callers: Callers, changes: dict[str, Any], field: str
) -> None:
    request = {"projection": "all", "mode": "verify", "reason": "to see", **changes}
    answer = await ask(callers, "StartReplay", request)
    assert_refused(answer, "INVALID_ARGUMENT")
    assert answer.fields == [field]
    assert (await ask(callers, "ListReplays", {})).body["jobs"] == [], "a refused job is no job"


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_metadata_may_fill_its_limit(callers: Callers, way: str) -> None:
    metadata = {"a": "x" * (8192 - 8)}
    assert (await start(callers, way, metadata=metadata))["metadata"] == metadata


async def test_a_metadata_value_without_a_kind_is_refused(callers: Callers) -> None:
    request = admin_service_pb2.StartReplayRequest(projection="all", mode="verify", reason="to see")
    request.metadata.fields["nothing"].CopyFrom(struct_pb2.Value())
    answer = await callers.by_grpc_bytes("StartReplay", request.SerializeToString(), admin(callers))
    assert_refused(answer, "INVALID_ARGUMENT")
    assert answer.fields == ["metadata"]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
async def test_a_metadata_number_that_is_not_json_is_refused(callers: Callers, number: float) -> None:
    request = admin_service_pb2.StartReplayRequest(projection="all", mode="verify", reason="to see")
    request.metadata.fields["n"].number_value = number
    answer = await callers.by_grpc_bytes("StartReplay", request.SerializeToString(), admin(callers))
    assert not answer.ok, "what comes back is not what was sent"
    assert (answer.reason, answer.fields) == ("INVALID_ARGUMENT", ["metadata"])


async def test_a_tenant_that_does_not_exist_gets_no_job(callers: Callers, service: Service) -> None:
    token = service.token(tenant_ids=[f"{callers.tenant.tenant_id}-never"], roles=["admin"])
    request = {"projection": "all", "mode": "verify", "reason": "to see"}
    assert_refused(await ask(callers, "StartReplay", request, token=token), "NOT_FOUND")
    assert (await ask(callers, "ListReplays", {}, token=token)).body["jobs"] == []
