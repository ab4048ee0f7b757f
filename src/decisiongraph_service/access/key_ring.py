"""The keys of this service: all of them verify tokens, one signs.

Keys overlap when they are changed. A new one is published first and verifies, and signs only when it is old enough for
every other server and cache to know it; an old one verifies until its file is removed.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from decisiongraph_service.access import key_folder
from decisiongraph_service.access.key_folder import KeyFile
from decisiongraph_service.access.keys import SigningKey, VerifyingKey
from decisiongraph_service.domain import errors

POLL_SECONDS: Final = 10.0
"""A change of the folder is known to every server so much later at the latest."""

_log = structlog.get_logger("decisiongraph.access")


@dataclass(frozen=True, slots=True)
class RingKey:
    """A key of the ring."""

    key: SigningKey | VerifyingKey
    public: Ed25519PublicKey
    published_at: float
    """Since when others can know it, in seconds since 1970-01-01T00:00:00Z."""
    file: KeyFile | None
    """None for the key that is not of the folder."""

    @property
    def age_order(self) -> float:
        """Greater is newer."""
        return float("-inf") if self.file is None else self.file.added_at


class KeyRing(Mapping[str, Ed25519PublicKey]):
    """The public keys by key id, and the key that signs. Follows the folder while it is started."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        first: SigningKey | None = None,
        grace_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        """`first`: a key besides those of the folder and older than all of them.

        `grace_seconds`: how old a key is before it signs, unless no other can; `clock` tells seconds since
        1970-01-01T00:00:00Z.

        Raises:
            ValueError: the folder or a file of it is not as it should be, or there is no key that can sign.
        """
        self._folder = folder
        self._first = first
        self._grace_seconds = grace_seconds
        self._clock = clock
        self._files: dict[Path, KeyFile] = {}
        self._faults: tuple[str, ...] = ()
        self._keys: dict[str, RingKey] = {}
        self._task: asyncio.Task[None] | None = None
        contents = key_folder.read(folder, {}) if folder is not None else key_folder.Contents((), ())
        if contents.faults:
            raise ValueError("; ".join(contents.faults))
        # How long the files have been there is not known, only what their names say.
        self._take(contents, seen_at=float("-inf"))
        if self._signing() is None:
            raise ValueError(f"{folder} holds no private key; make one with `decisiongraph token-keys add`")

    def __getitem__(self, key_id: str) -> Ed25519PublicKey:
        return self._keys[key_id].public

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def signing_key(self) -> SigningKey:
        """The newest private key that is old enough, or the oldest if none is.

        Raises:
            StorageUnavailable: every private key was removed.
        """
        signing = self._signing()
        if signing is None or not isinstance(signing.key, SigningKey):
            raise errors.StorageUnavailable(
                "there is no key to sign tokens with; an administrator adds one (`decisiongraph token-keys add`)"
            )
        return signing.key

    @property
    def members(self) -> list[RingKey]:
        """Every key: first the one that signs, then the newest."""
        signing = self._signing()
        others = [one for one in self._keys.values() if one is not signing]
        others.sort(key=lambda one: one.age_order, reverse=True)
        return ([] if signing is None else [signing]) + others

    @property
    def published(self) -> list[VerifyingKey]:
        """The same, as those who verify tokens may know them."""
        return [VerifyingKey(one.public) for one in self.members]

    def signs_from(self, key_id: str) -> float | None:
        """When a key is old enough to sign, in seconds since 1970-01-01T00:00:00Z; None if it only verifies.

        Raises:
            KeyError: there is no such key.
        """
        found = self._keys[key_id]
        return found.published_at + self._grace_seconds if isinstance(found.key, SigningKey) else None

    def refresh(self) -> None:
        """Look at the folder now. What is wrong there is logged and changes nothing."""
        if self._folder is None:
            return
        try:
            contents = key_folder.read(self._folder, self._files)
        except ValueError as error:
            _log.error("token_keys_unreadable", cause=str(error))
            return
        for fault in contents.faults:
            if fault not in self._faults:
                _log.error("token_key_ignored", cause=fault)
        before = self._keys
        self._take(contents, seen_at=self._clock())
        if before != self._keys:
            _log.info("token_keys_changed", verifying=list(self._keys))
            if self._signing() is None:
                _log.error("no_token_key_signs", folder=str(self._folder))

    async def start(self) -> None:
        """Follow the folder."""
        if self._folder is not None:
            self._task = asyncio.create_task(self._follow(), name="token-keys")

    async def stop(self) -> None:
        """Follow it no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await asyncio.to_thread(self.refresh)
            except Exception:  # noqa: BLE001 - a look that fails must not end the looking
                _log.exception("token_keys_look_failed")

    def _take(self, contents: key_folder.Contents, *, seen_at: float) -> None:
        taken = {}
        if self._first is not None:
            taken[self._first.key_id] = RingKey(self._first, self._first.public, float("-inf"), None)
        for file in contents.files:
            before = self._keys.get(file.key_id)
            if before is not None and before.file is file:
                taken[file.key_id] = before
                continue
            published_at = max(file.added_at, seen_at) if before is None else before.published_at
            public = file.key.public if before is None else before.public
            taken[file.key_id] = RingKey(file.key, public, published_at, file)
        self._files = {file.path: file for file in contents.files}
        self._faults = contents.faults
        self._keys = taken  # at once: others read it from another thread

    def _signing(self) -> RingKey | None:
        can_sign = [one for one in self._keys.values() if isinstance(one.key, SigningKey)]
        if not can_sign:
            return None
        known = [one for one in can_sign if one.published_at + self._grace_seconds <= self._clock()]
        if known:
            return max(known, key=lambda one: one.age_order)
        return min(can_sign, key=lambda one: (one.published_at, one.age_order))
