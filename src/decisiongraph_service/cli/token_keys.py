"""`decisiongraph token-keys …`: the keys that sign and verify tokens, changed while servers run."""

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from decisiongraph_service.cli import configuration, failure, output
from decisiongraph_service.cli.group import Group
from decisiongraph_service.cli.options import AsJson

if TYPE_CHECKING:
    from decisiongraph_service.access.key_folder import KeyFile
    from decisiongraph_service.access.key_ring import KeyRing, RingKey
    from decisiongraph_service.runtime.settings import Settings

# Settings allow no longer ones.
_LONGEST_TOKEN_SECONDS: Final = 24 * 3600

app = Group(
    help="The keys that sign and verify tokens (folder DG_TOKEN_KEYS_DIR), changed while servers run.\n\n"
    "To change keys: `add`; when the new one signs, `retire` the old one; `retire` it again when no token of "
    "it is valid."
)


@app.named("list")
def list_keys(as_json: AsJson = False) -> None:
    """List the keys, the one that signs first.

    States: `signs`; `waits` (published, but not old enough to sign); `could sign` (if the newer ones were not there);
    `verifies` (its private part is gone). `changes`: from when one that waits can sign, or one that only verifies can
    be removed.
    """
    with _failures():
        settings = configuration.settings()
        ring = _ring(settings)
        signing = ring.signing_key.key_id
        rows = [_row(ring, member, signing, settings) for member in ring.members]
    if as_json:
        output.print_json(rows)
        return
    for row in rows:
        row["changes"] = row.get("signs_from") or row.get("removable_at") or ""
    output.print_table(rows, ("key_id", "state", "changes"))


@app.named("add")
def add(as_json: AsJson = False) -> None:
    """Make a key and print its id.

    Running servers publish it and verify its tokens within ten seconds. It signs when it is DG_TOKEN_KEY_GRACE_SECONDS
    old (300), so that by then every server and every cache of the key set knows it; the first key signs at once.
    """
    from decisiongraph_service.access import key_folder

    with _failures():
        made = key_folder.add(_folder(configuration.settings()), now=time.time())
    _tell({"key_id": made.key_id}, made.key_id, as_json)


@app.named("retire")
def retire(
    key_id: Annotated[str, typer.Argument(help="Id of the key, see `list`.")],
    at_once: Annotated[
        bool,
        typer.Option("--now", help="Remove it at once: its tokens stop within ten seconds. For a key that leaked."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Let a key sign no more; called again when its tokens have expired, remove it.

    First its file is turned into its public part, so that its tokens go on to work; it needs another key that is old
    enough to sign. A day later (in the development profile 30 days) no token of it is valid, and it can be removed.
    """
    from decisiongraph_service.access import key_retirement
    from decisiongraph_service.access.keys import SigningKey

    with _failures():
        settings = configuration.settings()
        ring = _ring(settings)
        file = key_retirement.find(ring, key_id)
        if at_once:
            key_retirement.remove(ring, key_id)
            removed = {"key_id": key_id, "state": "removed"}
            _tell(removed, f"{key_id} is removed; its tokens stop within ten seconds", as_json)
            return
        if isinstance(file.key, SigningKey):
            key_retirement.stop_signing(ring, key_id, now=time.time())
            file = key_retirement.find(_ring(settings), key_id)
            removable_at = _removable_at(file, settings)
            verifies = {"key_id": key_id, "state": "verifies", "removable_at": _text(removable_at)}
            _tell(
                verifies,
                f"{key_id} only verifies from now on; remove it by the same command after {_text(removable_at)}",
                as_json,
            )
            return
        removable_at = _removable_at(file, settings)
        if time.time() < removable_at:
            failure.exit_with(
                f"tokens of {key_id} may be valid until {_text(removable_at)}; retire it again then, or with --now to "
                "stop them"
            )
        key_retirement.remove(ring, key_id)
        removed = {"key_id": key_id, "state": "removed"}
        _tell(removed, f"{key_id} is removed; none of its tokens was valid any more", as_json)


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


def _folder(settings: "Settings") -> Path:
    if settings.token_keys_dir is None:
        failure.exit_with("DG_TOKEN_KEYS_DIR is not set; it names the folder of the keys")
    return settings.token_keys_dir


def _ring(settings: "Settings") -> "KeyRing":
    from decisiongraph_service.runtime.token_keys import token_keys

    _folder(settings)
    return token_keys(settings)


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        failure.exit_with(str(error))


def _tell(told: dict[str, str], text: str, as_json: bool) -> None:
    if as_json:
        output.print_json(told)
    else:
        print(text)


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
