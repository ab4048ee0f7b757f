"""The way of every call: request id, admission, decoding, validation, the servicer, and the answer to what went wrong.

One place, so that no rpc can be served without it. Reflection passes through the same gate; health does not.
"""

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

import grpc
import protovalidate
import structlog
from google.protobuf.message import Message

from decisiongraph_service.domain import errors
from decisiongraph_service.observer import EndedCall, Observer
from decisiongraph_service.rpc import decoding, status, violations
from decisiongraph_service.rpc.interceptors import call, request_id, undecodable
from decisiongraph_service.rpc.interceptors.authentication import Gate
from decisiongraph_service.rpc.interceptors.call import Call
from decisiongraph_service.rpc.interceptors.drain import Drain, DrainedRequests
from decisiongraph_service.rpc.interceptors.refused_acts import RefusedActs
from decisiongraph_service.rpc.interceptors.spendings import Spendings
from decisiongraph_service.spans import Spans

_LOOK_EVERY_SECONDS: Final = 1.0
"""How often it is looked whether the caller of a stream is still let in."""
_HEALTH: Final = "/grpc.health.v1.Health/"
_Context = grpc.aio.ServicerContext[Any, Any]
_Kind = Literal["calls", "streams"]
if TYPE_CHECKING:
    from decisiongraph_service.access.tokens import Caller

    _Handler = grpc.RpcMethodHandler[Any, Any]  # not subscriptable at run time

_log = structlog.get_logger("decisiongraph.rpc")


