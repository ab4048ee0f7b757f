"""Commands that ask: what a reader sees on the terminal and in JSON, in a log with one decision that cites another."""

import json
import signal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from tests import commands, traces
from tests.another_server import another_server
from tests.calling import Callers, Service, Tenant
from tests.commands import CommandLine, assert_failed

_HOSTILE = "x\x1b[31m\n<b>"


@pytest.fixture
async def command(service: Service, tenant: Tenant, callers: Callers) -> CommandLine:
    """In a tenant with two finished traces; the second cites the first, and its events have causes."""
    first = traces.whole_trace("first", 3)
    second = traces.whole_trace("second", 4)
    second[0]["payload"]["title"] = f"Second {_HOSTILE}"
    second[0]["event_id"] = "e-start"
    second[1] |= {
        "event_type": "PrecedentCited",
        "payload": {"cited_trace_id": "first", "reason": "same order"},
        "causation_event_id": "e-start",
    }
    answer = await callers.call("grpc", "AppendEvents", {"events": [*first, *second]})
    assert answer.ok, answer
    return commands.command_line(service, tenant)


# trace


def test_a_trace_is_a_tree_of_plain_lines_where_nobody_watches(command: CommandLine) -> None:
    shown = command.printed("trace", "show", "second", "--payloads")
    lines = [line for line in shown.splitlines() if line.startswith(("├─ ", "│  └─ ", "└─ "))]
    assert shown.splitlines()[0] == "second  refund  success  Second x\\x1b[31m\\n<b>"
    assert [line.split("  agent")[0] for line in lines] == [
        "├─ 0  2026-03-02T09:00:00Z  TraceStarted  refund: Second x\\x1b[31m\\n<b>, about order 1",
        "│  └─ 1  2026-03-02T09:01:00Z  PrecedentCited  cites first: same order",
        "├─ 2  2026-03-02T09:02:00Z  ActionCommitted  second-2: success",
        "└─ 3  2026-03-02T09:03:00Z  TraceFinished  success",
    ]
    assert '"cited_trace_id": "first"' in shown
    assert "\x1b" not in shown
    coloured = command.printed("trace", "show", "second", FORCE_COLOR="1")
    assert "\x1b[" in coloured
    assert "\x1b[31m\n" not in coloured
    narrow = command.printed("trace", "show", "second", PYTHONIOENCODING="ascii")
    assert "\\u251c\\u2500 0" in narrow


def test_a_trace_in_json_is_the_answer_of_the_contract(command: CommandLine) -> None:
    whole = command.json("trace", "show", "second")
    assert set(whole) == {"summary", "events", "position"}
    assert [event["trace_seq"] for event in whole["events"]] == ["0", "1", "2", "3"]
    assert whole["summary"]["event_count"] == "4"
    earlier = command.json("trace", "show", "second", "--as-of", "5")
    assert (len(earlier["events"]), earlier["summary"]["status"]) == (2, "open")
    assert_failed(command.run("trace", "show", "nowhere"), "NOT_FOUND", "nowhere")


async def test_a_trace_of_many_pages_is_shown_whole(command: CommandLine, callers: Callers) -> None:
    for begin in range(0, 1200, 600):
        events = [traces.event_of_trace("long", position) for position in range(begin, begin + 600)]
        assert (await callers.call("grpc", "AppendEvents", {"events": events})).ok
    whole = command.json("trace", "show", "long")
    assert [int(event["trace_seq"]) for event in whole["events"]] == list(range(1200))


def test_traces_are_listed_by_their_filters(command: CommandLine) -> None:
    assert [one["trace_id"] for one in command.json("trace", "list")] == ["second", "first"]
    assert [one["trace_id"] for one in command.json("trace", "list", "--limit", "1")] == ["second"]
    assert command.json("trace", "list", "--status", "open") == []
    table = command.printed("trace", "list", "--query", "first", "--entity-type", "order", "--entity-id", "1")
    assert [line.split()[0] for line in table.splitlines()] == ["trace_id", "first"]
    assert_failed(command.run("trace", "list", "--entity-id", "1"), "INVALID_ARGUMENT", "primary_entity_type")


# graph and precedents


