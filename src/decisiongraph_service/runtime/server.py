"""What the gRPC server is made of, wired by hand, and how it starts and stops."""

import asyncio
import gc
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

import grpc
import structlog
from google.protobuf import message_factory
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from decisiongraph.v1 import (
    access_service_pb2_grpc,
    admin_service_pb2_grpc,
    ingestion_service_pb2_grpc,
    query_service_pb2_grpc,
    system_service_pb2_grpc,
)
from decisiongraph_service.access import issuers, keys
from decisiongraph_service.access.administration import Administration
from decisiongraph_service.access.audit_trail import AuditTrail
from decisiongraph_service.access.authorization import Rule
from decisiongraph_service.access.issuers import ExternalIssuer
from decisiongraph_service.access.key_ring import KeyRing
from decisiongraph_service.access.rate_limits import RateLimits
from decisiongraph_service.access.revocations import Revocations
from decisiongraph_service.access.token_exchange import TokenExchange
from decisiongraph_service.access.tokens import TokenVerifier
from decisiongraph_service.domain import secret_guard
from decisiongraph_service.ingestion.append import Appender
from decisiongraph_service.ingestion.fair_share import FairShare
from decisiongraph_service.ingestion.group_commit import GroupCommitter
from decisiongraph_service.projection.projector import Projector
from decisiongraph_service.projection.replay_runner import ReplayRunner
from decisiongraph_service.projection.replays import Replays
from decisiongraph_service.queries.access import AccessQueries
from decisiongraph_service.queries.audit import AuditQueries
from decisiongraph_service.queries.events import EventQueries
from decisiongraph_service.queries.freshness import FreshnessWait
from decisiongraph_service.queries.graph import GraphQueries
from decisiongraph_service.queries.health import HealthQueries
from decisiongraph_service.queries.jobs import JobQueries
from decisiongraph_service.queries.paging import PageTokens
from decisiongraph_service.queries.precedents import PrecedentQueries
from decisiongraph_service.queries.ranked_precedents import RankedPrecedentQueries
from decisiongraph_service.queries.readiness import Readiness
from decisiongraph_service.queries.trace_list import TraceList
from decisiongraph_service.queries.traces import TraceQueries
from decisiongraph_service.queries.watch import EventWatches
from decisiongraph_service.rpc import contract
from decisiongraph_service.rpc.access_servicer import AccessServicer
from decisiongraph_service.rpc.admin_servicer import AdminServicer
from decisiongraph_service.rpc.ingestion_servicer import IngestionServicer
from decisiongraph_service.rpc.interceptors.authentication import Gate
from decisiongraph_service.rpc.interceptors.drain import Drain
from decisiongraph_service.rpc.interceptors.pipeline import Pipeline
from decisiongraph_service.rpc.interceptors.refused_acts import RefusedActs
from decisiongraph_service.rpc.interceptors.spendings import Spendings
from decisiongraph_service.rpc.query_servicer import QueryServicer
from decisiongraph_service.rpc.system_servicer import SystemServicer
from decisiongraph_service.runtime import ports, web_files, workers
from decisiongraph_service.runtime.assets import asset
from decisiongraph_service.runtime.measuring import Measuring
from decisiongraph_service.runtime.metrics import Gauges
from decisiongraph_service.runtime.server_tls import ServerTls
from decisiongraph_service.runtime.settings import Settings
from decisiongraph_service.storage import installation, migrations
from decisiongraph_service.storage.commit_signal import CommitSignal
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


def token_keys(settings: Settings) -> KeyRing:
    """The keys that sign and verify tokens; in the development profile one is made on first use if none is configured.

    Raises:
        ValueError: none is configured in the production profile, or a file is missing or holds no Ed25519 key.
    """
    first = None
    if settings.token_key_file is not None:
        first = keys.load(settings.token_key_file)
    elif settings.token_keys_dir is None:
        if settings.profile == "production":
            raise ValueError(
                "neither DG_TOKEN_KEYS_DIR nor DG_TOKEN_KEY_FILE is set; in the production profile keys are not made "
                "by themselves"
            )
        first = keys.load_or_create(settings.data_dir / "token-key.pem")
    return KeyRing(
        settings.token_keys_dir, first=first, grace_seconds=settings.token_key_grace_seconds, clock=time.time
    )


def migrations_folder() -> Path:
    """Where the migrations of this version are."""
    return asset("migrations")


@dataclass(frozen=True, slots=True)
class _Parts:
    """What has a life cycle, in the order of its start."""

    database: Database
    signal: CommitSignal
    committer: GroupCommitter
    projector: Projector
    runner: ReplayRunner
    revocations: Revocations
    keys: KeyRing
    issuers: list[ExternalIssuer]
    watches: EventWatches


