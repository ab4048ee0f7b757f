"""Every administrative act leaves exactly one audit entry, done or refused, and the log of a tenant can be read."""

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Final

import pytest
from tests.accounts import (
    SYSTEM,
    WHY,
    Acted,
    Connection,
    act,
    assert_refused,
    done,
    fields_of,
    make_account,
    make_key,
    make_tenant,
    owner_of,
    recorded,
    send,
)
from tests.calling import BOTH_WAYS, METHODS, Callers, Service
from tests.jobs import TIME, ask, jobs_held, start
from tests.rpc_examples import RULES

from decisiongraph_service.access import tokens

_Prepare = Callable[[Callers], Awaitable[dict[str, Any]]]


async def _tenant(callers: Callers) -> dict[str, Any]:
    return {"tenant_id": await make_tenant(callers, uuid.uuid4().hex[:8])}


async def _account(callers: Callers) -> dict[str, Any]:
    return {"account_id": await make_account(callers, uuid.uuid4().hex[:8])}


async def _new(callers: Callers) -> dict[str, Any]:
    name = f"{callers.tenant.tenant_id}-{uuid.uuid4().hex[:8]}"
    return {"tenant_id": name, "account_id": name, "tenant_ids": [SYSTEM], "roles": ["ROLE_READER"]}


async def _key(callers: Callers) -> dict[str, Any]:
    account = await _account(callers)
    return {**account, "key_id": (await make_key(callers, account["account_id"]))[0]}


async def _job(callers: Callers) -> dict[str, Any]:
    return {"job_id": (await start(callers, mode="verify"))["job_id"]}


async def _projection(callers: Callers) -> dict[str, Any]:
    return {"projection": "trace_summary", "mode": "verify"}


@dataclass(frozen=True)
class Act:
    """An example of an act: how to make it possible, what its entry names, and how the service refuses it."""

    prepare: _Prepare
    target: str
    named: str
    """What the entry of a refusal names."""
    impossible: dict[str, Any]
    reason: str = "NOT_FOUND"


_NOBODY: Final = {"account_id": "nobody-at-all", "key_id": "k"}
_ACTS: Final = {
    "StartReplay": Act(_projection, "verify trace_summary {id}", "verify trace_summary", {}),
    "CancelReplay": Act(_job, "{job_id}", "{job_id}", {"job_id": "job-unknown"}),
    "RetryProjection": Act(_projection, "trace_summary", "trace_summary", {}),
    "CreateTenant": Act(_new, "tenant {tenant_id}", "{tenant_id}", {"tenant_id": SYSTEM}, "ALREADY_EXISTS"),
    "DisableTenant": Act(_tenant, "tenant {tenant_id}", "{tenant_id}", {"tenant_id": SYSTEM}, "FAILED_PRECONDITION"),
    "EnableTenant": Act(_tenant, "tenant {tenant_id}", "{tenant_id}", {"tenant_id": "nobody-at-all"}),
    "CreateServiceAccount": Act(
        _new, "service account {account_id}", "{account_id}", {"tenant_ids": ["nobody-at-all"]}, "INVALID_ARGUMENT"
    ),
    "DisableServiceAccount": Act(_account, "service account {account_id}", "{account_id}", _NOBODY),
    "EnableServiceAccount": Act(_account, "service account {account_id}", "{account_id}", _NOBODY),
    "CreateApiKey": Act(_account, "key {id} of {account_id}", "{account_id}", _NOBODY),
    "RevokeApiKey": Act(_key, "key {key_id} of {account_id}", "{account_id} {key_id}", _NOBODY),
}
_IN_TENANT: Final = [rpc for rpc in _ACTS if not RULES[rpc].installation_wide]


async def _request(callers: Callers, rpc: str, **changes: Any) -> dict[str, Any]:
    """A request that can be done, with these changes."""
    request = {**await _ACTS[rpc].prepare(callers), "reason": WHY, **changes}
    return {name: value for name, value in request.items() if name in fields_of(rpc)}


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[Connection]:
    async with owner_of(database_url) as connection:
        yield connection


