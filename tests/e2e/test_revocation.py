"""What the token of a key is good for, and that it stops within five seconds on every server once it is revoked.

Streams that are open stop too, also when their token expires.
"""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import grpc
import jwt
import pytest
from tests.accounts import (
    UNKNOWN_SECRET,
    WHY,
    assert_refused,
    done,
    expire,
    make_account,
    make_key,
    make_tenant,
    owner_of,
    send,
    token_for,
)
from tests.another_server import another_server, callers_of
from tests.appending import event_message, started
from tests.calling import BOTH_WAYS, METHODS, Answer, Callers, Service
from tests.jobs import TIME, ask, without_request_id
from tests.rpc_examples import PRIVATE, RULES, calls, example

from decisiongraph.v1 import (
    ingestion_service_pb2,
    ingestion_service_pb2_grpc,
    query_service_pb2,
    query_service_pb2_grpc,
)
from decisiongraph_service.access import tokens

_SECONDS: Final = 5.0
_ALL_ROLES: Final = ["ROLE_READER", "ROLE_WRITER", "ROLE_ADMIN"]
_STREAMS: Final = {name for name, (_, method) in METHODS.items() if method.server_streaming}
_SWITCHES: Final = {
    "key": ("RevokeApiKey", None, "UNAUTHENTICATED"),
    "account": ("DisableServiceAccount", "EnableServiceAccount", "UNAUTHENTICATED"),
    "tenant": ("DisableTenant", "EnableTenant", "FORBIDDEN"),
}


async def _read(callers: Callers, token: str, way: str = "grpc", **headers: str) -> Answer:
    return await send(callers, way, "ListEvents", {}, token, **headers)


