"""Tokens of other issuers: taken if they are listed, by their own keys alone, for what they are allowed here."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from decisiongraph_service.access import issuers, key_sets
from decisiongraph_service.access.keys import SigningKey
from decisiongraph_service.access.tokens import Caller, TokenVerifier
from decisiongraph_service.domain import errors
from decisiongraph_service.domain.vocabulary import TenantId

NOW = 1_800_000_000
OURS = SigningKey(Ed25519PrivateKey.generate())
RSA = rsa.generate_private_key(65537, 2048)
WEAK_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
EDDSA = Ed25519PrivateKey.generate()
PRIVATE: dict[str, Any] = {"rsa": RSA, "p256": P256, "p384": P384, "ed": EDDSA}
ALL = ["EdDSA", "ES256", "ES384", "RS256", "PS256"]


def jwk(kid: str, private: Any, **more: Any) -> dict[str, Any]:
    public = private.public_key()
    if isinstance(private, rsa.RSAPrivateKey):
        members = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(private, ec.EllipticCurvePrivateKey):
        members = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        members = OKPAlgorithm.to_jwk(public, as_dict=True)
    members.pop("key_ops", None)
    return {**members, "kid": kid, **more}


KEYS = [jwk(kid, private) for kid, private in PRIVATE.items()]


def entry(**changes: Any) -> dict[str, Any]:
    """An issuer of the file with these fields changed; one that is `...` is left out."""
    fields = {
        "name": "corp",
        "issuer": "https://login.example.com/",
        "audience": "decisiongraph",
        "jwks_file": "keys.json",
        "algorithms": ALL,
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not ...}


def loaded(folder: Path, *entries: Mapping[str, Any], keys: Any = None) -> list[issuers.ExternalIssuer]:
    (folder / "keys.json").write_text(json.dumps({"keys": KEYS if keys is None else keys}))
    listed = folder / "issuers.json"
    listed.write_text(json.dumps(entries))
    return issuers.load(listed, own_issuer="us")


def verifier(folder: Path, keys: Any = None, **changes: Any) -> TokenVerifier:
    others = loaded(folder, entry(**changes), keys=keys)
    return TokenVerifier({OURS.key_id: OURS.public}, issuer="us", audience="here", clock=lambda: NOW, others=others)


def token(
    private: Any = RSA,
    algorithm: str = "RS256",
    kid: Any = "rsa",
    headers: Mapping[str, Any] | None = None,
    **changes: Any,
) -> str:
    """A good token of the other issuer with these claims changed; a claim that is `...` is left out."""
    claims = {
        "iss": "https://login.example.com/",
        "aud": "decisiongraph",
        "sub": "alice",
        "exp": NOW + 60,
        "tenants": ["acme"],
        "roles": ["reader"],
        **changes,
    }
    kept = {name: value for name, value in claims.items() if value is not ...}
    return jwt.encode(kept, private, algorithm=algorithm, headers={"kid": kid, **(headers or {})})


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def forged(header: Mapping[str, Any], secret: bytes) -> str:
    """A token whose signature is an HMAC with what is public."""
    content = f"{encoded(json.dumps(header).encode())}.{token().split('.')[1]}"
    return f"{content}.{encoded(hmac.digest(secret, content.encode(), hashlib.sha256))}"


def refused(checked: TokenVerifier, text: str) -> str:
    with pytest.raises(errors.Unauthenticated) as caught:
        checked.verify(text)
    return caught.value.message


def test_a_token_of_another_issuer_is_taken_under_a_name_that_none_of_ours_has(tmp_path: Path) -> None:
    assert verifier(tmp_path).verify(token()) == Caller(
        "corp:alice",
        (TenantId("acme"),),
        frozenset({"reader"}),
        frozenset(),
        NOW + 60,
    )


@pytest.mark.parametrize(
    ("private", "algorithm", "kid"),
    [
        (RSA, "RS256", "rsa"),
        (RSA, "PS256", "rsa"),
        (P256, "ES256", "p256"),
        (P384, "ES384", "p384"),
        (EDDSA, "EdDSA", "ed"),
    ],
)
def test_each_algorithm_works_with_its_keys_if_the_issuer_may_use_it(
    tmp_path: Path, private: Any, algorithm: str, kid: str
) -> None:
    good = token(private, algorithm, kid)
    assert verifier(tmp_path).verify(good).account_id == "corp:alice"
    others = [name for name in ALL if name != algorithm]
    refused(verifier(tmp_path, algorithms=others), good)


@pytest.mark.parametrize("kid", ["rsa", "p256", "p384", "ed"])
@pytest.mark.parametrize(
    "algorithm", ["none", "HS256", "HS384", "HS512", "RS256", "PS256", "ES256", "ES384", "EdDSA", "x"]
)
def test_a_key_verifies_nothing_but_what_its_type_signs(tmp_path: Path, kid: str, algorithm: str) -> None:
    public = PRIVATE[kid].public_key()
    checked = verifier(tmp_path)
    header = {"alg": algorithm, "typ": "JWT", "kid": kid}
    for secret in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(next(key for key in KEYS if key["kid"] == kid)).encode(),
        b"",
    ):
        refused(checked, forged(header, secret))
    refused(checked, ".".join([*forged(header, b"").split(".")[:2], ""]))


@pytest.mark.parametrize(
    ("private", "algorithm", "kid"),
    [
        (EDDSA, "EdDSA", "rsa"),
        (RSA, "RS256", "ed"),
        (P256, "ES256", "p384"),
        (P256, "ES256", "rsa"),
        (RSA, "PS256", "p256"),
    ],
)
def test_a_signature_of_one_key_under_the_id_of_another_is_refused(
    tmp_path: Path, private: Any, algorithm: str, kid: str
) -> None:
    refused(verifier(tmp_path), token(private, algorithm, kid))


def test_the_algorithm_that_a_key_names_is_the_only_one_of_it(tmp_path: Path) -> None:
    checked = verifier(tmp_path, keys=[jwk("rsa", RSA, alg="PS256")])
    assert checked.verify(token(algorithm="PS256")).account_id == "corp:alice"
    refused(checked, token(algorithm="RS256"))


BAD_TOKENS: dict[str, dict[str, Any]] = {
    "expired": {"exp": NOW - 60},
    "without expiry": {"exp": ...},
    "expiry is text": {"exp": "soon"},
    "not yet valid": {"nbf": NOW + 60},
    "nbf is null": {"nbf": None},
    "another audience": {"aud": "here"},
    "audiences without ours": {"aud": ["here", "there"]},
    "no audience": {"aud": ...},
    "no issuer": {"iss": ...},
    "an unknown issuer": {"iss": "https://login.example.com"},
    "our issuer, their key": {"iss": "us", "aud": "here", "nbf": NOW, "iat": NOW},
    "no subject": {"sub": ...},
    "subject is empty": {"sub": ""},
    "subject is too long": {"sub": "a" * 129},
    "subject with a line break": {"sub": "alice\nbob"},
    "subject with NUL": {"sub": "alice\x00"},
    "subject with half a surrogate pair": {"sub": "alice\ud800"},
    "roles are a number": {"roles": 5},
    "roles hold a list": {"roles": [["admin"]]},
    "tenants are an object": {"tenants": {"acme": True}},
    "no key id": {"kid": ""},
    "an unknown key id": {"kid": "other"},
    "our key id": {"kid": OURS.key_id},
    "an extension": {"headers": {"crit": ["x"], "x": 1}},
}


@pytest.mark.parametrize("changes", BAD_TOKENS.values(), ids=list(BAD_TOKENS))
def test_a_bad_token_of_another_issuer_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    checked = verifier(tmp_path)
    assert refused(checked, token(**changes)).startswith("authorization: ")
    assert not checked._verified


def test_our_key_makes_no_tokens_of_another_issuer(tmp_path: Path) -> None:
    refused(verifier(tmp_path), token(OURS.private, "EdDSA", OURS.key_id))


def test_one_issuer_does_not_speak_for_another(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(json.dumps({"keys": [jwk("rsa", P256)]}))
    second = entry(name="second", issuer="second", jwks_file="other.json")
    others = loaded(tmp_path, entry(), second)
    checked = TokenVerifier({}, issuer="us", audience="here", clock=lambda: NOW, others=others)
    refused(checked, token(iss="second"))
    assert checked.verify(token(P256, "ES256", iss="second")).account_id == "second:alice"
    refused(checked, token(P256, "ES256"))


def test_claims_go_by_the_names_that_the_issuer_gives_them(tmp_path: Path) -> None:
    checked = verifier(
        tmp_path,
        claims={"account": "email", "tenants": "org", "roles": "groups", "permissions": "https://x/p"},
        role_map={"readers": ["reader"], "bots": ["reader", "writer"], "nobody": []},
    )
    claims: dict[str, Any] = {
        "email": "a@x",
        "org": "acme",
        "groups": ["bots", "nobody", "admin"],
        "https://x/p": ["audit_read", "any"],
    }
    caller = checked.verify(token(**claims, roles=["admin"], tenants=["other"], permissions=["projection_rebuild"]))
    assert (caller.account_id, caller.tenant_ids) == ("corp:a@x", ("acme",))
    assert (set(caller.roles), set(caller.permissions)) == ({"reader", "writer"}, {"audit_read"})


def test_what_an_issuer_is_not_allowed_its_tokens_do_not_grant(tmp_path: Path) -> None:
    everything = token(
        tenants=["acme", "other", "decisiongraph-system", "Not A Tenant", " acme"],
        roles=["admin", "owner"],
        permissions=["audit_read", "access_manage", "all"],
        api_key_id="k",
    )
    caller = verifier(tmp_path).verify(everything)
    assert caller.tenant_ids == ("acme", "other"), "the installation's own tenant must be allowed by name"
    assert (set(caller.roles), set(caller.permissions)) == ({"admin"}, {"audit_read"})
    assert caller.key_id is None
    limited = verifier(
        tmp_path, allowed_tenants=["acme", "decisiongraph-system"], allowed_permissions=["access_manage"]
    )
    caller = limited.verify(everything)
    assert caller.tenant_ids == ("acme", "decisiongraph-system")
    assert set(caller.permissions) == {"access_manage"}
    assert verifier(tmp_path, allowed_tenants=[]).verify(everything).tenant_ids == ()


def test_a_token_that_says_nothing_of_powers_grants_none(tmp_path: Path) -> None:
    caller = verifier(tmp_path).verify(token(tenants=..., roles=...))
    assert (caller.tenant_ids, caller.roles, caller.permissions) == ((), frozenset(), frozenset())


def test_keys_that_do_not_verify_are_left_out() -> None:
    keys = [
        jwk("weak", WEAK_RSA),
        jwk("for secrets", RSA, use="enc"),
        jwk("signs only", RSA, key_ops=["sign"]),
        jwk("other algorithm", RSA, alg="RS512"),
        {**jwk("private", EDDSA), "d": "AAAA"},
        {"kty": "oct", "kid": "secret", "k": encoded(b"x" * 32), "alg": "HS256"},
        {"kty": "OKP", "crv": "X25519", "kid": "exchange", "x": encoded(b"x" * 32)},
        {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
        {"kty": ["RSA"], "kid": "list"},
        {name: value for name, value in jwk("", RSA).items() if name != "kid"},
        jwk("", RSA),
        "no key",
        jwk("good", RSA, use="sig", key_ops=["verify"], alg="RS256"),
    ]
    assert list(key_sets.parse(json.dumps({"keys": keys}).encode(), ALL)) == ["good"]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b'{"keys": {}}',
        b'{"keys": null}',
        b"\xff",
        b"[" * 100_000,
        b'{"keys": []}' + b" " * 262_144,
    ],
    ids=["empty", "list", "no keys", "null", "object", "null keys", "no text", "deep", "oversized"],
)
def test_what_is_no_key_set_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match="key"):
        key_sets.parse(document, ALL)


def test_two_keys_of_one_id_and_too_many_keys_are_refused() -> None:
    for keys in ([jwk("a", RSA), jwk("a", P256)], [jwk("a", RSA)] * 101):
        with pytest.raises(ValueError, match="keys"):
            key_sets.parse(json.dumps({"keys": keys}).encode(), ALL)


BAD_ENTRIES: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({"name": ...}, r"\[0\].name: Field required"),
    "a name with a colon": ({"name": "a:b"}, r"\[0\].name"),
    "no audience": ({"audience": ...}, r"\[0\].audience: Field required"),
    "an empty audience": ({"audience": ""}, r"\[0\].audience"),
    "an empty issuer": ({"issuer": ""}, r"\[0\].issuer"),
    "our issuer": ({"issuer": "us"}, r"\[0\].issuer: another issuer, or this service"),
    "no algorithm": ({"algorithms": []}, r"\[0\].algorithms"),
    "none": ({"algorithms": ["none"]}, r"\[0\].algorithms\[0\]"),
    "HS256": ({"algorithms": ["RS256", "HS256"]}, r"\[0\].algorithms\[1\]"),
    "no keys": ({"jwks_file": ...}, "set one of jwks_file and jwks_url"),
    "keys twice": ({"jwks_url": "https://x/"}, "set one of jwks_file and jwks_url"),
    "http": ({"jwks_file": ..., "jwks_url": "http://login.example.com/"}, r"\[0\].jwks_url: .*must be https"),
    "http on what looks like this machine": (
        {"jwks_file": ..., "jwks_url": "http://localhost.example.com/"},
        r"\[0\].jwks_url: .*must be https",
    ),
    "file": ({"jwks_file": ..., "jwks_url": "file:///etc/passwd"}, r"\[0\].jwks_url"),
    "a user": ({"jwks_file": ..., "jwks_url": "https://a:b@login.example.com/"}, r"\[0\].jwks_url"),
    "a port that is none": (
        {"jwks_file": ..., "jwks_url": "https://a:hush/@login.example.com/"},
        r"\[0\].jwks_url: [^0-9a-z]*Value error, must be an address with a host",
    ),
    "a file that is missing": ({"jwks_file": "missing.json"}, "jwks_file of corp: .*missing.json.*cannot be read"),
    "a file without keys for it": ({"jwks_file": "issuers.json"}, "jwks_file of corp: .*no key set"),
    "an unknown field": ({"algoritms": []}, r"\[0\].algoritms"),
    "an unknown claim name": ({"claims": {"role": "x"}}, r"\[0\].claims.role"),
    "an unknown role": ({"role_map": {"x": ["owner"]}}, r"\[0\].role_map.x\[0\]: .*no such role"),
    "a role map to a text": ({"role_map": {"x": "reader"}}, r"\[0\].role_map.x"),
    "no tenant id": ({"allowed_tenants": ["Acme Inc"]}, r"\[0\].allowed_tenants\[0\]: .*tenant id"),
    "an unknown permission": (
        {"allowed_permissions": ["all"]},
        r"\[0\].allowed_permissions\[0\]: .*no such permission",
    ),
}


@pytest.mark.parametrize(("changes", "said"), BAD_ENTRIES.values(), ids=list(BAD_ENTRIES))
def test_a_mistake_in_the_file_is_named_at_the_start(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=rf"DG_EXTERNAL_ISSUERS: .*issuers.json: .*{said}"):
        loaded(tmp_path, entry(**changes))


@pytest.mark.parametrize("content", ["", "{", "{}", "null", "[1]"])
def test_a_file_that_is_no_list_of_issuers_is_refused(tmp_path: Path, content: str) -> None:
    listed = tmp_path / "issuers.json"
    listed.write_text(content)
    with pytest.raises(ValueError, match=r"DG_EXTERNAL_ISSUERS: .*issuers.json"):
        issuers.load(listed, own_issuer="us")


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"DG_EXTERNAL_ISSUERS: .*cannot be read"):
        issuers.load(tmp_path / "missing.json", own_issuer="us")


def test_names_and_issuers_are_distinct(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\[1\].issuer"):
        loaded(tmp_path, entry(), entry(name="other"))
    with pytest.raises(ValueError, match=r"\[1\].name"):
        loaded(tmp_path, entry(), entry(issuer="other"))


def test_a_key_set_on_this_machine_may_be_http(tmp_path: Path) -> None:
    for host in ("127.0.0.1:8000", "[::1]:8000", "localhost"):
        loaded(tmp_path, entry(jwks_file=..., jwks_url=f"http://{host}/keys"))