# What is recorded


def test_every_act_of_the_contract_has_an_example_here() -> None:
    assert set(_ACTS) == {rpc for rpc in METHODS if "reason" in fields_of(rpc)}


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize("rpc", _ACTS)
async def test_an_act_that_is_done_leaves_one_entry(
    callers: Callers, owner: Connection, database_url: str, rpc: str, way: str
) -> None:
    async with jobs_held(database_url, callers.tenant.tenant_id):
        request = await _request(callers, rpc)
        acted = await act(callers, owner, way, rpc, request, callers.tenant.tokens["admin"])
    assert acted.answer.ok, acted.answer.body
    made = acted.answer.body.get("job", acted.answer.body.get("key", {}))
    target = _ACTS[rpc].target.format(**{"id": made.get("job_id", made.get("key_id")), **request})
    log = callers.tenant.tenant_id if rpc in _IN_TENANT else SYSTEM
    acted.assert_recorded(log, "test-admin", target, WHY, None)


@pytest.mark.parametrize("kind", ["role", "permission", "blank reason", "service"])
@pytest.mark.parametrize("rpc", _ACTS)
async def test_an_act_that_is_refused_leaves_one_entry(
    callers: Callers, service: Service, owner: Connection, database_url: str, rpc: str, kind: str
) -> None:
    example = _ACTS[rpc]
    log: str = callers.tenant.tenant_id
    changes = {"blank reason": {"reason": " \t"}, "service": example.impossible}.get(kind, {})
    if kind == "service" and rpc in _IN_TENANT:
        log = f"{log}-nowhere"  # a tenant that the token allows, and that does not exist
    roles = ["reader", "writer"] if kind == "role" else ["admin"]
    permissions = [name for name in tokens.PERMISSIONS if kind != "permission" or name not in RULES[rpc].permissions]
    token = service.token(tenant_ids=[log], roles=roles, permissions=permissions)
    reason = {"service": example.reason, "blank reason": "INVALID_ARGUMENT"}.get(kind, "FORBIDDEN")
    async with jobs_held(database_url, callers.tenant.tenant_id):
        request = await _request(callers, rpc, **changes)
        for way in BOTH_WAYS:
            acted = await act(callers, owner, way, rpc, request, token)
            assert acted.answer.reason == reason, acted.answer.body
            acted.assert_recorded(
                log if rpc in _IN_TENANT else SYSTEM,
                "-".join(("test", *roles)),
                example.named.format(**request),
                request["reason"],
                reason,
            )


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize("rpc", _IN_TENANT)
async def test_an_act_in_a_foreign_tenant_is_recorded_in_the_installations_log(
    callers: Callers, service: Service, owner: Connection, rpc: str, way: str
) -> None:
    token = service.token(tenant_ids=[await make_tenant(callers, "mine")], roles=["admin"])
    request = {**await _request(callers, "StartReplay"), "job_id": "j"}
    request = {name: value for name, value in request.items() if name in fields_of(rpc)}
    acted = await act(callers, owner, way, rpc, request, token, x_tenant_id=callers.tenant.tenant_id)
    assert_refused(acted.answer, "FORBIDDEN")
    acted.assert_recorded(SYSTEM, "test-admin", _ACTS[rpc].named.format(**request), WHY, "FORBIDDEN")


async def test_an_act_beside_another_job_and_one_in_a_disabled_tenant_are_recorded(
    callers: Callers, owner: Connection, database_url: str
) -> None:
    tenant_id, token = callers.tenant.tenant_id, callers.tenant.tokens["admin"]
    request = {"projection": "all", "mode": "rebuild", "reason": WHY}
    async with jobs_held(database_url, tenant_id):
        await start(callers, mode="verify")
        conflict = await act(callers, owner, "rest", "StartReplay", request, token)
    conflict.assert_recorded(tenant_id, "test-admin", "rebuild all", WHY, "REPLAY_CONFLICT")
    await done(callers, "DisableTenant", tenant_id=tenant_id)
    disabled = await act(callers, owner, "grpc", "StartReplay", request, token)
    disabled.assert_recorded(tenant_id, "test-admin", "rebuild all", WHY, "FORBIDDEN")


