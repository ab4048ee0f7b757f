"""How messages reach the service: by the gRPC library with asyncio, or without. Both have the same methods."""

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar

import grpc
from google.protobuf.message import EncodeError, Message

from decisiongraph_client import _forks, _grpc_forks, errors
from decisiongraph_client._methods import Answer, Method
from decisiongraph_client._settings import MAX_MESSAGE_BYTES, Endpoint
from decisiongraph_client._silence import Watchdog

Metadata: TypeAlias = Sequence[tuple[str, str]]
_P = ParamSpec("_P")
_R = TypeVar("_R")

_LATE_SECONDS: Final = 1.0
"""How much later than the library a child that was forked ends a call by itself."""
_CLOSED: Final = "the client was closed; make a new one"


def _encoded(message: Message) -> bytes:
    try:
        encoded = message.SerializeToString()
    except EncodeError as error:
        raise _too_much(f"the request cannot be encoded, it is nested too deeply: {error}") from error
    if len(encoded) > MAX_MESSAGE_BYTES:
        raise _too_much(
            f"the request has {len(encoded)} bytes, at most {MAX_MESSAGE_BYTES} are taken; send less at once"
        )
    return encoded


def _too_much(message: str) -> errors.InvalidArgument:
    return errors.InvalidArgument(message, code=grpc.StatusCode.INVALID_ARGUMENT)


def _out_of_time(message: str) -> errors.DeadlineExceeded:
    return errors.DeadlineExceeded(message, code=grpc.StatusCode.DEADLINE_EXCEEDED)


