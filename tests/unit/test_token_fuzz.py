"""Nothing but a good token is taken, and whatever else is sent, or signed, ends in the one refusal."""

import base64
import dataclasses
import json
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import OKPAlgorithm
from tests.fuzz.effort import fuzzed
from tests.fuzz.values import JSON, TEXTS, as_utf8, documents, near, with_value

from decisiongraph_service.access import api_keys, issuers, key_sets, tokens
from decisiongraph_service.access.keys import SigningKey
from decisiongraph_service.access.tokens import Caller, TokenVerifier
from decisiongraph_service.domain import errors

_NOW: Final = 1_800_000_000
_KEY: Final = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
_THEIRS: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
_HEADER: Final[dict[str, Any]] = {"alg": "EdDSA", "typ": "JWT", "kid": _KEY.key_id}
_CLAIMS: Final[dict[str, Any]] = {
    "iss": "us",
    "aud": "here",
    "sub": "account",
    "iat": _NOW,
    "nbf": _NOW,
    "exp": _NOW + 60,
    "tenants": ["a", "b"],
    "roles": ["reader"],
    "permissions": ["audit_read"],
    "api_key_id": "key",
}
_THEIR_CLAIMS: Final = {**_CLAIMS, "iss": "them"}
_JWK: Final[dict[str, Any]] = {
    **OKPAlgorithm.to_jwk(_THEIRS.public_key(), as_dict=True),
    "kid": "theirs",
    "use": "sig",
    "alg": "EdDSA",
    "key_ops": ["verify"],
}
_RSA_JWK: Final = {"kty": "RSA", "kid": "rsa", "n": "u" * 342, "e": "AQAB", "use": "sig"}
_EC_JWK: Final = {"kty": "EC", "kid": "ec", "crv": "P-256", "x": "u" * 43, "y": "u" * 43}
_ENTRY: Final[dict[str, Any]] = {
    "name": "corp",
    "issuer": "them",
    "audience": "here",
    "jwks_url": "https://login.example.com/keys",
    "algorithms": ["EdDSA"],
    "claims": {"tenants": "org"},
    "role_map": {"x": ["reader"]},
    "allowed_tenants": ["acme"],
    "allowed_permissions": ["audit_read"],
}


class _TheirKeys:
    """The keys of the other issuer."""

    may_learn = False

    def __init__(self) -> None:
        self._keys = key_sets.parse(json.dumps({"keys": [_JWK]}).encode(), ["EdDSA"])

    def find(self, key_id: str) -> key_sets.TrustedKey | None:
        return self._keys.get(key_id)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


def _verifier() -> TokenVerifier:
    settings = issuers.IssuerSettings.model_validate({**_ENTRY, "allowed_tenants": None, "claims": {}})
    return TokenVerifier(
        {_KEY.key_id: _KEY.public},
        issuer="us",
        audience="here",
        clock=lambda: float(_NOW),
        others=[issuers.ExternalIssuer(settings, _TheirKeys())],
    )


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _signed(header: bytes, claims: bytes, key: Ed25519PrivateKey = _KEY.private) -> str:
    content = f"{_encoded(header)}.{_encoded(claims)}"
    return f"{content}.{_encoded(key.sign(content.encode()))}"


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


_GOOD: Final = _signed(_dumped(_HEADER), _dumped(_CLAIMS))
_SIGNATURE: Final = _GOOD.rpartition(".")[2]


def _outcome(text: str) -> Caller | None:
    """The caller that a token is taken for; None if it is refused."""
    verifier = _verifier()
    try:
        return verifier.verify(text)
    except errors.Unauthenticated as refusal:
        assert refusal.message.startswith("authorization: ")
        assert not verifier._verified
        return None


def _assert_usable(caller: Caller) -> None:
    """What is known of a caller can be compared, stored and logged."""
    assert isinstance(caller.expires_at, int)
    assert caller.expires_at + 5 > _NOW
    for text in (caller.account_id, *caller.tenant_ids, *caller.roles, *caller.permissions, caller.key_id or ""):
        assert isinstance(text, str)
        text.encode()
        assert "\0" not in text
    assert len(dataclasses.astuple(caller)) == 6


@given(near(_GOOD, (".", "..", "=", "-", "_", "+", "/", "A", "e30", "e30." * 50, " ", "\n", "Bearer ")))
@fuzzed(300)
def test_a_token_with_any_change_is_refused(text: str) -> None:
    assert _outcome(text) is None or text == _GOOD


