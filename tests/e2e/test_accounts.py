"""Managing tenants, service accounts and keys, over gRPC and REST. What a key is good for is in test_revocation.py."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.accounts import (
    ACCESS_RPCS,
    SYSTEM,
    WHY,
    assert_refused,
    done,
    expire,
    make_account,
    make_key,
    make_tenant,
    owner_of,
    token_for,
)
from tests.appending import started
from tests.calling import BOTH_WAYS, METHODS, Callers, Service
from tests.jobs import TIME, ask
from tests.rpc_examples import calls, example

from decisiongraph_service.access import tokens

_OTHER_PERMISSIONS = [name for name in tokens.PERMISSIONS if name != "access_manage"]


def _micros(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def _in(**later: float) -> str:
    return (datetime.now(UTC) + timedelta(**later)).isoformat()


async def _keys(callers: Callers, account_id: str) -> list[dict[str, Any]]:
    answer = await ask(callers, "ListApiKeys", {"account_id": account_id})
    assert answer.ok, answer.body
    return list(answer.body["keys"])


async def _create_key(callers: Callers, way: str, account_id: str, **request: Any) -> Any:
    return await callers.call(way, "CreateApiKey", {"account_id": account_id, "reason": WHY, **request})


# Who may


async def test_managing_access_needs_the_role_and_its_permission(callers: Callers, service: Service) -> None:
    assert len(ACCESS_RPCS) == 13
    tenant_ids = [callers.tenant.tenant_id, SYSTEM]
    short = (
        service.token(tenant_ids=tenant_ids, roles=["admin"], permissions=_OTHER_PERMISSIONS),
        service.token(tenant_ids=tenant_ids, roles=["reader", "writer"], permissions=tokens.PERMISSIONS),
    )
    for token in short:
        for way, rpc in calls(ACCESS_RPCS):
            assert_refused(await callers.call(way, rpc, example(rpc), token=token), "FORBIDDEN")


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_the_permission_alone_is_enough_for_all_of_it(callers: Callers, service: Service, way: str) -> None:
    token = service.token(tenant_ids=[], roles=["admin"], permissions=["access_manage"])
    name = f"{callers.tenant.tenant_id}-alone"
    about: dict[str, Any] = {"tenant_id": name, "account_id": name}
    asked: set[str] = set()
    for rpc in sorted(ACCESS_RPCS, key=lambda rpc: ("Create" not in rpc, "Key" in rpc, "Account" in rpc, rpc)):
        fields = {field.name for field in METHODS[rpc][1].input_type.fields}
        request = {"reason": WHY, "tenant_ids": [name], "roles": ["ROLE_READER"], **about}
        answer = await callers.call(way, rpc, {k: v for k, v in request.items() if k in fields}, token=token)
        assert answer.ok, f"{rpc}: {answer.body}"
        about["key_id"] = answer.body.get("key", about)["key_id"] if rpc == "CreateApiKey" else about.get("key_id")
        asked.add(rpc)
    assert asked == set(ACCESS_RPCS)


# Tenants


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_new_tenant_is_shown_and_can_be_used_at_once(callers: Callers, service: Service, way: str) -> None:
    name = f"{callers.tenant.tenant_id}-new"
    made = (await done(callers, "CreateTenant", way, tenant_id=name, display_name="Größe \U0001f600"))["tenant"]
    assert made == {"tenant_id": name, "display_name": "Größe \U0001f600", "created_at": made["created_at"]}
    assert TIME.fullmatch(made["created_at"])
    assert abs(datetime.now(UTC) - _micros(made["created_at"])) < timedelta(minutes=1)
    assert (await ask(callers, "GetTenant", {"tenant_id": name})).body["tenant"] == made
    token = service.token(tenant_ids=[name], roles=["writer"])
    assert (await callers.call(way, "AppendEvent", {"event": started()}, token=token)).body["event"]["log_seq"] == "1"


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_making_a_tenant_again_changes_nothing(callers: Callers, way: str) -> None:
    name = await make_tenant(callers, "twice")
    first = (await done(callers, "GetTenant", tenant_id=name))["tenant"]
    assert first["display_name"] == name, "without a name it has its id"
    for same in ({}, {"display_name": name}):
        assert (await done(callers, "CreateTenant", way, tenant_id=name, **same))["tenant"] == first
    for other in (name, callers.tenant.tenant_id, SYSTEM):
        request = {"tenant_id": other, "display_name": "Another", "reason": WHY}
        assert_refused(await callers.call(way, "CreateTenant", request), "ALREADY_EXISTS")
    assert (await done(callers, "GetTenant", tenant_id=name))["tenant"] == first


async def test_a_tenant_is_disabled_and_enabled_and_both_may_be_repeated(callers: Callers) -> None:
    name = await make_tenant(callers, "switched")
    first = (await done(callers, "GetTenant", tenant_id=name))["tenant"]
    for rounds in range(2):
        disabled = (await done(callers, "DisableTenant", BOTH_WAYS[rounds], tenant_id=name))["tenant"]
        assert disabled == {**first, "disabled_at": disabled["disabled_at"]}
        assert TIME.fullmatch(disabled["disabled_at"])
        again = (await ask(callers, "DisableTenant", {"tenant_id": name, "reason": WHY})).body["tenant"]
        assert again == disabled, "it keeps the time since when it is disabled"
        assert (await ask(callers, "GetTenant", {"tenant_id": name})).body["tenant"] == disabled
        assert (await done(callers, "EnableTenant", BOTH_WAYS[rounds], tenant_id=name))["tenant"] == first
        assert (await ask(callers, "EnableTenant", {"tenant_id": name, "reason": WHY})).body["tenant"] == first


async def test_the_installations_own_tenant_cannot_be_disabled(callers: Callers) -> None:
    assert_refused(await ask(callers, "DisableTenant", {"tenant_id": SYSTEM, "reason": WHY}), "FAILED_PRECONDITION")
    assert "disabled_at" not in (await ask(callers, "GetTenant", {"tenant_id": SYSTEM})).body["tenant"]


@pytest.mark.parametrize("bad", ["", "A", "-a", "a_b", "a b", "a" * 64, "a\n", "ä", "a/b", "a\0"])
async def test_ids_that_are_no_slugs_are_refused(callers: Callers, bad: str) -> None:
    tenant = await ask(callers, "CreateTenant", {"tenant_id": bad, "reason": WHY})
    assert_refused(tenant, "INVALID_ARGUMENT", "tenant_id")
    request = {"account_id": bad, "tenant_ids": [SYSTEM], "roles": ["ROLE_READER"], "reason": WHY}
    assert_refused(await ask(callers, "CreateServiceAccount", request), "INVALID_ARGUMENT", "account_id")


# Service accounts


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_an_account_is_what_was_asked_for(callers: Callers, way: str) -> None:
    name, tenant_id = f"{callers.tenant.tenant_id}-a", callers.tenant.tenant_id
    given = {
        "account_id": name,
        "display_name": "Bot",
        "tenant_ids": [SYSTEM, tenant_id],
        "roles": ["ROLE_ADMIN", "ROLE_WRITER"],
        "permissions": ["PERMISSION_AUDIT_READ", "PERMISSION_PROJECTION_REBUILD"],
    }
    made = (await done(callers, "CreateServiceAccount", way, **{**given, "tenant_ids": [SYSTEM, tenant_id, SYSTEM]}))[
        "account"
    ]
    assert made == {**given, "created_at": made["created_at"]}, "a tenant that is named twice counts once"
    assert TIME.fullmatch(made["created_at"])
    assert (await ask(callers, "GetServiceAccount", {"account_id": name})).body["account"] == made
    plain = await make_account(callers, "plain")
    shown = (await ask(callers, "GetServiceAccount", {"account_id": plain})).body["account"]
    assert (shown["display_name"], shown["permissions"]) == (plain, [])


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_an_account_that_cannot_be_made_is_not_made(callers: Callers, way: str) -> None:
    name, tenant_id = f"{callers.tenant.tenant_id}-b", callers.tenant.tenant_id
    good = {"account_id": name, "tenant_ids": [tenant_id], "roles": ["ROLE_READER"], "reason": WHY}
    faults: list[tuple[dict[str, Any], str]] = [
        ({"tenant_ids": [tenant_id, f"{tenant_id}-nowhere"]}, "tenant_ids"),
        ({"tenant_ids": []}, "tenant_ids"),
        ({"tenant_ids": ["A"]}, "tenant_ids[0]"),
        ({"permissions": ["PERMISSION_AUDIT_READ"]}, "permissions"),
        ({"roles": []}, "roles"),
        ({"roles": ["ROLE_READER", "ROLE_READER"]}, "roles"),
        ({"roles": ["ROLE_UNSPECIFIED"]}, "roles[0]"),
        ({"roles": ["ROLE_ADMIN"], "permissions": ["PERMISSION_UNSPECIFIED"]}, "permissions[0]"),
        ({"display_name": "n" * 201}, "display_name"),
        ({"reason": " \t"}, "reason"),
    ]
    for fault, field in faults:
        answer = await callers.call(way, "CreateServiceAccount", {**good, **fault})
        assert_refused(answer, "INVALID_ARGUMENT", field)
    assert_refused(await ask(callers, "GetServiceAccount", {"account_id": name}), "NOT_FOUND")
    assert (await callers.call(way, "CreateServiceAccount", good)).ok
    for again in (good, {**good, "roles": ["ROLE_WRITER"]}):
        assert_refused(await callers.call(way, "CreateServiceAccount", again), "ALREADY_EXISTS")
    assert (await done(callers, "GetServiceAccount", account_id=name))["account"]["roles"] == ["ROLE_READER"]


async def test_an_account_is_disabled_and_enabled_and_both_may_be_repeated(callers: Callers) -> None:
    name = await make_account(callers)
    first = (await done(callers, "GetServiceAccount", account_id=name))["account"]
    request = {"account_id": name, "reason": WHY}
    disabled = (await done(callers, "DisableServiceAccount", **request))["account"]
    assert disabled == {**first, "disabled_at": disabled["disabled_at"]}
    assert (await ask(callers, "DisableServiceAccount", request)).body["account"] == disabled
    for way in BOTH_WAYS:
        assert_refused(await _create_key(callers, way, name), "FAILED_PRECONDITION")
    assert (await ask(callers, "EnableServiceAccount", request)).body["account"] == first
    assert await _keys(callers, name) == []


async def test_what_does_not_exist_is_not_found(callers: Callers) -> None:
    name = f"{callers.tenant.tenant_id}-nowhere"
    request = {"tenant_id": name, "account_id": name, "key_id": "k", "reason": WHY}
    for rpc in ACCESS_RPCS:
        fields = {field.name for field in METHODS[rpc][1].input_type.fields}
        if "page_size" in fields or rpc in ("CreateTenant", "CreateServiceAccount"):
            continue
        answer = await ask(callers, rpc, {key: value for key, value in request.items() if key in fields})
        assert_refused(answer, "NOT_FOUND")


async def test_accounts_and_keys_that_do_not_exist_are_not_missed_in_a_tenant(callers: Callers) -> None:
    name = f"{callers.tenant.tenant_id}-nowhere"
    account = await make_account(callers)
    key = {"account_id": account, "key_id": "k", "reason": WHY}
    for rpc, request in (("GetServiceAccount", {"account_id": name}), ("RevokeApiKey", key)):
        answer = await ask(callers, rpc, request)
        assert "tenant" not in answer.body["message"].replace(callers.tenant.tenant_id, ""), "they are everybody's"


# Pages


async def _paged(callers: Callers, rpc: str, name: str, page_size: int, **request: Any) -> list[dict[str, Any]]:
    """The first five items, a few at a time, or all."""
    found: list[dict[str, Any]] = []
    token = ""
    while len(found) < 5:
        answer = await ask(callers, rpc, {"page_size": page_size, "page_token": token, **request})
        assert 1 <= len(answer.body[name]) <= page_size, answer.body
        found.extend(answer.body[name])
        token = answer.body.get("next_page_token", "")
        if not token:
            break
    return found


async def test_pages_of_tenants_add_up_to_all_of_them(callers: Callers) -> None:
    # They sort before the tenants of other tests.
    mine = [f"0-{callers.tenant.tenant_id}-{number}" for number in range(3)]
    for name in reversed(mine):
        await done(callers, "CreateTenant", tenant_id=name)
    every = (await ask(callers, "ListTenants", {"page_size": 1000})).body["tenants"]
    ids = [tenant["tenant_id"] for tenant in every]
    assert ids == sorted(ids)
    assert {*mine, SYSTEM, callers.tenant.tenant_id} <= set(ids)
    for page_size in (1, 2):
        paged = await _paged(callers, "ListTenants", "tenants", page_size)
        assert paged == every[: len(paged)]
        assert len(paged) >= 5


@pytest.mark.parametrize("page_size", [1, 2, 3, 4])
async def test_pages_of_accounts_add_up_to_those_of_a_tenant(callers: Callers, page_size: int) -> None:
    other = await make_tenant(callers, "other")
    mine = callers.tenant.tenant_id
    for name, tenant_ids in {"d": [mine], "c": [other, mine], "b": [other], "a": [mine]}.items():
        await make_account(callers, name, tenant_ids=tenant_ids)
    every = (await ask(callers, "ListServiceAccounts", {"tenant_id": mine})).body
    assert [account["account_id"] for account in every["accounts"]] == [f"{mine}-{name}" for name in "acd"]
    assert "next_page_token" not in every
    paged = await _paged(callers, "ListServiceAccounts", "accounts", page_size, tenant_id=mine)
    assert paged == every["accounts"]
    assert (await ask(callers, "ListServiceAccounts", {"tenant_id": f"{mine}-nowhere"})).body["accounts"] == []


async def test_a_page_token_of_another_list_is_refused(callers: Callers) -> None:
    mine = {"tenant_id": callers.tenant.tenant_id}
    for name in ("a", "b"):
        await make_account(callers, name)
    of_accounts = (await ask(callers, "ListServiceAccounts", {**mine, "page_size": 1})).body["next_page_token"]
    of_tenants = (await ask(callers, "ListTenants", {"page_size": 1})).body["next_page_token"]
    foreign: list[tuple[str, dict[str, Any]]] = [
        ("ListTenants", {"page_token": of_accounts}),
        ("ListServiceAccounts", {**mine, "page_token": of_tenants}),
        ("ListServiceAccounts", {"page_token": of_accounts}),
        ("ListServiceAccounts", {"tenant_id": SYSTEM, "page_token": of_accounts}),
        ("ListTenants", {"page_token": of_tenants[:-1]}),
        ("ListTenants", {"page_token": "garbage"}),
    ]
    for rpc, request in foreign:
        assert_refused(await ask(callers, rpc, request), "INVALID_ARGUMENT", "page_token")
    for rpc in ("ListTenants", "ListServiceAccounts"):
        for page_size in (0, -1, 1001):
            assert_refused(await ask(callers, rpc, {"page_size": page_size}), "INVALID_ARGUMENT", "page_size")


# Keys


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_secret_is_shown_once_and_kept_nowhere(
    callers: Callers, service: Service, database_url: str, way: str
) -> None:
    account = await make_account(callers)
    answer = await _create_key(callers, way, account, expires_at=_in(days=1))
    key, secret = answer.body["key"], answer.body["secret"]
    assert secret not in json.dumps(key)
    assert secret.startswith(key["prefix"])
    assert await _keys(callers, account) == [key]
    await token_for(callers, secret, way)
    await done(callers, "RevokeApiKey", account_id=account, key_id=key["key_id"])
    refused = await ask(callers, "IssueToken", {"api_key": secret})
    hidden = secret[-43:]
    assert hidden not in json.dumps([refused.body, dict(refused.metadata), await _keys(callers, account)])
    async with owner_of(database_url) as owner:
        tables = await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in tables:
            counted = f"SELECT count(*) FROM {table} AS r WHERE r::text ~ $1"  # noqa: S608 - named by the catalogue
            assert await owner.fetchval(counted, f"{hidden}|{hidden.encode().hex()}") == 0, table
            assert (await owner.fetchval(counted, key["key_id"]) > 0) == (table in ("api_keys", "audit_entries")), table
    logs = list((service.folder / "logs").iterdir())
    assert len(logs) >= 2
    assert not [log.name for log in logs if hidden in log.read_text()]


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_an_account_has_two_valid_keys_at_most(callers: Callers, database_url: str, way: str) -> None:
    account = await make_account(callers)
    at_once = await asyncio.gather(*(_create_key(callers, way, account) for _ in range(5)))
    assert sorted(answer.reason for answer in at_once) == ["", "", *["FAILED_PRECONDITION"] * 3]
    first, second = (answer.body["key"]["key_id"] for answer in at_once if answer.ok)
    assert_refused(await _create_key(callers, way, account), "FAILED_PRECONDITION")
    await done(callers, "RevokeApiKey", account_id=account, key_id=first)
    third = await _create_key(callers, way, account)
    assert third.ok, "a revoked key counts no more"
    assert_refused(await _create_key(callers, way, account), "FAILED_PRECONDITION")
    await expire(database_url, second)
    assert (await _create_key(callers, way, account)).ok, "an expired key counts no more"
    assert_refused(await _create_key(callers, way, account), "FAILED_PRECONDITION")
    assert len(await _keys(callers, account)) == 4


async def test_keys_are_listed_newest_first(callers: Callers, database_url: str) -> None:
    account = await make_account(callers)
    made = []
    for _ in range(4):
        key_id, _ = await make_key(callers, account)
        made.append(key_id)
        if len(made) < 4:
            await done(callers, "RevokeApiKey", account_id=account, key_id=key_id)
    shown = await _keys(callers, account)
    assert [key["key_id"] for key in shown] == made[::-1]
    assert ["revoked_at" in key for key in shown] == [False, True, True, True]
    assert {key["account_id"] for key in shown} == {account}
    assert not [key for key in shown if "expires_at" in key or "last_used_at" in key]
    revoked = await ask(callers, "RevokeApiKey", {"account_id": account, "key_id": made[0], "reason": WHY})
    assert revoked.body["key"] == shown[-1], "a revoked key keeps its time"


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize(
    "end",
    [
        "2020-01-01T00:00:00Z",
        "tomorrow",
        "2099-01-01T00:00:00",
        "2099-02-30T00:00:00Z",
        "",
        "9999-12-31T23:59:59-00:01",
    ],
)
async def test_a_key_without_an_end_to_come_is_not_made(callers: Callers, way: str, end: str) -> None:
    account = await make_account(callers)
    answer = await _create_key(callers, way, account, expires_at=end)
    assert await _keys(callers, account) == []
    assert_refused(answer, "INVALID_ARGUMENT", "expires_at")


async def test_the_end_of_a_key_is_shown_in_utc(callers: Callers) -> None:
    account = await make_account(callers)
    for way, end in zip(BOTH_WAYS, ("2099-01-01T01:00:00.1234567+01:00", "9999-12-31T23:59:59.999999Z"), strict=True):
        assert (await _create_key(callers, way, account, expires_at=end)).ok
    shown = [key["expires_at"] for key in await _keys(callers, account)]
    assert shown == ["9999-12-31T23:59:59.999999Z", "2099-01-01T00:00:00.123456Z"]


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_key_is_revoked_only_through_its_own_account(callers: Callers, way: str) -> None:
    mine, other = await make_account(callers, "mine"), await make_account(callers, "other")
    key_id, secret = await make_key(callers, mine)
    for account, key in ((other, key_id), (mine, key_id.upper()), (mine, "k/../k"), (mine, "a" * 100)):
        request = {"account_id": account, "key_id": key, "reason": WHY}
        assert_refused(await callers.call(way, "RevokeApiKey", request), "NOT_FOUND")
    await token_for(callers, secret, way)
    assert "revoked_at" not in (await _keys(callers, mine))[0]