async def test_who_is_not_known_leaves_no_entry(callers: Callers, service: Service, owner: Connection) -> None:
    expired = service.token(tenant_ids=[callers.tenant.tenant_id], roles=["admin"], begins=0, lifetime_seconds=60)
    for rpc, way, token in itertools.product(_ACTS, BOTH_WAYS, ("", "garbage", expired)):
        acted = await act(callers, owner, way, rpc, {"reason": WHY}, token)
        assert_refused(acted.answer, "UNAUTHENTICATED")
        assert acted.entries == []


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ("a\0b", "a\ufffdb"),
        ("\0" * 501, "\ufffd" * 500),
        ("x" * 10_000, "x" * 500),
        ("\U0001f600" * 900, "\U0001f600" * 500),
    ],
    ids=["nul", "nuls", "long", "wide"],
)
async def test_a_reason_that_cannot_be_kept_is_recorded_as_far_as_it_can(
    callers: Callers, owner: Connection, way: str, reason: str, kept: str
) -> None:
    token = callers.tenant.tokens["admin"]
    for rpc in ("StartReplay", "CreateTenant"):
        request = await _request(callers, rpc, reason=reason)
        acted = await act(callers, owner, way, rpc, request, token)
        assert (acted.answer.reason, set(acted.answer.fields)) == ("INVALID_ARGUMENT", {"reason"})
        log = callers.tenant.tenant_id if rpc in _IN_TENANT else SYSTEM
        acted.assert_recorded(log, "test-admin", _ACTS[rpc].named.format(**request), kept, "INVALID_ARGUMENT")
    acted = await act(callers, owner, way, "RevokeApiKey", {"account_id": "a", "key_id": reason, "reason": WHY}, token)
    acted.assert_recorded(SYSTEM, "test-admin", f"a {kept}"[:500], WHY, "INVALID_ARGUMENT")


@pytest.mark.parametrize("rpc", _ACTS)
async def test_an_act_that_cannot_be_decoded_is_recorded_where_it_belongs(
    callers: Callers, owner: Connection, rpc: str
) -> None:
    request_id = uuid.uuid4().hex
    metadata = {"authorization": f"Bearer {callers.tenant.tokens['admin']}", "x-request-id": request_id}
    answer = await callers.by_grpc_bytes(rpc, b"\x0a\x01\xff", metadata)
    assert answer.reason == "INVALID_ARGUMENT", answer.body
    log = callers.tenant.tenant_id if rpc in _IN_TENANT else SYSTEM
    acted = Acted(rpc, answer, await recorded(owner, request_id), request_id)
    acted.assert_recorded(log, "test-admin", "", "", "INVALID_ARGUMENT")


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_the_entry_is_there_before_the_caller_hears_of_the_refusal(
    callers: Callers, owner: Connection, way: str
) -> None:
    request, token = {"job_id": "j", "reason": WHY}, callers.tenant.tokens["reader"]
    first = await act(callers, owner, way, "CancelReplay", request, token)
    assert len(first.entries) == 1
    async with owner.transaction():
        # Nobody can write into this audit log until the end of the block.
        await owner.execute("SELECT FROM audit_heads WHERE tenant_id = $1 FOR UPDATE", callers.tenant.tenant_id)
        call = asyncio.create_task(send(callers, way, "CancelReplay", request, token, x_request_id=f"{way}-late"))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(call), 0.5)
        assert not call.done()
    assert_refused(await call, "FORBIDDEN")
    newest = await owner.fetch("SELECT * FROM audit_entries WHERE tenant_id = $1", callers.tenant.tenant_id)
    assert sorted(row["request_id"] for row in newest) == sorted([first.request_id, f"{way}-late"])


# Reading it


async def _entries(callers: Callers, token: str, **request: Any) -> list[dict[str, Any]]:
    answer = await ask(callers, "ListAuditEntries", request, token=token)
    assert answer.ok, answer.body
    assert "next_page_token" not in answer.body
    return list(answer.body["entries"])


