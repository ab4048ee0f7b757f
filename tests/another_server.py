"""One more server on the database of the shared one, behind an Envoy of its own, with other settings."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx

from decisiongraph_service.runtime import children, envoy
from decisiongraph_service.runtime.edge_spans import EdgeSpans
from tests.calling import Callers, Service, Tenant, wait_until_serving
from tests.conftest import envoy_config
from tests.own_ports import own_port


@contextlib.asynccontextmanager
async def another_server(service: Service, database_url: str, **environment: str) -> AsyncIterator[Service]:
    """Start it; it takes the tokens of `service`, and its Envoy those of the issuers in `DG_EXTERNAL_ISSUERS` too.

    With `DG_OTLP_ENDPOINT`, both make spans.
    """
    folder = Path(tempfile.mkdtemp(prefix="decisiongraph-test-"))
    grpc_port = own_port()
    rest_port = own_port()
    admin_port = own_port()
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DG_")},
        "DG_DATABASE_URL": database_url,
        "DG_DATA_DIR": str(folder),
        "DG_TOKEN_KEY_FILE": str(service.folder / "token-key.pem"),
        "DG_GRPC_PORT": str(grpc_port),
        "DG_SHUTDOWN_GRACE_SECONDS": "1",
        "DG_ALLOW_UNSAFE_DATABASE": "true",
        **environment,
    }
    others = environment.get("DG_EXTERNAL_ISSUERS")
    config = folder / "envoy.yaml"
    endpoint, ratio = environment.get("DG_OTLP_ENDPOINT"), environment.get("DG_OTLP_SAMPLE_RATIO", "0.1")
    config.write_text(
        envoy_config(
            rest_port,
            grpc_port,
            admin_port,
            external_issuers=Path(others) if others else None,
            spans=EdgeSpans(endpoint, float(ratio)) if endpoint else None,
        )
    )
    running = children.Children(folder / "logs", folder / "children.json")
    serve = (sys.executable, "-m", "decisiongraph_service.cli.main", "serve")
    try:
        await running.start(children.ChildSpec("server", serve, env=variables))
        await running.start(children.ChildSpec("envoy", envoy.command(config, concurrency=1)))
        await running.during(wait_until_serving(f"127.0.0.1:{grpc_port}"))
        await running.during(envoy.wait_ready(admin_port, timeout_seconds=20))
        yield Service(
            f"http://127.0.0.1:{rest_port}",
            f"127.0.0.1:{grpc_port}",
            service.key,
            folder,
            running,
            admin=f"http://127.0.0.1:{admin_port}",
        )
    finally:
        await running.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def callers_of(server: Service, tenant: Tenant) -> AsyncIterator[Callers]:
    """Both ways to call a server for a tenant."""
    async with (
        grpc.aio.insecure_channel(server.grpc) as channel,
        httpx.AsyncClient(base_url=server.rest, timeout=30) as client,
    ):
        yield Callers(tenant, channel, client)
