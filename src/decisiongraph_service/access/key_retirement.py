"""Taking a key out of the folder: first it signs no more, and when none of its tokens is valid any more it goes."""

from typing import Final

from decisiongraph_service.access import keys
from decisiongraph_service.access.key_folder import KeyFile
from decisiongraph_service.access.key_ring import KeyRing
from decisiongraph_service.access.keys import SigningKey

_MARGIN_SECONDS: Final = 60
"""For servers that notice late that a key signs no more, and for clocks that differ."""


def removable_at(file: KeyFile, *, longest_token_seconds: int) -> float:
    """When no token of a key that signs no more is valid, in seconds since 1970-01-01T00:00:00Z."""
    return file.changed_at + longest_token_seconds + _MARGIN_SECONDS


def stop_signing(ring: KeyRing, key_id: str, *, now: float) -> None:
    """Turn a private key into its public part, which verifies.

    Raises:
        ValueError: there is no such private key in the folder, or no other key is old enough to sign; what to do is
            said.
        OSError: the folder cannot be written to.
    """
    file = find(ring, key_id)
    if not isinstance(file.key, SigningKey):
        raise ValueError(f"{key_id} signs no more already")  # noqa: TRY004 - it is the folder that is so
    others = _other_signing_keys(ring, key_id)
    if not any(signs_from <= now for signs_from in others):
        wait = f"another can in {min(others) - now:.0f} s; try again then" if others else "add another key first"
        raise ValueError(f"no other key can sign yet: {wait}")
    keys.replace_by_public(file.path, file.key)


def remove(ring: KeyRing, key_id: str) -> None:
    """Remove a key; its tokens stop.

    Raises:
        ValueError: there is no such key in the folder, or it is the only private one.
        OSError: the folder cannot be written to.
    """
    file = find(ring, key_id)
    if isinstance(file.key, SigningKey) and not _other_signing_keys(ring, key_id):
        raise ValueError("no other key can sign; add another key first")
    file.path.unlink()


def find(ring: KeyRing, key_id: str) -> KeyFile:
    """The file of a key.

    Raises:
        ValueError: there is none in the folder.
    """
    for member in ring.members:
        if member.key.key_id == key_id:
            if member.file is None:
                raise ValueError(f"{key_id} is the key of DG_TOKEN_KEY_FILE; it goes when that is not set any more")
            return member.file
    raise ValueError(f"there is no key {key_id}; `decisiongraph token-keys list` shows those that there are")


def _other_signing_keys(ring: KeyRing, key_id: str) -> list[float]:
    """When each of the others is old enough to sign."""
    times = [ring.signs_from(other) for other in ring if other != key_id]
    return [time for time in times if time is not None]
