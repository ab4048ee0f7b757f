"""What a call of both ways is made on: a tenant with a past, accounts and jobs, made as far as a case needs it."""

import contextlib
from dataclasses import dataclass, replace
from typing import Any, Final

from decisiongraph_service.access import tenancy, tokens
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.runtime import server
from decisiongraph_service.storage.database import Database
from tests import jobs
from tests.accounts import done, expire, make_key, owner_of
from tests.calling import Callers, Service, Tenant
from tests.golden_files import SCENARIOS
from tests.rpc_examples import RULES
from tests.traces import whole_trace

REFUNDS: Final[list[dict[str, Any]]] = SCENARIOS["refunds"]["events"]
_DAMAGED: Final = 2
"""Log position of the event that stops projections; the log has three."""


@dataclass(frozen=True)
class Stage:
    """One tenant, and what is needed to bring it into a state."""

    callers: Callers
    service: Service
    database: Database
    database_url: str
    stack: contextlib.AsyncExitStack
    """Whatever holds the state, until the test ends."""

    @property
    def name(self) -> str:
        """The tenant's id; all that is made for a test is named after it."""
        return str(self.callers.tenant.tenant_id)

    def headers(self, rpc: str, **changes: str) -> dict[str, str]:
        """Those of the caller that the rpc needs, with these others; `_` in their names stands for `-`."""
        role = RULES[rpc].role
        own = {"authorization": f"Bearer {self.callers.tenant.tokens[role]}"} if role else {}
        return {"x-request-id": f"parity-{rpc}", **own, **{k.replace("_", "-"): v for k, v in changes.items()}}

    def bearer(self, *tenant_ids: str, roles: tuple[str, ...] = tokens.ROLES, permissions: Any = None) -> str:
        """Another caller's `authorization`."""
        token = self.service.token(tenant_ids=tenant_ids, roles=roles, permissions=permissions)
        return f"Bearer {token}"

    async def another(self, suffix: str) -> "Stage":
        """A tenant beside this one, with an empty log."""
        tenant_id = TenantId(f"{self.name}-{suffix}")
        await tenancy.create_tenant(self.database, tenant_id, clock=server.clock_micros)
        roles = {role: self.service.token(tenant_ids=[tenant_id], roles=[role]) for role in tokens.ROLES}
        return replace(self, callers=Callers(Tenant(tenant_id, roles), self.callers.channel, self.callers.client))

    async def append(self, events: list[dict[str, Any]]) -> None:
        """Append, and wait until every projection has it."""
        await jobs.append(self.callers, events)
        await jobs.until_projected(self.callers)

    async def ended_job(self, **request: Any) -> str:
        """The id of a job that has come to its end."""
        job = await jobs.ended(self.callers, await jobs.start(self.callers, **request))
        return str(job["job_id"])

    async def running_job(self, **request: Any) -> str:
        """The id of a job that runs until the test ends."""
        await self.stack.enter_async_context(jobs.jobs_held(self.database_url, TenantId(self.name)))
        job = await jobs.start(self.callers, **request)
        await jobs.until_in(self.callers, job, "running")
        return str(job["job_id"])

    async def tenant(self, *, disabled: bool = False) -> str:
        """One more tenant, made by the service."""
        made = await done(self.callers, "CreateTenant", tenant_id=f"{self.name}-more", display_name="More")
        if disabled:
            await done(self.callers, "DisableTenant", tenant_id=made["tenant"]["tenant_id"])
        return str(made["tenant"]["tenant_id"])

    async def account(self, name: str = "account", *, disabled: bool = False) -> str:
        """A reader of the tenant."""
        account_id = f"{self.name}-{name}"
        powers: dict[str, Any] = {"tenant_ids": [self.name], "roles": ["ROLE_READER"]}
        await done(self.callers, "CreateServiceAccount", account_id=account_id, **powers)
        if disabled:
            await done(self.callers, "DisableServiceAccount", account_id=account_id)
        return account_id

    async def key(self, *, state: str = "valid") -> tuple[str, str, str]:
        """Account, id and secret of a key: `valid`, `revoked`, `expired`, or that of a `disabled` account."""
        account_id = await self.account()
        key_id, secret = await make_key(self.callers, account_id)
        if state == "revoked":
            await done(self.callers, "RevokeApiKey", account_id=account_id, key_id=key_id)
        elif state == "expired":
            await expire(self.database_url, key_id)
        elif state == "disabled":
            await done(self.callers, "DisableServiceAccount", account_id=account_id)
        return account_id, key_id, secret

    async def stale(self) -> None:
        """The projections do not move any more and lag behind."""
        async with owner_of(self.database_url) as owner:
            await jobs.keep_projector_out(owner, self.callers)
        await jobs.append(self.callers, whole_trace("late", 3))

    async def stopped(self) -> None:
        """The projections stand before a damaged event."""
        async with owner_of(self.database_url) as owner:
            await jobs.damage(owner, self.callers, whole_trace("broken", 3), _DAMAGED)
        await jobs.until_all(self.callers, "failed")
