"""Whether a caller may do what it asks for, and in which tenant: deny by default."""

from collections.abc import Collection
from dataclasses import dataclass

from decisiongraph_service.access import tenancy
from decisiongraph_service.access.tokens import Caller
from decisiongraph_service.domain import errors, vocabulary
from decisiongraph_service.domain.vocabulary import TenantId


@dataclass(frozen=True, slots=True)
class Rule:
    """What an rpc asks of its caller. Comes from the contract."""

    role: str | None
    """The role that the caller must hold; None for an rpc that answers everybody, or every token."""
    permissions: tuple[str, ...] = ()
    """If not empty: the caller must hold one of these."""
    installation_wide: bool = False
    """The rpc acts on the whole installation and not inside one tenant."""
    any_token: bool = False
    """Any valid token will do. Only for what tells nothing of any tenant."""

    @property
    def public(self) -> bool:
        """The rpc answers without a token."""
        return self.role is None and not self.any_token


def require_powers(rule: Rule, caller: Caller) -> None:
    """Return if the caller holds the role and a permission of the rule.

    Raises:
        Forbidden: it does not.
    """
    if rule.any_token:
        return
    if rule.role not in caller.roles:
        raise errors.Forbidden(
            f"this call needs the role {rule.role}; the token of {caller.account_id} does not have it"
        )
    if rule.permissions and not caller.permissions.intersection(rule.permissions):
        needed = " or ".join(rule.permissions)
        raise errors.Forbidden(
            f"this call needs the permission {needed}; the token of {caller.account_id} does not have it"
        )


def replay_modes(permissions: Collection[str]) -> frozenset[str]:
    """The modes of replay jobs that a caller with these permissions may have to do with."""
    modes = set()
    if "projection_replay" in permissions:
        modes |= {vocabulary.CATCH_UP, vocabulary.VERIFY}
    if "projection_rebuild" in permissions:
        modes.add(vocabulary.REBUILD)
    return frozenset(modes)


def resolve_tenant(caller: Caller, requested: str | None) -> TenantId:
    """The tenant that the call acts in: the requested one, or the only one that the token allows.

    Raises:
        InvalidArgument: none was requested and the token allows several, or the requested one is not a tenant id.
        Forbidden: the token does not allow the requested one, or allows none at all.
    """
    if requested is None:
        if len(caller.tenant_ids) == 1:
            return caller.tenant_ids[0]
        if not caller.tenant_ids:
            raise errors.Forbidden(f"the token of {caller.account_id} allows no tenant")
        raise errors.InvalidArgument(
            [errors.Violation("x-tenant-id", "REQUIRED", "name the tenant to act in: the token allows several")]
        )
    tenant_id = tenancy.parse_tenant_id(requested, field="x-tenant-id")
    if tenant_id not in caller.tenant_ids:
        raise errors.Forbidden(f"x-tenant-id: the token of {caller.account_id} does not allow this tenant")
    return tenant_id
