"""The folder of the keys that sign and verify tokens: PEM files named by the time at which they were added.

`20260301T120000Z.pem` holds a private key, or the public part of one that signs no more. Other names than `*.pem` are
left alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from decisiongraph_service.access import keys
from decisiongraph_service.access.keys import SigningKey, VerifyingKey

_NAME: Final = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A file of the folder. Times are seconds since 1970-01-01T00:00:00Z."""

    path: Path
    key: SigningKey | VerifyingKey
    added_at: int
    """As its name says."""
    changed_at: float
    """When it was written last; for a public key that was a private one, when it became public."""
    version: tuple[int, int, int]
    """Another one means that the file may hold something else."""

    @property
    def key_id(self) -> str:
        """The id of its key."""
        return self.key.key_id


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in the folder."""

    files: tuple[KeyFile, ...]
    """The newest last."""
    faults: tuple[str, ...]
    """What is wrong with the files that are not among them, or that are there as they were before."""


def read(folder: Path, known: Mapping[Path, KeyFile]) -> Contents:
    """Read the folder. `known`: what was read before, so that only what has changed is read again.

    A file that was good before and is not now keeps its key, for somebody may be writing it. Removing the file is what
    takes its key away.

    Raises:
        ValueError: there is no such folder, or it cannot be read.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".pem")
    except FileNotFoundError as error:
        raise ValueError(f"there is no folder {folder}; `decisiongraph token-keys add` makes it and a key") from error
    except OSError as error:
        raise ValueError(f"the folder of the token keys cannot be read: {error}") from error
    files: dict[str, KeyFile] = {}
    faults: list[str] = []
    for path in paths:
        before = known.get(path)
        try:
            file = _read_file(path, before)
        except FileNotFoundError:
            continue  # it was removed meanwhile
        except ValueError as error:
            faults.append(str(error))
            if before is None:
                continue
            file = before
        if file.key_id in files:
            faults.append(f"{path} holds the same key as {files[file.key_id].path}; remove one of them")
        files.setdefault(file.key_id, file)
    return Contents(tuple(files.values()), tuple(faults))


def add(folder: Path, *, now: float) -> KeyFile:
    """Make a key, mode 0600, and the folder if it is missing, mode 0700.

    `now` gives the file its name; in seconds since 1970-01-01T00:00:00Z.

    Raises:
        ValueError: a key was added in this very second, or the folder cannot be written to.
    """
    path = folder / f"{datetime.fromtimestamp(now, UTC).strftime(_NAME)}.pem"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys.create(path)
    except FileExistsError as error:
        raise ValueError(f"{path} exists: a key was added in this very second; try again") from error
    except OSError as error:
        raise ValueError(f"no key can be added: {error}") from error
    return _read_file(path, None)


def _read_file(path: Path, before: KeyFile | None) -> KeyFile:
    added_at = _time_of(path)
    try:
        found = path.stat()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    version = (found.st_ino, found.st_size, found.st_mtime_ns)
    if before is not None and before.version == version:
        return before
    return KeyFile(path, keys.load_either(path), added_at, found.st_mtime, version)


def _time_of(path: Path) -> int:
    try:
        time = datetime.strptime(path.stem, _NAME).replace(tzinfo=UTC)
        seconds = int(time.timestamp())
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{path} is not named by the UTC time at which it was added, as 20260301T120000Z.pem"
        ) from error
    if time.strftime(_NAME) != path.stem:
        raise ValueError(f"{path} is not named by the UTC time at which it was added, as 20260301T120000Z.pem")
    return seconds
