"""Tokens: JSON Web Tokens signed with Ed25519 that say who calls, in which tenants and with which powers.

Verification is an allow-list: known issuers, and for each its keys, their algorithms and its audience; not expired.
"""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from decisiongraph_service.access.key_sets import PublicKey, TrustedKey
from decisiongraph_service.access.keys import SigningKey
from decisiongraph_service.domain import errors
from decisiongraph_service.domain.vocabulary import TenantId

ROLES: Final = ("reader", "writer", "admin")
PERMISSIONS: Final = ("projection_replay", "projection_rebuild", "audit_read", "access_manage")

_KEY_CLAIM: Final = "api_key_id"
_ALGORITHM: Final = "EdDSA"
_LEEWAY_SECONDS: Final = 5
MAX_TOKEN_BYTES: Final = 4096
"""A longer token is refused; with it headers fit what Envoy and gRPC take of them."""
_FURTHER_BYTES: Final = 600
"""Of a token besides its account and its powers: header, signature, issuer, audience, times, key."""
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
    key_id: str | None = None
    """The API key that the token was issued for."""


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
    key_id: str | None = None,
) -> str:
    """Make a token. `now` is in seconds since 1970-01-01T00:00:00Z; `key_id`: the API key that it is issued for."""
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
        **({} if key_id is None else {_KEY_CLAIM: key_id}),
    }
    return jwt.encode(claims, key.private, algorithm=_ALGORITHM, headers={"kid": key.key_id})


def longest(account_id: str, tenant_ids: Sequence[str], roles: Sequence[str], permissions: Sequence[str]) -> int:
    """About how many bytes a token for these powers has, rather more than fewer."""
    texts = (account_id, *tenant_ids, *roles, *permissions)
    # Each text stands in quotes with a comma; base64 takes four characters for three.
    return _FURTHER_BYTES + sum(len(text) + 3 for text in texts) * 4 // 3


class TrustedIssuer(Protocol):
    """Somebody whose tokens are taken."""

    @property
    def issuer(self) -> str:
        """The `iss` of its tokens."""

    @property
    def audience(self) -> str:
        """What the `aud` of a token must be or hold."""

    @property
    def required_claims(self) -> Sequence[str]:
        """The claims that every token must have."""

    def find_key(self, key_id: str) -> TrustedKey | None:
        """The key of that id, if it is trusted now."""

    def unknown_key(self) -> str:
        """What to tell somebody whose token names a key that is not trusted."""

    def caller(self, claims: Mapping[str, Any]) -> Caller:
        """The caller that the claims of a verified token speak for.

        Raises:
            ValueError: a claim is not of its kind.
        """


class OwnIssuer:
    """The issuer that this service is itself."""

    required_claims = ("exp", "iat", "nbf", "iss", "aud", "sub")

    def __init__(self, keys: Mapping[str, Ed25519PublicKey], *, issuer: str, audience: str) -> None:
        """`keys` by key id; it may change while it is used."""
        self.issuer = issuer
        self.audience = audience
        self._keys = keys

    def find_key(self, key_id: str) -> TrustedKey | None:
        """The key of that id, if it is one of ours."""
        public = self._keys.get(key_id)
        return None if public is None else TrustedKey(public, (_ALGORITHM,))

    def unknown_key(self) -> str:
        """What to tell somebody whose token names a key that is not ours."""
        return "the token is signed with a key that is not ours, or not any more; get a new one"

    def caller(self, claims: Mapping[str, Any]) -> Caller:
        """The caller, as `issue` wrote it down."""
        return Caller(
            account_id=_printable(claims["sub"], "sub"),
            tenant_ids=tuple(TenantId(tenant) for tenant in _texts(claims, "tenants")),
            roles=frozenset(_texts(claims, "roles")),
            permissions=frozenset(_texts(claims, "permissions")),
            expires_at=int(claims["exp"]),
            key_id=None if claims.get(_KEY_CLAIM) is None else _printable(claims[_KEY_CLAIM], _KEY_CLAIM),
        )


@dataclass(frozen=True, slots=True)
class _Verified:
    caller: Caller
    issuer: TrustedIssuer
    key_id: str
    key: PublicKey


