"""A token is good if every one of its claims is, and for no longer than it says."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from decisiongraph_service.access import tokens
from decisiongraph_service.access.keys import SigningKey
from decisiongraph_service.access.tokens import OwnIssuer, TokenVerifier
from decisiongraph_service.domain import errors

KEY = SigningKey(Ed25519PrivateKey.generate())
NOW = 1_800_000_000


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


def verifier(clock: Clock | None = None) -> TokenVerifier:
    return TokenVerifier({KEY.key_id: KEY.public}, issuer="us", audience="here", clock=clock or Clock())


def token(*, key: SigningKey = KEY, headers: dict[str, Any] | None = None, **changes: Any) -> str:
    """A good token with these claims changed; a claim that is `...` is left out."""
    claims = {
        "iss": "us",
        "aud": "here",
        "sub": "account",
        "iat": NOW,
        "nbf": NOW,
        "exp": NOW + 60,
        "tenants": ["a", "b"],
        "roles": ["reader"],
        "permissions": ["audit_read"],
        **changes,
    }
    kept = {name: value for name, value in claims.items() if value is not ...}
    header = {"alg": "EdDSA", "typ": "JWT", "kid": key.key_id, **(headers or {})}
    content = f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(kept).encode())}"
    return f"{content}.{encoded(key.private.sign(content.encode()))}"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def refused(text: str, clock: Clock | None = None) -> str:
    """The message of the refusal."""
    with pytest.raises(errors.Unauthenticated) as caught:
        verifier(clock).verify(text)
    return caught.value.message


def test_a_token_that_was_issued_is_verified() -> None:
    issued = tokens.issue(
        KEY,
        issuer="us",
        audience="here",
        account_id="account",
        tenant_ids=["a", "b"],
        roles=["reader", "writer"],
        permissions=["audit_read"],
        now=NOW,
        lifetime_seconds=60,
    )
    caller = verifier().verify(issued)
    assert (caller.account_id, caller.tenant_ids) == ("account", ("a", "b"))
    assert (set(caller.roles), set(caller.permissions)) == ({"reader", "writer"}, {"audit_read"})
    assert caller.expires_at == NOW + 60


def test_what_a_token_leaves_out_it_does_not_grant() -> None:
    caller = verifier().verify(token(tenants=..., roles=..., permissions=...))
    assert (caller.tenant_ids, caller.roles, caller.permissions) == ((), frozenset(), frozenset())


# Any text is a subject, and when a token was made is not looked at.
_OTHER_KINDS: list[Any] = [..., None, "", "x", [], {}]
BAD_CLAIMS = [
    (claim, value)
    for claim in ("iss", "aud", "sub", "iat", "nbf", "exp")
    for value in _OTHER_KINDS
    if not (claim == "sub" and isinstance(value, str)) and not (claim == "iat" and value not in (..., None))
]


@pytest.mark.parametrize(("claim", "value"), BAD_CLAIMS)
def test_a_claim_that_is_missing_or_of_another_kind_is_refused(claim: str, value: Any) -> None:
    assert refused(token(**{claim: value})).startswith("authorization: ")


@pytest.mark.parametrize("claim", ["exp", "nbf"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), -float("inf")])
def test_a_time_that_is_no_number_is_refused(claim: str, value: Any) -> None:
    assert refused(token(**{claim: value})).startswith("authorization: ")


@pytest.mark.parametrize("claim", ["tenants", "roles", "permissions"])
@pytest.mark.parametrize("value", ["admin", {"admin": True}, ["admin", 5], [None], [["admin"]], 5, None])
def test_powers_that_are_no_list_of_texts_are_refused(claim: str, value: Any) -> None:
    assert claim in refused(token(**{claim: value}))


@pytest.mark.parametrize("claim", ["exp", "nbf"])
@pytest.mark.parametrize("value", [True, str(NOW + 60), f"{NOW}", "1_900_000_000"])
def test_a_time_that_python_alone_takes_for_a_number_is_refused(claim: str, value: Any) -> None:
    assert f"{claim} must be a number of seconds" in refused(token(**{claim: value}))


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "a\nb", "\u2028"])
def test_names_that_cannot_be_stored_or_printed_are_refused(text: str) -> None:
    changes: dict[str, Any] = {
        "sub": text,
        "api_key_id": text,
        "tenants": [text],
        "roles": [text],
        "permissions": [text],
    }
    for claim, value in changes.items():
        kind = "list of printable texts" if isinstance(value, list) else "text of printable characters"
        assert f"{claim} must be a {kind}" in refused(token(**{claim: value}))


def test_another_issuer_audience_or_key_is_refused() -> None:
    stranger = SigningKey(Ed25519PrivateKey.generate())
    refused(token(iss="them"))
    refused(token(aud="there"))
    refused(token(key=stranger))
    refused(token(key=stranger, headers={"kid": KEY.key_id}))
    refused(token(headers={"kid": None}))


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "a" * 4_097, "ü.ü.ü", "\ud800", " ", "e30.e30.e30"])
def test_what_is_no_token_is_refused(text: str) -> None:
    assert refused(text).startswith("authorization: ")


def test_a_token_is_good_from_its_beginning_to_its_end_with_five_seconds_to_spare() -> None:
    clock = Clock()
    for now, good in ((NOW - 6, False), (NOW - 5, True), (NOW + 64, True), (NOW + 65, False)):
        clock.now = now
        if good:
            assert verifier(clock).verify(token()).account_id == "account"
        else:
            refused(token(), clock)


def test_a_token_that_was_verified_still_expires() -> None:
    clock = Clock()
    checked = verifier(clock)
    good = token()
    checked.verify(good)
    clock.now = NOW + 65
    with pytest.raises(errors.Unauthenticated, match="expired"):
        checked.verify(good)


def test_a_token_that_was_verified_is_not_decoded_again() -> None:
    checked = verifier()
    good = token()
    assert checked.verify(good) is checked.verify(good)


def test_only_so_many_tokens_are_remembered() -> None:
    checked = verifier()
    first = token()
    caller = checked.verify(first)
    for number in range(tokens._CACHED_TOKENS):
        checked.verify(token(sub=f"account {number}"))
    assert len(checked._verified) == tokens._CACHED_TOKENS
    assert checked.verify(first) is not caller


def test_refused_tokens_are_not_remembered() -> None:
    checked = verifier()
    for number in range(10):
        with pytest.raises(errors.Unauthenticated):
            checked.verify(token(aud="there", sub=str(number)))
    assert not checked._verified


def test_a_token_without_signature_or_with_another_algorithm_is_refused() -> None:
    content = token().rsplit(".", 1)[0]
    claims = content.split(".")[1]
    for algorithm in ("none", "None", "HS256", "RS256", "ES256", "", None):
        header = encoded(json.dumps({"alg": algorithm, "typ": "JWT", "kid": KEY.key_id}).encode())
        refused(f"{header}.{claims}.")
        refused(f"{header}.{claims}.{encoded(KEY.private.sign(f'{header}.{claims}'.encode()))}")
    refused(f"{content}.")


def test_a_token_signed_with_the_public_key_as_a_secret_is_refused() -> None:
    claims = token().split(".")[1]
    for secret in (
        KEY.public.public_bytes(Encoding.Raw, PublicFormat.Raw),
        KEY.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        KEY.public_base64url.encode(),
    ):
        header = encoded(json.dumps({"alg": "HS256", "kid": KEY.key_id}).encode())
        signature = hmac.digest(secret, f"{header}.{claims}".encode(), hashlib.sha256)
        refused(f"{header}.{claims}.{encoded(signature)}")


def test_a_token_that_names_no_key_is_refused() -> None:
    odd: tuple[Any, ...] = (None, "", 5, [], {}, [KEY.key_id])
    for kid in odd:
        refused(token(headers={"kid": kid}))
    content = token().split(".")[1]
    header = encoded(json.dumps({"alg": "EdDSA"}).encode())
    signature = encoded(KEY.private.sign(f"{header}.{content}".encode()))
    assert "kid" in refused(f"{header}.{content}.{signature}")


@pytest.mark.parametrize("crit", [["exp"], ["b64"], [], None, "exp"])
def test_a_token_that_asks_for_extensions_is_refused(crit: Any) -> None:
    refused(token(headers={"crit": crit}))


def test_a_key_that_is_no_longer_there_verifies_no_more_though_its_token_is_remembered() -> None:
    keys = {KEY.key_id: KEY.public}
    checked = TokenVerifier(keys, issuer="us", audience="here", clock=Clock())
    good = token()
    checked.verify(good)
    del keys[KEY.key_id]
    with pytest.raises(errors.Unauthenticated, match="not ours"):
        checked.verify(good)
    assert not checked._verified
    keys[KEY.key_id] = SigningKey(Ed25519PrivateKey.generate()).public
    with pytest.raises(errors.Unauthenticated, match="not valid"):
        checked.verify(good)


def test_the_audience_may_be_one_of_several() -> None:
    assert verifier().verify(token(aud=["there", "here"])).account_id == "account"
    refused(token(aud=["there"]))


def test_two_issuers_of_the_same_name_are_not_taken() -> None:
    same = OwnIssuer({}, issuer="us", audience="there")
    with pytest.raises(ValueError, match="same `iss`"):
        TokenVerifier({}, issuer="us", audience="here", clock=time.time, others=[same])


@pytest.mark.parametrize(("issuer", "audience"), [("", "here"), ("us", "")])
def test_a_verifier_without_issuer_or_audience_is_not_made(issuer: str, audience: str) -> None:
    with pytest.raises(ValueError, match="issuer"):
        TokenVerifier({}, issuer=issuer, audience=audience, clock=time.time)
