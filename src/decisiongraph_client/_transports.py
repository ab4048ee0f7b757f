"""How messages reach the service: by the gRPC library with asyncio, or without. Both have the same methods.

A child process that was forked gets a channel of its own with its first call: that of its parent is of no use to it.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, ParamSpec, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message

from decisiongraph_client import _forks, errors
from decisiongraph_client._methods import Answer, Method
from decisiongraph_client._settings import Endpoint

Metadata: TypeAlias = Sequence[tuple[str, str]]
_P = ParamSpec("_P")
_R = TypeVar("_R")


def _encode(message: Message) -> bytes:
    return message.SerializeToString()


class AsyncTransport:
    """Calls with asyncio. Belongs to the event loop of its first call."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._channel: grpc.aio.Channel | None = None
        self._pid = os.getpid()
        self.lock = asyncio.Lock()

    async def unary(self, method: Method[Answer], request: Message, metadata: Metadata, timeout: float) -> Answer:
        """One request, one answer.

        Raises:
            ServiceError: as the service or the library says.
        """
        call: Any = self._open().unary_unary(method.path, _encode, method.decode)
        try:
            answer: Answer = await call(request, metadata=metadata, timeout=timeout)
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from None
        return answer

    async def stream(
        self, method: Method[Answer], request: Message, metadata: Metadata, silence: float
    ) -> AsyncIterator[Answer]:
        """The answers to one request, as they come.

        Raises:
            ServiceError: as the service or the library says; DeadlineExceeded after `silence` seconds without one.
        """
        call: Any = self._open().unary_stream(method.path, _encode, method.decode)(request, metadata=metadata)
        try:
            while True:
                async with asyncio.timeout(silence):
                    answer = await call.read()
                if answer is grpc.aio.EOF:
                    return
                yield answer
        except TimeoutError:
            raise errors.DeadlineExceeded(
                f"nothing came for {silence:g} s", code=grpc.StatusCode.DEADLINE_EXCEEDED
            ) from None
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from None
        finally:
            call.cancel()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def in_thread(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call what blocks."""
        return await asyncio.to_thread(function, *args, **kwargs)

    async def close(self) -> None:
        """End all calls."""
        if self._channel is not None and self._pid == os.getpid():
            await self._channel.close()
        self._channel = None

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None or self._pid != os.getpid():
            self._pid = os.getpid()
            target, options, tls = self._endpoint.target, self._endpoint.options, self._endpoint.tls
            if tls is None:
                self._channel = grpc.aio.insecure_channel(target, options=options)
            else:
                self._channel = grpc.aio.secure_channel(target, tls.credentials(), options=options)
        return self._channel


class SyncTransport:
    """Calls that block. Any thread may call."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._channel: grpc.Channel | None = None
        self._pid = os.getpid()
        self._opening = threading.Lock()
        self.lock = threading.Lock()
        _forks.watch(self)

    def unary(self, method: Method[Answer], request: Message, metadata: Metadata, timeout: float) -> Answer:
        """One request, one answer.

        Raises:
            ServiceError: as the service or the library says.
        """
        call: Any = self._open().unary_unary(method.path, _encode, method.decode)
        try:
            answer: Answer = call(request, metadata=metadata, timeout=timeout)
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from None
        return answer

    def stream(self, method: Method[Answer], request: Message, metadata: Metadata, silence: float) -> Iterator[Answer]:
        """The answers to one request, as they come.

        Raises:
            ServiceError: as the service or the library says; DeadlineExceeded after `silence` seconds without one.
        """
        open_stream: Any = self._open().unary_stream(method.path, _encode, method.decode)
        call = open_stream(request, metadata=metadata)
        watchdog = _Watchdog(silence, call.cancel)
        try:
            while True:
                with watchdog.waiting():
                    answer = next(call, None)
                if answer is None:
                    return
                yield answer
        except grpc.RpcError as error:
            if watchdog.barked:
                raise errors.DeadlineExceeded(
                    f"nothing came for {silence:g} s", code=grpc.StatusCode.DEADLINE_EXCEEDED
                ) from None
            raise errors.from_rpc_error(error) from None
        finally:
            watchdog.stop()
            call.cancel()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def in_thread(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call what blocks."""
        return function(*args, **kwargs)

    def close(self) -> None:
        """End all calls."""
        channel, self._channel = self._channel, None
        if channel is not None and self._pid == os.getpid():
            channel.close()

    def forked(self) -> None:
        """In a forked child: locks that another thread of the parent held would be held for ever."""
        self._opening = threading.Lock()
        self.lock = threading.Lock()

    def _open(self) -> grpc.Channel:
        with self._opening:
            if self._channel is None or self._pid != os.getpid():
                self._pid = os.getpid()
                target, options, tls = self._endpoint.target, self._endpoint.options, self._endpoint.tls
                if tls is None:
                    self._channel = grpc.insecure_channel(target, options=options)
                else:
                    self._channel = grpc.secure_channel(target, tls.credentials(), options=options)
            return self._channel


class _Watchdog:
    """Ends a stream on which nothing comes for so many seconds while somebody waits for it."""

    def __init__(self, silence: float, end: Callable[[], object]) -> None:
        self.barked = False
        self._silence = silence
        self._end = end
        self._since: float | None = None
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="decisiongraph-watchdog", daemon=True).start()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Somebody waits inside this block."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = None

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(self._silence / 4):
            since = self._since
            if since is not None and time.monotonic() - since > self._silence:
                self.barked = True
                self._end()
                return
