"""One call by each way in, and how long calls take one after another."""

import http.client
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import Message

from decisiongraph.v1 import ingestion_service_pb2, ingestion_service_pb2_grpc, query_service_pb2_grpc

RANKS: Final = (50, 95, 99)
_CALL_SECONDS: Final = 60


class CallFailed(Exception):
    """A call was not answered with OK."""


class NotImplementedYet(CallFailed):
    """The service does not know the call, or this form of it."""


class GrpcCaller:
    """Calls over one gRPC channel, the answers decoded."""

    def __init__(self, address: str, headers: Mapping[str, str]) -> None:
        self._channel = grpc.insecure_channel(address)
        self._queries = query_service_pb2_grpc.QueryServiceStub(self._channel)
        self._ingestion = ingestion_service_pb2_grpc.IngestionServiceStub(self._channel)
        self._metadata = tuple(headers.items())

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def ask(self, rpc: str, request: Message) -> Message:
        """The answer of QueryService.

        Raises:
            CallFailed: it is an error.
        """
        try:
            answer: Message = getattr(self._queries, rpc)(request, metadata=self._metadata, timeout=_CALL_SECONDS)
        except grpc.RpcError as error:
            kind = NotImplementedYet if error.code() is grpc.StatusCode.UNIMPLEMENTED else CallFailed
            raise kind(f"{rpc}: {error.code().name}, {error.details()}") from error
        return answer

    def append(self, request: ingestion_service_pb2.AppendEventRequest) -> ingestion_service_pb2.AppendEventResponse:
        """Append an event.

        Raises:
            CallFailed: it was refused.
        """
        try:
            return self._ingestion.AppendEvent(request, metadata=self._metadata, timeout=_CALL_SECONDS)
        except grpc.RpcError as error:
            raise CallFailed(f"AppendEvent: {error.code().name}, {error.details()}") from error


class RestCaller:
    """Calls over one kept HTTP/1.1 connection, the answers read and not decoded."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_CALL_SECONDS)
        self._headers = {**headers, "content-type": "application/json"}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def ask(self, path: str, *, body: str | None = None) -> bytes:
        """The answer to a GET, or with a body to a POST.

        Raises:
            CallFailed: it is an error.
        """
        self._connection.request("GET" if body is None else "POST", path, body, self._headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != HTTPStatus.OK:
            kind = NotImplementedYet if answer.status == HTTPStatus.NOT_IMPLEMENTED else CallFailed
            raise kind(f"{path}: {answer.status}, {content[:300].decode(errors='replace')}")
        return content


async def timed(
    call: Callable[[int], Awaitable[object]], *, first: int, warmup: int, calls: int, most_seconds: float
) -> list[float]:
    """Milliseconds that calls take one after another, sorted.

    Args:
        call: One call, by its number.
        first: The number of the first measured call; those before it warm up.
        warmup: How many calls come before it.
        calls: How many are measured, fewer if they take too long.
        most_seconds: No further call is made after so long, in the warm-up after a quarter of it.
    """
    taken: list[float] = []
    for numbers, seconds in (
        (range(first - warmup, first), most_seconds / 4),
        (range(first, first + calls), most_seconds),
    ):
        taken.clear()
        until = time.perf_counter() + seconds
        for number in numbers:
            began = time.perf_counter()
            await call(number)
            ended = time.perf_counter()
            taken.append(1000 * (ended - began))
            if ended > until:
                break
    return sorted(taken)


def figures(way: str, taken: Sequence[float]) -> dict[str, float]:
    """Percentiles in milliseconds and the number of calls, by name of the way and the figure."""
    ranks = {f"{way}_p{rank}_ms": taken[min(len(taken) - 1, int(len(taken) * rank / 100))] for rank in RANKS}
    return {**ranks, f"{way}_calls": len(taken)}