def test_a_graph_is_drawn_in_every_format(command: CommandLine, tmp_path: Path) -> None:
    assert command.printed("graph", "trace", "second", "--depth", "1").splitlines()[0] == "trace second"
    assert command.printed("graph", "trace", "second", "--format", "dot").startswith("digraph decisiongraph {")
    assert command.printed("graph", "trace", "second", "--format", "mermaid").startswith("flowchart LR")
    file = tmp_path / "graph.svg"
    assert command.printed("graph", "trace", "second", "-o", str(file)) == ""
    assert ET.parse(file).getroot().tag.endswith("svg")  # noqa: S314 - our own
    found = command.json("graph", "trace", "second", "--depth", "1", "--node-type", "entity")
    assert (found["center"], {node["node_type"] for node in found["nodes"]}) == ("trace:second", {"trace", "entity"})
    assert command.printed("graph", "entity", "nowhere") == "entity nowhere\n"
    cut = command.run("graph", "trace", "second", "--max-edges", "1")
    assert (cut.returncode, "--max-edges" in cut.stderr) == (0, True)
    assert_failed(command.run("graph", "trace", "second", "-o", str(tmp_path / "no" / "x.svg")), "cannot be written")


def test_precedents_say_why_they_were_found(command: CommandLine) -> None:
    ranked = command.printed("precedents", "--like", "second", "--outcome", "success").splitlines()
    assert ranked[0].split() == ["trace_id", "outcome", "workflow", "finished_at", "score", "because", "title"]
    assert ranked[1].startswith("first")
    assert "workflow refund" in ranked[1]
    assert [one["trace_id"] for one in command.json("precedents", "--workflow", "refund")] == ["second", "first"]
    assert command.json("precedents", "--query", "nothing like it") == []
    assert_failed(command.run("precedents", "--like", "nowhere"), "NOT_FOUND")


# tail


def test_the_log_is_followed_from_where_one_likes(command: CommandLine) -> None:
    lines = command.printed("tail", "--since", "2", "--limit", "3").splitlines()
    assert [line.split()[0] for line in lines] == ["3", "4", "5"]
    assert lines[2].split()[1:4] == ["2026-03-02T09:01:00Z", "second#1", "PrecedentCited"]
    printed = command.printed("tail", "--since", "0", "--type", "TraceFinished", "--limit", "2", "--json")
    assert [json.loads(line)["log_seq"] for line in printed.splitlines()] == ["3", "7"]
    unknown = command.run("tail", "--type", "Nothing")
    assert (unknown.returncode, "TraceStarted" in unknown.stderr) == (2, True)
    assert_failed(command.run("tail", "--server", "127.0.0.1:1"), "UNAVAILABLE", "doctor")
    assert_failed(command.run("tail", DG_TOKEN="no token"), "UNAUTHENTICATED")


