"""Servers once per run, a tenant per test.

Postgres, the gRPC server and Envoy are the real ones: the server is the command `decisiongraph serve`, Envoy runs the
committed configuration with this run's addresses. Everything is on free ports and in a temporary folder, so that test
runs may overlap.
"""

import contextlib
import itertools
import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import grpc
import httpx
import pytest

from decisiongraph_service.access import keys, tenancy, tokens
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.runtime import children, edge_spans, embedded_postgres, envoy, gate, server
from decisiongraph_service.runtime.assets import asset
from decisiongraph_service.runtime.settings import Settings
from decisiongraph_service.storage import migrations
from decisiongraph_service.storage.database import Database
from tests import example_programs
from tests.calling import AUDIENCE, ISSUER, Callers, Service, Tenant, wait_until_serving
from tests.example_programs import Example, Examples
from tests.fuzz import effort
from tests.own_ports import own_port
from tests.rpc_stages import Stage

# Commands that tests interrupt inherit it, and shells ignore it for what they run in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str | None:
    """How to repeat what was fuzzed."""
    return None if effort.SEED is None else f"fuzzing: again with make fuzz EXAMPLES={effort.WANTED} SEED={effort.SEED}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of few long tests first: handed out last, they keep one process at work when the others are done."""
    items.sort(key=lambda item: item.path.parent.name != "faults")


@pytest.fixture(scope="session")
async def database_url() -> AsyncIterator[str]:
    """A migrated database on a Postgres of this run."""
    async with embedded_postgres.temporary_postgres() as postgres:
        await migrations.upgrade(postgres.dsn, server.migrations_folder())
        yield postgres.dsn


@pytest.fixture(scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    """The service's own view of the database."""
    opened = await Database.open(database_url, pool_size=10)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
async def own_database_url(database_url: str) -> AsyncIterator[str]:
    """A migrated database beside the shared one, in which no server projects or runs jobs."""
    name = f"own_{uuid.uuid4().hex[:8]}"
    owner = await asyncpg.connect(database_url)
    await owner.execute(f"CREATE DATABASE {name}")
    url = database_url.rsplit("/", 1)[0] + f"/{name}"
    await migrations.upgrade(url, server.migrations_folder())
    yield url
    await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await owner.close()


@pytest.fixture(scope="session")
async def own_database(own_database_url: str) -> AsyncIterator[Database]:
    """The service's own view of that database."""
    opened = await Database.open(own_database_url, pool_size=10)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
async def service(database_url: str) -> AsyncIterator[Service]:
    """A running server behind a running Envoy."""
    folder = Path(tempfile.mkdtemp(prefix="decisiongraph-test-"))
    key = keys.load_or_create(folder / "token-key.pem")
    grpc_port = own_port()
    rest_port = own_port()
    admin_port = own_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DG_")},
        "DG_DATABASE_URL": database_url,
        "DG_DATA_DIR": str(folder),
        "DG_GRPC_PORT": str(grpc_port),
        "DG_SHUTDOWN_GRACE_SECONDS": "1",
        "DG_HEARTBEAT_SECONDS": "0.5",
        # A busy machine is no stale projection; test_freshness.py has a server of its own.
        "DG_FRESHNESS_WAIT": "5",
        # All tests share a few accounts; test_limits.py has a server of its own.
        **{f"DG_LIMIT_{name}": "off" for name in ("READ", "WRITE", "ADMIN", "PUBLIC", "EVENTS", "BYTES")},
        # The Postgres of a test run trades durability for speed.
        "DG_ALLOW_UNSAFE_DATABASE": "true",
    }
    config = folder / "envoy.yaml"
    config.write_text(envoy_config(rest_port, grpc_port, admin_port))
    running = children.Children(folder / "logs", folder / "children.json")
    try:
        await running.start(
            children.ChildSpec(
                "server", (sys.executable, "-m", "decisiongraph_service.cli.main", "serve"), env=environment
            )
        )
        await running.start(children.ChildSpec("envoy", envoy.command(config, concurrency=1)))
        await running.during(wait_until_serving(f"127.0.0.1:{grpc_port}"))
        await running.during(envoy.wait_ready(admin_port, timeout_seconds=20))
        yield Service(
            f"http://127.0.0.1:{rest_port}",
            f"127.0.0.1:{grpc_port}",
            key,
            folder,
            running,
            admin=f"http://127.0.0.1:{admin_port}",
        )
    finally:
        await running.stop()
        shutil.rmtree(folder, ignore_errors=True)


