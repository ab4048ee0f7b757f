"""What the gRPC server is made of, wired by hand, and how it starts and stops."""

import asyncio
import gc
import signal
import time
from functools import partial
from pathlib import Path
from typing import Final

import grpc
import structlog
from google.protobuf import message_factory
from grpc_health.v1 import health, health_pb2

from decisiongraph_service.access.audit_trail import AuditTrail
from decisiongraph_service.access.authorization import Rule
from decisiongraph_service.access.rate_limits import RateLimits
from decisiongraph_service.access.tokens import TokenVerifier
from decisiongraph_service.queries.paging import PageTokens
from decisiongraph_service.queries.readiness import Readiness
from decisiongraph_service.rpc import contract
from decisiongraph_service.rpc.interceptors.authentication import Gate
from decisiongraph_service.rpc.interceptors.drain import Drain
from decisiongraph_service.rpc.interceptors.pipeline import Pipeline
from decisiongraph_service.rpc.interceptors.refused_acts import RefusedActs
from decisiongraph_service.rpc.interceptors.spendings import Spendings
from decisiongraph_service.runtime import ports, workers
from decisiongraph_service.runtime.assets import asset
from decisiongraph_service.runtime.measuring import Measuring
from decisiongraph_service.runtime.metrics import Gauges
from decisiongraph_service.runtime.server_parts import Parts
from decisiongraph_service.runtime.server_tls import ServerTls
from decisiongraph_service.runtime.services import services
from decisiongraph_service.runtime.settings import Settings
from decisiongraph_service.storage import installation, migrations
from decisiongraph_service.storage.database import Database

# A message beyond this is refused by the library before it is read; up to max_request_bytes the service takes it, and
# in between it says what is wrong.
_HARD_MESSAGE_BYTES: Final = 16 * 1024 * 1024
# gRPC hands over one new call per turn of its accept loop. Several listeners on the same port, each with a share of the
# connections, take calls sooner, and a caller waits behind those of its own listener only (docs/benchmarks/INGEST.md).
_LISTENERS: Final = 8
_REFLECTION_PATH: Final = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
_RULES: Final = contract.authorization_rules()
# Not counted against any limit: what answers everybody and costs nothing.
_FREE: Final = frozenset(path for path, rule in _RULES.items() if rule.public and not path.endswith("/IssueToken"))
# The domain checks events itself: the first failing step of an append decides the category.
_CHECKED_BY_DOMAIN: Final = frozenset(
    {"/decisiongraph.v1.IngestionService/AppendEvent", "/decisiongraph.v1.IngestionService/AppendEvents"}
)

_log = structlog.get_logger("decisiongraph.server")


def clock_micros() -> int:
    """The time in microseconds since 1970-01-01T00:00:00Z."""
    return time.time_ns() // 1_000


def migrations_folder() -> Path:
    """Where the migrations of this version are."""
    return asset("migrations")