async def test_new_events_come_by_themselves_and_the_end_says_where_to_go_on(
    command: CommandLine, callers: Callers
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with command.started("tail", "--since", "6", "--trace", "second", "--json") as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["log_seq"] == "7"
            assert commands.end(process, number) == (130, "", "go on with: decisiongraph tail --since 7\n")
    with command.started("tail", "--since", "7") as process:
        assert process.stdout is not None
        assert (await callers.call("grpc", "AppendEvents", {"events": traces.whole_trace("third", 2)})).ok
        assert process.stdout.readline().split()[2] == "third#0"
        assert process.stdout.readline().split()[2] == "third#1"


def test_nobody_who_reads_on_is_no_failure_worth_a_trace(command: CommandLine) -> None:
    with command.started("tail", "--since", "0") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        commands.run("append", stdin=json.dumps(traces.event_of_trace("one more", 0)), **command.variables)
        assert process.stderr is not None
        assert process.wait(commands.SECONDS) == 1
        assert "Traceback" not in process.stderr.read()


# health


def test_health_tells_readiness_and_lag(command: CommandLine, service: Service) -> None:
    shown = command.printed("health").splitlines()
    assert shown[0].startswith(f"server: {service.grpc}, live, version ")
    assert shown[1] == "ready: database ok, migrations ok, projector ok"
    assert shown[2] == "log: 7 events in 2 traces"
    told = command.json("health", DG_TOKEN="")
    assert (told["ready"], told["projections"]) == (True, None)
    refused = command.run("health", DG_TOKEN="no token")
    assert (refused.returncode, "UNAUTHENTICATED" in refused.stdout) == (1, True)
    gone = command.run("health", "--server", "127.0.0.1:1", "--json")
    assert (gone.returncode, json.loads(gone.stdout)["live"]) == (1, False)


@pytest.fixture
def run_folder(service: Service, tenant: Tenant, tmp_path: Path) -> Path:
    """A data folder as a running `decisiongraph run` leaves it."""
    told: dict[str, Any] = {"rest": service.rest, "grpc": service.grpc, "tenant": tenant.tenant_id}
    (tmp_path / "service.json").write_text(json.dumps({**told, "tokens": dict(tenant.tokens)}))
    return tmp_path


def test_without_a_name_the_running_service_of_the_folder_is_asked_as_the_role_that_is_needed(
    command: CommandLine, run_folder: Path, service: Service
) -> None:
    own = {"DG_DATA_DIR": str(run_folder)}
    assert commands.run("trace", "list", "--json", **own).returncode == 0
    appended = commands.run("append", stdin=json.dumps(traces.event_of_trace("t", 0)), **own)
    assert appended.stdout == "1 lines: 1 stored, 0 reused\n"
    assert commands.run("projections", "failures", **own).stdout == "no open failures\n"
    named = commands.run("trace", "list", DG_SERVER=service.grpc, **own)
    assert (named.returncode, named.stderr) == (0, "")
    # Its tokens are for nobody else.
    assert_failed(commands.run("trace", "list", DG_SERVER="127.0.0.1:1", **own), "who calls", "DG_API_KEY")
    (run_folder / "service.json").write_text("{")
    assert_failed(commands.run("trace", "list", **own), "cannot be read")


# doctor


def _statuses(found: list[dict[str, str]]) -> dict[str, str]:
    return {one["name"]: one["status"] for one in found}


def test_doctor_finds_nothing_to_mend_where_everything_works(
    command: CommandLine, run_folder: Path, database_url: str
) -> None:
    found = command.json("doctor", DG_DATABASE_URL=database_url, DG_REST_PORT="0", DG_GRPC_PORT="0")
    statuses = _statuses(found)
    assert {one["name"] for one in found if one["status"] == "fail"} == set()
    for name in ("python", "database", "migrations", "connection", "service", "token", "roles", "tenant", "access"):
        assert statuses[name] == "ok", found
    # Postgres of tests trades durability for speed.
    assert statuses["durability"] == "warn"
    own = commands.run("doctor", DG_DATA_DIR=str(run_folder), DG_REST_PORT="0", DG_GRPC_PORT="0")
    assert own.returncode == 0
    assert "by a token each" in own.stdout


def test_doctor_says_what_to_do_about_what_does_not(
    command: CommandLine, service: Service, tenant: Tenant, callers: Callers, now: int
) -> None:
    expired = service.token(tenant_ids=[tenant.tenant_id], roles=["reader"], begins=now - 7200)
    foreign = service.token(tenant_ids=["elsewhere"], roles=["writer"])
    for variables, name, words in (
        ({"DG_TOKEN": expired}, "token", "expired"),
        ({"DG_TOKEN": foreign, "DG_TENANT": tenant.tenant_id}, "tenant", "elsewhere"),
        ({"DG_SERVER": "127.0.0.1:1"}, "connection", "refused"),
        ({"DG_SERVER": f"https://{service.grpc}"}, "tls", "no TLS"),
        ({"DG_TOKEN": "", "DG_API_KEY": "dgk_nothing"}, "api key", "UNAUTHENTICATED"),
        ({"DG_SERVER": "nonsense"}, "settings", "host"),
        ({"DG_DATABASE_URL": "postgresql://x:hush-hush@127.0.0.1:1/y"}, "database", "nothing listens"),
    ):
        ended = command.run("doctor", "--json", **variables)
        assert ended.returncode == 1, (variables, ended)
        (failed,) = [one for one in json.loads(ended.stdout) if one["name"] == name]
        assert failed["status"] == "fail", ended
        assert words in failed["message"]
        assert failed["hint"]
        assert "hush-hush" not in ended.stdout
    alone = commands.run("doctor", DG_REST_PORT="0", DG_GRPC_PORT="0", DG_DATA_DIR=command.variables["DG_DATA_DIR"])
    assert alone.returncode == 0
    assert "no service" in alone.stdout


# bench


def test_a_load_of_a_service_of_others_must_be_wanted(command: CommandLine, tenant: Tenant) -> None:
    assert_failed(command.run("bench", "append", "--seconds", "1"), "--yes")
    told = command.json("bench", "append", "--seconds", "1", "--callers", "2", "--yes")
    (measured,) = told["rpcs"]
    assert measured["rpc"] == "AppendEvent"
    assert 0 < measured["p50_ms"] <= measured["p99_ms"] <= measured["max_ms"]
    started = command.json("trace", "list", "--workflow", "bench", "--limit", "1000")
    assert all(one["trace_id"].startswith("bench-") for one in started)
    assert measured["calls"] == sum(int(one["event_count"]) for one in started)
    read = command.json("bench", "read", "--seconds", "1", "--yes")
    assert [one["rpc"] for one in read["rpcs"]] == ["FindPrecedents", "GetContextGraph", "GetTrace", "ListTraces"]
    assert all(one["failures"] == {} for one in read["rpcs"])
    refused = command.run("bench", "append", "--seconds", "1", "--yes", DG_TOKEN=tenant.tokens["reader"])
    assert (refused.returncode, "PERMISSION_DENIED" in refused.stderr) == (1, True)


async def test_the_running_service_of_the_folder_gets_its_load_in_a_tenant_of_its_own(
    service: Service, database_url: str, run_folder: Path, tenant: Tenant
) -> None:
    key = str(service.folder / "token-key.pem")
    own = {"DG_DATA_DIR": str(run_folder), "DG_DATABASE_URL": database_url, "DG_TOKEN_KEY_FILE": key}
    ended = commands.run("bench", "append", "--seconds", "1", "--json", **own)
    assert (ended.returncode, json.loads(ended.stdout)["tenant"]) == (0, "bench"), ended
    assert json.loads(commands.run("trace", "list", "--json", **own).stdout) == []


# replay


async def test_a_replay_is_started_followed_shown_and_listed(
    command: CommandLine, service: Service, own_database_url: str
) -> None:
    done = command.json("replay", "start", "verify", "trace_summary", "--reason", "to see")
    assert (done["status"], done["verify_results"][0]["matches"]) == ("completed", True)
    assert command.json("replay", "show", done["job_id"]) == done
    assert command.printed("replay", "watch", done["job_id"]).startswith("verify trace_summary: completed, 7 events")
    assert [job["job_id"] for job in command.json("replay", "list", "--status", "completed")] == [done["job_id"]]
    assert command.printed("replay", "list", "--projection", "context_graph") == "no jobs\n"
    left = command.json("replay", "start", "catch_up", "--reason", "to see", "--detach")
    assert left["status"] in ("queued", "running")
    assert_failed(command.run("replay", "show", "job-unknown"), "NOT_FOUND")
    assert_failed(command.run("replay", "cancel", done["job_id"], "--reason", "r"), "NOT_FOUND")


async def test_a_job_that_nobody_runs_is_cancelled(service: Service, own_database_url: str, tmp_path: Path) -> None:
    server = another_server(service, own_database_url, DG_PROJECTOR_ENABLED="false")
    async with server as running:
        token = service.token(tenant_ids=["decisiongraph-system"], roles=["admin"])
        command = CommandLine({"DG_SERVER": running.grpc, "DG_TOKEN": token, "DG_DATA_DIR": str(tmp_path)})
        waiting = command.json("replay", "start", "catch_up", "--reason", "r", "--detach")
        assert waiting["status"] == "queued"
        with command.started("replay", "watch", waiting["job_id"]) as watching:
            cancelled = command.json("replay", "cancel", waiting["job_id"], "--reason", "r")
            assert cancelled["status"] == "cancelled"
            assert watching.wait(commands.SECONDS) == 1
