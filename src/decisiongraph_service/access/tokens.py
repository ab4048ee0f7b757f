"""Tokens: JSON Web Tokens signed with Ed25519 that say who calls, in which tenants and with which powers.

Verification is an allow-list: one algorithm, known keys, our issuer, our audience, not expired.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from decisiongraph_service.access.keys import SigningKey
from decisiongraph_service.domain import errors
from decisiongraph_service.domain.vocabulary import TenantId

ROLES: Final = ("reader", "writer", "admin")
PERMISSIONS: Final = ("projection_replay", "projection_rebuild", "audit_read", "access_manage")

_ALGORITHM: Final = "EdDSA"
_LEEWAY_SECONDS: Final = 5
_MAX_TOKEN_BYTES: Final = 4096
_CACHED_TOKENS: Final = 1024


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the token says."""

    account_id: str
    tenant_ids: tuple[TenantId, ...]
    roles: frozenset[str]
    permissions: frozenset[str]
    expires_at: int
    """Seconds since 1970-01-01T00:00:00Z."""


def issue(
    key: SigningKey,
    *,
    issuer: str,
    audience: str,
    account_id: str,
    tenant_ids: Sequence[str],
    roles: Sequence[str],
    permissions: Sequence[str],
    now: int,
    lifetime_seconds: int,
) -> str:
    """Make a token. `now` is in seconds since 1970-01-01T00:00:00Z."""
    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": account_id,
        "iat": now,
        "nbf": now,
        "exp": now + lifetime_seconds,
        "tenants": list(tenant_ids),
        "roles": list(roles),
        "permissions": list(permissions),
    }
    return jwt.encode(claims, key.private, algorithm=_ALGORITHM, headers={"kid": key.key_id})


class TokenVerifier:
    """Verifies tokens and remembers the last verified ones, at most 1,024, never beyond their expiry."""

    def __init__(
        self, keys: Mapping[str, Ed25519PublicKey], *, issuer: str, audience: str, clock: Callable[[], float]
    ) -> None:
        """`keys` by key id; `clock` tells seconds since 1970-01-01T00:00:00Z."""
        if not issuer or not audience:
            raise ValueError("tokens need an issuer and an audience; set DG_TOKEN_ISSUER and DG_TOKEN_AUDIENCE")
        self._keys = dict(keys)
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._verified: OrderedDict[bytes, Caller] = OrderedDict()

    def verify(self, token: str) -> Caller:
        """The caller that the token speaks for.

        Raises:
            Unauthenticated: the token is malformed, expired, or not made by our issuer for our audience.
        """
        if len(token) > _MAX_TOKEN_BYTES:
            raise errors.Unauthenticated(f"authorization: the token is longer than {_MAX_TOKEN_BYTES} bytes")
        fingerprint = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        caller = self._verified.get(fingerprint)
        if caller is None or caller.expires_at + _LEEWAY_SECONDS <= self._clock():
            self._verified.pop(fingerprint, None)
            caller = self._decode(token)
            self._verified[fingerprint] = caller
            if len(self._verified) > _CACHED_TOKENS:
                self._verified.popitem(last=False)
        return caller

    def _decode(self, token: str) -> Caller:
        try:
            key = self._keys[str(jwt.get_unverified_header(token).get("kid"))]
            claims = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                options={
                    "require": ["exp", "iat", "nbf", "iss", "aud", "sub"],
                    # The clock is ours, so that tests can turn it; see _check_times.
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
            self._check_times(claims)
            return _caller(claims)
        except KeyError as error:
            raise errors.Unauthenticated("authorization: the token is signed with a key that is not ours") from error
        except jwt.ExpiredSignatureError as error:
            raise errors.Unauthenticated("authorization: the token has expired; get a new one") from error
        except (jwt.PyJWTError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise errors.Unauthenticated(
                f"authorization: the token is not valid ({error}); get a new one from the issuer of this service"
            ) from error

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = self._clock()
        if int(claims["exp"]) + _LEEWAY_SECONDS <= now:
            raise jwt.ExpiredSignatureError("expired")
        if int(claims["nbf"]) - _LEEWAY_SECONDS > now:
            raise jwt.ImmatureSignatureError("it is not valid yet")


def _caller(claims: Mapping[str, Any]) -> Caller:
    return Caller(
        account_id=str(claims["sub"]),
        tenant_ids=tuple(TenantId(tenant) for tenant in _texts(claims, "tenants")),
        roles=frozenset(_texts(claims, "roles")),
        permissions=frozenset(_texts(claims, "permissions")),
        expires_at=int(claims["exp"]),
    )


def _texts(claims: Mapping[str, Any], name: str) -> list[str]:
    value = claims.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{name} must be a list of texts")
    return value
