"""The settings file: TOML whose keys are the names of the settings.

It is taken as a whole or not at all: a key that is no setting, or a secret that others can read, ends the reading.
"""

import difflib
import os
import stat
import tomllib
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from decisiongraph_service.runtime import secret_texts

MOST_BYTES: Final = 64 * 1024
"""The longest file. What it holds is handed on to child processes by the environment, which is bounded too."""
NAMED_BY: Final = "config_file"
"""The setting that names the file, and the only one that cannot be in it."""
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class SettingsFileError(ValueError):
    """The settings file cannot be used; the message names it, says why, and holds no value."""


def read(path: Path, known: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """The values in the file, by the name of the setting. A text that is empty counts as unset.

    Args:
        path: The file.
        known: All settings.

    Raises:
        SettingsFileError: it cannot be read, is no TOML, is longer than `MOST_BYTES`, has a key that is no setting, or
            holds a secret that others can read.
    """
    found, mode, owner = _load(path)
    for name in found:
        if name == NAMED_BY:
            raise SettingsFileError(f"{path}: {name}: a settings file cannot name another")
        if name not in known:
            raise SettingsFileError(f"{path}: {name!r} is no setting{did_you_mean(_bare(name), known)}")
    values = {name: value for name, value in found.items() if value != ""}
    _require_private(path, mode, owner, [name for name in values if _is_secret(known[name], values[name])])
    return values


def did_you_mean(name: str, known: Collection[str]) -> str:
    """`; did you mean …?` if one of `known` is near to `name`, or an empty text."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""


def _load(path: Path) -> tuple[dict[str, Any], int, int]:
    """What the file holds, who may read it, and whose it is."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SettingsFileError(
            f"{secret_texts.masked_path(path)}: the settings file cannot be read: {error.strerror or error}"
        ) from error
    if len(content) > MOST_BYTES:
        raise SettingsFileError(f"{path}: the settings file is longer than {MOST_BYTES:,} bytes")
    try:
        return tomllib.loads(content.decode()), status.st_mode, status.st_uid
    except UnicodeDecodeError as error:
        raise SettingsFileError(f"{path}: the settings file is not UTF-8 (byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsFileError(f"{path}: the settings file is no TOML: {error}") from error
    except RecursionError as error:
        raise SettingsFileError(f"{path}: the settings file is nested too deeply") from error
    except ValueError as error:
        # Python reads no integer of more than 4,300 digits.
        raise SettingsFileError(f"{path}: the settings file holds a number of too many digits") from error


def _require_private(path: Path, mode: int, owner: int, secrets: list[str]) -> None:
    # As Postgres asks it of key files: root's may be shared with a group, which is how secrets are mounted.
    shared = mode & (_OTHERS & ~stat.S_IRGRP if owner == 0 else _OTHERS)
    if secrets and shared:
        raise SettingsFileError(
            f"{path}: it holds a secret ({', '.join(secrets)}) and is open to others than its owner (mode "
            f"{stat.S_IMODE(mode):04o}); run chmod 600 on it, or take the secret out of it"
        )


def _is_secret(field: FieldInfo, value: object) -> bool:
    types = typing.get_args(field.annotation) or (field.annotation,)
    return SecretStr in types or (isinstance(value, str) and secret_texts.holds_secret(value))


def _bare(name: str) -> str:
    return name.lower().removeprefix("dg_")
