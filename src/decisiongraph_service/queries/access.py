"""Lists of tenants, service accounts and keys, by id."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from decisiongraph_service.domain import errors
from decisiongraph_service.queries.paging import PageTokens
from decisiongraph_service.storage import accounts, tenants
from decisiongraph_service.storage.accounts import Account, ApiKey
from decisiongraph_service.storage.database import Database
from decisiongraph_service.storage.tenants import Tenant

DEFAULT_PAGE_SIZE: Final = 100
_TENANTS_LIST: Final = "ListTenants"
_ACCOUNTS_LIST: Final = "ListServiceAccounts"


@dataclass(frozen=True, slots=True)
class TenantsPage:
    """Tenants by id."""

    tenants: Sequence[Tenant]
    next_page_token: str | None


@dataclass(frozen=True, slots=True)
class AccountsPage:
    """Service accounts by id."""

    accounts: Sequence[Account]
    next_page_token: str | None


class AccessQueries:
    """Questions about tenants, accounts and keys."""

    def __init__(self, database: Database, page_tokens: PageTokens) -> None:
        self._database = database
        self._page_tokens = page_tokens

    async def get_tenant(self, tenant_id: str) -> Tenant:
        """One tenant.

        Raises:
            NotFound: there is none.
        """
        async with self._database.installation_transaction() as transaction:
            tenant = await tenants.fetch(transaction, tenant_id)
        if tenant is None:
            raise errors.NotFound("tenant", tenant_id)
        return tenant

    async def list_tenants(self, *, page_size: int | None, page_token: str) -> TenantsPage:
        """A page of all tenants.

        Raises:
            InvalidArgument: `page_token` belongs to another request.
        """
        page_size = page_size or DEFAULT_PAGE_SIZE
        after = self._place(_TENANTS_LIST, (), page_token)
        async with self._database.installation_transaction() as transaction:
            found = await tenants.fetch_page(transaction, after=after, limit=page_size + 1)
        token = None
        if len(found) > page_size:
            last = found[page_size - 1].tenant_id
            token = self._page_tokens.encode(_TENANTS_LIST, tenants.SYSTEM, (), (last,))
        return TenantsPage(found[:page_size], token)

    async def get_account(self, account_id: str) -> Account:
        """One service account.

        Raises:
            NotFound: there is none.
        """
        async with self._database.installation_transaction() as transaction:
            account = await accounts.fetch(transaction, account_id)
        if account is None:
            raise errors.NotFound("service account", account_id)
        return account

    async def list_accounts(self, *, tenant_id: str, page_size: int | None, page_token: str) -> AccountsPage:
        """A page of all service accounts; `tenant_id`: only of those that may act in it.

        Raises:
            InvalidArgument: `page_token` belongs to another request.
        """
        page_size = page_size or DEFAULT_PAGE_SIZE
        after = self._place(_ACCOUNTS_LIST, (tenant_id,), page_token)
        async with self._database.installation_transaction() as transaction:
            found = await accounts.fetch_page(
                transaction, after=after, tenant_id=tenant_id or None, limit=page_size + 1
            )
        token = None
        if len(found) > page_size:
            last = found[page_size - 1].account_id
            token = self._page_tokens.encode(_ACCOUNTS_LIST, tenants.SYSTEM, (tenant_id,), (last,))
        return AccountsPage(found[:page_size], token)

    async def list_keys(self, account_id: str) -> list[ApiKey]:
        """The keys of an account, newest first.

        Raises:
            NotFound: there is no such account.
        """
        async with self._database.installation_transaction() as transaction:
            if await accounts.fetch(transaction, account_id) is None:
                raise errors.NotFound("service account", account_id)
            return await accounts.fetch_keys(transaction, account_id)

    def _place(self, list_name: str, parameters: tuple[str, ...], page_token: str) -> str:
        if not page_token:
            return ""
        return str(self._page_tokens.decode(list_name, tenants.SYSTEM, parameters, page_token)[0])