class TokenVerifier:
    """Verifies tokens and remembers the last verified ones, at most 1,024.

    None is remembered beyond its expiry, nor when its key is not trusted any more.
    """

    def __init__(
        self,
        keys: Mapping[str, Ed25519PublicKey],
        *,
        issuer: str,
        audience: str,
        clock: Callable[[], float],
        others: Sequence[TrustedIssuer] = (),
    ) -> None:
        """`keys` of this service by key id, which may change; `others`: further issuers, each with an `iss` of its own.

        `clock` tells seconds since 1970-01-01T00:00:00Z.

        Raises:
            ValueError: issuer or audience is empty, or two issuers have the same name.
        """
        if not issuer or not audience:
            raise ValueError("tokens need an issuer and an audience; set DG_TOKEN_ISSUER and DG_TOKEN_AUDIENCE")
        issuers = (OwnIssuer(keys, issuer=issuer, audience=audience), *others)
        self._issuers: dict[str, TrustedIssuer] = {one.issuer: one for one in issuers}
        if len(self._issuers) < len(issuers):
            raise ValueError("two issuers of tokens have the same `iss`; it says whose keys verify a token")
        self._clock = clock
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    def verify(self, token: str) -> Caller:
        """The caller that the token speaks for.

        Raises:
            Unauthenticated: the token is malformed, expired, or not made for us by an issuer that we know.
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise errors.Unauthenticated(f"authorization: the token is longer than {MAX_TOKEN_BYTES} bytes")
        fingerprint = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        verified = self._verified.get(fingerprint)
        if verified is None or not self._still_good(verified):
            self._verified.pop(fingerprint, None)
            verified = self._decode(token)
            self._verified[fingerprint] = verified
            if len(self._verified) > _CACHED_TOKENS:
                self._verified.popitem(last=False)
        return verified.caller

    def require_unexpired(self, caller: Caller) -> None:
        """Return if the token that a caller was let in with is still valid by its time.

        Raises:
            Unauthenticated: it has expired since.
        """
        if self._has_expired(caller):
            raise _expired()

    def _has_expired(self, caller: Caller) -> bool:
        return caller.expires_at + _LEEWAY_SECONDS <= self._clock()

    def _still_good(self, verified: _Verified) -> bool:
        if self._has_expired(verified.caller):
            return False
        key = verified.issuer.find_key(verified.key_id)
        return key is not None and key.public is verified.key

    def _decode(self, token: str) -> _Verified:
        try:
            issuer, key_id = self._claimed_maker(token)
            key = issuer.find_key(key_id)
            if key is None:
                raise errors.Unauthenticated(f"authorization: {issuer.unknown_key()}")
            claims = jwt.decode(
                token,
                key.public,
                algorithms=key.algorithms,
                issuer=issuer.issuer,
                audience=issuer.audience,
                options={
                    "require": list(issuer.required_claims),
                    # The clock is ours, so that tests can turn it; see _check_times.
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
            self._check_times(claims)
            return _Verified(issuer.caller(claims), issuer, key_id, key.public)
        except jwt.ExpiredSignatureError as error:
            raise _expired() from error
        except jwt.ImmatureSignatureError as error:
            raise errors.Unauthenticated(
                "authorization: the token is not valid yet (`nbf`); send it later, or set the clock of its issuer right"
            ) from error
        except jwt.InvalidAudienceError as error:
            raise errors.Unauthenticated(
                "authorization: the token is not made for this service (`aud`); get one that is"
            ) from error
        except (jwt.PyJWTError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise errors.Unauthenticated(
                f"authorization: the token is not valid ({error}); get a new one from an issuer of this service"
            ) from error

    def _claimed_maker(self, token: str) -> tuple[TrustedIssuer, str]:
        """Issuer and key id as the token names them. Nothing is verified yet: they only say what to verify it with."""
        said = jwt.decode_complete(token, options={"verify_signature": False})
        header, name = said["header"], said["payload"].get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise errors.Unauthenticated(
                "authorization: the token is not made by an issuer that this service knows; get one from one of them"
            )
        if "crit" in header:
            raise errors.Unauthenticated("authorization: the token asks for extensions (`crit`); there are none here")
        key_id = header.get("kid")
        if not isinstance(key_id, str) or not key_id:
            raise errors.Unauthenticated("authorization: the token does not name its key (`kid`)")
        return issuer, key_id

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = self._clock()
        if _seconds(claims, "exp") + _LEEWAY_SECONDS <= now:
            raise jwt.ExpiredSignatureError("expired")
        if "nbf" in claims and _seconds(claims, "nbf") - _LEEWAY_SECONDS > now:
            raise jwt.ImmatureSignatureError("it is not valid yet")


def _expired() -> errors.Unauthenticated:
    return errors.Unauthenticated("authorization: the token has expired; get a new one")


def _seconds(claims: Mapping[str, Any], name: str) -> int:
    """A time as RFC 7519 writes it, section 2: a number, and no text or truth value that Python takes for one."""
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a number of seconds")
    return int(value)


def _printable(value: object, name: str) -> str:
    """A name, which goes into records and logs."""
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"{name} must be a text of printable characters")
    return value


def _texts(claims: Mapping[str, Any], name: str) -> list[str]:
    value = claims.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and item.isprintable() for item in value):
        raise ValueError(f"{name} must be a list of printable texts")
    return value
