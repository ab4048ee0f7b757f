"""Puts refused administrative acts on record: whatever refused them, and before the caller hears of it."""

from collections.abc import Mapping
from typing import Any, Final

import structlog
from google.protobuf.message import Message

from decisiongraph_service.access import authorization
from decisiongraph_service.access.audit_trail import AuditTrail
from decisiongraph_service.access.authorization import Rule
from decisiongraph_service.access.tokens import Caller
from decisiongraph_service.domain import errors
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage.audit import Act

_TARGET_FIELDS: Final = ("tenant_id", "account_id", "key_id", "job_id", "mode", "projection")
_NOT_ON_RECORD: Final = (errors.StorageUnavailable, errors.RateLimited)
"""Nobody decided against these; and a flood must not write."""

_log = structlog.get_logger("decisiongraph.rpc")


class RefusedActs:
    """Knows which rpcs are acts: those whose request gives a reason."""

    def __init__(
        self, trail: AuditTrail, request_types: Mapping[str, type[Message]], rules: Mapping[str, Rule]
    ) -> None:
        """`request_types`: the request message of each rpc, by path; `rules` likewise."""
        self._trail = trail
        self._installation_wide = {path for path, rule in rules.items() if rule.installation_wide}
        self._acts = {path for path, kind in request_types.items() if "reason" in kind.DESCRIPTOR.fields_by_name}

    async def record(
        self,
        path: str,
        request: Any,
        caller: Caller | None,
        requested_tenant: str | bytes | None,
        error: errors.DecisionGraphError,
        request_id: str,
    ) -> None:
        """Write down that `caller` was refused, if the rpc is an act and the caller is known."""
        if path not in self._acts or caller is None or isinstance(error, _NOT_ON_RECORD):
            return
        act = Act(caller.account_id, path[1:].replace("/", "."), str(getattr(request, "reason", "")), request_id)
        tenant_id = None if path in self._installation_wide else _tenant(caller, requested_tenant)
        try:
            await self._trail.record_refusal(tenant_id, act, target=_target(request), refusal_reason=error.reason)
        except errors.StorageUnavailable as outage:
            _log.error("refusal_not_recorded", rpc=path, request_id=request_id, cause=repr(outage.__cause__))


def _tenant(caller: Caller, requested: str | bytes | None) -> TenantId | None:
    """The tenant acted in, as far as the token allows it; None: the installation."""
    try:
        return authorization.resolve_tenant(caller, requested if isinstance(requested, str) else None)
    except errors.DecisionGraphError:
        return None


def _target(request: Any) -> str:
    named = (str(getattr(request, name, "")) for name in _TARGET_FIELDS)
    return " ".join(value for value in named if value)
