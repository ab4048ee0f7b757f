"""Tenants, service accounts and keys of a test, made through the service itself, and the tokens of their keys."""

import contextlib
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

import asyncpg

from tests.calling import METHODS, Answer, Callers
from tests.rpc_examples import RULES

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
SYSTEM: Final = "decisiongraph-system"
WHY: Final = "to see"
ACCESS_RPCS: Final = tuple(rpc for rpc, rule in RULES.items() if "access_manage" in rule.permissions)
UNKNOWN_SECRET: Final = "_".join(("dgk", "0" * 16, "A" * 43))  # no scanner shall take it for a leak

_HTTP: Final = {
    "INVALID_ARGUMENT": (3, 400),
    "NOT_FOUND": (5, 404),
    "ALREADY_EXISTS": (6, 409),
    "FORBIDDEN": (7, 403),
    "FAILED_PRECONDITION": (9, 409),
    "REPLAY_CONFLICT": (10, 409),
    "UNAUTHENTICATED": (16, 401),
}


def assert_refused(answer: Answer, reason: str, *fields: str) -> None:
    """It is this refusal, with the codes that belong to it, and names these fields."""
    code, http_status = _HTTP[reason]
    assert not answer.ok, answer.body
    assert (answer.reason, answer.code) == (reason, code), answer.body
    assert answer.http_status in (None, http_status)
    assert answer.fields == list(fields), answer.body


async def send(callers: Callers, way: str, rpc: str, request: Mapping[str, Any], token: str, **headers: str) -> Answer:
    """Call with a token and further headers; `_` in their names stands for `-`."""
    metadata = {name.replace("_", "-"): text for name, text in headers.items()}
    if token:
        metadata["authorization"] = f"Bearer {token}"
    return await (callers.by_rest if way == "rest" else callers.by_grpc)(rpc, request, metadata)


async def done(callers: Callers, rpc: str, way: str = "grpc", **request: Any) -> dict[str, Any]:
    """The answer to a call of an administrator that must succeed; acts have a reason."""
    if "reason" in fields_of(rpc):
        request.setdefault("reason", WHY)
    answer = await callers.call(way, rpc, request)
    assert answer.ok, f"{rpc}: {answer.body}"
    return answer.body


async def make_tenant(callers: Callers, name: str) -> str:
    """One more tenant of this test."""
    made = await done(callers, "CreateTenant", tenant_id=f"{callers.tenant.tenant_id}-{name}")
    return str(made["tenant"]["tenant_id"])


async def make_account(callers: Callers, name: str = "account", **changes: Any) -> str:
    """An account of this test: a reader in the test's tenant unless told otherwise."""
    made = await done(
        callers,
        "CreateServiceAccount",
        **{
            "account_id": f"{callers.tenant.tenant_id}-{name}",
            "tenant_ids": [callers.tenant.tenant_id],
            "roles": ["ROLE_READER"],
            **changes,
        },
    )
    return str(made["account"]["account_id"])


async def make_key(callers: Callers, account_id: str, **request: Any) -> tuple[str, str]:
    """Id and secret of a new key."""
    made = await done(callers, "CreateApiKey", account_id=account_id, **request)
    return made["key"]["key_id"], made["secret"]


async def token_for(callers: Callers, secret: str, way: str = "grpc") -> str:
    """A token for a key that works."""
    answer = await callers.call(way, "IssueToken", {"api_key": secret})
    assert answer.ok, answer.body
    return str(answer.body["token"])


@contextlib.asynccontextmanager
async def owner_of(database_url: str) -> AsyncIterator[Connection]:
    """The database as its owner sees it."""
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()


async def expire(database_url: str, key_id: str) -> None:
    """Let a key be past its end, which nobody can ask for."""
    async with owner_of(database_url) as owner:
        await owner.execute("UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE key_id = $1", key_id)


def fields_of(rpc: str) -> set[str]:
    """The names of the fields of an rpc's request."""
    return {field.name for field in METHODS[rpc][1].input_type.fields}


@dataclass(frozen=True)
class Acted:
    """A call and what the audit logs of all tenants have of it."""

    rpc: str
    answer: Answer
    entries: Sequence[Mapping[str, Any]]
    request_id: str

    def assert_recorded(self, tenant_id: str, account_id: str, target: str, reason: str, refusal: str | None) -> None:
        """There is exactly one entry, and this is it."""
        assert len(self.entries) == 1, self.entries
        entry = dict(self.entries[0])
        assert abs(datetime.now(UTC) - entry.pop("recorded_at")) < timedelta(minutes=1)
        assert entry.pop("audit_seq") >= 1
        assert entry == {
            "tenant_id": tenant_id,
            "account_id": account_id,
            "action": f"decisiongraph.v1.AdminService.{self.rpc}",
            "target": target,
            "reason": reason,
            "outcome": "done" if refusal is None else "refused",
            "refusal_reason": refusal,
            "request_id": self.request_id,
        }, entry


async def act(
    callers: Callers, owner: Connection, way: str, rpc: str, request: Mapping[str, Any], token: str, **headers: str
) -> Acted:
    """Call, and look at what was recorded of it; `owner` of the database."""
    request_id = f"{rpc}-{uuid.uuid4().hex}"
    answer = await send(callers, way, rpc, request, token, x_request_id=request_id, **headers)
    return Acted(rpc, answer, await recorded(owner, request_id), request_id)


async def recorded(owner: Connection, request_id: str) -> list[dict[str, Any]]:
    """The audit entries of a request, whatever tenant has them."""
    return [dict(row) for row in await owner.fetch("SELECT * FROM audit_entries WHERE request_id = $1", request_id)]
