"""`decisiongraph admin …` as an operator uses it, from the first administrator on: what it prints, and how it ends."""

import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import typer
from tests.accounts import SYSTEM, UNKNOWN_SECRET, owner_of
from tests.another_server import another_server
from tests.calling import Service
from tests.own_ports import own_port
from typer.testing import CliRunner

from decisiongraph_service.cli import main
from decisiongraph_service.runtime import server
from decisiongraph_service.storage import migrations

_DECISIONGRAPH: Final = (sys.executable, "-m", "decisiongraph_service.cli.main")
_SECRET: Final = re.compile(r"dgk_([0-9a-f]{16})_[A-Za-z0-9_-]{43}\n")
Ended = subprocess.CompletedProcess[str]


def _environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DG_") and name != "COLUMNS"}
    return {**kept, **variables}


@dataclass(frozen=True)
class Installation:
    """A database of its own with a server, and the key of its first administrator."""

    url: str
    address: str
    folder: Path
    first: Ended
    """The command that made the first administrator."""

    def run(self, *arguments: str, **variables: str) -> Ended:
        """Run `decisiongraph admin …` with the key of the first administrator."""
        given = {"DG_SERVER": self.address, "DG_API_KEY": self.first.stdout.strip(), "DG_DATA_DIR": str(self.folder)}
        return _run(*arguments, **{**given, **variables})

    def printed(self, *arguments: str) -> Any:
        """The JSON that a command prints that must succeed."""
        ended = self.run(*arguments)
        assert (ended.returncode, ended.stderr) == (0, ""), ended
        return json.loads(ended.stdout)


