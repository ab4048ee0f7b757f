"""Tenants, service accounts, keys and audit entries as messages of the contract."""

from typing import Final

from decisiongraph.v1 import access_pb2, audit_pb2, authorization_pb2
from decisiongraph_service.domain import timestamps
from decisiongraph_service.storage.accounts import Account, ApiKey
from decisiongraph_service.storage.audit import AuditEntry
from decisiongraph_service.storage.tenants import Tenant

ROLES: Final = {
    authorization_pb2.ROLE_READER: "reader",
    authorization_pb2.ROLE_WRITER: "writer",
    authorization_pb2.ROLE_ADMIN: "admin",
}
"""Roles as tokens name them."""
PERMISSIONS: Final = {
    authorization_pb2.PERMISSION_PROJECTION_REPLAY: "projection_replay",
    authorization_pb2.PERMISSION_PROJECTION_REBUILD: "projection_rebuild",
    authorization_pb2.PERMISSION_AUDIT_READ: "audit_read",
    authorization_pb2.PERMISSION_ACCESS_MANAGE: "access_manage",
}
"""Permissions as tokens name them."""
_ROLE_NUMBERS: Final = {name: number for number, name in ROLES.items()}
_PERMISSION_NUMBERS: Final = {name: number for number, name in PERMISSIONS.items()}


def _time(micros: int | None) -> str | None:
    return None if micros is None else timestamps.format_micros(micros)


def tenant_to_message(tenant: Tenant) -> access_pb2.Tenant:
    """A tenant."""
    return access_pb2.Tenant(
        tenant_id=tenant.tenant_id,
        display_name=tenant.display_name,
        created_at=timestamps.format_micros(tenant.created_at_micros),
        disabled_at=_time(tenant.disabled_at_micros),
    )


def account_to_message(account: Account) -> access_pb2.ServiceAccount:
    """A service account."""
    return access_pb2.ServiceAccount(
        account_id=account.account_id,
        display_name=account.display_name,
        tenant_ids=account.tenant_ids,
        roles=[_ROLE_NUMBERS[role] for role in account.roles],
        permissions=[_PERMISSION_NUMBERS[permission] for permission in account.permissions],
        created_at=timestamps.format_micros(account.created_at_micros),
        disabled_at=_time(account.disabled_at_micros),
    )


def key_to_message(key: ApiKey) -> access_pb2.ApiKey:
    """A key without its secret."""
    return access_pb2.ApiKey(
        key_id=key.key_id,
        account_id=key.account_id,
        prefix=key.prefix,
        created_at=timestamps.format_micros(key.created_at_micros),
        expires_at=_time(key.expires_at_micros),
        last_used_at=_time(key.last_used_at_micros),
        revoked_at=_time(key.revoked_at_micros),
    )


def audit_entry_to_message(entry: AuditEntry, tenant_id: str) -> audit_pb2.AuditEntry:
    """An act on record."""
    return audit_pb2.AuditEntry(
        audit_seq=entry.audit_seq,
        recorded_at=timestamps.format_micros(entry.recorded_at_micros),
        account_id=entry.account_id,
        action=entry.action,
        target=entry.target,
        reason=entry.reason,
        outcome=entry.outcome,
        refusal_reason=entry.refusal_reason,
        request_id=entry.request_id,
        tenant_id=tenant_id,
    )
