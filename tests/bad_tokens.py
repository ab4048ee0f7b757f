"""Tokens that must not be taken, and headers that hold none."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from decisiongraph_service.access import tokens
from decisiongraph_service.access.keys import SigningKey
from tests.calling import AUDIENCE, ISSUER, Service


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
    """Header, content and signature."""
    return token.split(".")


def encoded(value: Any) -> str:
    """JSON, or bytes as they are, in base64url."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def _algorithm_none(service: Service) -> str:
    header = encoded({"alg": "none", "typ": "JWT", "kid": service.key.key_id})
    return f"{header}.{parts(signed(service))[1]}."


def _signed_with_the_public_key(encoding: Encoding, form: PublicFormat) -> Callable[[Service], str]:
    def token(service: Service) -> str:
        header = encoded({"alg": "HS256", "typ": "JWT", "kid": service.key.key_id})
        content = f"{header}.{parts(signed(service))[1]}"
        secret = service.key.public.public_bytes(encoding, form)
        return f"{content}.{encoded(hmac.digest(secret, content.encode(), hashlib.sha256))}"

    return token


def _tampered(service: Service) -> str:
    header, content, signature = parts(signed(service, roles=[]))
    claims = json.loads(base64.urlsafe_b64decode(content + "=="))
    return f"{header}.{encoded({**claims, 'roles': list(tokens.ROLES)})}.{signature}"


def _foreign_key_under_our_id(service: Service) -> str:
    stranger = SigningKey(Ed25519PrivateKey.generate())
    content = parts(signed(service))[1]
    message = f"{encoded({'alg': 'EdDSA', 'kid': service.key.key_id})}.{content}"
    return f"{message}.{encoded(stranger.private.sign(message.encode()))}"


BAD_HEADERS: Final[dict[str, str]] = {
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

BAD_TOKENS: Final[dict[str, Callable[[Service], str]]] = {
    "expired": lambda s: signed(s, exp=int(time.time()) - 60),
    "not yet valid": lambda s: signed(s, nbf=int(time.time()) + 60),
    "wrong audience": lambda s: signed(s, aud="other"),
    "wrong issuer": lambda s: signed(s, iss="other"),
    "algorithm none": _algorithm_none,
    "HS256 with the raw public key": _signed_with_the_public_key(Encoding.Raw, PublicFormat.Raw),
    "HS256 with the PEM public key": _signed_with_the_public_key(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "unknown key id": lambda s: signed(s, key=SigningKey(Ed25519PrivateKey.generate())),
    "another key under our key id": _foreign_key_under_our_id,
    "tampered claims": _tampered,
    "signature cut off": lambda s: ".".join([*parts(signed(s))[:2], ""]),
    "no subject": lambda s: signed(s, without="sub"),
    "no expiry": lambda s: signed(s, without="exp"),
    "expiry is text": lambda s: signed(s, exp="soon"),
    "expiry is a number in quotes": lambda s: signed(s, exp=str(int(time.time()) + 600)),
    "expiry is infinite": lambda s: signed(s, exp=float("inf")),
    "expiry is null": lambda s: signed(s, exp=None),
    "roles are text": lambda s: signed(s, roles="reader writer admin"),
    "roles are an object": lambda s: signed(s, roles={"admin": True}),
    "roles hold a number": lambda s: signed(s, roles=["admin", 5]),
    "tenants are text": lambda s: signed(s, tenants="somebody"),
    "claims are a list": lambda s: f"{parts(signed(s))[0]}.{encoded([])}.AAAA",
}
