"""Exchanging an API key for a short-lived token."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from decisiongraph_service.access import api_keys, tokens
from decisiongraph_service.access.keys import SigningKey
from decisiongraph_service.domain import errors
from decisiongraph_service.storage import accounts
from decisiongraph_service.storage.accounts import Credentials
from decisiongraph_service.storage.database import Database

_MICROS: Final = 1_000_000
_REFUSAL: Final = (
    "api_key: unknown, expired or revoked, or its account is disabled; check the key, or ask an administrator for "
    "another"
)


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token and when it ends."""

    token: str = field(repr=False)
    expires_at_micros: int


class TokenExchange:
    """Issues tokens for API keys."""

    def __init__(
        self,
        database: Database,
        key: SigningKey,
        *,
        issuer: str,
        audience: str,
        lifetime_seconds: int,
        clock: Callable[[], int],
    ) -> None:
        """`clock` tells microseconds since 1970-01-01T00:00:00Z."""
        self._database = database
        self._key = key
        self._issuer = issuer
        self._audience = audience
        self._lifetime_seconds = lifetime_seconds
        self._clock = clock

    async def issue(self, secret: str) -> IssuedToken:
        """A token for the account of an API key, no longer valid than the key.

        Raises:
            Unauthenticated: the key is unknown, expired or revoked, or its account is disabled. It is not said which.
        """
        now = self._clock()
        key_id = api_keys.key_id_of(secret)
        found = None if key_id is None else await accounts.fetch_credentials(self._database, key_id)
        # Compared whether it was found or not, so that the time tells nothing.
        known = api_keys.matches(secret, None if found is None else found.secret_hash)
        if not known or found is None or not _works(found, now):
            raise errors.Unauthenticated(_REFUSAL)
        expires_at = now // _MICROS + self._lifetime_seconds
        if found.key.expires_at_micros is not None:
            expires_at = min(expires_at, found.key.expires_at_micros // _MICROS)
        account = found.account
        token = tokens.issue(
            self._key,
            issuer=self._issuer,
            audience=self._audience,
            account_id=account.account_id,
            tenant_ids=account.tenant_ids,
            roles=account.roles,
            permissions=account.permissions,
            now=now // _MICROS,
            lifetime_seconds=expires_at - now // _MICROS,
            key_id=found.key.key_id,
        )
        async with self._database.installation_transaction() as transaction:
            await accounts.remember_use(transaction, found.key.key_id, now_micros=now)
        return IssuedToken(token, expires_at * _MICROS)


def _works(found: Credentials, now_micros: int) -> bool:
    expires_at = found.key.expires_at_micros
    return (
        found.key.revoked_at_micros is None
        and (expires_at is None or expires_at > now_micros)
        and found.account.disabled_at_micros is None
    )
