"""`decisiongraph projections …` as an operator uses it: what it prints, and how it ends."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests import traces
from tests.calling import Callers, Service, Tenant

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def projections(service: Service, tenant: Tenant) -> Command:
    """Runs the command for the test's tenant, with a token for everything."""
    token = service.token(
        tenant_ids=[tenant.tenant_id],
        roles=["admin", "reader"],
        permissions=["projection_replay", "projection_rebuild"],
    )

    def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "decisiongraph_service.cli.main", "projections", *arguments],
            env={**os.environ, "DG_SERVER": service.grpc, "DG_TOKEN": token, **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


async def test_a_rebuild_and_a_verification_are_followed_to_their_end(callers: Callers, projections: Command) -> None:
    appended = 6
    answer = await callers.call("grpc", "AppendEvents", {"events": traces.whole_trace("t", appended)})
    assert answer.ok, answer
    rebuilt = projections("rebuild", "--reason", "to see")
    assert (rebuilt.returncode, rebuilt.stderr) == (0, "")
    assert rebuilt.stdout == f"rebuild all: completed, {3 * appended} events up to {appended}\n"
    verified = projections("verify", "trace_summary", "--reason", "to see")
    assert verified.returncode == 0
    assert f"trace_summary    matches at {appended}: sha256:" in verified.stdout
    shown = projections("status")
    assert shown.returncode == 0
    assert f"log: {appended} events in 1 traces\n" in shown.stdout
    assert f"context_graph    current      at {appended}, generation 2\n" in shown.stdout
    listed = projections("jobs", "--json")
    assert [job["mode"] for job in json.loads(listed.stdout)] == ["verify", "rebuild"]


def test_what_is_refused_is_one_line_and_exit_code_1(projections: Command) -> None:
    refused = projections("cancel", "job-unknown", "--reason", "to see")
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr.count("\n") == 1
    assert "NOT_FOUND" in refused.stderr


def test_without_failures_there_is_nothing_to_list(projections: Command) -> None:
    assert projections("failures").stdout == "no open failures\n"
    tried = projections("retry", "trace_summary", "--reason", "to see")
    assert (tried.returncode, tried.stdout.splitlines()[0][:37]) == (0, "trace_summary tries again from 0; see")


def test_without_a_service_the_way_to_one_is_named(projections: Command, tmp_path: Path) -> None:
    lost = projections("status", DG_SERVER="", DG_DATA_DIR=str(tmp_path))
    assert lost.returncode == 1
    assert "make run" in lost.stderr
    assert "DG_SERVER" in lost.stderr
