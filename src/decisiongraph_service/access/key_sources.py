"""Where the keys of other issuers come from: a file, or an address that is asked again and again."""

import asyncio
import contextlib
import http.client
import ipaddress
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final, Protocol

import structlog

from decisiongraph_service.access import key_sets
from decisiongraph_service.access.key_sets import TrustedKey

FILE_POLL_SECONDS: Final = 10.0
"""A change of a file is known so much later at the latest."""
REFRESH_SECONDS: Final = 300.0
"""An address is asked so often when nothing new is wanted."""
FETCH_PAUSE_SECONDS: Final = 10.0
"""The shortest time between two questions to the same address, whatever the tokens say."""
KEPT_SECONDS: Final = 24 * 3600.0
"""How long keys are used while their address does not answer."""

_TIMEOUT_SECONDS: Final = 5.0
_CHUNK_BYTES: Final = 65_536

_log = structlog.get_logger("decisiongraph.access")


class KeySource(Protocol):
    """The keys of one issuer, by key id."""

    may_learn: bool
    """Whether a key that is not known now may be known in a moment, because somebody asked for it."""

    def find(self, key_id: str) -> TrustedKey | None:
        """The key, if it is known. Does not wait."""

    async def start(self) -> None:
        """Follow the source."""

    async def stop(self) -> None:
        """Follow it no more."""


class KeySetFile:
    """A key set in a file. A change of it is noticed; a bad one is logged and changes nothing."""

    may_learn = False

    def __init__(self, path: Path, algorithms: Collection[str]) -> None:
        """`algorithms`: those that the issuer may use.

        Raises:
            ValueError: the file is missing, or holds no key that verifies tokens.
        """
        self._path = path
        self._algorithms = tuple(algorithms)
        self._task: asyncio.Task[None] | None = None
        self._version: tuple[int, int, int] | None = None
        self._keys: Mapping[str, TrustedKey] = {}
        self._read()

    def find(self, key_id: str) -> TrustedKey | None:
        """The key, if it is known."""
        return self._keys.get(key_id)

    def refresh(self) -> None:
        """Look at the file now."""
        try:
            self._read()
        except ValueError as error:
            _log.error("issuer_keys_ignored", path=str(self._path), cause=str(error))

    async def start(self) -> None:
        """Follow the file."""
        self._task = asyncio.create_task(self._follow(), name=f"key-set:{self._path}")

    async def stop(self) -> None:
        """Follow it no more."""
        await _end(self._task)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(FILE_POLL_SECONDS)
            try:
                await asyncio.to_thread(self.refresh)
            except Exception:  # noqa: BLE001 - a look that fails must not end the looking
                _log.exception("issuer_keys_look_failed")

    def _read(self) -> None:
        try:
            found = self._path.stat()
            version = (found.st_ino, found.st_size, found.st_mtime_ns)
            if version == self._version:
                return
            with self._path.open("rb") as file:
                document = file.read(key_sets.MAX_BYTES + 1)
        except OSError as error:
            raise ValueError(f"it cannot be read: {error}") from error
        keys = key_sets.parse(document, self._algorithms)
        if not keys:
            raise ValueError(f"it holds no key with a `kid` for one of {', '.join(self._algorithms)}")
        self._keys, self._version = keys, version


class KeySetUrl:
    """A key set at an address. It is fetched at the start, every five minutes, and when a token names an unknown key.

    Unknown keys make it ask at most once in ten seconds. While the address does not answer, the keys of the last answer
    are used, for a day.
    """

    may_learn = True

    def __init__(
        self,
        url: str,
        algorithms: Collection[str],
        *,
        fetch: Callable[[str], bytes] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`algorithms`: those that the issuer may use; `fetch` gets the document at an address, or raises ValueError.

        `fetch` runs in a thread. `monotonic` tells seconds since any moment.
        """
        self._url = url
        self._algorithms = tuple(algorithms)
        self._fetch = fetch or download
        self._monotonic = monotonic
        self._keys: Mapping[str, TrustedKey] = {}
        self._answered_at = float("-inf")
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def find(self, key_id: str) -> TrustedKey | None:
        """The key, if it is known; otherwise the address is asked soon. To be called from the event loop."""
        kept = self._monotonic() - self._answered_at <= KEPT_SECONDS
        key = self._keys.get(key_id) if kept else None
        if key is None:
            self._wanted.set()
        return key

    async def start(self) -> None:
        """Ask once, then again and again. An address that does not answer is logged."""
        await self.refresh()
        self._task = asyncio.create_task(self._follow(), name=f"key-set:{self._url}")

    async def stop(self) -> None:
        """Ask no more."""
        await _end(self._task)

    async def refresh(self) -> None:
        """Ask now."""
        # Before the answer: what is unknown while it comes may be newer than it.
        self._wanted.clear()
        try:
            keys = key_sets.parse(await asyncio.to_thread(self._fetch, self._url), self._algorithms)
        except ValueError as error:
            _log.warning("issuer_keys_unknown", url=self._url, cause=str(error))
            return
        if not keys:
            _log.warning("issuer_without_keys", url=self._url, algorithms=self._algorithms)
        self._keys, self._answered_at = keys, self._monotonic()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(FETCH_PAUSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_SECONDS - FETCH_PAUSE_SECONDS):
                    await self._wanted.wait()
            try:
                await self.refresh()
            except Exception:  # noqa: BLE001 - a look that fails must not end the looking
                _log.exception("issuer_keys_look_failed", url=self._url)


def check_url(url: str) -> None:
    """Return if keys may be fetched from the address: it is https, or http on this machine.

    Raises:
        ValueError: it is not.
    """
    wanted = "must be an address with a host, and without a user or a fragment"
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.hostname and parts.port != 0
    except ValueError:
        # Without the reason: it may quote a part of the address, password included.
        raise ValueError(wanted) from None
    if not usable or parts.username is not None or parts.fragment:
        raise ValueError(wanted)
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_this_machine(parts.hostname or "")):
        raise ValueError("must be https://…; http:// is for this machine only (127.0.0.1, ::1, localhost)")


def download(url: str) -> bytes:
    """The document at an address that `check_url` accepts. Certificates are verified, redirects are not followed.

    The authorities of the system are trusted, or those in the file that SSL_CERT_FILE names. Takes about ten seconds
    at most.

    Raises:
        ValueError: there is no good answer in five seconds, or it is longer than a key set may be.
    """
    on_this_machine = _is_this_machine(urllib.parse.urlsplit(url).hostname or "")
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler({} if on_this_machine else None),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 - see check_url
    try:
        return _read(opener, request)
    except urllib.error.HTTPError as error:
        error.close()
        raise ValueError(f"the answer is HTTP {error.code}") from error
    except (OSError, http.client.HTTPException) as error:
        raise ValueError(f"no answer: {error}") from error


def _read(opener: urllib.request.OpenerDirector, request: urllib.request.Request) -> bytes:
    until = time.monotonic() + _TIMEOUT_SECONDS
    document = bytearray()
    with opener.open(request, timeout=_TIMEOUT_SECONDS) as response:
        while chunk := response.read1(_CHUNK_BYTES):
            document += chunk
            if len(document) > key_sets.MAX_BYTES:
                raise ValueError(f"the answer is longer than {key_sets.MAX_BYTES} bytes")
            if time.monotonic() > until:
                raise ValueError(f"the answer takes longer than {_TIMEOUT_SECONDS:g} seconds")
    return bytes(document)


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _end(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
