"""`decisiongraph run` as a newcomer and their terminal see it: what it prints works, and what it started it stops."""

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from tests.calling import Service
from tests.key_server import key_server, token_of

_COMMAND = (sys.executable, "-m", "decisiongraph_service.cli.main")
_START_SECONDS = 60
_STOP_SECONDS = 40


@dataclass
class Run:
    """A running `decisiongraph run` and what it printed so far."""

    process: "subprocess.Popen[str]"
    data: Path
    output: Path

    @property
    def printed(self) -> str:
        return self.output.read_text()

    @property
    def service(self) -> dict[str, object]:
        loaded: dict[str, object] = json.loads((self.data / "service.json").read_text())
        return loaded

    def token(self, role: str) -> str:
        tokens = self.service["tokens"]
        assert isinstance(tokens, dict)
        return str(tokens[role])

    def read(self, trace_id: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token('reader')}"}
        return httpx.get(f"{self.service['rest']}/api/v1/traces/{trace_id}", headers=headers, timeout=30)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(_STOP_SECONDS)


def _environment(data: Path, **settings: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DG_")}
    return {**inherited, "DG_DATA_DIR": str(data), "DG_REST_PORT": "0", "DG_GRPC_PORT": "0", **settings}


def _start(data: Path, **settings: str) -> Run:
    data.mkdir(parents=True, exist_ok=True)
    output = data / "printed"
    with output.open("w") as file:
        process = subprocess.Popen(
            [*_COMMAND, "run"], env=_environment(data, **settings), stdout=file, stderr=file, text=True
        )
    return Run(process, data, output)


def _wait_ready(run: Run) -> None:
    until = time.monotonic() + _START_SECONDS
    while not (run.data / "service.json").exists():
        assert run.process.poll() is None, f"ended while it started:\n{run.printed}"
        assert time.monotonic() < until, f"not ready:\n{run.printed}"
        time.sleep(0.1)
    # The screen is written after the file.
    while "Ctrl-C" not in run.printed:
        assert time.monotonic() < until
        time.sleep(0.05)


@contextlib.contextmanager
def _running(data: Path, **settings: str) -> Iterator[Run]:
    run = _start(data, **settings)
    try:
        _wait_ready(run)
        yield run
    finally:
        if run.process.poll() is None:
            run.stop(signal.SIGTERM)


def _processes_of(data: Path) -> list[str]:
    """Command lines of living processes that work in or for this folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ", "status"]):
        info = process.info
        words = " ".join([*(info["cmdline"] or ()), *(info["environ"] or {}).values()])
        if str(data) in words and info["status"] != psutil.STATUS_ZOMBIE:
            found.append(" ".join(info["cmdline"] or ())[:120])
    return found


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder that any account may enter, as the folders of a newcomer are: root's Postgres works as another one."""
    folder = Path(tempfile.mkdtemp(prefix="decisiongraph-run-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def folder() -> Iterator[Path]:
    with _folder() as made:
        yield made


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """One run that several tests look at."""
    with _folder() as folder, _running(folder / "data") as running:
        yield running


def test_the_addresses_and_tokens_are_there_for_programs_and_for_nobody_else(run: Run) -> None:
    assert set(run.service) == {"rest", "grpc", "tenant", "tokens"}
    assert stat.S_IMODE((run.data / "service.json").stat().st_mode) == 0o600
    assert run.service["tenant"] == "demo"
    assert str(run.service["rest"]) in run.printed
    assert str(run.service["grpc"]) in run.printed
    assert f"docs    {run.service['rest']}/docs" in run.printed
    assert httpx.get(f"{run.service['rest']}/docs", timeout=30).status_code == 200
    assert all(run.token(role) in run.printed for role in ("reader", "writer", "admin"))


def test_the_printed_curl_lines_work_when_pasted(run: Run) -> None:
    lines = [line for line in run.printed.splitlines() if line.startswith("curl ")]
    assert len(lines) == 3
    for line in lines:
        pasted = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=20, check=True)
        answer = json.loads(pasted.stdout)
        assert "code" not in answer, f"{line} was refused: {answer}"


def test_the_demo_decision_is_there(run: Run) -> None:
    answer = run.read("refund-4711")
    assert answer.status_code == 200
    assert answer.json()["summary"]["status"] == "finished"


def test_a_second_run_leaves_the_first_alone(run: Run) -> None:
    second = subprocess.run(
        [*_COMMAND, "run"], env=_environment(run.data), capture_output=True, text=True, timeout=30, check=False
    )
    assert second.returncode == 1
    assert f"already running (pid {run.process.pid}) at {run.service['rest']}" in second.stderr
    assert run.read("refund-4711").status_code == 200


def test_a_taken_port_is_named_with_its_holder_and_the_way_out(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        refused = subprocess.run(
            [*_COMMAND, "run"],
            env=_environment(folder, DG_REST_PORT=str(port)),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert refused.returncode == 1
    assert str(port) in refused.stderr
    assert str(os.getpid()) in refused.stderr
    assert "DG_REST_PORT" in refused.stderr


def test_another_token_makes_its_tenant(run: Run) -> None:
    made = subprocess.run(
        [*_COMMAND, "token", "--tenant", "acme", "--role", "writer", "--role", "reader"],
        env=_environment(run.data),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    headers = {"authorization": f"Bearer {made.stdout.strip()}"}
    event = {
        "trace_id": "t",
        "event_type": "TraceStarted",
        "occurred_at": "2026-01-01T00:00:00Z",
        "source": {"producer_id": "p", "system": "s"},
        "actor": {"actor_type": "agent", "actor_id": "a"},
        "idempotency_key": "k",
        "payload": {"workflow": "w", "title": "t", "primary_entity": {"entity_type": "e", "entity_id": "1"}},
    }
    appended = httpx.post(f"{run.service['rest']}/api/v1/events", json=event, headers=headers, timeout=30)
    assert appended.json()["event"]["log_seq"] == "1", appended.text
    assert httpx.get(f"{run.service['rest']}/api/v1/traces/t", headers=headers, timeout=30).status_code == 200


def test_the_stored_logs_check_out(run: Run) -> None:
    checked = subprocess.run(
        [*_COMMAND, "check-log", "--tenant", "demo"],
        env=_environment(run.data),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "ok" in checked.stdout


def test_server_and_envoy_have_the_settings_of_a_file(folder: Path) -> None:
    corp = "https://corp.example.com"
    issuer = {"name": "corp", "issuer": corp, "audience": "decisions", "algorithms": ["RS256"]}
    path = folder / "issuers.json"
    with key_server() as address:
        path.write_text(json.dumps([{**issuer, "jwks_url": address}]))
        settings = folder / "settings.toml"
        settings.write_text(
            f'external_issuers = "{path}"\ntoken_audience = "elsewhere"\notlp_endpoint = "http://127.0.0.1:9"\n'
        )
        with _running(folder / "data", DG_CONFIG_FILE=str(settings)) as run:
            token = token_of("RS256", issuer=corp, audience="decisions", tenants=["demo"], roles=["reader"])
            for one in (token, run.token("reader")):
                headers = {"authorization": f"Bearer {one}"}
                answer = httpx.get(f"{run.service['rest']}/api/v1/traces/refund-4711", headers=headers, timeout=30)
                assert answer.status_code == 200, answer.text
        assert "http://127.0.0.1:9/v1/traces" in (folder / "data" / "envoy.yaml").read_text()


def test_ctrl_c_stops_everything_and_the_data_stays(folder: Path) -> None:
    data = folder / "data"
    with _running(data) as first:
        assert first.stop() == 0
        assert "Traceback" not in first.printed
    assert _processes_of(data) == []
    assert not (data / "service.json").exists()

    with _running(data) as second:
        assert second.read("refund-4711").json()["summary"]["last_log_seq"] == "9"
        # A killed child: which one, how, and its last lines; then everything stops.
        envoy = next(p for p in psutil.Process(second.process.pid).children() if p.name() == "envoy")
        envoy.kill()
        assert second.process.wait(_STOP_SECONDS) == 1
        assert f"envoy (pid {envoy.pid}) ended by itself: killed by signal SIGKILL" in second.printed
    assert _processes_of(data) == []


def test_a_killed_run_is_cleared_up_by_the_next(folder: Path) -> None:
    data = folder / "data"
    with _running(data) as first:
        first.process.kill()
        first.process.wait()
    assert _processes_of(data), "what a killed run started goes on"
    with _running(data) as second:
        assert "left by a run that was killed" in second.printed
        assert second.stop(signal.SIGTERM) == 0
    assert _processes_of(data) == []


def test_a_dead_database_is_named_without_its_password(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    refused = subprocess.run(
        [*_COMMAND, "run"],
        env=_environment(folder, DG_DATABASE_URL=f"postgresql://me:hush-hush@127.0.0.1:{port}/decisions"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 1
    assert f"127.0.0.1:{port}" in refused.stderr
    assert "hush-hush" not in refused.stderr + refused.stdout
    assert _processes_of(folder) == []


def test_a_database_of_my_own_is_used(folder: Path, database_url: str) -> None:
    with _running(folder, DG_DATABASE_URL=database_url, DG_ALLOW_UNSAFE_DATABASE="true") as run:
        assert not (folder / "postgres").exists()
        assert run.read("refund-4711").status_code == 200


def test_a_server_does_not_share_the_port_of_another(service: Service, database_url: str) -> None:
    port = service.grpc.rsplit(":", 1)[1]
    environment = _environment(service.folder, DG_GRPC_PORT=port, DG_DATABASE_URL=database_url)
    refused = subprocess.run(
        [*_COMMAND, "serve"],
        env=environment | {"DG_ALLOW_UNSAFE_DATABASE": "true"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 1
    assert f"port {port} is taken by" in refused.stderr