class AsyncTransport:
    """Calls with asyncio, for one event loop at a time."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._ended = asyncio.Event()
        self._lock = asyncio.Lock()
        _forks.watch(self)
        _grpc_forks.awaits(self)

    @property
    def is_connected(self) -> bool:
        """Whether a channel is open."""
        return self._channel is not None

    async def unary(self, method: Method[Answer], request: Message, metadata: Metadata, timeout: float) -> Answer:
        """One request, one answer.

        Raises:
            ServiceError: as the service or the library says; InvalidArgument if the request is too large to be sent.
            ClientClosed: it was closed, before or meanwhile.
        """
        encoded = _encoded(request)
        with self._calling():
            call: Any = self._open().unary_unary(method.path, None, method.decode)
            answer: Answer = await call(encoded, metadata=metadata, timeout=timeout)
        return answer

    async def stream(
        self, method: Method[Answer], request: Message, metadata: Metadata, silence: float
    ) -> AsyncGenerator[Answer, None]:
        """The answers to one request, as they come.

        Raises:
            ServiceError: as the service or the library says; DeadlineExceeded after `silence` seconds without one.
            ClientClosed: it was closed, before or meanwhile.
        """
        encoded = _encoded(request)
        with self._calling():
            open_stream: Any = self._open().unary_stream(method.path, None, method.decode)
            call = open_stream(encoded, metadata=metadata)
            try:
                while True:
                    try:
                        async with asyncio.timeout(silence):
                            answer = await call.read()
                    except TimeoutError:
                        raise _out_of_time(f"nothing came for {silence:g} s") from None
                    if answer is grpc.aio.EOF:
                        return
                    yield answer
            finally:
                call.cancel()

    async def sleep(self, seconds: float) -> None:
        """Wait, but not beyond the end of the client."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()

    async def in_thread(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call what blocks."""
        return await asyncio.to_thread(function, *args, **kwargs)

    async def in_thread_of_its_own(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call what blocks for long: it begins at once, however many threads are busy."""
        executor = ThreadPoolExecutor(1, thread_name_prefix="decisiongraph-wait")
        try:
            call = functools.partial(function, *args, **kwargs)
            return await asyncio.get_running_loop().run_in_executor(executor, call)
        finally:
            executor.shutdown(wait=False)

    @contextlib.asynccontextmanager
    async def alone(self, seconds: float) -> AsyncIterator[None]:
        """Nobody else of this client is inside this block.

        Raises:
            DeadlineExceeded: somebody else is, for so many seconds.
        """
        self._enter_loop()
        lock = self._lock
        try:
            async with asyncio.timeout(seconds):
                await lock.acquire()
        except TimeoutError:
            raise _out_of_time(f"a token was waited for, for {seconds:.3g} s") from None
        try:
            yield
        finally:
            lock.release()

    async def close(self) -> None:
        """End all calls."""
        self._closed = True
        channel = self._channel
        # What belonged to another loop ended with it.
        if self._loop is asyncio.get_running_loop():
            self._ended.set()
            if channel is not None:
                await channel.close()
        self._channel = None

    def forked(self) -> None:
        """In a forked child: nothing of the parent's loop works here."""
        if self._channel is not None:
            _grpc_forks.keep(self._channel)
        self._channel = self._loop = None

    @contextlib.contextmanager
    def _calling(self) -> Iterator[None]:
        """A call, whose errors are turned into those of this package."""
        try:
            yield
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from None
        except grpc.aio.UsageError as error:
            if self._closed:
                raise errors.ClientClosed(_CLOSED) from None
            raise errors.Unreachable(str(error), code=grpc.StatusCode.CANCELLED) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                # The library ends the calls of a channel that is closed as if their tasks were cancelled.
                raise errors.ClientClosed(_CLOSED) from None
            raise

    def _open(self) -> grpc.aio.Channel:
        if self._closed:
            raise errors.ClientClosed(_CLOSED)
        _grpc_forks.require_usable()
        self._enter_loop()
        if self._channel is None:
            _grpc_forks.open_library()
            target, options, tls = self._endpoint.target, self._endpoint.options, self._endpoint.tls
            if tls is None:
                self._channel = grpc.aio.insecure_channel(target, options=options)
            else:
                self._channel = grpc.aio.secure_channel(target, tls.credentials(), options=options)
        return self._channel

    def _enter_loop(self) -> None:
        """Belong to the running loop; what belonged to one that is closed is forgotten."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None and self._loop.is_running():
            raise errors.ConfigurationError(
                "this AsyncClient is in use by another event loop that runs; make one for each loop"
            )
        self._loop, self._channel = loop, None
        self._ended, self._lock = asyncio.Event(), asyncio.Lock()


class SyncTransport:
    """Calls that block. Any thread may call; a forked child opens a channel of its own."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._channel: grpc.Channel | None = None
        self._closed = False
        self._forked = False
        self._streams: set[object] = set()
        self._opening = threading.Lock()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        _forks.watch(self)
        _grpc_forks.blocks(self)

    @property
    def has_streams(self) -> bool:
        """Whether somebody reads a stream."""
        return bool(self._streams)

    def unary(self, method: Method[Answer], request: Message, metadata: Metadata, timeout: float) -> Answer:
        """One request, one answer.

        Raises:
            ServiceError: as the service or the library says; InvalidArgument if the request is too large to be sent.
            ClientClosed: it was closed, before or meanwhile.
        """
        encoded = _encoded(request)
        with self._calling():
            call: Any = self._open().unary_unary(method.path, None, method.decode)
            answer: Answer
            if self._forked:
                answer = self._bounded(call.future(encoded, metadata=metadata, timeout=timeout), timeout)
            else:
                answer = call(encoded, metadata=metadata, timeout=timeout)
        return answer

    def stream(
        self, method: Method[Answer], request: Message, metadata: Metadata, silence: float
    ) -> Generator[Answer, None, None]:
        """The answers to one request, as they come.

        Raises:
            ServiceError: as the service or the library says; DeadlineExceeded after `silence` seconds without one.
            ClientClosed: it was closed, before or meanwhile.
        """
        encoded = _encoded(request)
        with self._calling():
            open_stream: Any = self._open().unary_stream(method.path, None, method.decode)
            call = open_stream(encoded, metadata=metadata)
            self._streams.add(call)
        watchdog = Watchdog(silence, call.cancel)
        try:
            while True:
                try:
                    with watchdog.waiting(), self._calling():
                        answer = next(call, None)
                except errors.Unreachable:
                    if watchdog.barked:
                        raise _out_of_time(f"nothing came for {silence:g} s") from None
                    raise
                if answer is None:
                    return
                yield answer
        finally:
            watchdog.stop()
            self._streams.discard(call)
            call.cancel()

    def sleep(self, seconds: float) -> None:
        """Wait, but not beyond the end of the client."""
        self._ended.wait(seconds)

    def in_thread(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call what blocks."""
        return function(*args, **kwargs)

    def in_thread_of_its_own(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call what blocks."""
        return function(*args, **kwargs)

    @contextlib.contextmanager
    def alone(self, seconds: float) -> Iterator[None]:
        """Nobody else of this client is inside this block.

        Raises:
            DeadlineExceeded: somebody else is, for so many seconds.
        """
        lock = self._lock
        if not lock.acquire(timeout=max(0.0, min(seconds, threading.TIMEOUT_MAX))):
            raise _out_of_time(f"a token was waited for, for {seconds:.3g} s")
        try:
            yield
        finally:
            lock.release()

    def close(self) -> None:
        """End all calls."""
        self._closed = True
        self._ended.set()
        self._disconnect()

    def disconnect_for_fork(self) -> None:
        """Cut off what is under way; the next call opens another channel."""
        self._disconnect()

    def forked(self) -> None:
        """In a forked child: locks that another thread of the parent held would be held for ever."""
        self._forked = True
        self._streams.clear()
        channel, self._channel = self._channel, None
        if channel is not None:
            _grpc_forks.keep(channel)
        self._opening, self._lock = threading.Lock(), threading.Lock()
        ended, self._ended = self._ended.is_set(), threading.Event()
        if ended:
            self._ended.set()

    def _disconnect(self) -> None:
        with self._opening:
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    @contextlib.contextmanager
    def _calling(self) -> Iterator[None]:
        """A call, whose errors are turned into those of this package."""
        try:
            with _grpc_forks.calling():
                yield
        except grpc.RpcError as error:
            if self._closed:
                raise errors.ClientClosed(_CLOSED) from None
            raise errors.from_rpc_error(error) from None
        except ValueError as error:
            # That of a channel which was closed between its opening and the call.
            if self._closed:
                raise errors.ClientClosed(_CLOSED) from None
            raise errors.Unreachable(str(error), code=grpc.StatusCode.CANCELLED) from error

    def _open(self) -> grpc.Channel:
        _grpc_forks.require_usable()
        with self._opening:
            if self._closed:
                raise errors.ClientClosed(_CLOSED)
            if self._channel is None:
                _grpc_forks.open_library()
                target, options, tls = self._endpoint.target, self._endpoint.options, self._endpoint.tls
                if tls is None:
                    self._channel = grpc.insecure_channel(target, options=options)
                else:
                    self._channel = grpc.secure_channel(target, tls.credentials(), options=options)
            return self._channel

    @staticmethod
    def _bounded(future: Any, timeout: float) -> Any:
        """The result of a call, also where the fork took from the library what ends calls in time."""
        try:
            return future.result(timeout=timeout + _LATE_SECONDS)
        except grpc.FutureTimeoutError:
            raise _out_of_time(
                "the gRPC library does not work in this process: it was forked while another part of the program was "
                "using the library. Fork before gRPC is used, or start processes anew (spawn)"
            ) from None