def envoy_config(
    rest_port: int,
    grpc_port: int,
    admin_port: int,
    *,
    external_issuers: Path | None = None,
    spans: edge_spans.EdgeSpans | None = None,
) -> str:
    """The committed configuration with these ports, for servers with these other issuers and spans."""
    settings = Settings(token_issuer=ISSUER, token_audience=AUDIENCE, external_issuers=external_issuers)
    keys_port = own_port()
    return envoy.render_config(
        asset("envoy/envoy.yaml"),
        rest_host="127.0.0.1",
        rest_port=rest_port,
        grpc_addresses=[("127.0.0.1", grpc_port)],
        admin_port=admin_port,
        gate=gate.of_servers(settings, keys_port=keys_port),
        descriptor_set=asset("generated/decisiongraph.binpb"),
        lua_script=asset("envoy/http_status.lua"),
        spans=spans,
    )


_RUN = uuid.uuid4().hex[:8]
_NUMBERS = itertools.count()


@pytest.fixture
async def tenant_id(database: Database) -> TenantId:
    """A tenant of this test alone."""
    tenant_id = TenantId(f"t{_RUN}-{next(_NUMBERS)}")
    await tenancy.create_tenant(database, tenant_id, clock=server.clock_micros)
    return tenant_id


@pytest.fixture
def tenant(service: Service, tenant_id: TenantId) -> Tenant:
    """The test's tenant and a token per role for it."""
    return Tenant(
        tenant_id,
        {role: service.token(tenant_ids=[tenant_id], roles=[role]) for role in tokens.ROLES},
    )


@pytest.fixture
async def callers(service: Service, tenant: Tenant) -> AsyncIterator[Callers]:
    """Both ways to call the service for the test's tenant."""
    async with (
        grpc.aio.insecure_channel(service.grpc) as channel,
        httpx.AsyncClient(base_url=service.rest, timeout=30, verify=False) as client,  # noqa: S501 - no TLS here; saves making a context
    ):
        yield Callers(tenant, channel, client)


@pytest.fixture
async def through_envoy(service: Service, callers: Callers) -> AsyncIterator[Callers]:
    """The same with gRPC going through Envoy too."""
    async with grpc.aio.insecure_channel(service.rest.removeprefix("http://")) as channel:
        yield Callers(callers.tenant, channel, callers.client)


@pytest.fixture
async def stage(callers: Callers, service: Service, database: Database, database_url: str) -> AsyncIterator[Stage]:
    """The test's tenant, to be brought into a state."""
    async with contextlib.AsyncExitStack() as stack:
        yield Stage(callers, service, database, database_url, stack)


@pytest.fixture
def reader_and_writer(service: Service, tenant_id: TenantId) -> str:
    """A token with both roles for the test's tenant."""
    return service.token(tenant_ids=[tenant_id], roles=["reader", "writer"])


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """The programs of examples/, in a folder of their own."""
    return Examples(tmp_path_factory.mktemp("examples"))


@pytest.fixture(params=example_programs.NAMES)
def example(request: pytest.FixtureRequest, examples: Examples) -> Example:
    """Each of them."""
    return examples.get(request.param)


@pytest.fixture
def now() -> int:
    """Seconds since 1970-01-01T00:00:00Z."""
    return int(time.time())
