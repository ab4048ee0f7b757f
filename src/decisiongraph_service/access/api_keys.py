"""The secrets of API keys: what they look like, and how one is checked.

A secret is `dgk_<key id>_<43 characters>`; the characters are 256 random bits. Only their hash is stored, so that who
reads the database cannot call.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final

_SECRET: Final = re.compile(r"dgk_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")
_PREFIX_CHARACTERS: Final = 12
_NO_HASH: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A secret that was just made."""

    key_id: str
    secret: str = field(repr=False)
    """To be shown once and kept nowhere."""

    @property
    def prefix(self) -> str:
        """Its first characters, which tell keys apart and help nobody."""
        return self.secret[:_PREFIX_CHARACTERS]

    @property
    def secret_hash(self) -> bytes:
        """What is stored of it."""
        return _hash(self.secret)


def make() -> NewSecret:
    """A new secret with the id of its key."""
    key_id = secrets.token_hex(8)
    return NewSecret(key_id, f"dgk_{key_id}_{secrets.token_urlsafe(32)}")


def key_id_of(secret: str) -> str | None:
    """The id of the key that a secret belongs to; None if it is no secret of ours."""
    match = _SECRET.fullmatch(secret)
    return None if match is None else match.group(1)


def matches(secret: str, secret_hash: bytes | None) -> bool:
    """Whether this is the secret of the hash. Takes as long for a wrong one, and for None, as for the right one."""
    equal = hmac.compare_digest(_hash(secret), _NO_HASH if secret_hash is None else secret_hash)
    return equal and secret_hash is not None


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
