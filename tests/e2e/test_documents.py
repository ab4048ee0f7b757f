"""The documentation as its reader uses it: what stands in a block of code runs, and prints what the page says.

The blocks of a page run in their order, in one shell and one interpreter, in a folder that looks as if `make run` had
been started there. The tenant of the page is new and holds the demo decision.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import grpc
import pytest
import typer
from tests import page_blocks
from tests.accounts import SYSTEM
from tests.another_server import another_server
from tests.calling import Service, Tenant
from tests.page_sessions import session

from decisiongraph_service.access import tenancy, tokens
from decisiongraph_service.access.administration import Administration
from decisiongraph_service.cli import main
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.runtime import demo, embedded_postgres, server
from decisiongraph_service.storage import migrations
from decisiongraph_service.storage.audit import Act
from decisiongraph_service.storage.database import Database

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = {str(page.relative_to(ROOT)): page_blocks.blocks(ROOT, page) for page in page_blocks.pages(ROOT)}
EXECUTED: Final = [page for page, blocks in PAGES.items() if any(block.executed for block in blocks)]
NOT_RUN: Final = [block for blocks in PAGES.values() for block in blocks if block.not_run is not None]

OF_AN_OPERATOR: Final = {
    "docs/operations/API_SECURITY.md": "as migrated",
    "docs/operations/backup.md": "at work",
    "docs/operations/scaling.md": "without a server",
    "docs/operations/upgrade.md": "without a server",
}
"""Pages for whoever has the database's address. They get a migrated database of their own: alone, with a server, or
with a server, an administrator and the demo decision in the tenant `acme`."""

ACME: Final = TenantId("acme")
MOST_NOT_RUN: Final = 14
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "TMPDIR")


@pytest.fixture
def folder() -> Iterator[Path]:
    """The folder that a reader works in: a checkout, as far as blocks look at it."""
    made = Path(tempfile.mkdtemp(prefix="decisiongraph-page-"))
    (made / ".run").mkdir()
    (made / ".venv").symlink_to(sys.prefix)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
async def own_postgres() -> AsyncIterator[str]:
    """A small Postgres: that of the run holds what all tests wrote, too much to copy."""
    async with embedded_postgres.temporary_postgres() as postgres:
        yield postgres.dsn


@pytest.fixture
async def own_url(own_postgres: str, folder: Path) -> AsyncIterator[str]:
    """A new, migrated database."""
    name = f"page_{folder.name.rpartition('-')[2].lower()}"
    owner = await asyncpg.connect(own_postgres)
    await owner.execute(f"CREATE DATABASE {name}")
    url = own_postgres.rsplit("/", 1)[0] + f"/{name}"
    await migrations.upgrade(url, server.migrations_folder())
    yield url
    await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await owner.close()


def _environment(folder: Path, **variables: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    path = f"{folder / '.venv/bin'}:{kept.pop('PATH')}"
    # `serve` refuses a database that may lose commits, as that of a test run may.
    return {**kept, "PATH": path, "HOME": str(folder), "DG_ALLOW_UNSAFE_DATABASE": "true", **variables}


async def _record_demo(service: Service, token: str) -> None:
    async with grpc.aio.insecure_channel(service.grpc) as channel:
        await demo._record_decision(channel, token)


async def _first_administrator(own: Service, url: str) -> str:
    """The API key of an administrator of the new tenant `acme`, which holds the demo decision."""
    opened = await Database.open(url, pool_size=2)
    try:
        await tenancy.create_tenant(opened, ACME, clock=server.clock_micros)
        act = Act("test", "bootstrap", "first administrator", "test")
        administration = Administration(opened, clock=server.clock_micros, revoked=_nothing)
        made = await administration.bootstrap("administrator", [SYSTEM, ACME], tokens.PERMISSIONS, act)
    finally:
        await opened.close()
    await _record_demo(own, own.token(tenant_ids=[ACME], roles=["writer"]))
    return made.secret


async def _nothing() -> None:
    return None


def _as_after_make_run(folder: Path, service: Service, tenant: Tenant, database_url: str) -> None:
    """The files that `decisiongraph run` leaves for other programs."""
    run = folder / ".run"
    told = {"rest": service.rest, "grpc": service.grpc, "tenant": tenant.tenant_id, "tokens": dict(tenant.tokens)}
    (run / "service.json").write_text(json.dumps(told))
    (run / "database-url").write_text(database_url)
    shutil.copy(service.folder / "token-key.pem", run / "token-key.pem")


async def _run_page(page: str, folder: Path, environment: dict[str, str]) -> None:
    """Run a page's blocks and compare; names the first block that fails."""
    printed, shown = "", True
    async with session(folder, environment) as opened:
        for block, following in zip(PAGES[page], [*PAGES[page][1:], None], strict=True):
            if block.executed:
                ran = await opened.run(block)
                assert not ran.failed, f"{block.place} failed:\n{block.text}\n{ran.out}\n{ran.err}"
                printed = ran.out
                shown = following is not None and following.printed
                refused = page_blocks.refusal(printed)
                assert shown or refused is None, f"{block.place} is refused, and the page does not show it: {refused}"
            elif block.printed:
                told = list(page_blocks.differences(block, printed))
                assert not told, f"{block.place} shows something else than was printed:\n" + "\n".join(told)


