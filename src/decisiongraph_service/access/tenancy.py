"""Tenant ids, and making tenants."""

import re
from collections.abc import Callable
from typing import Final

from decisiongraph_service.domain import errors
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import tenants
from decisiongraph_service.storage.database import Database

_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def parse_tenant_id(text: str, *, field: str) -> TenantId:
    """The tenant id in `text`, trimmed.

    Raises:
        InvalidArgument: it is not a slug of 1 to 63 characters.
    """
    trimmed = text.strip()
    if not _SLUG.fullmatch(trimmed):
        raise errors.InvalidArgument(
            [
                errors.Violation(
                    field,
                    "PATTERN",
                    "must be a tenant id: 1 to 63 characters of a-z, 0-9 and '-', starting with a letter or digit",
                )
            ]
        )
    return TenantId(trimmed)


async def create_tenant(database: Database, tenant_id: TenantId, *, clock: Callable[[], int]) -> None:
    """Make a tenant with an empty log; one that exists is left as it is."""
    async with database.tenant_transaction(tenant_id) as transaction:
        await tenants.create(transaction, display_name=tenant_id, created_at_micros=clock())
