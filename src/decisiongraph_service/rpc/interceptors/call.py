"""What a servicer may know about the call that it answers."""

import contextvars
from dataclasses import dataclass
from typing import Final

from decisiongraph_service.access.tokens import Caller
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage.audit import Act


@dataclass(frozen=True, slots=True)
class Call:
    """A call that passed authentication and authorization."""

    request_id: str
    caller: Caller | None
    """None for an rpc that answers without a token."""
    tenant_id: TenantId | None
    """None for an rpc that acts on the whole installation."""


_ADMIN_SERVICE: Final = "decisiongraph.v1.AdminService"
_CURRENT: Final[contextvars.ContextVar[Call]] = contextvars.ContextVar("decisiongraph_call")


def enter(call: Call) -> None:
    """Make `call` the one that this task answers."""
    _CURRENT.set(call)


def current() -> Call:
    """The call that this task answers."""
    return _CURRENT.get()


def act(rpc: str, reason: str) -> Act:
    """What the audit log says of an act of AdminService: who, which rpc, why."""
    answered = current()
    account_id = "" if answered.caller is None else answered.caller.account_id
    return Act(account_id, f"{_ADMIN_SERVICE}.{rpc}", reason, answered.request_id)


def tenant() -> TenantId:
    """The tenant that the call acts in.

    Raises:
        LookupError: the rpc is installation-wide and has none; asking is a mistake in the servicer.
    """
    tenant_id = current().tenant_id
    if tenant_id is None:
        raise LookupError("this rpc acts on the whole installation; the contract declares no tenant for it")
    return tenant_id
