"""The keys of tokens are changed by a command while a server runs, and no call fails for it."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from tests.accounts import make_account, make_key, token_for
from tests.another_server import another_server, callers_of
from tests.calling import BOTH_WAYS, Callers, Service

_COMMAND = (sys.executable, "-m", "decisiongraph_service.cli.main")
_NOTICED_SECONDS = 15
_GRACE_SECONDS = "15"
"""Longer than Envoy takes to fetch a key that is published."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


async def command(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `decisiongraph …` with these settings and no others."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DG_")}
    return await asyncio.to_thread(
        subprocess.run,
        [*_COMMAND, *words],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


async def token_keys(folder: Path, *words: str) -> str:
    """What `decisiongraph token-keys …` prints."""
    done = await command("token-keys", *words, DG_TOKEN_KEYS_DIR=str(folder), DG_TOKEN_KEY_GRACE_SECONDS=_GRACE_SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def published(callers: Callers, way: str) -> list[str]:
    """The ids of the keys that the server publishes."""
    answer = await callers.call(way, "GetJsonWebKeySet", {})
    return [key["kid"] for key in answer.body["keys"]]


async def until(ask: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    """Ask until the answer is as wanted, for as long as the server may take to notice a change."""
    ends = time.monotonic() + _NOTICED_SECONDS
    while not wanted(answer := await ask()):
        assert time.monotonic() < ends, f"not noticed: {answer}"
        await asyncio.sleep(0.2)
    return answer


def signed_by(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


@contextlib.asynccontextmanager
async def calls_that_must_not_fail(callers: Callers, token: str) -> AsyncIterator[None]:
    """Calls with the token, by either way, for as long as the block takes."""
    stop = asyncio.Event()
    answers = []

    async def go_on(way: str) -> None:
        while not stop.is_set():
            answers.append(await callers.call(way, "ListEvents", {}, token=token))
            await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(go_on(way)) for way in BOTH_WAYS]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)
    assert len(answers) > 2
    assert not [answer.body for answer in answers if not answer.ok]


async def test_keys_are_changed_on_a_running_server(
    service: Service, callers: Callers, database_url: str, folder: Path
) -> None:
    _, secret = await make_key(callers, await make_account(callers))
    old = await token_keys(folder, "add")
    settings = {"DG_TOKEN_KEYS_DIR": str(folder), "DG_TOKEN_KEY_FILE": "", "DG_TOKEN_KEY_GRACE_SECONDS": _GRACE_SECONDS}
    async with (
        another_server(service, database_url, **settings) as server,
        callers_of(server, callers.tenant) as rotated,
    ):
        assert await published(rotated, "grpc") == [old]
        old_token = await token_for(rotated, secret)
        assert signed_by(old_token) == old
        async with calls_that_must_not_fail(rotated, old_token):
            new = await token_keys(folder, "add")
            both = await until(lambda: published(rotated, "rest"), lambda ids: len(ids) == 2)
            assert set(both) == {old, new}
            new_token = await until(lambda: token_for(rotated, secret), lambda token: signed_by(token) == new)
            assert await published(rotated, "grpc") == [new, old], "the one that signs is first"
            async with calls_that_must_not_fail(rotated, new_token):
                printed = await token_keys(folder, "retire", old)
                assert "only verifies" in printed
                assert await published(rotated, "rest") == [new, old]
        async with calls_that_must_not_fail(rotated, new_token):
            await token_keys(folder, "retire", "--now", old)
            await until(lambda: published(rotated, "rest"), lambda ids: ids == [new])
            for way in BOTH_WAYS:
                refused = await rotated.call(way, "ListEvents", {}, token=old_token)
                assert refused.reason == "UNAUTHENTICATED"
                assert "not ours, or not any more" in refused.body["message"]


async def test_a_folder_beside_the_key_file_takes_over_from_it(
    service: Service, callers: Callers, database_url: str, folder: Path
) -> None:
    _, secret = await make_key(callers, await make_account(callers))
    new = await token_keys(folder, "add")
    settings = {"DG_TOKEN_KEYS_DIR": str(folder), "DG_TOKEN_KEY_GRACE_SECONDS": "0"}
    async with (
        another_server(service, database_url, **settings) as server,
        callers_of(server, callers.tenant) as both,
    ):
        assert await published(both, "rest") == [new, service.key.key_id]
        assert signed_by(await token_for(both, secret)) == new
        for way in BOTH_WAYS:
            assert (await both.call(way, "ListEvents", {})).ok, "tokens of the key file work"


async def test_the_command_says_what_is_wrong(folder: Path) -> None:
    unset = await command("token-keys", "list")
    assert (unset.returncode, unset.stderr) == (
        1,
        "decisiongraph: DG_TOKEN_KEYS_DIR is not set; it names the folder of the keys\n",
    )
    only = await token_keys(folder, "add")
    listed = await token_keys(folder, "list", "--json")
    assert only in listed
    assert '"state": "signs"' in listed
    settings = {"DG_TOKEN_KEYS_DIR": str(folder)}
    refused = await command("token-keys", "retire", only, **settings)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "add another key first" in refused.stderr
    (folder / "key.pem").write_text("")
    for words in (("token-keys", "list"), ("serve",)):
        broken = await command(*words, **settings, DG_DATABASE_URL="postgresql://nobody@127.0.0.1:9/none")
        assert broken.returncode == 1
        assert "key.pem is not named by the UTC time" in broken.stderr
