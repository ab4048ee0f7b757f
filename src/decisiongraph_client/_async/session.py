"""One caller's calls: token, tenant, deadline and repetition are here, so that every call has them."""

import contextlib
import math
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, ParamSpec, TypeAlias, TypeVar

from google.protobuf.message import Message

from decisiongraph.v1 import access_service_pb2
from decisiongraph_client import _methods, errors
from decisiongraph_client._methods import Answer, Method
from decisiongraph_client._retries import RetryPolicy
from decisiongraph_client._settings import Endpoint
from decisiongraph_client._transports import AsyncTransport

_P = ParamSpec("_P")
_R = TypeVar("_R")
TokenSource: TypeAlias = str | Callable[[], str]
"""A token, or what returns one that is valid now."""

_REFRESH_SHARE: Final = 0.8
"""A token is exchanged for a new one after this share of its life."""
_REFRESH_AGAIN_SECONDS: Final = 2.0
_LEAST_LIFE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Issued:
    """A token that was exchanged for the API key; times of the monotonic clock."""

    token: str = field(repr=False)
    refresh_at: float
    ends_at: float


class AsyncSession:
    """Calls rpcs as one account in one tenant."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        api_key: str | None,
        token: TokenSource | None,
        tenant: str | None,
        timeout: float,
        retries: RetryPolicy,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """Set up; nothing is called yet.

        Raises:
            ConfigurationError: neither or both of `api_key` and `token` are given, or something cannot be sent.
        """
        if api_key is not None and token is not None:
            raise errors.ConfigurationError("give api_key or token, not both")
        if api_key is None and token is None:
            token = environment.get("DG_TOKEN")
            api_key = None if token else environment.get("DG_API_KEY")
        # Secrets are read from files, which end with a line break.
        api_key = (api_key or "").strip()
        token = token if callable(token) else _sendable(token or "", "token")
        if not api_key and not token:
            raise errors.ConfigurationError(
                "say who calls: Client(..., api_key=...) or token=..., or the variable DG_API_KEY or DG_TOKEN"
            )
        if not 0 < timeout < math.inf:
            raise errors.ConfigurationError(f"timeout={timeout!r} must be a number of seconds above 0")
        self.tenant = _sendable(tenant or environment.get("DG_TENANT") or "", "tenant") or None
        self.timeout = timeout
        self._transport = AsyncTransport(endpoint)
        self._retries = retries
        self._api_key = api_key or None
        self._given = token or None
        self._issued: _Issued | None = None
        self._closed = False

    async def call(
        self, method: Method[Answer], request: Message, *, timeout: float | None = None, tenant: str | None = None
    ) -> Answer:
        """The answer to a request, within `timeout` seconds, repetitions included.

        Raises:
            ServiceError: there is none; the kind says why.
            ClientClosed: the client was closed.
            ConfigurationError: the timeout is no number of seconds.
        """
        timeout = self.timeout if timeout is None else timeout
        if not math.isfinite(timeout):
            raise errors.ConfigurationError(f"timeout={timeout!r} must be a number of seconds")
        ends = time.monotonic() + timeout
        attempt = 0
        renewed = False
        while True:
            attempt += 1
            token = ""
            try:
                token = await self._token(method, ends)
                metadata = self._metadata(token, tenant)
                return await self._transport.unary(method, request, metadata, max(0.0, ends - time.monotonic()))
            except errors.Unauthenticated:
                if renewed or not self._renews(token):
                    raise
                # The keys of the service may have changed, or its clock is ahead of ours.
                renewed = True
            except errors.ServiceError as error:
                left = ends - time.monotonic()
                wait = self._retries.delay(error, attempt, repeatable=method.repeatable, left=left)
                if wait is None:
                    raise
                await self._transport.sleep(wait)

    async def stream(self, method: Method[Answer], request: Message, *, silence: float) -> AsyncGenerator[Answer, None]:
        """The answers to one request until the service ends them, or `silence` seconds pass without one.

        Raises:
            ServiceError: they ended otherwise.
            ClientClosed: the client was closed.
        """
        token = await self._token(method, time.monotonic() + self.timeout)
        try:
            answers = self._transport.stream(method, request, self._metadata(token, None), silence)
            async with contextlib.aclosing(answers):
                async for answer in answers:
                    yield answer
        except errors.Unauthenticated:
            self._renews(token)
            raise

    async def sleep(self, seconds: float) -> None:
        """Wait, but not beyond the end of the client."""
        await self._transport.sleep(seconds)

    async def in_thread(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call what blocks, without holding up the others."""
        return await self._transport.in_thread(function, *args, **kwargs)

    async def in_thread_of_its_own(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call what blocks for long: it begins at once, however many threads are busy."""
        return await self._transport.in_thread_of_its_own(function, *args, **kwargs)

    async def close(self) -> None:
        """End all calls; later ones are refused."""
        self._closed = True
        await self._transport.close()

    @property
    def may_renew(self) -> bool:
        """Whether another token can be had when one is refused."""
        return self._api_key is not None or callable(self._given)

    def _renews(self, token: str) -> bool:
        """Whether the next call will have another token than this one, which was refused."""
        if self._issued is not None and self._issued.token == token:
            self._issued = None
        return bool(token) and self.may_renew

    def _metadata(self, token: str, tenant: str | None) -> list[tuple[str, str]]:
        if not token:
            return []
        metadata = [("authorization", f"Bearer {token}")]
        tenant = tenant or self.tenant
        if tenant:
            metadata.append(("x-tenant-id", tenant))
        return metadata

    async def _token(self, method: Method[Answer], ends: float) -> str:
        """The token for a call, empty if it needs none."""
        if self._closed:
            raise errors.ClientClosed("the client was closed; make a new one")
        if method.public:
            return ""
        if callable(self._given):
            return _sendable(self._given(), "token")
        if self._given:
            return self._given
        issued = self._issued
        if issued is not None and time.monotonic() < issued.refresh_at:
            return issued.token
        async with self._transport.alone(ends - time.monotonic()):
            issued = self._issued
            if issued is None or time.monotonic() >= issued.refresh_at:
                issued = self._issued = await self._refreshed(issued, ends)
            return issued.token

    async def _refreshed(self, issued: "_Issued | None", ends: float) -> "_Issued":
        """A new token; or the old one, while it is valid and no new one is to be had."""
        request = access_service_pb2.IssueTokenRequest(api_key=self._api_key)
        left = max(0.0, ends - time.monotonic())
        try:
            answer = await self._transport.unary(_methods.ISSUE_TOKEN, request, (), left)
        except errors.TryAgain:
            if issued is None or time.monotonic() >= issued.ends_at:
                raise
            return replace(issued, refresh_at=time.monotonic() + _REFRESH_AGAIN_SECONDS)
        # Clocks differ: a token that was just issued is good for a while whatever ours says.
        life = max(_LEAST_LIFE_SECONDS, datetime.fromisoformat(answer.expires_at).timestamp() - time.time())
        now = time.monotonic()
        return _Issued(answer.token, now + life * _REFRESH_SHARE, now + life)


def _sendable(text: str, name: str) -> str:
    """The text without blanks around it, if metadata of a call may hold it."""
    if not isinstance(text, str):
        raise errors.ConfigurationError(f"{name}: must be text, and not {type(text).__name__}")
    text = text.strip()
    if not (text.isascii() and text.isprintable()):
        raise errors.ConfigurationError(f"{name}: must be printable ASCII; look for line breaks or quotes from a file")
    return text
