"""`decisiongraph token-keys …`: the keys that sign and verify tokens, changed while servers run."""

import contextlib
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from decisiongraph_service.cli import failure

if TYPE_CHECKING:
    from decisiongraph_service.access.key_folder import KeyFile
    from decisiongraph_service.access.key_ring import KeyRing, RingKey
    from decisiongraph_service.runtime.settings import Settings

# Settings allow no longer ones.
_LONGEST_TOKEN_SECONDS: Final = 24 * 3600

app = typer.Typer(
    help="The keys that sign and verify tokens (folder DG_TOKEN_KEYS_DIR), changed while servers run. To change keys: "
    "`add`; when the new one signs, `retire` the old one; `retire` it again when its tokens have expired.",
    no_args_is_help=True,
)


@app.command("list")
def list_keys(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the keys, the one that signs first.

    States: `signs`; `waits` (published, but not old enough to sign); `could sign` (if the newer ones were not there);
    `verifies` (its private part is gone). `changes`: from when one that waits can sign, or one that only verifies can
    be removed.
    """
    with _failures():
        settings = _settings()
        ring = _ring(settings)
        signing = ring.signing_key.key_id
        rows = [_row(ring, member, signing, settings) for member in ring.members]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    _print(rows)


@app.command()
def add() -> None:
    """Make a key and print its id.

    Running servers publish it and verify its tokens within ten seconds. It signs when it is DG_TOKEN_KEY_GRACE_SECONDS
    old (300), so that by then every server and every cache of the key set knows it; the first key signs at once.
    """
    from decisiongraph_service.access import key_folder

    with _failures():
        made = key_folder.add(_folder(_settings()), now=time.time())
    print(made.key_id)


@app.command()
def retire(
    key_id: Annotated[str, typer.Argument(help="Id of the key, see `list`.")],
    at_once: Annotated[
        bool,
        typer.Option("--now", help="Remove it at once: its tokens stop within ten seconds. For a key that leaked."),
    ] = False,
) -> None:
    """Let a key sign no more; called again when its tokens have expired, remove it.

    First its file is turned into its public part, so that its tokens go on to work; it needs another key that is old
    enough to sign. A day later (in the development profile 30 days) no token of it is valid, and it can be removed.
    """
    from decisiongraph_service.access import key_retirement
    from decisiongraph_service.access.keys import SigningKey

    with _failures():
        settings = _settings()
        ring = _ring(settings)
        file = key_retirement.find(ring, key_id)
        if at_once:
            key_retirement.remove(ring, key_id)
            print(f"{key_id} is removed; its tokens stop within ten seconds")
            return
        if isinstance(file.key, SigningKey):
            key_retirement.stop_signing(ring, key_id, now=time.time())
            file = key_retirement.find(_ring(settings), key_id)
            removable_at = _removable_at(file, settings)
            print(f"{key_id} only verifies from now on; remove it by the same command after {_text(removable_at)}")
            return
        removable_at = _removable_at(file, settings)
        if time.time() < removable_at:
            failure.exit_with(
                f"tokens of {key_id} may be valid until {_text(removable_at)}; retire it again then, or with --now to "
                "stop them"
            )
        key_retirement.remove(ring, key_id)
        print(f"{key_id} is removed; none of its tokens was valid any more")


def _row(ring: "KeyRing", member: "RingKey", signing: str, settings: "Settings") -> dict[str, str]:
    key_id, file = member.key.key_id, member.file
    row = {"key_id": key_id, "state": "could sign", "file": str(settings.token_key_file if file is None else file.path)}
    if file is not None:
        row["added_at"] = _text(file.added_at)
    signs_from = ring.signs_from(key_id)
    if key_id == signing:
        row["state"] = "signs"
    elif signs_from is not None and signs_from > time.time():
        row |= {"state": "waits", "signs_from": _text(signs_from)}
    elif signs_from is None and file is not None:
        row |= {"state": "verifies", "removable_at": _text(_removable_at(file, settings))}
    return row


def _removable_at(file: "KeyFile", settings: "Settings") -> float:
    from decisiongraph_service.access import key_retirement
    from decisiongraph_service.runtime import demo

    longest = demo.TOKEN_LIFETIME_SECONDS if settings.profile == "development" else _LONGEST_TOKEN_SECONDS
    return key_retirement.removable_at(file, longest_token_seconds=longest)


def _settings() -> "Settings":
    from decisiongraph_service.runtime.settings import Settings

    return Settings()


def _folder(settings: "Settings") -> Path:
    if settings.token_keys_dir is None:
        failure.exit_with("DG_TOKEN_KEYS_DIR is not set; it names the folder of the keys")
    return settings.token_keys_dir


def _ring(settings: "Settings") -> "KeyRing":
    from decisiongraph_service.runtime.server import token_keys

    _folder(settings)
    return token_keys(settings)


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        failure.exit_with(str(error))


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _print(rows: list[dict[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("key_id", "state", "changes", box=None)
    for row in rows:
        changes = row.get("signs_from") or row.get("removable_at") or ""
        table.add_row(Text(row["key_id"], no_wrap=True), Text(row["state"]), Text(changes, no_wrap=True))
    Console().print(table)
