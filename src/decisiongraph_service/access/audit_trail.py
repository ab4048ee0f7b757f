"""Recording administrative acts that were refused. What is done is recorded in the transaction that does it."""

from collections.abc import Callable
from typing import Final

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import audit, tenants
from decisiongraph_service.storage.audit import Act
from decisiongraph_service.storage.database import Database

_MAX_CHARACTERS: Final = 500
"""More of a refused text is not kept: it was not checked."""


class AuditTrail:
    """The audit logs of all tenants."""

    def __init__(self, database: Database, *, clock: Callable[[], int]) -> None:
        """`clock` tells microseconds since 1970-01-01T00:00:00Z."""
        self._database = database
        self._clock = clock

    async def record_refusal(self, tenant_id: TenantId | None, act: Act, *, target: str, refusal_reason: str) -> None:
        """Write down who was refused what, durably; without a tenant in the installation's own audit log.

        Raises:
            StorageUnavailable: the database cannot be reached.
        """
        kept = Act(_kept(act.account_id), act.action, _kept(act.reason), act.request_id)
        async with self._database.tenant_transaction(tenant_id or tenants.SYSTEM) as transaction:
            await audit.append(
                transaction, kept, target=_kept(target), refusal_reason=refusal_reason, now_micros=self._clock()
            )


def _kept(text: str) -> str:
    # The database cannot hold U+0000.
    return text[:_MAX_CHARACTERS].replace("\x00", "\ufffd")