class Pipeline(grpc.aio.ServerInterceptor):
    """Wraps the handler of every rpc."""

    def __init__(
        self,
        gate: Gate,
        refused_acts: RefusedActs,
        spendings: Spendings,
        *,
        request_types: Mapping[str, type[Message]],
        checked_by_domain: frozenset[str],
        max_request_bytes: int,
        max_concurrent_calls: int,
        max_concurrent_streams: int,
        slow_reader_seconds: float,
        observer: Observer | None = None,
        spans: Spans | None = None,
        drain: Drain | None = None,
    ) -> None:
        """Set up.

        Args:
            gate: Decides who may call.
            refused_acts: Puts refused administrative acts on record.
            spendings: Counts what accounts and tenants ask for.
            request_types: The request message of each rpc of the contract, by path.
            checked_by_domain: Paths whose requests the domain checks itself, in an order that callers rely on.
            max_request_bytes: Longest request message.
            max_concurrent_calls: Most calls at work at once, streams excepted.
            max_concurrent_streams: Most streams at work at once.
            slow_reader_seconds: How long a stream waits for its caller to read before it ends.
            observer: Is told of every call that was answered.
            spans: Makes the spans of calls.
            drain: Ends streams when the server stops.
        """
        self.gate = gate
        self.refused_acts = refused_acts
        self.spendings = spendings
        self.observer = observer or Observer()
        self.spans = spans or Spans()
        self.drain = drain or Drain()
        self._request_types = request_types
        self._checked_by_domain = checked_by_domain
        self._max_request_bytes = max_request_bytes
        self._slow_reader_seconds = slow_reader_seconds
        # Streams last: they must not take the places of calls.
        self._most: dict[_Kind, int] = {"calls": max_concurrent_calls, "streams": max_concurrent_streams}
        self._running: dict[_Kind, int] = {"calls": 0, "streams": 0}
        self._validator = protovalidate.Validator()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["_Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "_Handler | None":
        """The handler of an rpc with everything around it."""
        handler = await continuation(handler_call_details)
        path = str(handler_call_details.method)
        if handler is None:
            return grpc.unary_unary_rpc_method_handler(self._unary(path, None))
        if path.startswith(_HEALTH):
            return undecodable.refusing(handler)
        decoder = decoding.tolerant(handler.request_deserializer)
        if path in self._request_types:
            decoder = decoding.tolerant_decoder(self._request_types[path], self._max_request_bytes)
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._streaming(path, handler.stream_stream), decoder, handler.response_serializer
            )
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._streaming(path, handler.unary_stream), decoder, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            self._unary(path, handler.unary_unary), decoder, handler.response_serializer
        )

    def _unary(self, path: str, behaviour: Callable[..., Any] | None) -> Callable[[Any, _Context], Awaitable[Any]]:
        async def answer(request: Any, context: _Context) -> Any:
            async with _Answering(self, path, request, context, "calls") as admitted:
                self._check(path, request)
                call.enter(admitted)
                return await _started(path, behaviour, request, context)

        return answer

    def _streaming(self, path: str, behaviour: Callable[..., Any] | None) -> Callable[[Any, _Context], Awaitable[None]]:
        async def answer(request: Any, context: _Context) -> None:
            requests = DrainedRequests(request, self.drain) if hasattr(request, "__aiter__") else None
            async with (
                _Answering(self, path, request, context, "streams") as admitted,
                self._while_valid(admitted, ends_at_once=requests is None),
            ):
                if requests is not None:
                    request = self.spendings.paced(admitted, aiter(requests))
                    if path not in self._request_types:
                        request = undecodable.decoded(request)
                elif path in self._request_types:
                    self._check(path, request)
                call.enter(admitted)
                async with contextlib.aclosing(await _started(path, behaviour, request, context)) as responses:
                    async for response in responses:
                        await self._write(context, response)
                if requests is not None and requests.is_cut():
                    raise self.drain.refusal()

        return answer

    @contextlib.asynccontextmanager
    async def _while_valid(self, admitted: Call, *, ends_at_once: bool) -> AsyncIterator[None]:
        """End the block with a refusal once its caller is switched off, or, `ends_at_once`, once the server stops."""
        task = asyncio.current_task()
        refusals: list[errors.DecisionGraphError] = []

        async def look() -> None:
            while task is not None and not refusals:
                try:
                    if not ends_at_once:
                        await asyncio.sleep(_LOOK_EVERY_SECONDS)
                    elif await self.drain.begins_within(_LOOK_EVERY_SECONDS):
                        raise self.drain.refusal()
                    self.gate.require_still_valid(admitted)
                except errors.DecisionGraphError as error:
                    refusals.append(error)
                    task.cancel()

        looking = asyncio.create_task(look())
        try:
            yield
        except asyncio.CancelledError:
            if task is None or not refusals:
                raise
            task.uncancel()
            raise refusals[0] from None
        finally:
            looking.cancel()

    async def _write(self, context: _Context, response: Any) -> None:
        """Hand on one message of a stream; flow control holds it until the caller reads."""
        try:
            async with asyncio.timeout(self._slow_reader_seconds):
                await context.write(response)
        except TimeoutError:
            raise errors.RateLimited(
                "the stream", f"{self._slow_reader_seconds:g} s without reading; read faster or ask for less"
            ) from None

    def _check(self, path: str, request: Any) -> None:
        if isinstance(request, decoding.Undecodable):
            raise request.error()
        if path in self._checked_by_domain:
            return
        found = violations.of_message(self._validator, request)
        if found:
            raise errors.InvalidArgument(found)

    def running(self, kind: "_Kind") -> int:
        """How many are at work."""
        return self._running[kind]

    def begin(self, kind: "_Kind") -> None:
        """One call more, or a refusal because so many are at work.

        Raises:
            RateLimited: there are too many.
        """
        if self._running[kind] >= self._most[kind]:
            raise errors.RateLimited("the server", f"{self._most[kind]} {kind} at once")
        self._running[kind] += 1

    def end(self, kind: "_Kind") -> None:
        """One call less."""
        self._running[kind] -= 1