class Server:
    """The gRPC server of one process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parts: Parts | None = None
        self._health = health.aio.HealthServicer()
        self._measuring = Measuring(settings, paths=(*_RULES, _REFLECTION_PATH))
        self._listeners: list[grpc.aio.Server] = []
        self._drain = Drain()
        self._stopping = False
        self.address = ""
        """`host:port` that it listens on, once it is started."""

    async def start(self) -> None:
        """Connect, listen, and report SERVING.

        Raises:
            StorageUnavailable: the database cannot be reached or is not migrated.
            ValueError: the settings do not go together.
            PortError: the port cannot be listened on.
            RuntimeError: the port was taken at this moment.
        """
        settings = self._settings
        revision = migrations.newest_revision(migrations_folder())
        self._parts = parts = await Parts.open(settings, self._measuring, clock=clock_micros)
        database = parts.database
        readiness = Readiness(
            database,
            needed_revision=revision,
            projector_follows=(lambda: parts.projector.is_following) if settings.projector_enabled else None,
            is_stopping=lambda: self._stopping,
        )
        await readiness.check_database()
        await self._require_durable(database)
        page_tokens = PageTokens(await installation.fetch_key(database, "page_token"))
        await parts.start(projects=settings.projector_enabled)
        pipeline = self._pipeline(parts)
        self._measuring.start(
            database,
            Gauges(
                calls=partial(pipeline.running, "calls"),
                streams=partial(pipeline.running, "streams"),
                waiting=lambda: parts.committer.waiting,
                connections=lambda: database.connections,
                watches=lambda: parts.watches.watching,
            ),
        )
        added = services(settings, parts, readiness, page_tokens, self._health, clock=clock_micros)
        if settings.grpc_own_port is None:
            ports.require_free(settings.grpc_host, settings.grpc_port)
        tls = _tls(settings)
        port = settings.grpc_port
        for _ in range(_LISTENERS):
            listener = self._listener(pipeline)
            self._listeners.append(listener)
            for add_service in added:
                add_service(listener)
            port = _open_port(listener, f"{settings.grpc_host}:{port}", tls)
            if settings.grpc_own_port is not None:
                _open_port(listener, f"{settings.grpc_host}:{settings.grpc_own_port}", tls)
            await listener.start()
        self.address = f"{settings.grpc_host}:{port}"
        await self._report_health(health_pb2.HealthCheckResponse.SERVING)
        _log.info("server_started", address=self.address, profile=settings.profile)

    async def _require_durable(self, database: Database) -> None:
        unsafe = await installation.fetch_unsafe_settings(database)
        if unsafe and not self._settings.allow_unsafe_database:
            raise ValueError(
                f"the database may lose acknowledged events after a crash: {', '.join(unsafe)}. Turn "
                f"{' and '.join(setting.split(' ')[0] for setting in unsafe)} on, or set DG_ALLOW_UNSAFE_DATABASE=true "
                "for data that may be lost"
            )

    async def stop(self) -> None:
        """Report NOT_SERVING, take calls until balancers have noticed, end streams, let calls end, and disconnect."""
        if self._listeners:
            self._stopping = True
            await self._report_health(health_pb2.HealthCheckResponse.NOT_SERVING)
            _log.info("server_draining", address=self.address, seconds=self._settings.drains_for_seconds)
            await asyncio.sleep(self._settings.drains_for_seconds)
            self._drain.begin()
            grace = self._settings.shutdown_grace_seconds
            await asyncio.gather(*(listener.stop(grace) for listener in self._listeners))
        await self._measuring.stop()
        if self._parts is not None:
            await self._parts.stop()
        _log.info("server_stopped", address=self.address)

    def _pipeline(self, parts: Parts) -> Pipeline:
        settings = self._settings
        verifier = TokenVerifier(
            parts.keys,
            issuer=settings.token_issuer,
            audience=settings.token_audience,
            clock=time.time,
            others=parts.issuers,
        )
        rules = {**_RULES, _REFLECTION_PATH: Rule(role=None, installation_wide=True, any_token=True)}
        request_types = {
            path: message_factory.GetMessageClass(method.input_type) for path, method in contract.methods()
        }
        return Pipeline(
            Gate(rules, verifier, parts.revocations),
            RefusedActs(AuditTrail(parts.database, clock=clock_micros), request_types, rules),
            Spendings(
                RateLimits.open(settings.request_limits, settings.tenant_limits, settings.limit_storage_url),
                rules,
                _FREE,
            ),
            request_types=request_types,
            checked_by_domain=_CHECKED_BY_DOMAIN,
            max_request_bytes=settings.max_request_bytes,
            max_concurrent_calls=settings.max_concurrent_calls,
            max_concurrent_streams=settings.max_concurrent_streams,
            slow_reader_seconds=settings.slow_reader_seconds,
            observer=self._measuring.observer,
            spans=self._measuring.spans,
            drain=self._drain,
        )

    def _listener(self, pipeline: Pipeline) -> grpc.aio.Server:
        settings = self._settings
        return grpc.aio.server(
            interceptors=[pipeline],
            options=[
                ("grpc.max_receive_message_length", _HARD_MESSAGE_BYTES),
                ("grpc.max_send_message_length", _HARD_MESSAGE_BYTES),
                ("grpc.so_reuseport", 1),
            ],
            maximum_concurrent_rpcs=2 * (settings.max_concurrent_calls + settings.max_concurrent_streams),
        )

    async def _report_health(self, state: int) -> None:
        for name in ("", *(service.full_name for service in contract.SERVICES)):
            await self._health.set(name, state)


def _tls(settings: Settings) -> ServerTls | None:
    """The server's TLS, if it has any.

    Raises:
        ValueError: the settings do not go together, or a file cannot be used.
    """
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        if settings.tls_cert_file or settings.tls_key_file or settings.tls_client_ca_file:
            raise ValueError("DG_TLS_CERT_FILE and DG_TLS_KEY_FILE go together; set both, or no setting of TLS")
        return None
    return ServerTls(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)


def _open_port(listener: grpc.aio.Server, address: str, tls: ServerTls | None) -> int:
    return listener.add_insecure_port(address) if tls is None else listener.add_secure_port(address, tls.credentials())


def _spare_the_garbage_collector() -> None:
    """Look for cycles seldom, and never among what was made at the start.

    Each call makes and drops thousands of objects without cycles; the default looks through the young ones after every
    700 of them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def serve(settings: Settings) -> None:
    """Run a server until SIGTERM or SIGINT."""
    server = Server(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await server.start()
        _spare_the_garbage_collector()
        orphaned = asyncio.create_task(workers.parent_gone(), name="parent-watch")
        stopped = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait([orphaned, stopped], return_when=asyncio.FIRST_COMPLETED)
        orphaned.cancel()
    finally:
        await server.stop()