async def _pages(callers: Callers, **request: Any) -> list[list[dict[str, Any]]]:
    """What is answered page by page."""
    pages: list[list[dict[str, Any]]] = []
    token = ""
    while not pages or token:
        answer = await ask(callers, "ListAuditEntries", {**request, "page_token": token})
        pages.append(answer.body["entries"])
        token = answer.body.get("next_page_token", "")
    return pages


@pytest.fixture
async def log(callers: Callers, service: Service, owner: Connection) -> list[dict[str, Any]]:
    """The test's audit log after seven acts of three accounts."""
    tenant_ids, admin = [callers.tenant.tenant_id], callers.tenant.tokens["admin"]
    other = service.token(tenant_ids=tenant_ids, roles=["admin", "reader"])
    weak = service.token(tenant_ids=tenant_ids, roles=["admin"], permissions=["audit_read"])
    projection = {"projection": "trace_summary", "mode": "verify", "reason": WHY}
    for rpc, request, token in (
        ("RetryProjection", projection, admin),
        ("RetryProjection", projection, other),
        ("StartReplay", projection, weak),
        ("CancelReplay", {"job_id": "j", "reason": "to stop it"}, admin),
        ("RetryProjection", {**projection, "reason": ""}, other),
        ("StartReplay", projection, other),
        ("StartReplay", projection, callers.tenant.tokens["reader"]),
    ):
        kept = {name: value for name, value in request.items() if name in fields_of(rpc)}
        assert len((await act(callers, owner, "grpc", rpc, kept, token)).entries) == 1
    return await _entries(callers, admin)


async def test_the_log_is_shown_newest_first(callers: Callers, log: list[dict[str, Any]]) -> None:
    assert [entry["audit_seq"] for entry in log] == list("7654321")
    assert [entry["outcome"] for entry in log] == ["refused", "done", "refused", "refused", "refused", "done", "done"]
    times = [entry.pop("recorded_at") for entry in log]
    assert times == sorted(times, reverse=True)
    assert all(TIME.fullmatch(time) for time in times)
    assert log[0].pop("request_id").startswith("StartReplay-")
    assert log[0] == {
        "audit_seq": "7",
        "account_id": "test-reader",
        "action": "decisiongraph.v1.AdminService.StartReplay",
        "target": "verify trace_summary",
        "reason": WHY,
        "outcome": "refused",
        "refusal_reason": "FORBIDDEN",
        "tenant_id": callers.tenant.tenant_id,
    }
    assert "refusal_reason" not in log[1]


async def test_filters_and_pages_show_what_they_should(callers: Callers, log: list[dict[str, Any]]) -> None:
    admin = callers.tenant.tokens["admin"]
    accounts, actions = ({entry[name] for entry in log} for name in ("account_id", "action"))
    assert (len(accounts), len(actions)) == (3, 3)
    choices = itertools.product(["", *accounts, "nobody"], ["", *actions, "StartReplay"], ["", "done", "refused"])
    for account, action, outcome in choices:
        wanted = {"account_id": account, "action": action, "outcome": outcome}
        expected = [entry for entry in log if all(entry[name] == value for name, value in wanted.items() if value)]
        assert await _entries(callers, admin, **wanted) == expected, wanted
    for wanted, page_size in itertools.product(({}, {"outcome": "refused"}), (1, 2, 3, 4, 7)):
        expected = [entry for entry in log if wanted.items() <= entry.items()]
        pages = await _pages(callers, page_size=page_size, **wanted)
        assert [len(page) for page in pages[:-1]] == [page_size] * (len(pages) - 1)
        assert list(itertools.chain(*pages)) == expected