class _Answering:
    """The frame of one call: begins it, and turns whatever it raises into a status."""

    def __init__(self, pipeline: Pipeline, path: str, request: Any, context: _Context, kind: _Kind) -> None:
        self._pipeline = pipeline
        self._path = path
        self._request = request
        self._kind = kind
        self._context = context
        self._metadata = dict(context.invocation_metadata() or ())
        self._request_id = request_id.choose(self._metadata.get(request_id.HEADER))
        self._began = time.perf_counter()
        self._span = pipeline.spans.begin_call(path, self._metadata, self._request_id)
        self._caller: Caller | None = None
        self._admitted: Call | None = None

    async def __aenter__(self) -> Call:
        try:
            gate = self._pipeline.gate
            self._caller = gate.authenticate(self._path, self._metadata)
            # Before anything is decided about the caller's powers: a flood of refused calls costs too.
            await self._pipeline.spendings.of_account(self._path, self._caller, self._request)
            admitted = gate.admit(self._path, self._caller, self._metadata, self._request_id)
            await self._pipeline.spendings.of_tenant(self._path, admitted.tenant_id, self._request)
            if self._kind == "streams":
                self._pipeline.drain.require_not_begun()
            self._pipeline.begin(self._kind)
            self._admitted = admitted
        except errors.DecisionGraphError as error:
            await self._refuse(error)
        except Exception as error:  # noqa: BLE001 - the outermost edge: whatever it is, the caller gets a status
            await self._fail(error)
        self._context.set_trailing_metadata(((request_id.HEADER, self._request_id),))
        return self._admitted

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._pipeline.end(self._kind)
        if error is None:
            self._report("call_answered", "debug", code="OK", reason="")
        elif isinstance(error, errors.DecisionGraphError):
            await self._refuse(error)
        elif isinstance(error, asyncio.CancelledError):
            self._report("call_cancelled", "debug", code="CANCELLED", reason="")
        elif isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError):
            await self._fail(error)

    async def _refuse(self, error: errors.DecisionGraphError) -> NoReturn:
        refusal = status.of_error(error, self._request_id)
        cause = {"cause": repr(error.__cause__)} if isinstance(error, errors.StorageUnavailable) else {}
        level = "warning" if isinstance(error, errors.StorageUnavailable) else "info"
        self._report("call_refused", level, code=refusal.code.name, reason=refusal.reason, **cause)
        await self._pipeline.refused_acts.record(
            self._path, self._request, self._caller, self._metadata.get("x-tenant-id"), error, self._request_id
        )
        await self._abort(refusal)

    async def _fail(self, error: Exception) -> NoReturn:
        self._report("call_failed", "error", code="INTERNAL", reason="INTERNAL", exc_info=error)
        await self._abort(status.of_failure(self._request_id))

    async def _abort(self, refusal: status.ErrorStatus) -> NoReturn:
        trailers = ((request_id.HEADER, self._request_id), *refusal.trailers())
        await self._context.abort(refusal.code, refusal.status.message, trailers)

    def _report(self, event: str, level: str, *, code: str, reason: str, **facts: object) -> None:
        caller = self._caller
        tenant_id = self._admitted.tenant_id if self._admitted else None
        seconds = time.perf_counter() - self._began
        self._pipeline.observer.call_ended(EndedCall(self._path, code, reason, tenant_id, seconds))
        number: int = grpc.StatusCode[code].value[0]
        self._pipeline.spans.end_call(self._span, code=number, reason=reason, tenant_id=tenant_id)
        getattr(_log, level)(
            event,
            rpc=self._path,
            request_id=self._request_id,
            tenant=tenant_id,
            account=caller.account_id if caller else None,
            code=code,
            reason=reason or None,
            milliseconds=round(seconds * 1000, 1),
            **facts,
        )


async def _started(path: str, behaviour: Callable[..., Any] | None, request: Any, context: _Context) -> Any:
    if behaviour is None:
        raise errors.Unimplemented(path)
    try:
        result = behaviour(request, context)
        return await result if inspect.isawaitable(result) else result
    except NotImplementedError as error:
        raise errors.Unimplemented(path) from error
