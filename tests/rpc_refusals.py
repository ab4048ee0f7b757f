"""Calls that are refused, of every rpc: in what state, with what request, for which reason.

Who may not call, and what breaks a rule of a field, is in no table: every rpc and every field is walked
(tests/e2e/test_both_ways.py, tests/broken_fields.py).
"""

from collections.abc import Mapping
from typing import Any, Final

from tests.accounts import SYSTEM, UNKNOWN_SECRET, WHY, make_key
from tests.appending import started
from tests.rpc_cases import Case, Prepare, on_account, on_disabled_account, on_empty, on_refunds
from tests.rpc_stages import REFUNDS, Stage
from tests.traces import event_of_trace, whole_trace

CANNOT_FAIL: Final = {
    "GetJsonWebKeySet": "takes nothing, needs no token, and the keys are in the server's memory",
    "GetLiveness": "takes nothing, needs no token, and looks at nothing",
    "GetOpenApi": "takes nothing, needs no token, and is a file of the server",
    "GetDocs": "takes nothing, needs no token, and is a file of the server",
    "GetLandingPage": "takes nothing, needs no token, and answers also when the service is not ready",
}
"""Rpcs that refuse nobody, and why."""

ON_ITS_OWN_SERVER: Final = {"GetReadiness": "tests/e2e/test_both_ways_streams.py"}
"""Rpcs that refuse only where a whole server is in another state, and the test of it."""

_CARD: Final = "4111 1111 1111 " + "1111"
_SECOND: Final = REFUNDS[2]
_TRACE: Final = {"node_type": "trace", "node_id": "rf-1001"}


def _event(**changes: Any) -> dict[str, Any]:
    return started(trace_id="t", idempotency_key="k", **changes)


def _batch(*positions_and_changes: Any) -> dict[str, Any]:
    return {"events": [event_of_trace("t", position, **changes) for position, changes in positions_and_changes]}


def _of_another_tenant(rpc: str, prepare: Prepare) -> Case:
    """What another tenant has is asked for."""

    async def asked(stage: Stage) -> Mapping[str, Any]:
        return await prepare(await stage.another("other"))

    return Case(rpc, "of another tenant", asked, refused="NOT_FOUND")


def _token_of_another_request(rpc: str, prepare: Prepare, **change: Any) -> Case:
    """The page token of a request goes with another one."""

    async def asked(stage: Stage) -> Mapping[str, Any]:
        request = {**await prepare(stage), "page_size": 1}
        page = await stage.callers.call("grpc", rpc, request)
        return {**request, "page_token": page.body["next_page_token"], **change}

    return Case(rpc, "token of another request", asked, refused="INVALID_ARGUMENT", fields=("page_token",))


def _damaged_token(rpc: str, **request: Any) -> Case:
    asked = on_empty(**request, page_token="nonsense")
    return Case(rpc, "damaged token", asked, refused="INVALID_ARGUMENT", fields=("page_token",))


def _stale(rpc: str, **request: Any) -> Case:
    async def asked(stage: Stage) -> Mapping[str, Any]:
        await stage.append(whole_trace("early", 2))
        await stage.stale()
        return request

    return Case(rpc, "while projections stand", asked, refused="PROJECTION_OUT_OF_DATE")


async def _running(stage: Stage) -> Mapping[str, Any]:
    await stage.running_job(projection="trace_summary")
    return {"projection": "all", "mode": "verify", "reason": WHY}


async def _ended(stage: Stage) -> Mapping[str, Any]:
    return {"job_id": await stage.ended_job()}


async def _to_cancel(stage: Stage) -> Mapping[str, Any]:
    return {**await _ended(stage), "reason": WHY}


async def _tenant_again(stage: Stage) -> Mapping[str, Any]:
    return {"tenant_id": await stage.tenant(), "display_name": "Another", "reason": WHY}


async def _account_again(stage: Stage) -> Mapping[str, Any]:
    account_id = await stage.account()
    return {"account_id": account_id, "tenant_ids": [stage.name], "roles": ["ROLE_WRITER"], "reason": WHY}


async def _account_of_no_tenant(stage: Stage) -> Mapping[str, Any]:
    tenant_ids = [stage.name, f"{stage.name}-nowhere"]
    return {"account_id": f"{stage.name}-a", "tenant_ids": tenant_ids, "roles": ["ROLE_WRITER"], "reason": WHY}


async def _permissions_without_role(stage: Stage) -> Mapping[str, Any]:
    powers = {"roles": ["ROLE_READER"], "permissions": ["PERMISSION_AUDIT_READ"]}
    return {"account_id": f"{stage.name}-a", "tenant_ids": [stage.name], **powers, "reason": WHY}