def _run(*arguments: str, **variables: str) -> Ended:
    return subprocess.run(
        [*_DECISIONGRAPH, "admin", *arguments],
        env=_environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _assert_failed(ended: Ended, *words: str) -> None:
    """It ended with one line that says what was wrong."""
    assert (ended.returncode, ended.stdout) == (1, ""), ended
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stderr.startswith("decisiongraph: ")
    missing = [word for word in words if word not in ended.stderr]
    assert not missing, ended.stderr


@contextlib.asynccontextmanager
async def _empty_database(database_url: str) -> AsyncIterator[str]:
    name = f"admin_{uuid.uuid4().hex[:8]}"
    async with owner_of(database_url) as owner:
        await owner.execute(f"CREATE DATABASE {name}")
        yield database_url.rsplit("/", 1)[0] + f"/{name}"
        await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
async def fresh_url(database_url: str) -> AsyncIterator[str]:
    """The empty database of the installation."""
    async with _empty_database(database_url) as url:
        yield url


@pytest.fixture
async def other_url(database_url: str) -> AsyncIterator[str]:
    """One more empty database."""
    async with _empty_database(database_url) as url:
        yield url


@pytest.fixture(scope="module")
async def installation(service: Service, fresh_url: str) -> AsyncIterator[Installation]:
    """An installation whose first administrator was just made, with a server."""
    await migrations.upgrade(fresh_url, server.migrations_folder())
    first = _run("bootstrap", DG_DATABASE_URL=fresh_url)
    async with another_server(service, fresh_url) as running:
        yield Installation(fresh_url, running.grpc, running.folder, first)


# The first administrator


def test_the_first_administrator_is_made_once_and_its_key_is_all_that_is_printed(installation: Installation) -> None:
    assert (installation.first.returncode, installation.first.stderr) == (0, "")
    assert _SECRET.fullmatch(installation.first.stdout)
    for arguments in ((), ("--account", "another")):
        again = installation.run("bootstrap", *arguments, DG_DATABASE_URL=installation.url)
        _assert_failed(again, "may manage access and has a valid key")
    accounts = {one["account_id"]: one for one in installation.printed("accounts", "list", "--json")}
    assert "another" not in accounts
    assert accounts["administrator"]["tenant_ids"] == [SYSTEM]
    assert accounts["administrator"]["roles"] == ["ROLE_ADMIN"]
    assert len(accounts["administrator"]["permissions"]) == 4
    entries = installation.printed("audit", "--account", "local command", "--json")
    assert [entry["target"].split()[0] for entry in entries] == ["key", "service"]
    assert {entry["reason"] for entry in entries} == {"first administrator"}


def test_on_a_database_without_tables_it_is_said_how_to_make_them(other_url: str) -> None:
    _assert_failed(_run("bootstrap", DG_DATABASE_URL=other_url), "decisiongraph migrate")


async def test_a_first_administrator_with_an_id_that_is_none_is_refused_readably(other_url: str) -> None:
    await migrations.upgrade(other_url, server.migrations_folder())
    _assert_failed(_run("bootstrap", "--account", "Not An Id", DG_DATABASE_URL=other_url), "account")


async def test_a_first_administrator_may_act_in_further_tenants(other_url: str) -> None:
    await migrations.upgrade(other_url, server.migrations_folder())
    _assert_failed(_run("bootstrap", "--tenant", "nowhere", DG_DATABASE_URL=other_url), "nowhere")
    async with owner_of(other_url) as owner:
        await owner.execute("INSERT INTO tenants VALUES ('acme', 'acme', now())")
    made = _run("bootstrap", "--account", "root", "--tenant", "acme", DG_DATABASE_URL=other_url)
    assert _SECRET.fullmatch(made.stdout), made
    async with owner_of(other_url) as owner:
        rows = await owner.fetch("SELECT account_id, tenant_ids FROM service_accounts")
    assert [tuple(row) for row in rows] == [("root", [SYSTEM, "acme"])]


# What its key is good for


def test_tenants_are_made_listed_and_switched(installation: Installation) -> None:
    made = installation.printed("tenants", "create", "acme", "--name", "Größe & Co", "--reason", "new customer")
    assert (made["tenant_id"], made["display_name"]) == ("acme", "Größe & Co")
    disabled = installation.printed("tenants", "disable", "acme", "--reason", "to see")
    assert disabled["disabled_at"]
    listed = installation.printed("tenants", "list", "--json")
    assert [tenant for tenant in listed if tenant["tenant_id"] == "acme"] == [disabled]
    assert installation.printed("tenants", "enable", "acme", "--reason", "to see") == made
    table = installation.run("tenants", "list")
    assert (table.returncode, table.stderr) == (0, "")
    assert re.search(r"acme +Größe & Co +2", table.stdout), table.stdout
    _assert_failed(installation.run("tenants", "create", "acme", "--reason", "again"), "ALREADY_EXISTS")
    _assert_failed(installation.run("tenants", "disable", SYSTEM, "--reason", "r"), "FAILED_PRECONDITION")
    _assert_failed(installation.run("tenants", "enable", "nowhere", "--reason", "r"), "NOT_FOUND", "nowhere")


def test_accounts_are_made_listed_and_switched(installation: Installation) -> None:
    tenant, role = ("--tenant", SYSTEM), ("--role", "admin", "--role", "reader")
    given = (*tenant, *role, "--permission", "audit_read", "--name", "Watcher", "--reason", "to see")
    made = installation.printed("accounts", "create", "watcher", *given)
    assert made["roles"] == ["ROLE_ADMIN", "ROLE_READER"]
    assert (made["permissions"], made["display_name"]) == (["PERMISSION_AUDIT_READ"], "Watcher")
    disabled = installation.printed("accounts", "disable", "watcher", "--reason", "to see")
    assert disabled == {**made, "disabled_at": disabled["disabled_at"]}
    assert installation.printed("accounts", "enable", "watcher", "--reason", "to see") == made
    assert made in installation.printed("accounts", "list", "--tenant", SYSTEM, "--json")
    assert installation.printed("accounts", "list", "--tenant", "nowhere", "--json") == []
    assert "watcher" in installation.run("accounts", "list").stdout
    _assert_failed(installation.run("accounts", "disable", "administrator", "--reason", "r"), "FAILED_PRECONDITION")


async def test_a_list_of_several_pages_is_shown_whole(installation: Installation) -> None:
    names = [f"many-{number:03}" for number in range(205)]
    async with owner_of(installation.url) as owner:
        await owner.execute(
            "INSERT INTO service_accounts SELECT unnest($1::text[]), 'n', '{many}', '{reader}', '{}', now()", names
        )
    listed = installation.printed("accounts", "list", "--tenant", "many", "--json")
    assert [account["account_id"] for account in listed] == names


def test_a_key_is_made_used_and_revoked(installation: Installation) -> None:
    tenant, role = ("--tenant", SYSTEM), ("--role", "admin")
    installation.printed("accounts", "create", "auditor", *tenant, *role, "--permission", "audit_read", "--reason", "r")
    made = installation.run("keys", "create", "auditor", "--expires-at", "2099-01-01T00:00:00Z", "--reason", "r")
    key = _SECRET.fullmatch(made.stdout)
    assert key, made
    secret, key_id = made.stdout.strip(), key.group(1)
    read = installation.run("audit", "--limit", "1", "--json", DG_API_KEY=secret)
    assert json.loads(read.stdout)[0]["target"] == f"key {key_id} of auditor"
    refused = installation.run("tenants", "list", DG_API_KEY=secret)
    _assert_failed(refused, "PERMISSION_DENIED", "access_manage")
    (listed,) = installation.printed("keys", "list", "auditor", "--json")
    assert (listed["key_id"], listed["expires_at"]) == (key_id, "2099-01-01T00:00:00.000000Z")
    assert listed["last_used_at"]
    assert secret[-43:] not in json.dumps(listed)
    revoked = installation.printed("keys", "revoke", "auditor", key_id, "--reason", "r")
    assert revoked["revoked_at"]
    _assert_failed(installation.run("audit", DG_API_KEY=secret), "UNAUTHENTICATED", "api_key")


def test_ids_in_tables_are_whole(installation: Installation) -> None:
    name = f"account-with-a-long-id-{'x' * 30}"
    installation.printed("accounts", "create", name, "--tenant", SYSTEM, "--role", "reader", "--reason", "r")
    key_id = installation.run("keys", "create", name, "--reason", "r").stdout.split("_")[1]
    target = f"key {key_id} of {name}"
    shown = {
        name: installation.run("accounts", "list").stdout,
        key_id: installation.run("keys", "list", name).stdout,
        target: " ".join(installation.run("audit", "--limit", "1").stdout.split()),
    }
    cut = {text: table for text, table in shown.items() if text not in table}
    assert not cut, "they cannot be copied"


def test_the_audit_log_is_shown_by_account_and_outcome(installation: Installation) -> None:
    installation.run("tenants", "enable", "nowhere-at-all", "--reason", "a reason")
    shown = installation.printed("audit", "--outcome", "refused", "--account", "administrator", "--json")
    assert {entry["outcome"] for entry in shown} == {"refused"}
    assert (shown[0]["target"], shown[0]["refusal_reason"]) == ("nowhere-at-all", "NOT_FOUND")
    assert installation.printed("audit", "--account", "nobody", "--json") == []
    assert installation.printed("audit", "--tenant", SYSTEM, "--limit", "1", "--json") == shown[:1]
    assert "a reason" in " ".join(installation.run("audit", "--limit", "1", COLUMNS="250").stdout.split())
    _assert_failed(installation.run("audit", "--tenant", "foreign"), "PERMISSION_DENIED")
    _assert_failed(installation.run("audit", "--outcome", "maybe"), "INVALID_ARGUMENT", "outcome")


# What goes wrong


def test_what_the_service_refuses_is_one_line(installation: Installation) -> None:
    for arguments, words in (
        (("tenants", "create", "Not An Id", "--reason", "r"), ("INVALID_ARGUMENT", "tenant_id")),
        (("tenants", "create", "blank", "--reason", " "), ("INVALID_ARGUMENT", "reason")),
        (("accounts", "create", "a", "--tenant", "nowhere", "--role", "reader", "--reason", "r"), ("nowhere",)),
        (("accounts", "create", "a", "--tenant", SYSTEM, "--role", "king", "--reason", "r"), ("role",)),
        (("keys", "create", "nobody", "--reason", "r"), ("NOT_FOUND", "nobody")),
        (("keys", "create", "administrator", "--expires-at", "soon", "--reason", "r"), ("expires_at",)),
        (("keys", "revoke", "administrator", "nothing", "--reason", "r"), ("NOT_FOUND", "nothing")),
    ):
        _assert_failed(installation.run(*arguments), *words)


def test_without_a_way_in_it_is_said_what_is_missing(installation: Installation) -> None:
    refused = installation.run("tenants", "list", DG_API_KEY=UNKNOWN_SECRET)
    _assert_failed(refused, "UNAUTHENTICATED", "api_key")
    assert UNKNOWN_SECRET not in refused.stderr
    for missing in ({"DG_API_KEY": ""}, {"DG_SERVER": ""}):
        _assert_failed(installation.run("tenants", "list", **missing), "DG_SERVER", "DG_API_KEY", "make run")
    _assert_failed(installation.run("tenants", "list", "--server", f"127.0.0.1:{own_port()}"), "UNAVAILABLE")
    nowhere = f"postgresql://nobody@127.0.0.1:{own_port()}/nothing"
    _assert_failed(installation.run("bootstrap", DG_DATABASE_URL=nowhere), "database")


# Help


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _commands(child, (*path, name))


_MAIN: Final[Any] = typer.main.get_command(main.app)
_ALL: Final = dict(_commands(_MAIN.commands["admin"]))


def test_there_is_a_command_for_every_act_on_access() -> None:
    ends = {path for path, command in _ALL.items() if not hasattr(command, "commands")}
    switched = itertools.product(("tenants", "accounts"), ("create", "list", "disable", "enable"))
    keys = {("keys", name) for name in ("create", "list", "revoke")}
    assert ends == {("bootstrap",), ("audit",), *switched, *keys}


@pytest.mark.parametrize("path", _ALL, ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(main.app, ["admin", *path, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert shown.exit_code == 0, shown.output
    command = _ALL[path]
    assert command.help
    assert command.help.split("\n")[0].split(".")[0] in shown.output
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert parameter.opts[0] in shown.output
            assert parameter.help
