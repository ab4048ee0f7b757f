"""Requests that cannot be decoded, of rpcs that are not of the contract: health, which has no gate, and reflection."""

import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

import grpc

from decisiongraph_service.rpc import decoding, status
from decisiongraph_service.rpc.interceptors import request_id

_Context = grpc.aio.ServicerContext[Any, Any]
if TYPE_CHECKING:
    _Handler = grpc.RpcMethodHandler[Any, Any]  # not subscriptable at run time


def refusing(handler: Any) -> "_Handler":
    """The handler of one request, or of a stream of answers to it, refusing what cannot be decoded."""
    decoder = decoding.tolerant(handler.request_deserializer)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(
            _checked(handler.unary_stream), decoder, handler.response_serializer
        )
    return grpc.unary_unary_rpc_method_handler(_checked(handler.unary_unary), decoder, handler.response_serializer)


async def decoded(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The requests of a stream.

    Raises:
        InvalidArgument: one cannot be decoded.
    """
    async for request in requests:
        if isinstance(request, decoding.Undecodable):
            raise request.error()
        yield request


def _checked(behaviour: Callable[..., Any]) -> Callable[[Any, _Context], Any]:
    async def answer(request: Any, context: _Context) -> Any:
        if isinstance(request, decoding.Undecodable):
            sent: Mapping[str, Any] = dict(context.invocation_metadata() or ())
            chosen = request_id.choose(sent.get(request_id.HEADER))
            refusal = status.of_error(request.error(), chosen)
            trailers = ((request_id.HEADER, chosen), *refusal.trailers())
            await context.abort(refusal.code, refusal.status.message, trailers)
        result = behaviour(request, context)
        return await result if inspect.isawaitable(result) else result

    return answer