class Server:
    """The gRPC server of one process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parts: _Parts | None = None
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
        if settings.database_url is None:
            raise ValueError("DG_DATABASE_URL is not set; `decisiongraph run` starts an embedded database")
        ring = token_keys(settings)
        others = (
            issuers.load(settings.external_issuers, own_issuer=settings.token_issuer)
            if settings.external_issuers is not None
            else []
        )
        revision = migrations.newest_revision(migrations_folder())
        url = settings.database_url.get_secret_value()
        database = await Database.open(url, pool_size=settings.database_pool_size)
        signal = CommitSignal(url)
        observer, spans = self._measuring.observer, self._measuring.spans
        self._parts = parts = _Parts(
            database,
            signal,
            GroupCommitter(
                database,
                signal,
                clock=clock_micros,
                parallel_commits=max(1, settings.database_pool_size // 2),
                observer=observer,
                spans=spans,
            ),
            Projector(database, signal, clock=clock_micros, observer=observer, spans=spans),
            ReplayRunner(database, clock=clock_micros),
            Revocations(database, clock=clock_micros),
            ring,
            others,
            EventWatches(
                database,
                signal,
                heartbeat_seconds=settings.heartbeat_seconds,
                max_per_tenant=settings.max_watchers_per_tenant,
            ),
        )
        readiness = Readiness(
            database,
            needed_revision=revision,
            projector_follows=(lambda: parts.projector.is_following) if settings.projector_enabled else None,
            is_stopping=lambda: self._stopping,
        )
        await readiness.check_database()
        await self._require_durable(database)
        page_tokens = PageTokens(await installation.fetch_key(database, "page_token"))
        await parts.revocations.start()
        await asyncio.gather(parts.keys.start(), *(issuer.start() for issuer in parts.issuers))
        signal.start()
        if settings.projector_enabled:
            parts.projector.start()
            parts.runner.start()
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
        services = self._services(parts, readiness, page_tokens)
        if settings.grpc_own_port is None:
            ports.require_free(settings.grpc_host, settings.grpc_port)
        tls = _tls(settings)
        port = settings.grpc_port
        for _ in range(_LISTENERS):
            listener = self._listener(pipeline)
            self._listeners.append(listener)
            for add_service in services:
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
            await self._parts.committer.drain()
            await self._parts.runner.stop()
            await self._parts.projector.stop()
            await self._parts.signal.stop()
            await asyncio.gather(self._parts.keys.stop(), *(issuer.stop() for issuer in self._parts.issuers))
            await self._parts.revocations.stop()
            await self._parts.database.close()
        _log.info("server_stopped", address=self.address)

    def _pipeline(self, parts: "_Parts") -> Pipeline:
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

    def _services(
        self, parts: "_Parts", readiness: Readiness, page_tokens: PageTokens
    ) -> list[Callable[[grpc.aio.Server], None]]:
        """The services, each as the function that adds it to a listener."""
        settings, database = self._settings, parts.database
        appender = Appender(
            parts.committer,
            FairShare(clock=time.monotonic),
            guard=secret_guard.guard_for(settings.secret_guard),
            limits=settings.event_limits,
        )
        freshness_wait = FreshnessWait(database, parts.signal, wait_seconds=settings.freshness_wait)
        projection_health = HealthQueries(database, page_tokens, clock=clock_micros)
        queries = QueryServicer(
            TraceQueries(database, page_tokens, freshness_wait),
            TraceList(page_tokens, freshness_wait),
            EventQueries(database, page_tokens),
            parts.watches,
            GraphQueries(page_tokens, freshness_wait),
            PrecedentQueries(page_tokens, freshness_wait),
            RankedPrecedentQueries(page_tokens, freshness_wait),
            projection_health,
        )
        admin = AdminServicer(
            Replays(database, parts.signal, clock=clock_micros, wake_runner=parts.runner.wake),
            JobQueries(database, page_tokens),
            projection_health,
            Administration(database, clock=clock_micros, revoked=parts.revocations.refresh),
            AccessQueries(database, page_tokens),
            AuditQueries(database, page_tokens),
            rebuild_enabled=settings.allows_rebuilds,
        )
        system = SystemServicer(
            readiness,
            web_files.load(),
            version=version("decisiongraph"),
            openapi=asset("generated/openapi.yaml").read_bytes(),
            clock=clock_micros,
        )
        names = (*(service.full_name for service in contract.SERVICES), health.SERVICE_NAME, reflection.SERVICE_NAME)
        ingestion = IngestionServicer(appender)
        access = AccessServicer(partial(self._token_exchange, parts), parts.keys)
        return [
            partial(ingestion_service_pb2_grpc.add_IngestionServiceServicer_to_server, ingestion),
            partial(query_service_pb2_grpc.add_QueryServiceServicer_to_server, queries),
            partial(admin_service_pb2_grpc.add_AdminServiceServicer_to_server, admin),
            partial(access_service_pb2_grpc.add_AccessServiceServicer_to_server, access),
            partial(system_service_pb2_grpc.add_SystemServiceServicer_to_server, system),
            partial(health_pb2_grpc.add_HealthServicer_to_server, self._health),
            partial(reflection.enable_server_reflection, names),
        ]

    def _token_exchange(self, parts: "_Parts") -> TokenExchange:
        """It issues tokens with the key that signs at this moment."""
        return TokenExchange(
            parts.database,
            parts.keys.signing_key,
            issuer=self._settings.token_issuer,
            audience=self._settings.token_audience,
            lifetime_seconds=self._settings.token_lifetime_seconds,
            clock=clock_micros,
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
