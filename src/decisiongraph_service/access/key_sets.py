"""JSON Web Key Sets (RFC 7517) of other issuers: which keys of them verify tokens, and with which algorithms.

What a key is decides what it can be used for, and never what a token says: an RSA key verifies RS and PS signatures
only, and no key of a set verifies an HS signature or none.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

PublicKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey

MAX_BYTES: Final = 262_144
"""The longest key set that is read."""

_MAX_KEYS: Final = 100
_RSA_BITS: Final = range(2048, 8192 + 1)
_RSA_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVE_ALGORITHMS: Final = {SECP256R1.name: "ES256", SECP384R1.name: "ES384", SECP521R1.name: "ES512"}
# Any algorithm of the type does: PyJWT wants one to know how to read the key.
_READ_AS: Final = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key that verifies tokens."""

    public: PublicKey
    algorithms: tuple[str, ...]
    """The `alg` of tokens that it may verify."""


def parse(document: bytes, allowed: Collection[str]) -> dict[str, TrustedKey]:
    """The keys of a set that verify tokens with one of the allowed algorithms, by key id.

    Keys of other kinds, for other uses, without an id, or with their private part are left out.

    Raises:
        ValueError: it is no key set, longer than MAX_BYTES, of more than 100 keys, or two keys have the same id.
    """
    if len(document) > MAX_BYTES:
        raise ValueError(f"the key set is longer than {MAX_BYTES} bytes")
    try:
        listed = json.loads(document)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError('it is no key set in JSON: {"keys": […]}') from error
    if not isinstance(listed, list) or len(listed) > _MAX_KEYS:
        raise ValueError(f"`keys` must be a list of at most {_MAX_KEYS} keys")
    trusted: dict[str, TrustedKey] = {}
    for member in listed:
        key_id, key = _trusted(member, allowed)
        if key is None:
            continue
        if key_id in trusted:
            raise ValueError("two keys of the key set have the same `kid`")
        trusted[key_id] = key
    return trusted


def _trusted(member: object, allowed: Collection[str]) -> tuple[str, TrustedKey | None]:
    if not isinstance(member, dict):
        return "", None
    key_id = member.get("kid")
    if not isinstance(key_id, str) or not key_id or not _verifies(member):
        return "", None
    public = _public_key(member)
    algorithms = tuple(name for name in _algorithms_of(public) if name in allowed and member.get("alg") in (None, name))
    return key_id, None if public is None or not algorithms else TrustedKey(public, algorithms)


def _verifies(member: Mapping[str, Any]) -> bool:
    operations = member.get("key_ops", ["verify"])
    return (
        member.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        # Whoever publishes the private part lets everybody sign.
        and "d" not in member
    )


def _public_key(member: dict[str, Any]) -> PublicKey | None:
    read_as = _READ_AS.get(str(member.get("kty")))
    if read_as is None:
        return None
    try:
        key = jwt.PyJWK(member, algorithm=read_as).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, ArithmeticError):
        return None
    return key if isinstance(key, (Ed25519PublicKey, EllipticCurvePublicKey, RSAPublicKey)) else None


def _algorithms_of(public: PublicKey | None) -> tuple[str, ...]:
    if isinstance(public, Ed25519PublicKey):
        return ("EdDSA",)
    if isinstance(public, RSAPublicKey):
        return _RSA_ALGORITHMS if public.key_size in _RSA_BITS else ()
    if isinstance(public, EllipticCurvePublicKey):
        algorithm = _CURVE_ALGORITHMS.get(public.curve.name)
        return () if algorithm is None else (algorithm,)
    return ()