async def _third_key(stage: Stage) -> Mapping[str, Any]:
    account_id, _, _ = await stage.key()
    await make_key(stage.callers, account_id)
    return {"account_id": account_id, "reason": WHY}


async def _key_of_another_account(stage: Stage) -> Mapping[str, Any]:
    _, key_id, _ = await stage.key()
    return {"account_id": await stage.account("other"), "key_id": key_id, "reason": WHY}


def _secret_of(state: str) -> Case:
    async def asked(stage: Stage) -> Mapping[str, Any]:
        _, _, secret = await stage.key(state=state)
        return {"api_key": secret}

    return Case("IssueToken", f"{state} key", asked, refused="UNAUTHENTICATED")


async def _jobs(stage: Stage) -> Mapping[str, Any]:
    for _ in range(2):
        await stage.ended_job(projection="trace_summary")
    return {}


async def _failures(stage: Stage) -> Mapping[str, Any]:
    await stage.stopped()
    return {}


async def _acts(stage: Stage) -> Mapping[str, Any]:
    await _jobs(stage)
    return {"outcome": "done"}


async def _accounts(stage: Stage) -> Mapping[str, Any]:
    for name in "ab":
        await stage.account(name)
    return {"tenant_id": stage.name}


def _without_rebuild(rpc: str, prepare: Prepare) -> Case:
    def headers(stage: Stage) -> Mapping[str, str]:
        return {"authorization": stage.bearer(stage.name, roles=("admin",), permissions=["projection_replay"])}

    return Case(rpc, "mode without its permission", prepare, refused="FORBIDDEN", headers=headers)


async def _ended_rebuild(stage: Stage) -> Mapping[str, Any]:
    return {"job_id": await stage.ended_job(mode="rebuild")}


async def _rebuild_to_cancel(stage: Stage) -> Mapping[str, Any]:
    return {"job_id": await stage.running_job(mode="rebuild"), "reason": WHY}


def _not_found(rpc: str, **request: Any) -> Case:
    return Case(rpc, "unknown", on_empty(**request), refused="NOT_FOUND")


def _invalid(rpc: str, name: str, prepare: Prepare, *fields: str) -> Case:
    return Case(rpc, name, prepare, refused="INVALID_ARGUMENT", fields=fields)


_APPENDS: Final = (
    Case("AppendEvent", "shape", on_empty(event=_event(event_type="x")), refused="SCHEMA_VIOLATION"),
    Case("AppendEvent", "fields", on_empty(event=_event(payload={"n": 0.5}, tags=[" "])), refused="SCHEMA_VIOLATION"),
    Case("AppendEvent", "many faults", on_empty(event=_event(tags=[" "] * 64)), refused="SCHEMA_VIOLATION"),
    Case("AppendEvent", "long path", on_empty(event=_event(payload={"ä" * 900: 0.5})), refused="SCHEMA_VIOLATION"),
    Case(
        "AppendEvent",
        "card number",
        on_empty(event=_event(correlation_id=_CARD)),
        refused="PII_POLICY_VIOLATION",
        fields=("correlation_id",),
    ),
    _invalid("AppendEvent", "time", on_empty(event=_event(occurred_at="soon")), "occurred_at"),
    _invalid("AppendEvent", "too many tags", on_empty(event=_event(tags=["a"] * 65)), "tags"),
    _invalid("AppendEvent", "NUL", on_empty(event=_event(correlation_id="c\0")), "correlation_id"),
    Case("AppendEvent", "nothing", on_empty(), refused="INVALID_ARGUMENT"),
    Case(
        "AppendEvent",
        "key of another event",
        on_refunds(event={**_SECOND, "payload": {**_SECOND["payload"], "more": "Ä"}, "tags": ["a"]}),
        refused="IDEMPOTENCY_CONFLICT",
    ),
    Case(
        "AppendEvent",
        "id of another event",
        on_refunds(event=_event(event_id="ev-001")),
        refused="EVENT_ID_CONFLICT",
    ),
    Case(
        "AppendEvent",
        "finished trace",
        on_refunds(event={**_SECOND, "event_id": "n", "idempotency_key": "new", "trace_seq": 10}),
        refused="TRACE_FINISHED",
    ),
    Case("AppendEvent", "gap", on_empty(event=event_of_trace("t", 3)), refused="EVENT_SEQUENCE_INVALID"),
    Case("AppendEvents", "no events", on_empty(), refused="INVALID_ARGUMENT", fields=("events",)),
    Case("AppendEvents", "too many", on_empty(events=[{}] * 1001), refused="INVALID_ARGUMENT", fields=("events",)),
    Case(
        "AppendEvents",
        "shape of the second",
        on_empty(**_batch((0, {}), (1, {"payload": {}}))),
        refused="SCHEMA_VIOLATION",
    ),
    Case(
        "AppendEvents",
        "secret in the second",
        on_empty(**_batch((0, {}), (1, {"tags": [_CARD]}))),
        refused="PII_POLICY_VIOLATION",
        fields=("events[1].tags[0]",),
    ),
    Case("AppendEvents", "gap at the second", on_empty(**_batch((0, {}), (2, {}))), refused="EVENT_SEQUENCE_INVALID"),
    Case(
        "AppendEvents",
        "id of another event",
        on_refunds(**_batch((0, {}), (1, {"event_id": "ev-001"}))),
        refused="EVENT_ID_CONFLICT",
    ),
    Case(
        "AppendEvents",
        "key of another event",
        on_refunds(events=[{**_SECOND, "correlation_id": "c"}]),
        refused="IDEMPOTENCY_CONFLICT",
    ),
    Case(
        "AppendEvents",
        "finished trace",
        on_empty(events=[*whole_trace("t", 2), event_of_trace("t", 2)]),
        refused="TRACE_FINISHED",
    ),
)