@given(st.lists(st.text("ABab01-_=+/.", max_size=12) | documents(_HEADER).map(_encoded), max_size=6))
@fuzzed(100)
def test_parts_of_anything_are_no_token(parts: list[str]) -> None:
    assert _outcome(".".join(parts)) is None


@given(with_value({**_HEADER, "crit": ["exp"], "b64": False, "jwk": _JWK, "jku": "https://x/", "x5c": []}))
@fuzzed(200)
def test_a_header_of_anything_signed_or_not_is_refused_or_names_our_key(header: dict[str, Any]) -> None:
    content = f"{_encoded(_dumped(header))}.{_encoded(_dumped(_CLAIMS))}"
    assert _outcome(f"{content}.") is None
    assert _outcome(f"{content}.{_SIGNATURE}") is None
    taken = _outcome(_signed(_dumped(header), _dumped(_CLAIMS)))
    if taken is not None:
        assert (header["alg"], header["kid"]) == ("EdDSA", _KEY.key_id)
        assert "crit" not in header


@given(documents(_HEADER), documents(_CLAIMS))
@fuzzed(150)
def test_documents_that_are_nearly_json_make_no_token_by_accident(header: bytes, claims: bytes) -> None:
    assert _outcome(_signed(header, _dumped(_CLAIMS), _THEIRS)) is None
    for taken in (_outcome(_signed(header, _dumped(_CLAIMS))), _outcome(_signed(_dumped(_HEADER), claims))):
        if taken is not None:
            _assert_usable(taken)


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "another issuer's"])
@given(data=st.data())
@fuzzed(200)
def test_claims_of_any_type_in_a_signed_token_are_refused_or_usable(ours: bool, data: st.DataObject) -> None:
    claims = data.draw(with_value(_CLAIMS if ours else _THEIR_CLAIMS))
    header = _HEADER if ours else {**_HEADER, "kid": "theirs"}
    taken = _outcome(_signed(_dumped(header), _dumped(claims), _KEY.private if ours else _THEIRS))
    if taken is None:
        return
    _assert_usable(taken)
    assert claims["iss"] == ("us" if ours else "them")
    assert claims["aud"] == "here" or "here" in claims["aud"]
    for name in ("exp", "nbf"):
        value = claims.get(name, _NOW)
        assert isinstance(value, int | float), f"{name} is a number of seconds (RFC 7519, section 2)"
        assert not isinstance(value, bool)
    assert set(taken.roles) <= set(tokens.ROLES) or ours
    assert ours or (taken.account_id.startswith("corp:") and taken.key_id is None)


@given(st.sampled_from([_JWK, _RSA_JWK, _EC_JWK]).flatmap(with_value) | JSON, documents({"keys": [_JWK]}))
@fuzzed(300)
def test_a_key_set_of_anything_is_refused_or_gives_keys_that_verify(member: Any, document: bytes) -> None:
    for text in (_dumped({"keys": [member, _JWK]}), _dumped({"keys": member}), _dumped(member), document):
        try:
            found = key_sets.parse(text, ["EdDSA", "ES256", "RS256"])
        except ValueError as error:
            assert "key" in str(error)
            continue
        for key_id, key in found.items():
            assert key_id
            assert set(key.algorithms) <= {"EdDSA", "ES256", "RS256"}
            assert isinstance(key.public, key_sets.PublicKey)


@given(st.lists(with_value(_ENTRY) | JSON, max_size=2), documents([_ENTRY]))
@fuzzed(150)
def test_a_file_of_issuers_of_anything_is_refused_by_its_setting_or_read(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Any], document: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "issuers.json"
    for text in (_dumped(entries), document):
        path.write_bytes(text)
        try:
            found = issuers.load(path, own_issuer="us")
        except ValueError as error:
            assert str(error).startswith(f"DG_EXTERNAL_ISSUERS: {path}")
            str(error).encode()
        else:
            assert all(one.issuer != "us" for one in found)


@given(TEXTS | near(f"dgk_{'0' * 16}_{'A' * 43}", ("dgk_", "_", "-", "é", "\n")))
@fuzzed(150)
def test_any_text_is_an_api_key_by_its_form_or_none(text: str) -> None:
    found = api_keys.key_id_of(text)
    assert found is None or as_utf8(text) == f"dgk_{found}_{text[-43:]}".encode()
    assert not api_keys.matches(text, None)
