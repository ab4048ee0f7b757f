"""The package without extras: a fresh environment with the client's few dependencies, and none of the server's."""

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Final

import pytest
from tests.calling import Service, Tenant
from tests.clients import all_of, client_of, token_of

_ROOT: Final = Path(__file__).parents[2]
_UV: Final = str(Path(sys.executable).with_name("uv"))
_NEEDED: Final = {"decisiongraph", "grpcio", "protobuf", "googleapis-common-protos", "typing-extensions"}

_PROGRAM: Final = """
import asyncio, sys
from decisiongraph_client import AsyncClient, Client, payloads

server, token, outbox = sys.argv[1:]

with Client(server, token=token, producer="light") as client:
    with client.trace(workflow="w", title="t", primary_entity=("order", "1"), trace_id="blocking") as trace:
        trace.observe_input("crm", "order", "1", facts={"total": 3}, tags=["light"])
    assert client.get_trace("blocking").summary.outcome == "success"

async def main():
    async with AsyncClient(server, token=token, producer="light", outbox=outbox) as client:
        async with client.trace(workflow="w", title="t", primary_entity=("order", "1"), trace_id="asyncio") as trace:
            await trace.evaluate_policy(payloads.policy("p", "1"), "allow")
        assert await client.flush(20)

asyncio.run(main())
extra = {name.partition(".")[0] for name in sys.modules} & {"decisiongraph_service", "pydantic", "asyncpg", "typer"}
assert not extra, extra
"""


def _run(*command: str | Path) -> str:
    # Of the test's environment nothing must be seen but the folders of caches.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "DG_"))}
    done = subprocess.run(
        [str(part) for part in command], env=kept, cwd="/", capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment in which the wheel was installed, and nothing else asked for."""
    folder = tmp_path_factory.mktemp("light")
    _run(_UV, "build", "--quiet", "--wheel", "--out-dir", folder, "--python", sys.executable, _ROOT)
    (wheel,) = folder.glob("*.whl")
    _run(_UV, "venv", "--quiet", "--python", sys.executable, folder / "venv")
    python = folder / "venv" / "bin" / "python"
    # Of the versions that are locked: what is released today is no matter of this test.
    locked = folder / "locked.txt"
    no_more = ("--quiet", "--frozen", "--no-default-groups", "--no-emit-project", "--no-hashes", "--no-annotate")
    _run(_UV, "export", "--project", _ROOT, *no_more, "--output-file", locked)
    _run(_UV, "pip", "install", "--quiet", "--python", python, "--constraint", locked, wheel)
    return python


def test_only_what_the_client_needs_is_installed(python: Path) -> None:
    installed = json.loads(_run(_UV, "pip", "list", "--format", "json", "--python", python))
    assert {package["name"] for package in installed} == _NEEDED


async def test_it_records(python: Path, service: Service, tenant: Tenant, tmp_path: Path) -> None:
    program = textwrap.dedent(_PROGRAM)
    arguments = (service.grpc, token_of(service, tenant), tmp_path / "outbox.db")
    await asyncio.to_thread(_run, python, "-I", "-W", "error", "-c", program, *arguments)
    async with client_of("asyncio", service, tenant) as client:
        assert len(await all_of(client.list_trace_events("blocking"))) == 3
        assert len(await all_of(client.list_trace_events("asyncio"))) == 3


def test_its_types_are_known_to_checkers(python: Path) -> None:
    found = _run(
        python,
        "-I",
        "-c",
        "import decisiongraph_client as c, pathlib; print((pathlib.Path(c.__file__).parent / 'py.typed').exists())",
    )
    assert found.strip() == "True"
