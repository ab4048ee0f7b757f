"""Managing tenants, service accounts and API keys. Every change leaves an audit entry in its own transaction."""

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from decisiongraph_service.access import api_keys, tenancy, tokens
from decisiongraph_service.domain import errors
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import accounts, audit, tenants
from decisiongraph_service.storage.accounts import Account, ApiKey
from decisiongraph_service.storage.audit import Act
from decisiongraph_service.storage.database import Database, InstallationTransaction
from decisiongraph_service.storage.tenants import Tenant

MAX_VALID_KEYS: Final = 2
"""So many keys of an account are valid at once: the one in use, and the one that replaces it."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made, with its secret."""

    key: ApiKey
    secret: str = field(repr=False)


class Administration:
    """Acts on the installation. All of them are in the audit log of the tenant `decisiongraph-system`."""

    def __init__(self, database: Database, *, clock: Callable[[], int], revoked: Callable[[], Awaitable[None]]) -> None:
        """`clock` tells microseconds since 1970-01-01T00:00:00Z; `revoked` is called after something was switched."""
        self._database = database
        self._clock = clock
        self._revoked = revoked

    async def create_tenant(self, tenant_id: TenantId, display_name: str, act: Act) -> Tenant:
        """Make a tenant with an empty log. Making it again with the same name changes nothing.

        Raises:
            AlreadyExists: it exists with another name.
        """
        name = display_name or tenant_id
        async with self._database.installation_transaction() as transaction:
            inside = await transaction.in_tenant(tenant_id)
            await tenants.create(inside, display_name=name, created_at_micros=self._clock())
            made = await tenants.fetch(transaction, tenant_id)
            if made is None or made.display_name != name:
                raise errors.AlreadyExists("tenant", tenant_id)
            await self._record(transaction, act, f"tenant {tenant_id}")
        return made

    async def disable_tenant(self, tenant_id: TenantId, act: Act) -> Tenant:
        """Refuse the tenant's calls from now on; its data stays.

        Raises:
            NotFound: there is no such tenant.
            FailedPrecondition: it is the installation's own.
        """
        if tenant_id == tenants.SYSTEM:
            raise errors.FailedPrecondition(
                f"{tenant_id} holds the audit log of the installation and cannot be disabled"
            )
        tenant = await self._set_tenant(tenant_id, self._clock(), act)
        await self._tell()
        return tenant

    async def enable_tenant(self, tenant_id: TenantId, act: Act) -> Tenant:
        """Answer the tenant's calls again.

        Raises:
            NotFound: there is no such tenant.
        """
        tenant = await self._set_tenant(tenant_id, None, act)
        await self._tell()
        return tenant

    async def create_account(self, account: Account, act: Act) -> Account:
        """Make a service account, now, whatever its times say.

        Raises:
            InvalidArgument: the id is none, a tenant does not exist, it has permissions without the role admin, or its
                tokens would be too long.
            AlreadyExists: an account has this id.
        """
        async with self._database.installation_transaction() as transaction:
            return await self._make_account(transaction, account, act)

    async def _make_account(self, transaction: InstallationTransaction, account: Account, act: Act) -> Account:
        _check_account(account)
        missing = await tenants.fetch_missing(transaction, list(account.tenant_ids))
        if missing:
            raise errors.InvalidArgument(
                [errors.Violation("tenant_ids", "UNKNOWN", f"there is no tenant {missing[0]!r}; make it first")]
            )
        made = await accounts.create(transaction, replace(account, created_at_micros=self._clock()))
        if made is None:
            raise errors.AlreadyExists("service account", account.account_id)
        await self._record(transaction, act, f"service account {account.account_id}")
        return made

    async def disable_account(self, account_id: str, act: Act) -> Account:
        """Stop the account's keys and tokens.

        Raises:
            NotFound: there is no such account.
            FailedPrecondition: nobody else could manage access.
        """
        async with self._database.installation_transaction() as transaction:
            managers = await accounts.lock_managers(transaction)
            account = await accounts.set_disabled(transaction, account_id, self._clock())
            if account is None:
                raise errors.NotFound("service account", account_id)
            if managers == [account_id]:
                raise errors.FailedPrecondition(
                    f"{account_id} is the last account that may manage access; make another one first"
                )
            await self._record(transaction, act, f"service account {account_id}")
        await self._tell()
        return account

    async def enable_account(self, account_id: str, act: Act) -> Account:
        """Let the account's keys work again.

        Raises:
            NotFound: there is no such account.
        """
        async with self._database.installation_transaction() as transaction:
            account = await accounts.set_disabled(transaction, account_id, None)
            if account is None:
                raise errors.NotFound("service account", account_id)
            await self._record(transaction, act, f"service account {account_id}")
        await self._tell()
        return account

    async def create_key(self, account_id: str, expires_at_micros: int | None, act: Act) -> NewKey:
        """Make a key; its secret is in the answer and nowhere else.

        Raises:
            NotFound: there is no such account.
            InvalidArgument: it would be expired already.
            FailedPrecondition: the account is disabled, or has two valid keys.
        """
        async with self._database.installation_transaction() as transaction:
            return await self._make_key(transaction, account_id, expires_at_micros, act)

    async def _make_key(
        self, transaction: InstallationTransaction, account_id: str, expires_at_micros: int | None, act: Act
    ) -> NewKey:
        now = self._clock()
        if expires_at_micros is not None and expires_at_micros <= now:
            raise errors.InvalidArgument([errors.Violation("expires_at", "IN_THE_PAST", "must be in the future")])
        # Locked, so that of two calls at once the second counts the first one's key.
        account = await accounts.fetch(transaction, account_id, lock=True)
        if account is None:
            raise errors.NotFound("service account", account_id)
        if account.disabled_at_micros is not None:
            raise errors.FailedPrecondition(f"{account_id} is disabled; enable it first (EnableServiceAccount)")
        if await accounts.count_valid_keys(transaction, account_id, now_micros=now) >= MAX_VALID_KEYS:
            raise errors.FailedPrecondition(
                f"{account_id} has {MAX_VALID_KEYS} valid keys; revoke one first (RevokeApiKey)"
            )
        made = api_keys.make()
        row = ApiKey(made.key_id, account_id, made.prefix, now, expires_at_micros, None, None)
        key = await accounts.create_key(transaction, row, made.secret_hash)
        await self._record(transaction, act, f"key {made.key_id} of {account_id}")
        return NewKey(key, made.secret)

    async def bootstrap(
        self, account_id: str, tenant_ids: Sequence[str], permissions: Sequence[str], act: Act
    ) -> NewKey:
        """Make an account that may manage access, and its key. For a command on the database's own machine.

        The first one, or one more when no other has a valid key: somebody must be able to get in again.

        Raises:
            FailedPrecondition: an account that may manage access has a valid key.
            AlreadyExists: an account has this id.
            InvalidArgument: the id is none, or a tenant does not exist.
        """
        async with self._database.installation_transaction() as transaction:
            # Of two at once the second sees what the first has made.
            await tenants.lock(transaction, tenants.SYSTEM)
            if found := await accounts.fetch_managers_with_keys(transaction, now_micros=self._clock()):
                raise errors.FailedPrecondition(
                    f"{found[0]} may manage access and has a valid key; use that one, it can make other accounts"
                )
            wanted = Account(account_id, account_id, tenant_ids, ("admin",), permissions)
            await self._make_account(transaction, wanted, act)
            return await self._make_key(transaction, account_id, None, act)

    async def revoke_key(self, account_id: str, key_id: str, act: Act) -> ApiKey:
        """Revoke a key for good, with the tokens that were issued for it.

        Raises:
            NotFound: the account has no such key.
        """
        async with self._database.installation_transaction() as transaction:
            key = await accounts.revoke_key(transaction, account_id, key_id, now_micros=self._clock())
            if key is None:
                raise errors.NotFound("key", key_id)
            await self._record(transaction, act, f"key {key_id} of {account_id}")
        await self._tell()
        return key

    async def _set_tenant(self, tenant_id: TenantId, disabled_at_micros: int | None, act: Act) -> Tenant:
        async with self._database.installation_transaction() as transaction:
            tenant = await tenants.set_disabled(transaction, tenant_id, disabled_at_micros)
            if tenant is None:
                raise errors.NotFound("tenant", tenant_id)
            await self._record(transaction, act, f"tenant {tenant_id}")
        return tenant

    async def _tell(self) -> None:
        # It is committed; servers that do not hear of it look by themselves.
        with contextlib.suppress(errors.StorageUnavailable):
            await self._revoked()

    async def _record(self, transaction: InstallationTransaction, act: Act, target: str) -> None:
        inside = await transaction.in_tenant(tenants.SYSTEM)
        await audit.append(inside, act, target=target, now_micros=self._clock())


def _check_account(account: Account) -> None:
    tenancy.require_slug(account.account_id, field="account_id", what="the id of a service account")
    if account.permissions and "admin" not in account.roles:
        raise errors.InvalidArgument(
            [errors.Violation("permissions", "NEEDS_ROLE", "are for the role admin; add it, or leave them out")]
        )
    size = tokens.longest(account.account_id, account.tenant_ids, account.roles, account.permissions)
    if size > tokens.MAX_TOKEN_BYTES:
        raise errors.InvalidArgument(
            [
                errors.Violation(
                    "tenant_ids",
                    "TOO_LONG",
                    f"would make tokens of about {size} bytes, at most {tokens.MAX_TOKEN_BYTES} are taken; "
                    "make several accounts",
                )
            ]
        )
