"""Page tokens, and how much fits one page.

A token is opaque and signed. The signature covers the list, the tenant, the request's other parameters and the place to
go on from, so that a token of another request, tenant or installation is refused
(docs/reference/QUERY_AND_ORDERING_INVARIANTS.md section 8).
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from typing import Final

import orjson

from decisiongraph_service.domain import errors
from decisiongraph_service.domain.events import StoredEvent
from decisiongraph_service.domain.vocabulary import TenantId

MAX_ANSWER_BYTES: Final = 3 * 1024 * 1024
"""Estimated size at which a page ends early: gRPC clients refuse answers over 4 MiB by default."""

_MAC_BYTES: Final = 16
_EVENT_OVERHEAD_BYTES: Final = 1_000
_VALUE_OVERHEAD_BYTES: Final = 12

Parameter = str | int | bool | None


class PageTokens:
    """Makes and reads the page tokens of one installation."""

    def __init__(self, key: bytes) -> None:
        """`key` is shared by all servers of the installation, at least 32 bytes."""
        self._key = key

    def encode(
        self, list_name: str, tenant_id: TenantId, parameters: Sequence[Parameter], place: Sequence[Parameter]
    ) -> str:
        """A token for the page after `place`."""
        body = orjson.dumps(list(place))
        return _text(self._mac(list_name, tenant_id, parameters, body) + body)

    def decode(
        self, list_name: str, tenant_id: TenantId, parameters: Sequence[Parameter], token: str
    ) -> list[Parameter]:
        """The place that a token stands for.

        Raises:
            InvalidArgument: the token is damaged, or belongs to another request, tenant or installation.
        """
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if _text(raw) != token:
            # Base64 has other spellings of the same bytes, and only the one that was given is a token.
            raw = b""
        mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(list_name, tenant_id, parameters, body)):
            raise errors.InvalidArgument(
                [
                    errors.Violation(
                        "page_token",
                        "FOREIGN_TOKEN",
                        "does not belong to this request; repeat the request that gave it with everything but "
                        "page_size unchanged, or leave it out to begin with the first page",
                    )
                ]
            )
        place: list[Parameter] = orjson.loads(body)
        return place

    def _mac(self, list_name: str, tenant_id: TenantId, parameters: Sequence[Parameter], body: bytes) -> bytes:
        scope = orjson.dumps([list_name, tenant_id, list(parameters)])
        return hmac.digest(self._key, hashlib.sha256(scope).digest() + body, "sha256")[:_MAC_BYTES]


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def estimated_bytes(event: StoredEvent) -> int:
    """About how long the event is as a protobuf message, rather more than less."""
    payload = event.canonical_payload
    return _EVENT_OVERHEAD_BYTES + len(payload.encode()) + _VALUE_OVERHEAD_BYTES * (payload.count(",") + 1)


def fit(sizes: Iterable[int]) -> int:
    """How many of the items with these sizes fit one answer: at least one, if there is one."""
    total = count = 0
    for size in sizes:
        total += size
        if count and total > MAX_ANSWER_BYTES:
            break
        count += 1
    return count
