"""What `decisiongraph run` puts into the development profile: tenant `demo`, three accounts, and one decision."""

import time
from collections.abc import Mapping
from typing import Any, Final

import grpc
from google.protobuf import json_format

from decisiongraph.v1 import (
    event_pb2,
    ingestion_service_pb2,
    ingestion_service_pb2_grpc,
    query_service_pb2,
    query_service_pb2_grpc,
)
from decisiongraph_service.access import tenancy, tokens
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.runtime.server import clock_micros
from decisiongraph_service.runtime.settings import Settings
from decisiongraph_service.runtime.token_keys import token_keys
from decisiongraph_service.storage.database import Database

TENANT: Final = TenantId("demo")
TRACE: Final = "refund-4711"

TOKEN_LIFETIME_SECONDS: Final = 30 * 24 * 3600
"""How long a token of the development issuer is valid."""

_CALL_TIMEOUT_SECONDS: Final = 10
_POLICY: Final = {"policy_id": "refund_limit", "policy_version": "2026-02"}
_ORDER: Final = {"entity_type": "order", "entity_id": "A-77120", "system": "shop"}
_DECISION: Final[tuple[tuple[str, str, str, Mapping[str, Any]], ...]] = (
    (
        "TraceStarted",
        "agent:refund-bot",
        "09:00:00",
        {
            "workflow": "refund",
            "title": "Refund of 240 EUR for a damaged espresso machine",
            "primary_entity": _ORDER,
            "context": {"channel": "chat", "locale": "de-AT"},
        },
    ),
    (
        "InputObserved",
        "agent:refund-bot",
        "09:00:02",
        {
            "input_id": "photo-1",
            "source": {"system": "chat", "object_type": "attachment", "object_id": "att-31"},
            "facts": [{"key": "damage_visible", "value": {"type": "bool", "value": "true"}}],
        },
    ),
    (
        "EntityObserved",
        "agent:refund-bot",
        "09:00:03",
        {"entity": {"entity_type": "customer", "entity_id": "c-991", "system": "crm"}, "role": "related", "facts": []},
    ),
    (
        "PolicyEvaluated",
        "agent:refund-bot",
        "09:00:05",
        {
            "policy": _POLICY,
            "inputs": ["photo-1"],
            "decision": "require_exception",
            "violations": [{"code": "amount_over_limit", "message": "240.00 EUR is over the limit of 200.00 EUR"}],
        },
    ),
    (
        "ExceptionRequested",
        "agent:refund-bot",
        "09:00:06",
        {"exception_id": "exc-1", "policy": _POLICY, "reason": "Damage is proven, customer since 2019"},
    ),
    (
        "ApprovalRecorded",
        "person:m.huber",
        "09:14:40",
        {
            "approval_id": "apr-1",
            "subject": {"subject_type": "exception", "subject_id": "exc-1"},
            "approver": {"actor_type": "person", "actor_id": "m.huber"},
            "decision": "approved",
            "reason": "Photo is clear",
        },
    ),
    (
        "ActionProposed",
        "agent:refund-bot",
        "09:14:41",
        {
            "action_id": "act-1",
            "action_type": "refund",
            "target_entity": _ORDER,
            "target_system": "payments",
            "changes": [{"path": "refunded", "old_value": None, "new_value": {"type": "decimal", "value": "240.00"}}],
        },
    ),
    (
        "ActionCommitted",
        "agent:refund-bot",
        "09:14:43",
        {"action_id": "act-1", "status": "success", "external_reference": "pay-88123"},
    ),
    ("TraceFinished", "agent:refund-bot", "09:14:44", {"outcome": "success", "summary": "Refunded in full"}),
)


def development_token(settings: Settings, *, tenant_id: str, roles: list[str], account_id: str) -> str:
    """A token of the development issuer, valid for 30 days, with every permission if it is for an admin."""
    return tokens.issue(
        token_keys(settings).signing_key,
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        account_id=account_id,
        tenant_ids=[tenant_id],
        roles=roles,
        permissions=tokens.PERMISSIONS if "admin" in roles else (),
        now=int(time.time()),
        lifetime_seconds=TOKEN_LIFETIME_SECONDS,
    )


async def create_tenant(database_url: str, tenant_id: str) -> None:
    """Make a tenant, if it does not exist.

    Raises:
        InvalidArgument: the id is not a slug.
        StorageUnavailable: the database cannot be reached.
    """
    database = await Database.open(database_url, pool_size=1)
    try:
        checked = tenancy.parse_tenant_id(tenant_id, field="tenant")
        await tenancy.create_tenant(database, checked, clock=clock_micros)
    finally:
        await database.close()


async def prepare(settings: Settings, database_url: str, grpc_address: str) -> dict[str, str]:
    """Make tenant, tokens and decision as far as they are missing, and return the tokens by role."""
    await create_tenant(database_url, TENANT)
    by_role = {
        role: development_token(settings, tenant_id=TENANT, roles=[role], account_id=f"demo-{role}")
        for role in tokens.ROLES
    }
    # A proxy of the environment is not for a server on this machine.
    async with grpc.aio.insecure_channel(grpc_address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        if not await _has_decision(channel, by_role["reader"]):
            await _record_decision(channel, by_role["writer"])
    return by_role


async def _has_decision(channel: grpc.aio.Channel, token: str) -> bool:
    queries = query_service_pb2_grpc.QueryServiceStub(channel)
    try:
        await queries.GetTrace(
            query_service_pb2.GetTraceRequest(trace_id=TRACE, view="SUMMARY"),
            metadata=(("authorization", f"Bearer {token}"),),
            timeout=_CALL_TIMEOUT_SECONDS,
        )
    except grpc.aio.AioRpcError as error:
        if error.code() == grpc.StatusCode.NOT_FOUND:
            return False
        raise
    return True


async def _record_decision(channel: grpc.aio.Channel, token: str) -> None:
    ingestion = ingestion_service_pb2_grpc.IngestionServiceStub(channel)
    for position, (event_type, actor, clock_time, payload) in enumerate(_DECISION):
        actor_type, _, actor_id = actor.partition(":")
        event = {
            "trace_id": TRACE,
            "trace_seq": position,
            "event_type": event_type,
            "occurred_at": f"2026-03-02T{clock_time}+01:00",
            "source": {"producer_id": "refund-agent", "system": "support-platform", "subsystem": "refunds"},
            "actor": {"actor_type": actor_type, "actor_id": actor_id},
            "idempotency_key": f"{TRACE}/{position}",
            "payload": payload,
            "tags": ["demo"],
        }
        await ingestion.AppendEvent(
            ingestion_service_pb2.AppendEventRequest(event=json_format.ParseDict(event, event_pb2.Event())),
            metadata=(("authorization", f"Bearer {token}"),),
            timeout=_CALL_TIMEOUT_SECONDS,
        )