async def test_bounds_of_time_leave_out_their_beginning_and_hold_their_end(
    callers: Callers, log: list[dict[str, Any]]
) -> None:
    admin, times = callers.tenant.tokens["admin"], [entry["recorded_at"] for entry in log]
    assert len(set(times)) == 7
    elsewhere = datetime.fromisoformat(times[4]).astimezone(timezone(timedelta(hours=-7))).isoformat()
    assert await _entries(callers, admin, since_recorded_at=elsewhere) == log[:4]
    assert await _entries(callers, admin, until_recorded_at=elsewhere) == log[4:]
    assert await _entries(callers, admin, since_recorded_at=times[5], until_recorded_at=times[1]) == log[1:5]
    assert await _entries(callers, admin, since_recorded_at=times[3], until_recorded_at=times[3]) == []
    faults = (
        ({"since_recorded_at": times[0], "until_recorded_at": times[1]}, "since_recorded_at"),
        ({"since_recorded_at": "yesterday"}, "since_recorded_at"),
        ({"until_recorded_at": times[0][:-1]}, "until_recorded_at"),
        ({"outcome": "maybe"}, "outcome"),
        ({"page_size": 0}, "page_size"),
        ({"page_size": 1001}, "page_size"),
    )
    for request, field in faults:
        assert_refused(await ask(callers, "ListAuditEntries", request, token=admin), "INVALID_ARGUMENT", field)


async def test_the_log_of_another_tenant_cannot_be_read(
    callers: Callers, service: Service, log: list[dict[str, Any]]
) -> None:
    other = service.token(tenant_ids=[await make_tenant(callers, "other")], roles=["admin"])
    assert await _entries(callers, other) == []
    first = await ask(callers, "ListAuditEntries", {"page_size": 1}, token=callers.tenant.tokens["admin"])
    assert first.body["entries"] == log[:1]
    token = {"page_token": first.body["next_page_token"]}
    for way in BOTH_WAYS:
        answer = await send(callers, way, "ListAuditEntries", {}, other, x_tenant_id=callers.tenant.tenant_id)
        assert_refused(answer, "FORBIDDEN")
        foreign = await callers.call(way, "ListAuditEntries", token, token=other)
        assert_refused(foreign, "INVALID_ARGUMENT", "page_token")
        changed = await callers.call(way, "ListAuditEntries", {**token, "outcome": "done"})
        assert_refused(changed, "INVALID_ARGUMENT", "page_token")


async def test_reading_the_log_needs_the_role_and_its_permission(callers: Callers, service: Service) -> None:
    tenant_ids = [callers.tenant.tenant_id]
    others = [name for name in tokens.PERMISSIONS if name != "audit_read"]
    for roles, permissions in ((["admin"], others), (["reader", "writer"], tokens.PERMISSIONS)):
        token = service.token(tenant_ids=tenant_ids, roles=roles, permissions=permissions)
        assert_refused(await ask(callers, "ListAuditEntries", {}, token=token), "FORBIDDEN")
    alone = service.token(tenant_ids=tenant_ids, roles=["admin"], permissions=["audit_read"])
    assert await _entries(callers, alone) == []


async def test_what_lies_deep_in_a_long_log_is_found(callers: Callers, owner: Connection) -> None:
    await owner.execute(
        """
        INSERT INTO audit_entries
        SELECT $1, n, now(), CASE WHEN n IN (3, 48000) THEN 'rare' ELSE 'a' END, 'b', '', '', 'done', NULL, ''
        FROM generate_series(1, 60000) AS n
        """,
        callers.tenant.tenant_id,
    )
    pages = await _pages(callers, account_id="rare")
    assert [entry["audit_seq"] for page in pages for entry in page] == ["48000", "3"]
    assert len(pages) <= 3, "it is looked through in few steps"


async def test_acts_on_the_installation_are_read_in_its_own_log(callers: Callers, service: Service) -> None:
    made = await make_tenant(callers, "made")
    token = service.token(tenant_ids=[SYSTEM], roles=["admin"], permissions=["audit_read"])
    newest = await ask(callers, "ListAuditEntries", {"page_size": 1}, token=token)
    entry = newest.body["entries"][0]
    assert (entry["target"], entry["outcome"], entry["tenant_id"]) == (f"tenant {made}", "done", SYSTEM)
    assert await _entries(callers, callers.tenant.tokens["admin"]) == []