@pytest.mark.parametrize("page", [page for page in EXECUTED if page not in OF_AN_OPERATOR])
async def test_what_a_page_shows_works(
    page: str, service: Service, tenant: Tenant, database_url: str, folder: Path
) -> None:
    await _record_demo(service, tenant.tokens["writer"])
    _as_after_make_run(folder, service, tenant, database_url)
    await _run_page(page, folder, _environment(folder))


@pytest.mark.parametrize("page", OF_AN_OPERATOR)
async def test_what_a_page_shows_to_operators_works(
    page: str, service: Service, own_url: str, own_postgres: str, folder: Path
) -> None:
    variables = {"DG_DATABASE_URL": own_url, "EMPTY_URL": own_postgres}
    async with contextlib.AsyncExitStack() as more:
        own: Service | None = None
        if OF_AN_OPERATOR[page] != "without a server":
            own = await more.enter_async_context(another_server(service, own_url))
            variables["DG_SERVER"] = own.grpc
        if own is not None and OF_AN_OPERATOR[page] == "at work":
            another = await more.enter_async_context(embedded_postgres.temporary_postgres())
            key = await _first_administrator(own, own_url)
            variables |= {"DG_API_KEY": key, "SOURCE_URL": own_postgres, "RESTORE_URL": another.dsn}
        await _run_page(page, folder, _environment(folder, **variables))


def test_every_block_can_be_read_and_is_run_or_says_why_not() -> None:
    told = [
        f"{block.place} {fault}" for blocks in PAGES.values() for block in blocks for fault in page_blocks.faults(block)
    ]
    assert not told, "\n".join(told)


def test_what_is_printed_follows_what_prints_it() -> None:
    for blocks in PAGES.values():
        previous: page_blocks.Block | None = None
        for block in blocks:
            assert not block.printed or (previous is not None and previous.executed), f"{block.place} follows nothing"
            previous = block


def test_few_blocks_are_not_run() -> None:
    listed = "\n".join(f"{block.place}: {block.not_run}" for block in NOT_RUN)
    assert len(NOT_RUN) <= MOST_NOT_RUN, f"{len(NOT_RUN)} blocks are not run:\n{listed}"


@pytest.mark.parametrize("block", NOT_RUN, ids=lambda block: block.place)
def test_what_is_not_run_can_be_read_and_names_commands_and_targets_that_exist(block: page_blocks.Block) -> None:
    assert block.language == "sh"
    read = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True)
    assert read.returncode == 0, f"{block.place}: {read.stderr}"
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["decisiongraph"]:
            _assert_command(block.place, words[1:])
        if words[:1] == ["make"]:
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"{block.place}: {line}"


def _assert_command(place: str, words: list[str]) -> None:
    """The command line has this command with these options."""
    command: Any = typer.main.get_command(main.app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert not hasattr(command, "commands"), f"{place}: there is no command {words[:1]}"
    options = {option for parameter in command.params for option in parameter.opts}
    unknown = [word for word in words if word.startswith("--") and word not in options]
    assert not unknown, f"{place}: there is no option {unknown}"
