"""A server on the database of the shared one that a test stops, kills and starts again, always at the same address."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import psutil

from decisiongraph_service.runtime import children
from tests.calling import Service, wait_until_serving
from tests.own_ports import own_port


class StoppableServer:
    """Takes the tokens of the shared one. Without Envoy."""

    def __init__(self, service: Service, database_url: str, folder: Path, **environment: str) -> None:
        port = own_port()
        self.address = f"127.0.0.1:{port}"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DG_")},
            "DG_DATABASE_URL": database_url,
            "DG_DATA_DIR": str(folder),
            "DG_TOKEN_KEY_FILE": str(service.folder / "token-key.pem"),
            "DG_GRPC_PORT": str(port),
            "DG_SHUTDOWN_GRACE_SECONDS": "0.5",
            "DG_HEARTBEAT_SECONDS": "0.5",
            **{f"DG_LIMIT_{name}": "off" for name in ("READ", "WRITE", "PUBLIC", "EVENTS", "BYTES")},
            "DG_ALLOW_UNSAFE_DATABASE": "true",
            **environment,
        }
        self._running = children.Children(folder / "logs", folder / "children.json")
        self._pid = 0

    async def start(self, *, until_serving: bool = True) -> None:
        """Start it; returns when it serves, or at once."""
        command = (sys.executable, "-m", "decisiongraph_service.cli.main", "serve")
        self._pid = await self._running.start(children.ChildSpec("server", command, env=self._environment))
        if until_serving:
            await self._running.during(wait_until_serving(self.address))

    async def stop(self) -> None:
        """Stop it in order."""
        await self._running.stop()

    async def kill(self) -> None:
        """Kill it, in the middle of whatever it does."""
        psutil.Process(self._pid).kill()
        await self._running.wait_for_end()
        await self._running.stop()


@contextlib.asynccontextmanager
async def stoppable_server(service: Service, database_url: str, **environment: str) -> AsyncIterator[StoppableServer]:
    """One that does not run yet."""
    folder = Path(tempfile.mkdtemp(prefix="decisiongraph-test-"))
    server = StoppableServer(service, database_url, folder, **environment)
    try:
        yield server
    finally:
        await server.stop()
        shutil.rmtree(folder, ignore_errors=True)
