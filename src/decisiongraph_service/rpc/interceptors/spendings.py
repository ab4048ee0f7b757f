"""Counts calls against the limits of their accounts and tenants: requests, and the events and bytes of appends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from google.protobuf.message import Message

from decisiongraph_service.access.authorization import Rule
from decisiongraph_service.access.rate_limits import PUBLIC, SCOPE_OF_ROLE, WRITE, RateLimits, Spending
from decisiongraph_service.access.tokens import Caller
from decisiongraph_service.domain import errors
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.rpc.interceptors.call import Call

_TRY_AGAIN_SECONDS: Final = 0.05


class Spendings:
    """What each call costs, by the contract's rules."""

    def __init__(self, rate_limits: RateLimits, rules: Mapping[str, Rule], free: frozenset[str]) -> None:
        """`rules` by path of the rpc; `free`: paths that are not counted."""
        self._limits = rate_limits
        self._scopes = {
            path: PUBLIC if rule.public else SCOPE_OF_ROLE[rule.role]
            for path, rule in rules.items()
            if path not in free
        }

    async def of_account(self, path: str, caller: Caller | None, request: Any) -> None:
        """Count a call for its account.

        Raises:
            RateLimited: the account is at its limit.
        """
        scope = self._scopes.get(path)
        if scope is not None:
            await self._limits.spend_of_account(
                None if caller is None else caller.account_id, _spending(scope, request)
            )

    async def of_tenant(self, path: str, tenant_id: TenantId | None, request: Any) -> None:
        """Count a call for its tenant, if it acts in one.

        Raises:
            RateLimited: the tenant is at its limit.
        """
        scope = self._scopes.get(path)
        if scope is not None and tenant_id is not None:
            await self._limits.spend_of_tenant(tenant_id, _spending(scope, request))

    async def paced(self, admitted: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The events of a stream, each as soon as the limits allow it: a fast producer is held back, not refused."""
        account_id = None if admitted.caller is None else admitted.caller.account_id
        async for request in requests:
            spending = Spending("", 1, _size(request))
            await _patiently(partial(self._limits.spend_of_account, account_id, spending))
            if admitted.tenant_id is not None:
                await _patiently(partial(self._limits.spend_of_tenant, admitted.tenant_id, spending))
            yield request


async def _patiently(spend: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            return await spend()
        except errors.RateLimited:
            await asyncio.sleep(_TRY_AGAIN_SECONDS)


def _spending(scope: str, request: Any) -> Spending:
    if scope != WRITE or not isinstance(request, Message):
        return Spending(scope)
    events = getattr(request, "events", None)
    return Spending(scope, 1 if events is None else len(events), _size(request))


def _size(request: Any) -> int:
    return request.ByteSize() if isinstance(request, Message) else 0
