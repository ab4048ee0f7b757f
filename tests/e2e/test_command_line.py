"""The `decisiongraph` script itself: its help, its completion, what is missing, and never a stack trace."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import typer
from tests import commands
from typer.testing import CliRunner

from decisiongraph_service.cli import main

_SCRIPT: Final = Path(sys.executable).parent / "decisiongraph"


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _commands(child, (*path, name))


_ALL: Final = dict(_commands(typer.main.get_command(main.app)))
_ENDS: Final = [path for path, command in _ALL.items() if not hasattr(command, "commands")]


@pytest.mark.parametrize("path", _ALL, ids=" ".join)
def test_every_command_explains_itself_and_its_options(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(main.app, [*path, "--help"], env={"COLUMNS": "300", "NO_COLOR": "1"})
    assert shown.exit_code == 0, shown.output
    command = _ALL[path]
    assert command.help
    assert command.help.split("\n")[0].split(".")[0][:60] in shown.output
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert parameter.opts[0] in shown.output
            assert parameter.help


def test_every_command_that_answers_has_json() -> None:
    # Those that stay, those whose answer is JSON or a single word in any case, and one that asks and prints statements.
    without = {"run", "serve", "worker", "admin bootstrap", "db distribute"}
    without |= {f"admin {name} {verb}" for name in ("tenants", "accounts") for verb in ("create", "disable", "enable")}
    without |= {"admin keys revoke"}
    lacking = {" ".join(path) for path in _ENDS if "as_json" not in {one.name for one in _ALL[path].params}}
    assert lacking == without


def test_commands_that_call_a_service_name_it_alike() -> None:
    calling = [path for path in _ENDS if "server" in {one.name for one in _ALL[path].params}]
    for path in calling:
        options = {one.name: one for one in _ALL[path].params}
        if path != ("envoy-config",):
            assert options["server"].envvar == "DG_SERVER", path
        if "tenant" in options and path[:2] != ("admin", "accounts"):
            assert options["tenant"].envvar == "DG_TENANT", path
    assert ("append",) in calling
    assert ("replay", "start") in calling


def _python(program: str, **variables: str) -> commands.Ended:
    return subprocess.run(
        [sys.executable, "-c", program],
        env=commands.environment(**variables),
        capture_output=True,
        text=True,
        timeout=commands.SECONDS,
        check=False,
    )


@pytest.mark.parametrize(
    ("package", "arguments"),
    [("typer", ["trace", "list"]), ("pydantic_settings", ["trace", "list"]), ("asyncpg", ["db", "check"])],
)
def test_without_the_packages_of_the_server_it_is_said_how_to_get_them(package: str, arguments: list[str]) -> None:
    program = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv = ['decisiongraph', *{arguments!r}]\n"
        "from decisiongraph_service.cli import start\nstart.main()"
    )
    ended = _python(program, DG_SERVER="127.0.0.1:1", DG_TOKEN="t", DG_DATABASE_URL="postgresql://x@127.0.0.1:1/y")
    commands.assert_failed(ended, package, "pip install 'decisiongraph[server]'")


def test_the_script_begins_where_only_the_standard_library_is_needed() -> None:
    program = "import sys; import decisiongraph_service.cli.start; print('typer' in sys.modules, 'grpc' in sys.modules)"
    assert _python(program).stdout == "False False\n"


def test_help_loads_nothing_heavy() -> None:
    heavy = ("asyncio", "grpc", "google.protobuf", "pydantic", "asyncpg", "cryptography", "structlog", "rich.progress")
    program = (
        "import sys\nfrom decisiongraph_service.cli import main\n"
        "sys.argv = ['decisiongraph', '--help']\n"
        "try:\n    main.main()\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    assert _python(program).stderr == "[]\n"


def test_what_nobody_thought_of_is_one_line_and_can_be_looked_into() -> None:
    program = (
        "from decisiongraph_service.cli import main, trace\n"
        "import sys\n"
        "def fail(*_): raise RuntimeError('nobody thought\\nof this')\n"
        "main.service_connection = None\n"
        "trace.service_connection.find = fail\n"
        "sys.argv = ['decisiongraph', 'trace', 'list']\nmain.main()"
    )
    commands.assert_failed(_python(program), "RuntimeError", "nobody thought of this", "DG_TRACEBACK")
    assert "Traceback" in _python(program, DG_TRACEBACK="1").stderr


def test_settings_that_are_wrong_are_one_line_without_their_values() -> None:
    for arguments, name in (
        (("serve",), "DG_DATABASE_POOL_SIZE"),
        (("worker",), "DG_LIMIT_OVERRIDES"),
        (("token", "--tenant", "t", "--role", "reader"), "DG_PROFILE"),
    ):
        ended = commands.run(*arguments, **{name: "hush-hush"})
        commands.assert_failed(ended, name)
        assert "hush-hush" not in ended.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_and_values(tmp_path: Path) -> None:
    # As bash calls the function that was installed: name, word at the cursor, word before it.
    complete = """
        set -e
        decisiongraph --install-completion bash > /dev/null
        source "$HOME/.bashrc"
        function=$(complete -p decisiongraph | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        while IFS= read -r line; do
            COMP_WORDS=($line); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
            $function decisiongraph "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            echo "${COMPREPLY[*]}"
        done
    """
    lines = (
        "decisiongraph tra",
        "decisiongraph tail --type TraceS",
        "decisiongraph graph pol",
        "decisiongraph trace s",
        "decisiongraph replay start reb",
        "decisiongraph graph trace t --format m",
        "decisiongraph --config x.toml config s",
    )
    ended = subprocess.run(
        ["bash", "--norc", "-c", complete],
        input="\n".join(lines) + "\n",
        env=commands.environment(HOME=str(tmp_path), PATH=f"{_SCRIPT.parent}:/usr/local/bin:/usr/bin:/bin"),
        capture_output=True,
        text=True,
        timeout=commands.SECONDS,
        check=False,
    )
    assert ended.stdout.splitlines() == ["trace", "TraceStarted", "policy", "show", "rebuild", "mermaid", "show"], ended


def test_the_old_names_still_work() -> None:
    nowhere = {"DG_DATABASE_URL": "postgresql://x@127.0.0.1:1/y"}
    assert commands.run("check-log", **nowhere).stderr == commands.run("db", "check", **nowhere).stderr
    hidden = {path for path, command in _ALL.items() if command.hidden}
    assert hidden == {("check-log",), ("projections", "jobs"), ("projections", "cancel")}
