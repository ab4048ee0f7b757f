"""The services of the gRPC server: what each rpc is answered by, wired by hand."""

import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from decisiongraph.v1 import (
    access_service_pb2_grpc,
    admin_service_pb2_grpc,
    ingestion_service_pb2_grpc,
    query_service_pb2_grpc,
    system_service_pb2_grpc,
)
from decisiongraph_service.access.administration import Administration
from decisiongraph_service.access.token_exchange import TokenExchange
from decisiongraph_service.domain import secret_guard
from decisiongraph_service.ingestion.append import Appender
from decisiongraph_service.ingestion.fair_share import FairShare
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
from decisiongraph_service.rpc import contract
from decisiongraph_service.rpc.access_servicer import AccessServicer
from decisiongraph_service.rpc.admin_servicer import AdminServicer
from decisiongraph_service.rpc.ingestion_servicer import IngestionServicer
from decisiongraph_service.rpc.query_servicer import QueryServicer
from decisiongraph_service.rpc.system_servicer import SystemServicer
from decisiongraph_service.runtime import web_files
from decisiongraph_service.runtime.assets import asset
from decisiongraph_service.runtime.server_parts import Parts
from decisiongraph_service.runtime.settings import Settings

Service: TypeAlias = Callable[[grpc.aio.Server], None]
"""The function that adds a service to a listener."""


def services(
    settings: Settings,
    parts: Parts,
    readiness: Readiness,
    page_tokens: PageTokens,
    health_servicer: health.aio.HealthServicer,
    *,
    clock: Callable[[], int],
) -> list[Service]:
    """All services of a server. `clock` tells the time in microseconds since 1970-01-01T00:00:00Z."""
    database = parts.database
    appender = Appender(
        parts.committer,
        FairShare(clock=time.monotonic),
        guard=secret_guard.guard_for(settings.secret_guard),
        limits=settings.event_limits,
    )
    freshness_wait = FreshnessWait(database, parts.signal, wait_seconds=settings.freshness_wait)
    projection_health = HealthQueries(database, page_tokens, clock=clock)
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
        Replays(database, parts.signal, clock=clock, wake_runner=parts.runner.wake),
        JobQueries(database, page_tokens),
        projection_health,
        Administration(database, clock=clock, revoked=parts.revocations.refresh),
        AccessQueries(database, page_tokens),
        AuditQueries(database, page_tokens),
        rebuild_enabled=settings.allows_rebuilds,
    )
    system = SystemServicer(
        readiness,
        web_files.load(),
        version=version("decisiongraph"),
        openapi=asset("generated/openapi.yaml").read_bytes(),
        clock=clock,
    )
    names = (*(service.full_name for service in contract.SERVICES), health.SERVICE_NAME, reflection.SERVICE_NAME)
    ingestion = IngestionServicer(appender)
    access = AccessServicer(partial(_token_exchange, settings, parts, clock), parts.keys)
    return [
        partial(ingestion_service_pb2_grpc.add_IngestionServiceServicer_to_server, ingestion),
        partial(query_service_pb2_grpc.add_QueryServiceServicer_to_server, queries),
        partial(admin_service_pb2_grpc.add_AdminServiceServicer_to_server, admin),
        partial(access_service_pb2_grpc.add_AccessServiceServicer_to_server, access),
        partial(system_service_pb2_grpc.add_SystemServiceServicer_to_server, system),
        partial(health_pb2_grpc.add_HealthServicer_to_server, health_servicer),
        partial(reflection.enable_server_reflection, names),
    ]


def _token_exchange(settings: Settings, parts: Parts, clock: Callable[[], int]) -> TokenExchange:
    """It issues tokens with the key that signs at this moment."""
    return TokenExchange(
        parts.database,
        parts.keys.signing_key,
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        lifetime_seconds=settings.token_lifetime_seconds,
        clock=clock,
    )
