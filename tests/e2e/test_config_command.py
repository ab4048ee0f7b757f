"""`decisiongraph config show` and `--config`, and that workers get the settings of their supervisor."""

import asyncio
import json
import time
from pathlib import Path

import psutil
import pytest
from tests import commands
from tests.calling import Service, wait_until_serving
from tests.own_ports import own_ports_in_a_row

_URL = "postgresql://dg:hush-hush@db:5432/decisions"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.toml"
    path.touch(mode=0o600)
    return path


def test_every_setting_is_shown_with_its_source_and_without_secrets(file: Path) -> None:
    file.write_text(f'database_url = "{_URL}"\nrest_port = 1\ngrpc_port = 2\n')
    variables = {"DG_CONFIG_FILE": str(file), "DG_GRPC_PORT": "3", "DG_LIMIT_STORAGE_URL": "async+redis://:hush-hush@r"}
    shown = commands.CommandLine(variables).json("config", "show")
    assert (shown["config_file"], shown["warnings"]) == (str(file), [])
    by_name = {one["name"]: one for one in shown["settings"]}
    assert by_name["database_url"] == {
        "name": "database_url",
        "variable": "DG_DATABASE_URL",
        "value": "postgresql://dg:***@db:5432/decisions",
        "source": "file",
    }
    assert [(by_name[name]["value"], by_name[name]["source"]) for name in ("rest_port", "grpc_port", "workers")] == [
        (1, "file"),
        (3, "environment"),
        (1, "default"),
    ]
    text = commands.CommandLine(variables).printed("config", "show", "--changed")
    assert [line.split()[0] for line in text.splitlines()[1:]] == [
        *("config_file", "database_url", "grpc_port", "rest_port", "limit_storage_url")
    ]
    assert "hush-hush" not in text + json.dumps(shown)


def test_the_option_comes_before_the_variable(file: Path, tmp_path: Path) -> None:
    file.write_text("workers = 2\n")
    shown = commands.CommandLine({"DG_CONFIG_FILE": str(tmp_path / "none")}).json(
        *("--config", str(file), "config", "show", "--changed")
    )
    assert {one["name"]: one["value"] for one in shown["settings"]} == {"config_file": str(file), "workers": 2}


def test_misspelt_variables_are_warned_of() -> None:
    ended = commands.run("config", "show", "--json", DG_GRPC_PROT="1", DG_SERVER="x:1", DG_TOKEN="t")
    said = "DG_GRPC_PROT in the environment is no setting; did you mean DG_GRPC_PORT?"
    assert (ended.returncode, ended.stderr) == (0, f"decisiongraph: warning: {said}\n")
    assert json.loads(ended.stdout)["warnings"] == [said]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('grpc_port = "hush-hush"', "grpc_port: Input should be a valid integer"),
        ("workers = 65", "workers: Input should be less than or equal to 64"),
        ("database_url = ['hush-hush']", "database_url: Input should be a valid string"),
        ("limit_overrides = {acme = {read = 1}}", "limit_overrides.acme.read: Input should be a valid string"),
        ('database_url_file = "/none"', "database_url_file: /none cannot be read"),
        ("wrokers = 1", "'wrokers' is no setting; did you mean workers?"),
    ],
)
def test_what_is_wrong_in_the_file_is_one_line_without_values(file: Path, line: str, told: str) -> None:
    file.write_text(line)
    for command in (("config", "show"), ("serve",), ("envoy-config", "/nowhere", "--server", "a:1")):
        ended = commands.run("--config", str(file), *command)
        commands.assert_failed(ended, f"{file}: {told}")
        assert "hush-hush" not in ended.stderr


def test_a_wrong_variable_is_named_as_such_beside_a_file(file: Path) -> None:
    file.write_text("grpc_port = 1\n")
    ended = commands.run("--config", str(file), "config", "show", DG_GRPC_PORT="hush-hush")
    commands.assert_failed(ended, "DG_GRPC_PORT: Input should be a valid integer")
    assert "hush-hush" not in ended.stderr


def write(file: Path, text: str) -> None:
    file.write_text(text)


@pytest.mark.parametrize("value", ["{bad", "[1]", "[" * 20_000, "1"])
def test_a_variable_that_is_no_json_object_is_named(value: str) -> None:
    for name in ("DG_LIMIT_OVERRIDES", "DG_TENANT_CLASSES"):
        commands.assert_failed(commands.run("config", "show", **{name: value}), f"{name}: must be a JSON object")


async def test_workers_have_the_settings_of_the_file_that_their_supervisor_read(
    service: Service, database_url: str, file: Path
) -> None:
    port = own_ports_in_a_row(3)  # of the supervisor and its workers
    write(
        file,
        f'database_url = "{database_url}"\ngrpc_port = {port}\nworkers = 2\nallow_unsafe_database = true\n'
        f'token_key_file = "{service.folder / "token-key.pem"}"\nlog_format = "console"\n',
    )
    with commands.CommandLine().started("--config", str(file), "serve") as process:
        deadline = time.monotonic() + commands.SECONDS
        await wait_until_serving(f"127.0.0.1:{port + 1}")
        await wait_until_serving(f"127.0.0.1:{port + 2}")
        # One that is started again has them too, whatever the file has become.
        write(file, "nothing = here\n")
        first = psutil.Process(process.pid).children()
        first[0].kill()
        while {one.pid for one in first} == {one.pid for one in psutil.Process(process.pid).children()}:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        await wait_until_serving(f"127.0.0.1:{port + 1}")
        await wait_until_serving(f"127.0.0.1:{port + 2}")
        process.terminate()
        assert process.wait(commands.SECONDS) == 0
