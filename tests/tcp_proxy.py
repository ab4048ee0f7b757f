"""A TCP proxy on this machine that delays what passes, or swallows it while every connection stays open."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class TcpProxy:
    """Passes connections on to one address."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._open: list[asyncio.StreamWriter] = []
        self._dead: set[asyncio.StreamWriter] = set()
        self.swallows = False
        """Nothing passes, and nobody is told."""
        self.delay = 0.0
        """Seconds that everything takes, each way."""
        self.connections = 0
        """How many there were."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on until one of its ends is closed."""
        self.connections += 1
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            self._open += [writer, far_writer]
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass(reader, far_writer))
                    group.create_task(self._pass(far_reader, writer))
            finally:
                for end in (writer, far_writer):
                    end.close()
                    self._open.remove(end)

    def swallow_on_open_ones(self) -> None:
        """From now on nothing passes on the connections that are open; on new ones it does."""
        self._dead.update(self._open)

    def cut(self) -> None:
        """Break all connections."""
        for writer in self._open:
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                if not self.swallows and writer not in self._dead:
                    writer.write(data)
                    await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def tcp_proxy(target: str) -> AsyncIterator[tuple[TcpProxy, str]]:
    """A proxy to an address, and its own address."""
    proxy = TcpProxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    try:
        yield proxy, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        proxy.cut()
