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
    require_slug(trimmed, field=field, what="a tenant id")
    return TenantId(trimmed)


def require_slug(text: str, *, field: str, what: str) -> None:
    """Return if `text` may be the id of a tenant or service account; `what` names it in the refusal.

    Raises:
        InvalidArgument: it is not a slug of 1 to 63 characters.
    """
    if not _SLUG.fullmatch(text):
        raise errors.InvalidArgument(
            [
                errors.Violation(
                    field,
                    "PATTERN",
                    f"must be {what}: 1 to 63 characters of a-z, 0-9 and '-', starting with a letter or digit",
                )
            ]
        )


async def create_tenant(database: Database, tenant_id: TenantId, *, clock: Callable[[], int]) -> None:
    """Make a tenant with an empty log; one that exists is left as it is."""
    async with database.tenant_transaction(tenant_id) as transaction:
        await tenants.create(transaction, display_name=tenant_id, created_at_micros=clock())
