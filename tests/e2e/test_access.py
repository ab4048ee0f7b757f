"""No rpc of the contract can be called without a valid token and the powers that it needs, by either way."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.calling import AUDIENCE, ISSUER, METHODS, Answer, Callers, Service
from tests.rpc_examples import PRIVATE, PUBLIC, RULES, calls, example, http_rule

from decisiongraph_service.access import tokens
from decisiongraph_service.access.keys import SigningKey

_HTTP = {3: 400, 5: 404, 7: 403, 12: 501, 16: 401}


async def call_all(
    callers: Callers, rpcs: tuple[str, ...], headers: Mapping[str, str]
) -> dict[tuple[str, str], Answer]:
    """Call rpcs by every way that they have, with valid requests and these headers."""
    wanted = calls(rpcs)

    async def one(way: str, rpc: str) -> Answer:
        call = callers.by_rest if way == "rest" else callers.by_grpc
        return await call(rpc, example(rpc), headers)

    answers = await asyncio.gather(*(one(way, rpc) for way, rpc in wanted))
    return dict(zip(wanted, answers, strict=True))


def assert_all_refused(answers: Mapping[tuple[str, str], Answer], code: int, reason: str, category: str) -> None:
    wrong = {}
    for (way, rpc), answer in answers.items():
        status = _HTTP[code] if way == "rest" else None
        got = (
            answer.ok,
            answer.body.get("code"),
            answer.http_status,
            answer.reason,
            answer.category,
            answer.detail("ErrorInfo").get("domain"),
            bool(answer.detail("RequestInfo").get("request_id")),
        )
        if got != (False, code, status, reason, category, "decisiongraph", True):
            wrong[way, rpc] = got
    assert not wrong, f"not refused as {reason}: {wrong}"


def signed(service: Service, *, without: str = "", key: SigningKey | None = None, **claims: Any) -> str:
    """A token with all powers, with these claims changed or one left out."""
    now = int(time.time())
    content = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "test",
        "iat": now,
        "nbf": now,
        "exp": now + 600,
        "tenants": ["somebody"],
        "roles": list(tokens.ROLES),
        "permissions": list(tokens.PERMISSIONS),
        **claims,
    }
    content.pop(without, None)
    signing = key or service.key
    return jwt.encode(content, signing.private, algorithm="EdDSA", headers={"kid": signing.key_id})


def parts(token: str) -> list[str]:
    return token.split(".")


def encoded(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def algorithm_none(service: Service) -> str:
    header = encoded({"alg": "none", "typ": "JWT", "kid": service.key.key_id})
    return f"{header}.{parts(signed(service))[1]}."


def signed_with_the_public_key(encoding: Encoding, form: PublicFormat) -> Callable[[Service], str]:
    def token(service: Service) -> str:
        header = encoded({"alg": "HS256", "typ": "JWT", "kid": service.key.key_id})
        content = f"{header}.{parts(signed(service))[1]}"
        secret = service.key.public.public_bytes(encoding, form)
        return f"{content}.{encoded(hmac.digest(secret, content.encode(), hashlib.sha256))}"

    return token


def tampered(service: Service) -> str:
    header, content, signature = parts(signed(service, roles=[]))
    claims = json.loads(base64.urlsafe_b64decode(content + "=="))
    return f"{header}.{encoded({**claims, 'roles': list(tokens.ROLES)})}.{signature}"


def foreign_key_under_our_id(service: Service) -> str:
    stranger = SigningKey(Ed25519PrivateKey.generate())
    content = parts(signed(service))[1]
    message = f"{encoded({'alg': 'EdDSA', 'kid': service.key.key_id})}.{content}"
    return f"{message}.{encoded(stranger.private.sign(message.encode()))}"


BAD_HEADERS: dict[str, str] = {
    "no scheme": "token",
    "scheme alone": "Bearer",
    "basic": "Basic dXNlcjpwYXNzd29yZA==",
    "garbage": "Bearer garbage",
    "three parts of garbage": "Bearer a.b.c",
    "5000 bytes": "Bearer " + "a" * 5000,
    "two tokens": "Bearer a b",
    "a header of 2900 open brackets": f"Bearer {encoded(b'[' * 2900)}.e30.AAAA",
    "a header that is a list": f"Bearer {encoded([])}.e30.AAAA",
    "a key id that is a list": f"Bearer {encoded({'alg': 'EdDSA', 'kid': ['a']})}.e30.AAAA",
}

BAD_TOKENS: dict[str, Callable[[Service], str]] = {
    "expired": lambda s: signed(s, exp=int(time.time()) - 60),
    "not yet valid": lambda s: signed(s, nbf=int(time.time()) + 60),
    "wrong audience": lambda s: signed(s, aud="other"),
    "wrong issuer": lambda s: signed(s, iss="other"),
    "algorithm none": algorithm_none,
    "HS256 with the raw public key": signed_with_the_public_key(Encoding.Raw, PublicFormat.Raw),
    "HS256 with the PEM public key": signed_with_the_public_key(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "unknown key id": lambda s: signed(s, key=SigningKey(Ed25519PrivateKey.generate())),
    "another key under our key id": foreign_key_under_our_id,
    "tampered claims": tampered,
    "signature cut off": lambda s: ".".join([*parts(signed(s))[:2], ""]),
    "no subject": lambda s: signed(s, without="sub"),
    "no expiry": lambda s: signed(s, without="exp"),
    "expiry is text": lambda s: signed(s, exp="soon"),
    "expiry is infinite": lambda s: signed(s, exp=float("inf")),
    "expiry is null": lambda s: signed(s, exp=None),
    "roles are text": lambda s: signed(s, roles="reader writer admin"),
    "roles are an object": lambda s: signed(s, roles={"admin": True}),
    "roles hold a number": lambda s: signed(s, roles=["admin", 5]),
    "tenants are text": lambda s: signed(s, tenants="somebody"),
    "claims are a list": lambda s: f"{parts(signed(s))[0]}.{encoded([])}.AAAA",
}


async def test_no_private_rpc_answers_without_a_token(callers: Callers) -> None:
    assert_all_refused(await call_all(callers, PRIVATE, {}), 16, "UNAUTHENTICATED", "unauthorized")


@pytest.mark.parametrize("header", BAD_HEADERS.values(), ids=list(BAD_HEADERS))
async def test_no_private_rpc_answers_to_a_malformed_header(callers: Callers, header: str) -> None:
    answers = await call_all(callers, PRIVATE, {"authorization": header})
    assert_all_refused(answers, 16, "UNAUTHENTICATED", "unauthorized")


@pytest.mark.parametrize("fault", BAD_TOKENS)
async def test_no_private_rpc_answers_to_a_bad_token(callers: Callers, service: Service, fault: str) -> None:
    answers = await call_all(callers, PRIVATE, {"authorization": f"Bearer {BAD_TOKENS[fault](service)}"})
    assert_all_refused(answers, 16, "UNAUTHENTICATED", "unauthorized")


async def test_a_refused_token_is_not_repeated(callers: Callers, service: Service) -> None:
    token = signed(service, aud="other")
    answer = await callers.call("rest", "GetEvent", {"event_id": "e"}, token=token)
    assert not [part for part in parts(token) if part in json.dumps(answer.body)]


async def test_the_scheme_may_be_written_in_any_case(callers: Callers) -> None:
    token = callers.tenant.tokens["reader"]
    for scheme in ("bearer", "BEARER"):
        answer = await callers.by_grpc("GetEvent", {"event_id": "e"}, {"authorization": f"{scheme} {token}"})
        assert answer.reason == "NOT_FOUND", answer.body


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer garbage"}], ids=["no token", "garbage"])
async def test_public_rpcs_do_not_look_at_the_token(callers: Callers, headers: dict[str, str]) -> None:
    for rpc in PUBLIC:
        if rpc == "IssueToken":  # refuses what its request holds, not who calls
            continue
        answer = await callers.by_grpc(rpc, example(rpc), headers)
        assert answer.ok, f"{rpc}: {answer.body}"
        response = await callers.client.get(_public_path(rpc), headers=headers)
        assert response.status_code == 200, f"{rpc}: {response.text}"


def _public_path(rpc: str) -> str:
    return str(http_rule(METHODS[rpc][1]).get).format(**example(rpc))


@pytest.mark.parametrize("role", tokens.ROLES)
async def test_a_role_opens_no_rpc_of_another_role(callers: Callers, role: str) -> None:
    others = tuple(rpc for rpc in PRIVATE if RULES[rpc].role != role)
    answers = await call_all(callers, others, {"authorization": f"Bearer {callers.tenant.tokens[role]}"})
    assert_all_refused(answers, 7, "FORBIDDEN", "forbidden")


async def test_a_token_without_roles_opens_no_rpc(callers: Callers, service: Service) -> None:
    token = service.token(tenant_ids=[callers.tenant.tenant_id], roles=[])
    answers = await call_all(callers, PRIVATE, {"authorization": f"Bearer {token}"})
    assert_all_refused(answers, 7, "FORBIDDEN", "forbidden")


@pytest.mark.parametrize("held", [(), *((name,) for name in tokens.PERMISSIONS), ("all", "*")], ids=str)
async def test_an_administrator_needs_one_of_the_permissions(
    callers: Callers, service: Service, held: tuple[str, ...]
) -> None:
    token = service.token(tenant_ids=[callers.tenant.tenant_id], roles=["admin"], permissions=held)
    closed = tuple(rpc for rpc in PRIVATE if RULES[rpc].permissions and not set(RULES[rpc].permissions) & set(held))
    answers = await call_all(callers, closed, {"authorization": f"Bearer {token}"})
    assert closed
    assert_all_refused(answers, 7, "FORBIDDEN", "forbidden")


async def test_those_with_all_powers_get_an_answer_or_a_status_that_says_why(
    callers: Callers, service: Service
) -> None:
    token = service.token(tenant_ids=[callers.tenant.tenant_id], roles=tokens.ROLES)
    # A watch over REST ends only with its connection.
    rpcs = tuple(rpc for rpc in PRIVATE if not METHODS[rpc][1].server_streaming)
    answers = await call_all(callers, rpcs, {"authorization": f"Bearer {token}"})
    refused = {key: answer for key, answer in answers.items() if not answer.ok}
    for key, answer in refused.items():
        assert answer.reason not in ("", "INTERNAL", "UNAUTHENTICATED", "FORBIDDEN"), f"{key}: {answer.body}"
        assert answer.detail("ErrorInfo")["domain"] == "decisiongraph", f"{key}: {answer.body}"
        assert answer.detail("RequestInfo")["request_id"], f"{key}: {answer.body}"
    missing = {key: answer for key, answer in refused.items() if answer.reason == "UNIMPLEMENTED"}
    assert_all_refused(missing, 12, "UNIMPLEMENTED", "unimplemented")


async def test_a_method_that_does_not_exist_is_refused_like_everything_else(callers: Callers) -> None:
    for service in ("decisiongraph.v1.QueryService", "no.such.Service"):
        call: Any = callers.channel.unary_unary(f"/{service}/NoSuchMethod")
        with pytest.raises(grpc.aio.AioRpcError) as without_token:
            await call(b"", timeout=10)
        assert without_token.value.code() is grpc.StatusCode.UNAUTHENTICATED
        token = callers.tenant.tokens["reader"]
        with pytest.raises(grpc.aio.AioRpcError) as with_token:
            await call(b"", metadata=(("authorization", f"Bearer {token}"),), timeout=10)
        assert with_token.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "grpc-status-details-bin" in dict(with_token.value.trailing_metadata() or ())