_QUERIES: Final = (
    _not_found("GetTrace", trace_id="Größe / \U0001f600"),
    _of_another_tenant("GetTrace", on_refunds(trace_id="rf-1001")),
    _invalid("GetTrace", "beyond the log", on_refunds(trace_id="rf-1001", as_of_log_seq="99"), "as_of_log_seq"),
    Case("GetTrace", "before it began", on_refunds(trace_id="rf-0900", as_of_log_seq="3"), refused="NOT_FOUND"),
    _stale("GetTrace", trace_id="late"),
    _stale("ListTraces"),
    _stale("GetContextGraph", node_type="trace", node_id="late"),
    _stale("ListNodeEdges", node_type="trace", node_id="late"),
    _stale("FindPrecedents", workflow="refund"),
    _invalid("ListTraces", "id alone", on_empty(primary_entity_id="1"), "primary_entity_type"),
    _invalid("ListTraces", "time", on_empty(since_started_at="2026-02-30T00:00:00Z"), "since_started_at"),
    _invalid("ListTraces", "too many words", on_empty(query=" ".join(f"w{n}" for n in range(17))), "query"),
    Case(
        "ListTraces",
        "bounds crossed",
        on_empty(since_finished_at="2026-03-02T10:00:00Z", until_finished_at="2026-03-02T10:00:00+01:00"),
        refused="INVALID_ARGUMENT",
    ),
    _damaged_token("ListTraces"),
    _token_of_another_request("ListTraces", on_refunds(), workflow="goodwill"),
    _not_found("ListTraceEvents", trace_id="none"),
    _of_another_tenant("ListTraceEvents", on_refunds(trace_id="rf-1001")),
    _damaged_token("ListTraceEvents", trace_id="rf-1001"),
    _token_of_another_request("ListTraceEvents", on_refunds(trace_id="rf-1001"), since_trace_seq="2"),
    _not_found("GetEvent", event_id="a/b?c=d%"),
    _of_another_tenant("GetEvent", on_refunds(event_id="ev-001")),
    Case("ListEvents", "bounds crossed", on_empty(since_log_seq="5", until_log_seq="4"), refused="INVALID_ARGUMENT"),
    _invalid("ListEvents", "time", on_empty(until_occurred_at="yesterday"), "until_occurred_at"),
    _damaged_token("ListEvents"),
    _token_of_another_request("ListEvents", on_refunds(), tag="eu"),
    _invalid("WatchEvents", "beyond the log", on_refunds(since_log_seq="99"), "since_log_seq"),
    _invalid("GetContextGraph", "beyond the log", on_refunds(**_TRACE, as_of_log_seq="99"), "as_of_log_seq"),
    _damaged_token("ListNodeEdges", **_TRACE),
    _token_of_another_request("ListNodeEdges", on_refunds(**_TRACE), direction="outgoing"),
    _invalid("FindPrecedents", "version alone", on_empty(policy_version="1"), "policy_id"),
    _invalid("FindPrecedents", "id alone", on_empty(entity_id="1"), "entity_type"),
    _not_found("FindPrecedents", like_trace_id="none"),
    _of_another_tenant("FindPrecedents", on_refunds(like_trace_id="rf-1001")),
    _damaged_token("FindPrecedents"),
    _token_of_another_request("FindPrecedents", on_refunds(), outcome="success"),
    Case(
        "GetProjectionHealth",
        "of no tenant",
        on_empty(),
        refused="NOT_FOUND",
        headers=lambda stage: {"authorization": stage.bearer("no-such-tenant")},
    ),
)