def _claims(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


# What it is good for


@pytest.mark.parametrize(
    ("roles", "permissions"),
    [
        (["reader"], []),
        (["writer"], []),
        (["reader", "admin"], []),
        (["admin"], ["audit_read"]),
        (["admin"], ["projection_replay"]),
    ],
    ids=str,
)
async def test_a_token_opens_what_its_account_may_do_and_nothing_else(
    callers: Callers, roles: list[str], permissions: list[str]
) -> None:
    account = await make_account(
        callers,
        roles=[f"ROLE_{name.upper()}" for name in roles],
        permissions=[f"PERMISSION_{name.upper()}" for name in permissions],
    )
    token = await token_for(callers, (await make_key(callers, account))[1])
    opened = {
        rpc
        for rpc in PRIVATE
        if RULES[rpc].role in roles
        and (not RULES[rpc].permissions or not {*RULES[rpc].permissions}.isdisjoint(permissions))
    }
    assert 1 <= len(opened) < len(PRIVATE)
    # A watch over REST ends only with its connection.
    wanted = [(way, rpc) for way, rpc in calls(PRIVATE) if rpc not in opened & _STREAMS]
    answers = await asyncio.gather(*(callers.call(way, rpc, example(rpc), token=token) for way, rpc in wanted))
    for (way, rpc), answer in zip(wanted, answers, strict=True):
        assert (answer.reason == "FORBIDDEN") != (rpc in opened), f"{rpc} over {way}: {answer.body}"
        assert answer.reason != "UNAUTHENTICATED"


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_token_acts_in_the_tenants_of_its_account_only(callers: Callers, way: str) -> None:
    mine, second, third = callers.tenant.tenant_id, *[await make_tenant(callers, name) for name in ("2", "3")]
    account = await make_account(callers, tenant_ids=[mine, second])
    token = await token_for(callers, (await make_key(callers, account))[1], way)
    for tenant in (mine, second):
        assert (await _read(callers, token, way, x_tenant_id=tenant)).ok
    for tenant in (third, f"{mine}-nowhere"):
        assert_refused(await _read(callers, token, way, x_tenant_id=tenant), "FORBIDDEN")
    assert_refused(await _read(callers, token, way), "INVALID_ARGUMENT", "x-tenant-id")


async def _largest_account(callers: Callers, tenant_ids: list[str]) -> str:
    """Of the accounts with the first of these tenants that are not refused, the one with most of them."""
    largest, taken, refused = "", 0, len(tenant_ids) + 1
    while refused - taken > 1:
        count = (taken + refused) // 2
        request: dict[str, Any] = {
            "account_id": f"{callers.tenant.tenant_id}-{count}-{'x' * 63}"[:63],
            "tenant_ids": tenant_ids[:count],
            "roles": _ALL_ROLES,
            "permissions": [f"PERMISSION_{name.upper()}" for name in tokens.PERMISSIONS],
            "reason": WHY,
        }
        answer = await callers.call("grpc", "CreateServiceAccount", request)
        if answer.ok:
            largest, taken = request["account_id"], count
        else:
            assert_refused(answer, "INVALID_ARGUMENT", "tenant_ids")
            refused = count
    return largest


async def test_an_account_with_as_many_tenants_as_it_may_have_gets_a_token_that_works(
    callers: Callers, database_url: str
) -> None:
    beginning = f"{callers.tenant.tenant_id}-{'many-' * 12}"[:60]
    names = [f"{beginning}{number:03}" for number in range(110)]
    async with owner_of(database_url) as owner:
        await owner.execute("INSERT INTO tenants SELECT unnest($1::text[]), '', now()", names)
        try:
            account = await _largest_account(callers, [callers.tenant.tenant_id, *names])
        finally:
            await owner.execute("DELETE FROM tenants WHERE tenant_id = ANY ($1)", names)
    secret = (await make_key(callers, account))[1]
    for way in BOTH_WAYS:
        token = await token_for(callers, secret, way)
        answer = await _read(callers, token, way, x_tenant_id=callers.tenant.tenant_id)
        assert answer.ok, f"{len(token)} bytes: {answer.body}"


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_token_lives_fifteen_minutes_and_never_longer_than_its_key(callers: Callers, way: str) -> None:
    account = await make_account(callers)
    for key_seconds, token_seconds in ((None, 900), (3600, 900), (60, 60)):
        begins = datetime.now(UTC)
        end = {} if key_seconds is None else {"expires_at": (begins + timedelta(seconds=key_seconds)).isoformat()}
        key_id, secret = await make_key(callers, account, **end)
        answer = (await callers.call(way, "IssueToken", {"api_key": secret})).body
        claims = _claims(answer["token"])
        assert claims["sub"] == account
        assert int(begins.timestamp()) <= claims["iat"] <= datetime.now(UTC).timestamp()
        of_key = (begins + timedelta(seconds=60)).timestamp()
        assert claims["exp"] == (claims["iat"] + 900 if token_seconds == 900 else int(of_key))
        assert TIME.fullmatch(answer["expires_at"])
        assert datetime.fromisoformat(answer["expires_at"]).timestamp() == claims["exp"]
        await done(callers, "RevokeApiKey", account_id=account, key_id=key_id)


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_the_last_use_of_a_key_is_shown(callers: Callers, way: str) -> None:
    account = await make_account(callers)
    used, _ = await make_key(callers, account), await make_key(callers, account)
    await token_for(callers, used[1], way)
    await ask(callers, "IssueToken", {"api_key": used[1][:-1] + ("a" if used[1][-1] != "a" else "b")})
    keys = {key["key_id"]: key for key in (await done(callers, "ListApiKeys", account_id=account))["keys"]}
    assert [key_id for key_id, key in keys.items() if "last_used_at" in key] == [used[0]]
    assert TIME.fullmatch(keys[used[0]]["last_used_at"])
    assert datetime.now(UTC) - datetime.fromisoformat(keys[used[0]]["last_used_at"]) < timedelta(minutes=1)


async def test_every_key_that_does_not_work_gets_the_same_answer(callers: Callers, database_url: str) -> None:
    account, disabled = await make_account(callers), await make_account(callers, "disabled")
    (expired_id, expired), (revoked_id, revoked) = [await make_key(callers, account) for _ in range(2)]
    asleep = (await make_key(callers, disabled))[1]
    for secret in (expired, revoked, asleep):
        await token_for(callers, secret)
    await expire(database_url, expired_id)
    await done(callers, "RevokeApiKey", account_id=account, key_id=revoked_id)
    await done(callers, "DisableServiceAccount", account_id=disabled)
    good_id, good = await make_key(callers, account)
    bad = {
        "unknown": UNKNOWN_SECRET,
        "garbage": "garbage",
        "the id of a key": good_id,
        "right id, wrong secret": f"dgk_{good_id}_{'A' * 43}",
        "wrong id, right secret": f"dgk_{'0' * 16}_{good[-43:]}",
        "one letter more": f"{good}A",
        "a line end more": f"{good}\n",
        "upper case": good.upper(),
        "500 bytes": "ä" * 250,
        "expired": expired,
        "revoked": revoked,
        "disabled account": asleep,
    }
    answers: dict[str, set[str]] = {}
    for name, secret in bad.items():
        answer = await ask(callers, "IssueToken", {"api_key": secret})
        assert_refused(answer, "UNAUTHENTICATED")
        answers.setdefault(json.dumps(without_request_id(answer.body), sort_keys=True), set()).add(name)
    assert len(answers) == 1, f"they tell what is wrong: {answers}"
    await done(callers, "EnableServiceAccount", account_id=disabled)
    for secret in (good, asleep):
        await token_for(callers, secret)


# When it stops


@pytest.fixture(scope="module")
async def second_server(service: Service, database_url: str) -> AsyncIterator[Service]:
    """One more server on the same database."""
    async with another_server(service, database_url) as running:
        yield running


@pytest.fixture
async def elsewhere(second_server: Service, callers: Callers) -> AsyncIterator[Callers]:
    """Both ways to call that server."""
    async with callers_of(second_server, callers.tenant) as calling:
        yield calling


async def _until(wanted: str, callers: Callers, token: str, *, meanwhile: str) -> None:
    """Return when the token is refused for this reason, or works if it is empty; fail after five seconds."""
    began = time.monotonic()
    while (answer := await _read(callers, token)).reason != wanted:
        assert time.monotonic() - began < _SECONDS, f"still after five seconds: {answer.body}"
        assert (await _read(callers, meanwhile)).ok, "others are not concerned"
        await asyncio.sleep(0.1)
    if wanted:
        assert_refused(answer, wanted)


@pytest.mark.parametrize("way", BOTH_WAYS)
@pytest.mark.parametrize("what", _SWITCHES)
async def test_a_token_stops_here_at_once_and_elsewhere_within_five_seconds(
    callers: Callers, elsewhere: Callers, way: str, what: str
) -> None:
    off, on, reason = _SWITCHES[what]
    tenant = await make_tenant(callers, "concerned")
    account = await make_account(callers, tenant_ids=[tenant])
    key_id, secret = await make_key(callers, account)
    token = await token_for(callers, secret, way)
    other = await token_for(callers, (await make_key(callers, await make_account(callers, "other")))[1])
    for server in (callers, elsewhere):
        assert (await _read(server, token)).ok, "both know it, and remember that it is valid"
    about = {"tenant": {"tenant_id": tenant}, "account": {"account_id": account}}
    request = about.get(what, {"account_id": account, "key_id": key_id})
    await done(callers, off, way, **request)
    for each in BOTH_WAYS:
        assert_refused(await _read(callers, token, each), reason)
        assert (await _read(callers, other, each)).ok
    await _until(reason, elsewhere, token, meanwhile=other)
    for each in BOTH_WAYS:
        assert_refused(await _read(elsewhere, token, each), reason)
        assert_refused(await _read(callers, token, each), reason)
    if on is None:
        return
    await done(callers, on, way, **request)
    for each in BOTH_WAYS:
        assert (await _read(callers, token, each)).ok
    await _until("", elsewhere, token, meanwhile=other)


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_the_other_key_of_an_account_goes_on(callers: Callers, elsewhere: Callers, way: str) -> None:
    account = await make_account(callers)
    (first_id, first), (_, second) = [await make_key(callers, account) for _ in range(2)]
    stopped, going_on = await token_for(callers, first), await token_for(callers, second)
    await done(callers, "RevokeApiKey", way, account_id=account, key_id=first_id)
    assert_refused(await _read(callers, stopped, way), "UNAUTHENTICATED")
    await _until("UNAUTHENTICATED", elsewhere, stopped, meanwhile=going_on)
    for server in (callers, elsewhere):
        assert_refused(await server.call("grpc", "IssueToken", {"api_key": first}), "UNAUTHENTICATED")
        assert (await _read(server, await token_for(server, second))).ok


async def test_in_a_disabled_tenant_no_call_is_answered_and_in_others_all_are(callers: Callers) -> None:
    disabled, mine = await make_tenant(callers, "disabled"), callers.tenant.tenant_id
    permissions = [f"PERMISSION_{name.upper()}" for name in tokens.PERMISSIONS if name != "access_manage"]
    account = await make_account(callers, tenant_ids=[disabled, mine], roles=_ALL_ROLES, permissions=permissions)
    secret = (await make_key(callers, account))[1]
    await done(callers, "DisableTenant", tenant_id=disabled)
    token = await token_for(callers, secret)
    wanted = calls(tuple(rpc for rpc in PRIVATE if not RULES[rpc].installation_wide))

    async def ask_in(tenant_id: str, way: str, rpc: str) -> Answer:
        return await send(callers, way, rpc, example(rpc), token, x_tenant_id=tenant_id)

    for answer in await asyncio.gather(*(ask_in(disabled, way, rpc) for way, rpc in wanted)):
        assert_refused(answer, "FORBIDDEN")
    for answer in await asyncio.gather(*(ask_in(mine, way, rpc) for way, rpc in wanted if rpc not in _STREAMS)):
        assert answer.reason != "FORBIDDEN", answer.body


async def test_a_disabled_account_has_no_way_in_without_a_key_either(callers: Callers, service: Service) -> None:
    account = await make_account(callers)
    token = service.token(tenant_ids=[callers.tenant.tenant_id], roles=["reader"], account_id=account)
    assert (await _read(callers, token)).ok
    await done(callers, "DisableServiceAccount", account_id=account)
    for way in BOTH_WAYS:
        assert_refused(await _read(callers, token, way), "UNAUTHENTICATED")


# Streams that are open


async def _ends(stream: Any) -> grpc.StatusCode:
    """The code that the stream ends with; fails if it goes on for longer than five seconds."""
    began = time.monotonic()
    try:
        while time.monotonic() - began < _SECONDS:
            await stream.read()
            await asyncio.sleep(0.2)
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        code: grpc.StatusCode = await stream.code()
        return code
    stream.cancel()
    pytest.fail("it goes on")


@pytest.mark.parametrize("what", _SWITCHES)
async def test_an_open_watch_ends(callers: Callers, what: str) -> None:
    off, _, reason = _SWITCHES[what]
    tenant = await make_tenant(callers, "watched")
    account = await make_account(callers, tenant_ids=[tenant])
    key_id, secret = await make_key(callers, account)
    metadata = (("authorization", f"Bearer {await token_for(callers, secret)}"),)
    stub = query_service_pb2_grpc.QueryServiceStub(callers.channel)
    watch: Any = stub.WatchEvents(query_service_pb2.WatchEventsRequest(), metadata=metadata, timeout=30)
    assert await watch.read() is not grpc.aio.EOF
    about = {"tenant": {"tenant_id": tenant}, "account": {"account_id": account}}
    await done(callers, off, **about.get(what, {"account_id": account, "key_id": key_id}))
    code = grpc.StatusCode.PERMISSION_DENIED if reason == "FORBIDDEN" else grpc.StatusCode.UNAUTHENTICATED
    assert await _ends(watch) is code


async def test_an_open_stream_of_appends_takes_no_more(callers: Callers, service: Service) -> None:
    account = await make_account(callers, roles=["ROLE_WRITER"])
    key_id, secret = await make_key(callers, account)
    metadata = (("authorization", f"Bearer {await token_for(callers, secret)}"),)
    ended = threading.Event()

    def requests() -> Iterator[ingestion_service_pb2.IngestEventsRequest]:
        while not ended.wait(0.2):
            yield ingestion_service_pb2.IngestEventsRequest(event=event_message(started()))

    def to_the_end(answers: Any) -> grpc.StatusCode:
        with contextlib.suppress(grpc.RpcError):
            for _ in answers:
                pass
        code: grpc.StatusCode = answers.code()
        return code

    # With asyncio the library tells INTERNAL of a stream that ends while it writes.
    with grpc.insecure_channel(service.grpc) as channel:
        stub: Any = ingestion_service_pb2_grpc.IngestionServiceStub(channel)
        answers = stub.IngestEvents(requests(), metadata=metadata, timeout=30)
        assert (await asyncio.to_thread(next, answers)).HasField("receipt")
        await done(callers, "RevokeApiKey", account_id=account, key_id=key_id)
        began = time.monotonic()
        assert await asyncio.to_thread(to_the_end, answers) is grpc.StatusCode.UNAUTHENTICATED
        ended.set()
    assert time.monotonic() - began < _SECONDS


@pytest.mark.parametrize("rpc", ["WatchEvents", "IngestEvents"])
async def test_an_open_stream_ends_when_its_token_expires(callers: Callers, service: Service, rpc: str) -> None:
    # It expires in a second, and is taken for five more.
    token = service.token(
        tenant_ids=[callers.tenant.tenant_id],
        roles=["reader", "writer"],
        begins=int(time.time()) - 59,
        lifetime_seconds=60,
    )
    metadata = (("authorization", f"Bearer {token}"),)
    if rpc == "WatchEvents":
        queries = query_service_pb2_grpc.QueryServiceStub(callers.channel)
        stream: Any = queries.WatchEvents(query_service_pb2.WatchEventsRequest(), metadata=metadata, timeout=30)
    else:
        ingestion = ingestion_service_pb2_grpc.IngestionServiceStub(callers.channel)
        stream = ingestion.IngestEvents(metadata=metadata, timeout=30)
        await stream.write(ingestion_service_pb2.IngestEventsRequest(event=event_message(started())))
    assert await stream.read() is not grpc.aio.EOF
    with contextlib.suppress(grpc.aio.AioRpcError):
        while await stream.read() is not grpc.aio.EOF:
            pass
    assert await stream.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "expired" in await stream.details()
