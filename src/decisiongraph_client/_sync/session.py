# Made of ../_async by tools/make_blocking_client.py: change it there.
"""One caller's calls: token, tenant, deadline and repetition are here, so that every call has them."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Final, ParamSpec, TypeAlias, TypeVar

from google.protobuf.message import Message

from decisiongraph.v1 import access_service_pb2
from decisiongraph_client import _methods, errors
from decisiongraph_client._methods import Answer, Method
from decisiongraph_client._retries import RetryPolicy
from decisiongraph_client._settings import Endpoint
from decisiongraph_client._transports import SyncTransport

_P = ParamSpec("_P")
_R = TypeVar("_R")
TokenSource: TypeAlias = str | Callable[[], str]
"""A token, or what returns one that is valid now."""

_REFRESH_SHARE: Final = 0.8
"""A token is exchanged for a new one after this share of its life."""


class Session:
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
        token = token if callable(token) else (token or "").strip()
        if not api_key and not token:
            raise errors.ConfigurationError(
                "say who calls: Client(..., api_key=...) or token=..., or the variable DG_API_KEY or DG_TOKEN"
            )
        if not 0 < timeout < math.inf:
            raise errors.ConfigurationError(f"timeout={timeout!r} must be a number of seconds above 0")
        self.tenant = _sendable(tenant or environment.get("DG_TENANT") or "", "tenant") or None
        self.timeout = timeout
        self._transport = SyncTransport(endpoint)
        self._retries = retries
        self._api_key = api_key or None
        self._given = token if callable(token) else _sendable(token, "token") or None
        self._issued: str | None = None
        self._refresh_at = 0.0
        self._closed = False

    def call(
        self, method: Method[Answer], request: Message, *, timeout: float | None = None, tenant: str | None = None
    ) -> Answer:
        """The answer to a request, within `timeout` seconds, repetitions included.

        Raises:
            ServiceError: there is none; the kind says why.
            ClientClosed: the client was closed.
        """
        ends = time.monotonic() + (self.timeout if timeout is None else timeout)
        attempt = 0
        renewed = False
        while True:
            attempt += 1
            try:
                metadata = self._metadata(method, ends, tenant)
                return self._transport.unary(method, request, metadata, max(0.0, ends - time.monotonic()))
            except errors.Unauthenticated:
                if renewed or self._issued is None or method.public:
                    raise
                # The keys of the service may have changed, or its clock is ahead of ours.
                renewed, self._issued = True, None
            except errors.ServiceError as error:
                left = ends - time.monotonic()
                wait = self._retries.delay(error, attempt, repeatable=method.repeatable, left=left)
                if wait is None:
                    raise
                self._transport.sleep(wait)

    def stream(self, method: Method[Answer], request: Message, *, silence: float) -> Iterator[Answer]:
        """The answers to one request until the service ends them, or `silence` seconds pass without one.

        Raises:
            ServiceError: they ended otherwise.
            ClientClosed: the client was closed.
        """
        metadata = self._metadata(method, time.monotonic() + self.timeout, None)
        try:
            for answer in self._transport.stream(method, request, metadata, silence):
                yield answer
        except errors.Unauthenticated:
            self._issued = None
            raise

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self._transport.sleep(seconds)

    def in_thread(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call what blocks, without holding up the others."""
        return self._transport.in_thread(function, *args, **kwargs)

    def close(self) -> None:
        """End all calls; later ones are refused."""
        self._closed = True
        self._transport.close()

    @property
    def may_renew(self) -> bool:
        """Whether another token can be had when one is refused."""
        return self._api_key is not None or callable(self._given)

    def _metadata(self, method: Method[Answer], ends: float, tenant: str | None) -> list[tuple[str, str]]:
        if self._closed:
            raise errors.ClientClosed("the client was closed; make a new one")
        if method.public:
            return []
        token = self._token(ends)
        metadata = [("authorization", f"Bearer {token}")]
        tenant = tenant or self.tenant
        if tenant:
            metadata.append(("x-tenant-id", tenant))
        return metadata

    def _token(self, ends: float) -> str:
        if self._given is not None:
            return self._given if isinstance(self._given, str) else self._given()
        issued = self._issued
        if issued is not None and time.time() < self._refresh_at:
            return issued
        with self._transport.lock:
            if self._issued is None or time.time() >= self._refresh_at:
                self._exchange(ends)
            if self._issued is None:
                raise errors.Unauthenticated("the service gave no token for the API key")
            return self._issued

    def _exchange(self, ends: float) -> None:
        request = access_service_pb2.IssueTokenRequest(api_key=self._api_key)
        left = max(0.0, ends - time.monotonic())
        answer = self._transport.unary(_methods.ISSUE_TOKEN, request, (), left)
        now = time.time()
        life = datetime.fromisoformat(answer.expires_at).timestamp() - now
        self._issued = answer.token
        self._refresh_at = now + max(0.0, life) * _REFRESH_SHARE


def _sendable(text: str, name: str) -> str:
    """The text, if metadata of a call may hold it."""
    if not (text.isascii() and text.isprintable()):
        raise errors.ConfigurationError(f"{name}: must be printable ASCII; look for line breaks or quotes from a file")
    return text
