"""A line to a service that breaks: for tests of what callers do about it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

_CHUNK_BYTES: Final = 16_384


class UnreliableLine:
    """Where to connect, and how often it has broken."""

    def __init__(
        self, upstream: str, cuts: Sequence[int], before_the_first: Callable[[], Awaitable[None]] | None
    ) -> None:
        self._host, _, port = upstream.rpartition(":")
        self._port = int(port)
        self._cuts = list(cuts)
        self._before_the_first = before_the_first
        self._connections: set[asyncio.Task[None]] = set()
        self.address = ""
        self.broken = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until one end closes it, or its share of answers is through."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        most = self._cuts.pop(0) if self._cuts else None
        before, self._before_the_first = self._before_the_first, None
        if before is not None:
            await before()
        from_service, to_service = await asyncio.open_connection(self._host, self._port)
        asking = asyncio.create_task(_carry(reader, to_service, None))
        answering = asyncio.create_task(_carry(from_service, writer, most))
        try:
            done, _ = await asyncio.wait((asking, answering), return_when=asyncio.FIRST_COMPLETED)
            self.broken += answering in done and answering.result()
        finally:
            for direction in (asking, answering):
                direction.cancel()
            for end in (writer, to_service):
                end.transport.abort()
            self._connections.discard(task)

    async def close(self) -> None:
        """End all connections."""
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int | None) -> bool:
    """Hand on what comes until an end is gone; True if it was cut after `most` bytes."""
    carried = 0
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK_BYTES):
            if most is not None and carried + len(data) > most:
                writer.write(data[: most - carried])
                await writer.drain()
                return True
            carried += len(data)
            writer.write(data)
            await writer.drain()
    return False


@contextlib.asynccontextmanager
async def unreliable_line(
    upstream: str, cuts: Sequence[int] = (), before_the_first: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[UnreliableLine]:
    """A line to `upstream` (host:port) whose first connections break after so many bytes of answers, one each.

    After 0 bytes: what was asked has arrived and was done, and the answer is lost. `before_the_first` is awaited before
    anything of the first connection is handed on.
    """
    line = UnreliableLine(upstream, cuts, before_the_first)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    line.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield line
    finally:
        server.close()
        await line.close()
