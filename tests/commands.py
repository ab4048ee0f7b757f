"""Running `decisiongraph …` as a user does: a process of its own, with a user's environment."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.calling import Service, Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND: Final = (sys.executable, "-m", "decisiongraph_service.cli.main")
SECONDS: Final = 60
Ended = subprocess.CompletedProcess[str]


def environment(**variables: str) -> dict[str, str]:
    """That of this process, without settings of DecisionGraph and of the terminal, and with these."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DG_") and name not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TERM")
    }
    return {**kept, **variables}


def run(*arguments: str, stdin: str = "", **variables: str) -> Ended:
    """Run a command to its end. Lone surrogates of `stdin` stand for bytes that are no UTF-8."""
    ended = subprocess.run(
        [*COMMAND, *arguments],
        env=environment(**variables),
        input=stdin.encode(errors="surrogateescape"),
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    return Ended(ended.args, ended.returncode, ended.stdout.decode(), ended.stderr.decode())


@dataclass(frozen=True)
class CommandLine:
    """Runs commands against a service, in a tenant."""

    variables: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, stdin: str = "", **variables: str) -> Ended:
        """Run a command to its end."""
        return run(*arguments, stdin=stdin, **{**self.variables, **variables})

    def printed(self, *arguments: str, stdin: str = "", **variables: str) -> str:
        """What a command prints that must succeed without a word of complaint."""
        ended = self.run(*arguments, stdin=stdin, **variables)
        assert (ended.returncode, ended.stderr) == (0, ""), ended
        return ended.stdout

    def json(self, *arguments: str, stdin: str = "", **variables: str) -> Any:
        """The document that a command prints with `--json`."""
        return json.loads(self.printed(*arguments, "--json", stdin=stdin, **variables))

    @contextmanager
    def started(self, *arguments: str, stdin: bool = False, **variables: str) -> "Iterator[subprocess.Popen[str]]":
        """A command that goes on until it is stopped; with `stdin` it reads what the test writes."""
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=environment(**{"PYTHONUNBUFFERED": "1", **self.variables, **variables}),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()


def command_line(service: Service, tenant: Tenant) -> CommandLine:
    """For a tenant, with a token for everything."""
    token = service.token(tenant_ids=[tenant.tenant_id], roles=["admin", "reader", "writer"])
    return CommandLine({"DG_SERVER": service.grpc, "DG_TOKEN": token, "DG_DATA_DIR": str(service.folder / "no-run")})


def end(process: "subprocess.Popen[str]", number: signal.Signals) -> tuple[int, str, str]:
    """Send a signal; exit code, and what was printed since."""
    process.send_signal(number)
    # Before its standard input is closed, which may end it otherwise.
    process.wait(SECONDS)
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out, err


def assert_failed(ended: Ended, *words: str, code: int = 1) -> None:
    """It ended with one line that says what was wrong."""
    assert (ended.returncode, ended.stdout) == (code, ""), ended
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stderr.startswith("decisiongraph: ")
    missing = [word for word in words if word not in ended.stderr]
    assert not missing, ended.stderr