_JOBS: Final = (
    Case("StartReplay", "while one runs", _running, refused="REPLAY_CONFLICT"),
    _invalid(
        "StartReplay",
        "long metadata",
        on_empty(projection="all", mode="verify", reason=WHY, metadata={"a": "x" * 8192}),
        "metadata",
    ),
    _without_rebuild("StartReplay", on_empty(projection="all", mode="rebuild", reason=WHY)),
    *(
        case
        for rpc, reason in (("GetReplay", {}), ("WatchReplay", {}), ("CancelReplay", {"reason": WHY}))
        for case in (
            _not_found(rpc, job_id="job-0000000000000000", **reason),
            _of_another_tenant(rpc, _to_cancel if reason else _ended),
            _without_rebuild(rpc, _rebuild_to_cancel if reason else _ended_rebuild),
        )
    ),
    Case("CancelReplay", "ended", _to_cancel, refused="NOT_FOUND"),
    _damaged_token("ListReplays"),
    _token_of_another_request("ListReplays", _jobs, projection="all"),
    _damaged_token("ListProjectionFailures"),
    _token_of_another_request("ListProjectionFailures", _failures, include_resolved=True),
    _invalid("RetryProjection", "all at once", on_empty(projection="all", reason=WHY), "projection"),
    Case(
        "RetryProjection",
        "of no tenant",
        on_empty(projection="trace_summary", reason=WHY),
        refused="NOT_FOUND",
        headers=lambda stage: {"authorization": stage.bearer("no-such-tenant")},
    ),
    _invalid("ListAuditEntries", "time", on_empty(since_recorded_at="2026-03-02"), "since_recorded_at"),
    _damaged_token("ListAuditEntries"),
    _token_of_another_request("ListAuditEntries", _acts, outcome="refused"),
)

_ACCESS: Final = (
    Case("CreateTenant", "another one of this id", _tenant_again, refused="ALREADY_EXISTS"),
    _not_found("GetTenant", tenant_id="no-such-tenant"),
    _not_found("DisableTenant", tenant_id="no-such-tenant", reason=WHY),
    _not_found("EnableTenant", tenant_id="no-such-tenant", reason=WHY),
    Case("DisableTenant", "our own", on_empty(tenant_id=SYSTEM, reason=WHY), refused="FAILED_PRECONDITION"),
    _damaged_token("ListTenants"),
    Case("CreateServiceAccount", "again", _account_again, refused="ALREADY_EXISTS"),
    _invalid("CreateServiceAccount", "of no tenant", _account_of_no_tenant, "tenant_ids"),
    _invalid("CreateServiceAccount", "permissions alone", _permissions_without_role, "permissions"),
    _not_found("GetServiceAccount", account_id="no-such-account"),
    _not_found("DisableServiceAccount", account_id="no-such-account", reason=WHY),
    _not_found("EnableServiceAccount", account_id="no-such-account", reason=WHY),
    _damaged_token("ListServiceAccounts"),
    _token_of_another_request("ListServiceAccounts", _accounts, tenant_id=SYSTEM),
    _not_found("CreateApiKey", account_id="no-such-account", reason=WHY),
    _invalid("CreateApiKey", "past", on_account(reason=WHY, expires_at="2020-01-01T00:00:00Z"), "expires_at"),
    Case("CreateApiKey", "disabled account", on_disabled_account(reason=WHY), refused="FAILED_PRECONDITION"),
    Case("CreateApiKey", "third", _third_key, refused="FAILED_PRECONDITION"),
    _not_found("ListApiKeys", account_id="no-such-account"),
    _not_found("RevokeApiKey", account_id="no-such-account", key_id="k", reason=WHY),
    Case("RevokeApiKey", "of another account", _key_of_another_account, refused="NOT_FOUND"),
    Case("IssueToken", "unknown key", on_empty(api_key=UNKNOWN_SECRET), refused="UNAUTHENTICATED"),
    Case("IssueToken", "no key", on_empty(api_key="garbage"), refused="UNAUTHENTICATED"),
    *(_secret_of(state) for state in ("revoked", "expired", "disabled")),
    Case("GetDocsAsset", "unknown", on_empty(name="no such.css"), refused="NOT_FOUND"),
)

REFUSALS: Final = (*_APPENDS, *_QUERIES, *_JOBS, *_ACCESS)
