"""A TCP proxy on loopback that can be slow, cut, or swallow everything."""

import asyncio
import contextlib
from typing import Final, Literal

_CONNECT_SECONDS: Final = 5.0

Mode = Literal["pass", "cut", "swallow"]


class Proxy:
    """Between one server and its database."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.delay_seconds = 0.0
        """Before each piece of data, in each direction."""
        self._target_port = target_port
        self._mode: Mode = "pass"
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End all connections."""
        if self._server is not None:
            self._server.close()
        self._drop()

    def switch(self, mode: Mode) -> None:
        """`pass` data; `cut`: end all connections and refuse new ones; `swallow`: take data and hand on nothing."""
        self._mode = mode
        if mode == "pass":
            self._open.set()
        elif mode == "swallow":
            self._open.clear()
        else:
            self._open.set()
            self._drop()

    def _drop(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode == "cut":
            writer.transport.abort()
            return
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                there_reader, there = await asyncio.open_connection("127.0.0.1", self._target_port)
        except (OSError, TimeoutError):
            writer.transport.abort()
            return
        self._writers |= {writer, there}
        try:
            await asyncio.gather(self._hand_on(reader, there), self._hand_on(there_reader, writer))
        finally:
            self._writers -= {writer, there}

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._open.wait()
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
