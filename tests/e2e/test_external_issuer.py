"""Callers with tokens of another issuer use the service as those with its own do, over gRPC and REST."""

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from tests.another_server import another_server, callers_of
from tests.appending import started
from tests.calling import BOTH_WAYS, Callers, Service

_KEY: Final = rsa.generate_private_key(65537, 2048)
_STRANGER: Final = rsa.generate_private_key(65537, 2048)
_ISSUER: Final = "https://login.example.com/"
_ENTRY: Final[dict[str, Any]] = {
    "name": "corp",
    "issuer": _ISSUER,
    "audience": "decisions",
    "jwks_file": "keys.json",
    "algorithms": ["RS256"],
    "claims": {"roles": "groups"},
    "role_map": {"staff": ["reader"], "bots": ["reader", "writer"], "operators": ["admin"]},
}


def write_issuers(folder: Path, **changes: Any) -> Path:
    public = {**RSAAlgorithm.to_jwk(_KEY.public_key(), as_dict=True), "kid": "key-1", "use": "sig"}
    (folder / "keys.json").write_text(json.dumps({"keys": [public]}))
    path = folder / "issuers.json"
    path.write_text(json.dumps([{**_ENTRY, **changes}]))
    return path


@pytest.fixture(scope="module")
async def trusting(
    service: Service, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """One more server on the same database, which takes the tokens of another issuer too."""
    path = write_issuers(tmp_path_factory.mktemp("issuers"))
    async with another_server(service, database_url, DG_EXTERNAL_ISSUERS=str(path)) as server:
        yield server


@pytest.fixture
async def trusted(trusting: Service, callers: Callers) -> AsyncIterator[Callers]:
    """Both ways to call that server, for the tenant of `callers`."""
    async with callers_of(trusting, callers.tenant) as both:
        yield both


def token(callers: Callers, *groups: str, key: rsa.RSAPrivateKey = _KEY, **changes: Any) -> str:
    claims = {
        "iss": _ISSUER,
        "aud": "decisions",
        "sub": "alice@example.com",
        "exp": int(time.time()) + 300,
        "tenants": [callers.tenant.tenant_id],
        "groups": groups,
        **changes,
    }
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": "key-1"})


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_their_tokens_work_as_ours_do(trusted: Callers, way: str) -> None:
    written = await trusted.call(way, "AppendEvent", {"event": started()}, token=token(trusted, "bots"))
    assert written.ok, written.body
    for reader in (token(trusted, "staff"), trusted.tenant.tokens["reader"]):
        read = await trusted.call(way, "ListEvents", {}, token=reader)
        assert [one["event_id"] for one in read.body["events"]] == [written.body["event"]["event_id"]], read.body


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_they_may_do_what_their_claims_grant_and_no_more(trusted: Callers, way: str) -> None:
    for refused in (
        await trusted.call(way, "AppendEvent", {"event": started()}, token=token(trusted, "staff")),
        await trusted.call(way, "ListEvents", {}, token=token(trusted, "reader", "unknown")),
        await trusted.call(way, "ListEvents", {}, token=token(trusted, "staff", tenants=[])),
        await trusted.call(
            way, "ListTenants", {}, token=token(trusted, "operators", permissions=["access_manage", "audit_read"])
        ),
    ):
        assert refused.reason == "FORBIDDEN", refused.body


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_bad_tokens_of_theirs_are_refused(trusted: Callers, way: str) -> None:
    for bad in (
        token(trusted, "staff", key=_STRANGER),
        token(trusted, "staff", aud="decisiongraph"),
        token(trusted, "staff", iss="https://login.example.com"),
        token(trusted, "staff", exp=int(time.time()) - 60),
        token(trusted, "staff", nbf=int(time.time()) + 60),
    ):
        answer = await trusted.call(way, "ListEvents", {}, token=bad)
        assert answer.reason == "UNAUTHENTICATED", answer.body


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_server_that_does_not_list_the_issuer_refuses_its_tokens(callers: Callers, way: str) -> None:
    answer = await callers.call(way, "ListEvents", {}, token=token(callers, "staff"))
    assert answer.reason == "UNAUTHENTICATED"
    assert "not made by an issuer that this service knows" in answer.body["message"]


async def test_their_acts_are_in_the_audit_log_under_a_name_of_their_own(trusted: Callers) -> None:
    operator = token(trusted, "operators", permissions=["projection_replay", "audit_read"])
    started = await trusted.call(
        "rest", "StartReplay", {"projection": "all", "mode": "verify", "reason": "to see"}, token=operator
    )
    assert started.ok, started.body
    entries = (await trusted.call("grpc", "ListAuditEntries", {}, token=operator)).body["entries"]
    assert {entry["account_id"] for entry in entries} == {"corp:alice@example.com"}


def test_a_mistake_in_the_file_keeps_the_server_from_starting(tmp_path: Path) -> None:
    path = write_issuers(tmp_path, algorithms=["HS256"])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DG_")}
    environment = {
        **inherited,
        "DG_DATA_DIR": str(tmp_path),
        "DG_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
        "DG_EXTERNAL_ISSUERS": str(path),
    }
    command = (sys.executable, "-m", "decisiongraph_service.cli.main", "serve")
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert f"DG_EXTERNAL_ISSUERS: {path}: [0].algorithms[0]" in ended.stderr
