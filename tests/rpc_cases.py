"""Calls that succeed, of every rpc: in what state, with what request, and what must differ between two such calls."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.accounts import WHY, done
from tests.both_ways import Told
from tests.rpc_stages import REFUNDS, Stage
from tests.traces import event_of_trace, whole_trace

Prepare = Callable[[Stage], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True)
class Case:
    """A call of one rpc."""

    rpc: str
    name: str
    prepare: Prepare
    """Brings the stage into the state, and gives the request."""
    differs: tuple[str, ...] = ()
    """For acts: the fields in which two acts never agree, times and ids that the service makes."""
    without_time: Callable[[Told], Told] = lambda answer: answer
    """For what is asked: leaves out of an answer the time that it tells."""
    acts: bool = False
    """It changes something, so that each way needs a stage of its own."""
    events: int = 0
    """Of a watch without an end: how many events are read."""
    refused: str = ""
    """The reason, of a call that must be refused."""
    fields: tuple[str, ...] = ()
    """The fields that the refusal names."""
    headers: Callable[[Stage], Mapping[str, str]] = lambda _: {}
    """Headers beside or in place of those that the rpc needs."""

    def __str__(self) -> str:
        return f"{self.rpc} {self.name}"


def on_empty(**request: Any) -> Prepare:
    """A request to a tenant that has nothing."""

    async def prepare(_: Stage) -> Mapping[str, Any]:
        return request

    return prepare


def on_refunds(**request: Any) -> Prepare:
    """A request to a tenant that has the golden scenario `refunds`, all of it projected."""

    async def prepare(stage: Stage) -> Mapping[str, Any]:
        await stage.append(REFUNDS)
        return request

    return prepare


def on_account(**request: Any) -> Prepare:
    """A request about an account."""

    async def prepare(stage: Stage) -> Mapping[str, Any]:
        return {"account_id": await stage.account(), **request}

    return prepare


def on_disabled_account(**request: Any) -> Prepare:
    """A request about an account that is disabled."""

    async def prepare(stage: Stage) -> Mapping[str, Any]:
        return {"account_id": await stage.account(disabled=True), **request}

    return prepare


def on_key(**request: Any) -> Prepare:
    """A request about a key that is valid."""

    async def prepare(stage: Stage) -> Mapping[str, Any]:
        account_id, key_id, _ = await stage.key()
        return {"account_id": account_id, "key_id": key_id, **request}

    return prepare


def second_page(rpc: str, prepare: Prepare) -> Prepare:
    """The request for what follows on the first page of one."""

    async def following(stage: Stage) -> Mapping[str, Any]:
        request = {**await prepare(stage), "page_size": 1}
        page = await stage.callers.call("grpc", rpc, request)
        return {**request, "page_token": page.body["next_page_token"]}

    return following


async def _two_ended_jobs(stage: Stage) -> Mapping[str, Any]:
    await stage.append(REFUNDS)
    await stage.ended_job(mode="verify")
    await stage.ended_job(mode="rebuild", projection="trace_summary", metadata={"ticket": "a", "n": 1})
    return {}


async def _ended_job(stage: Stage) -> Mapping[str, Any]:
    await stage.append(REFUNDS)
    return {"job_id": await stage.ended_job(mode="verify", until_log_seq=9, metadata={"of": [1, None, True]})}


async def _running_job(stage: Stage) -> Mapping[str, Any]:
    return {"job_id": await stage.running_job()}


async def _running_job_to_cancel(stage: Stage) -> Mapping[str, Any]:
    return {"job_id": await stage.running_job(), "reason": WHY}


async def _health_with_digests(stage: Stage) -> Mapping[str, Any]:
    await stage.append(REFUNDS)
    await stage.ended_job()
    return {}


async def _stopped(stage: Stage) -> Mapping[str, Any]:
    await stage.stopped()
    return {}


async def _stale_but_allowed(stage: Stage) -> Mapping[str, Any]:
    await stage.append(REFUNDS)
    await stage.stale()
    return {"allow_stale": True}


async def _two_acts(stage: Stage) -> Mapping[str, Any]:
    await stage.ended_job()
    await done(stage.callers, "RetryProjection", projection="trace_summary")
    await stage.callers.call("grpc", "CancelReplay", {"job_id": "none", "reason": WHY})
    return {}


async def _two_tenants(stage: Stage) -> Mapping[str, Any]:
    await stage.tenant(disabled=True)
    return {"page_size": 1000}


async def _two_accounts(stage: Stage) -> Mapping[str, Any]:
    await stage.account("a")
    await stage.account("b", disabled=True)
    return {"tenant_id": stage.name}


async def _two_keys(stage: Stage) -> Mapping[str, Any]:
    account_id, key_id, secret = await stage.key()
    await stage.callers.call("grpc", "IssueToken", {"api_key": secret})
    await done(stage.callers, "RevokeApiKey", account_id=account_id, key_id=key_id)
    await done(stage.callers, "CreateApiKey", account_id=account_id, expires_at="2099-01-01T00:00:00+01:00")
    return {"account_id": account_id}


async def _disabled_tenant(stage: Stage) -> Mapping[str, Any]:
    return {"tenant_id": await stage.tenant(disabled=True)}


async def _tenant(stage: Stage) -> Mapping[str, Any]:
    return {"tenant_id": await stage.tenant()}


async def _new_tenant(stage: Stage) -> Mapping[str, Any]:
    return {"tenant_id": f"{stage.name}-new", "display_name": "Größe \U0001f600", "reason": WHY}


async def _new_account(stage: Stage) -> Mapping[str, Any]:
    powers = {"roles": ["ROLE_ADMIN", "ROLE_READER"], "permissions": ["PERMISSION_AUDIT_READ"]}
    return {"account_id": f"{stage.name}-new", "tenant_ids": [stage.name], **powers, "reason": WHY}


async def _secret(stage: Stage) -> Mapping[str, Any]:
    _, _, secret = await stage.key()
    return {"api_key": secret}


async def _stored_event(stage: Stage) -> Mapping[str, Any]:
    await stage.append(REFUNDS)
    return {"event": REFUNDS[5]}


async def _stored_events(stage: Stage) -> Mapping[str, Any]:
    await stage.append(REFUNDS)
    return {"events": REFUNDS[3:9]}


def _with_reason(prepare: Prepare) -> Prepare:
    async def request(stage: Stage) -> Mapping[str, Any]:
        return {**await prepare(stage), "reason": WHY}

    return request


_TYPED: Final = {
    **{key: value for key, value in event_of_trace("typed", 0).items() if key not in ("event_type", "payload")},
    "trace_started": event_of_trace("typed", 0)["payload"],
    "tags": ["Größe", "\U0001f45f"],
}
_ORDER: Final = {"node_type": "entity", "node_id": "order:A-77120"}
_TRACE: Final = {"node_type": "trace", "node_id": "rf-1001"}
_LIMIT: Final = {"policy_id": "refund_limit"}
_START: Final = {"projection": "all", "mode": "catch_up", "reason": WHY}

SUCCESSES: Final = (
    # IngestionService
    Case("AppendEvent", "first", on_empty(event=REFUNDS[0]), ("recorded_at",), acts=True),
    Case("AppendEvent", "typed, unnamed", on_empty(event=_TYPED), ("recorded_at", "event_id"), acts=True),
    Case("AppendEvent", "again", _stored_event),
    Case("AppendEvents", "whole log", on_empty(events=REFUNDS), ("recorded_at",), acts=True),
    Case("AppendEvents", "unnamed", on_empty(events=whole_trace("t", 3)), ("recorded_at", "event_id"), acts=True),
    Case("AppendEvents", "again", _stored_events),
    # QueryService
    Case("GetTrace", "finished", on_refunds(trace_id="rf-1001")),
    Case("GetTrace", "open", on_refunds(trace_id="rf-1003")),
    Case("GetTrace", "as of", on_refunds(trace_id="rf-1001", as_of_log_seq="7", view="FULL")),
    Case("GetTrace", "summary", on_refunds(trace_id="rf-1001", view="SUMMARY", min_log_seq="13")),
    Case("ListTraces", "all", on_refunds()),
    Case("ListTraces", "page", on_refunds(page_size=2)),
    Case("ListTraces", "second page", second_page("ListTraces", on_refunds(workflow="refund"))),
    Case("ListTraces", "words", on_refunds(query="größe", outcome="failure", status="finished")),
    Case("ListTraces", "since", on_refunds(since_started_at="2026-03-02T10:00:00+01:00", primary_entity_type="order")),
    Case("ListTraces", "of nothing", on_empty()),
    Case("ListTraces", "stale", _stale_but_allowed),
    Case("ListTraceEvents", "all", on_refunds(trace_id="rf-1002")),
    Case("ListTraceEvents", "since", on_refunds(trace_id="rf-1001", since_trace_seq="6", page_size=2)),
    Case("ListTraceEvents", "second page", second_page("ListTraceEvents", on_refunds(trace_id="rf-1001"))),
    Case("GetEvent", "with null", on_refunds(event_id="ev-012")),
    Case("GetEvent", "with tags", on_refunds(event_id="ev-002")),
    Case("ListEvents", "all", on_refunds()),
    Case("ListEvents", "filtered", on_refunds(event_type="PolicyEvaluated", correlation_id="case-9", tag="")),
    Case("ListEvents", "between", on_refunds(since_log_seq="3", until_log_seq="5", actor_type="agent")),
    Case("ListEvents", "second page", second_page("ListEvents", on_refunds(producer_id="importer"))),
    Case("ListEvents", "of nothing", on_empty()),
    Case("WatchEvents", "history", on_refunds(since_log_seq="0"), events=len(REFUNDS)),
    Case("WatchEvents", "of types", on_refunds(since_log_seq="2", event_types=["TraceFinished"]), events=3),
    Case("GetContextGraph", "entity", on_refunds(**_ORDER)),
    Case("GetContextGraph", "deep", on_refunds(**_TRACE, max_depth=10)),
    Case("GetContextGraph", "as of", on_refunds(**_TRACE, as_of_log_seq="6", max_depth=2)),
    Case("GetContextGraph", "truncated", on_refunds(**_TRACE, max_nodes=3, node_types=["entity", "policy"])),
    Case("GetContextGraph", "nothing", on_empty(node_type="trace", node_id="none")),
    Case("ListNodeEdges", "both", on_refunds(**_TRACE)),
    Case("ListNodeEdges", "incoming", on_refunds(**_TRACE, direction="incoming")),
    Case("ListNodeEdges", "second page", second_page("ListNodeEdges", on_refunds(**_TRACE, direction="outgoing"))),
    Case("FindPrecedents", "policy", on_refunds(**_LIMIT, policy_version="2026-02")),
    Case("FindPrecedents", "all", on_refunds()),
    Case("FindPrecedents", "ranked by words", on_refunds(query="espresso refund approval", workflow="refund")),
    Case("FindPrecedents", "like", on_refunds(like_trace_id="rf-1002")),
    Case("FindPrecedents", "second page", second_page("FindPrecedents", on_refunds(**_LIMIT))),
    Case("GetProjectionHealth", "empty", on_empty()),
    Case("GetProjectionHealth", "with digests", _health_with_digests),
    # Jobs and projections, of AdminService
    Case("StartReplay", "catch up", on_empty(**_START), ("job_id", "requested_at"), acts=True),
    Case(
        "StartReplay",
        "verify",
        on_empty(**{**_START, "mode": "verify", "since_log_seq": "3", "until_log_seq": "9", "metadata": {"a": [1]}}),
        ("job_id", "requested_at"),
        acts=True,
    ),
    Case("GetReplay", "ended", _ended_job),
    Case("GetReplay", "running", _running_job),
    Case("ListReplays", "all", _two_ended_jobs),
    Case("ListReplays", "second page", second_page("ListReplays", _two_ended_jobs)),
    Case("WatchReplay", "ended", _ended_job),
    Case(
        "CancelReplay",
        "running",
        _running_job_to_cancel,
        ("job_id", "requested_at", "started_at", "finished_at"),
        acts=True,
    ),
    Case("ListProjectionFailures", "none", on_empty(include_resolved=True)),
    Case("ListProjectionFailures", "three", _stopped),
    Case("ListProjectionFailures", "second page", second_page("ListProjectionFailures", _stopped)),
    Case("RetryProjection", "current", on_refunds(projection="trace_summary", reason=WHY), ("moved_at",), acts=True),
    # Audit, tenants, accounts and keys, of AdminService
    Case("ListAuditEntries", "all", _two_acts),
    Case("ListAuditEntries", "second page", second_page("ListAuditEntries", _two_acts)),
    Case("CreateTenant", "new", _new_tenant, ("created_at",), acts=True),
    Case("GetTenant", "disabled", _disabled_tenant),
    Case("ListTenants", "all", _two_tenants),
    Case("ListTenants", "second page", second_page("ListTenants", _two_tenants)),
    Case("DisableTenant", "enabled", _with_reason(_tenant), ("created_at", "disabled_at"), acts=True),
    Case("DisableTenant", "again", _with_reason(_disabled_tenant)),
    Case("EnableTenant", "disabled", _with_reason(_disabled_tenant), ("created_at",), acts=True),
    Case("CreateServiceAccount", "new", _new_account, ("created_at",), acts=True),
    Case("GetServiceAccount", "disabled", on_disabled_account()),
    Case("ListServiceAccounts", "of a tenant", _two_accounts),
    Case("ListServiceAccounts", "second page", second_page("ListServiceAccounts", _two_accounts)),
    Case("DisableServiceAccount", "enabled", on_account(reason=WHY), ("created_at", "disabled_at"), acts=True),
    Case("EnableServiceAccount", "disabled", on_disabled_account(reason=WHY), ("created_at",), acts=True),
    Case(
        "CreateApiKey",
        "with an end",
        on_account(reason=WHY, expires_at="2099-01-01T00:00:00+01:00"),
        ("key_id", "prefix", "secret", "created_at"),
        acts=True,
    ),
    Case("ListApiKeys", "revoked and valid", _two_keys),
    Case(
        "RevokeApiKey",
        "valid",
        on_key(reason=WHY),
        ("key_id", "prefix", "created_at", "revoked_at"),
        acts=True,
    ),
    # AccessService and SystemService
    Case("IssueToken", "valid key", _secret, ("token", "expires_at"), acts=True),
    Case("GetJsonWebKeySet", "all", on_empty()),
    Case("GetLiveness", "live", on_empty()),
    Case("GetReadiness", "ready", on_empty()),
    Case("GetOpenApi", "document", on_empty()),
    Case("GetDocs", "page", on_empty()),
    Case("GetDocsAsset", "style", on_empty(name="pages.css")),
    Case("GetDocsAsset", "script", on_empty(name="explorer.js")),
    Case("GetLandingPage", "page", on_empty(), without_time=Told.without_time_of_check),
)
