"""The rpcs of AdminService that manage tenants, service accounts and keys."""

from typing import Any

import grpc

from decisiongraph.v1 import admin_service_pb2, admin_service_pb2_grpc
from decisiongraph_service.access.administration import Administration
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries import bounds
from decisiongraph_service.queries.access import AccessQueries
from decisiongraph_service.rpc.access_messages import (
    PERMISSIONS,
    ROLES,
    account_to_message,
    key_to_message,
    tenant_to_message,
)
from decisiongraph_service.rpc.interceptors.call import act
from decisiongraph_service.storage.accounts import Account

_Context = grpc.aio.ServicerContext[Any, Any]


class AccessRpcs(admin_service_pb2_grpc.AdminServiceServicer):
    """Answers what AdminService asks about tenants, accounts and keys."""

    _administration: Administration
    _access: AccessQueries

    async def CreateTenant(  # noqa: N802 - named by the contract
        self, request: admin_service_pb2.CreateTenantRequest, context: _Context
    ) -> admin_service_pb2.CreateTenantResponse:
        """Make a tenant."""
        tenant = await self._administration.create_tenant(
            TenantId(request.tenant_id), request.display_name, act("CreateTenant", request.reason)
        )
        return admin_service_pb2.CreateTenantResponse(tenant=tenant_to_message(tenant))

    async def GetTenant(  # noqa: N802 - named by the contract
        self, request: admin_service_pb2.GetTenantRequest, context: _Context
    ) -> admin_service_pb2.GetTenantResponse:
        """One tenant."""
        tenant = await self._access.get_tenant(request.tenant_id)
        return admin_service_pb2.GetTenantResponse(tenant=tenant_to_message(tenant))

    async def ListTenants(  # noqa: N802 - named by the contract
        self, request: admin_service_pb2.ListTenantsRequest, context: _Context
    ) -> admin_service_pb2.ListTenantsResponse:
        """A page of tenants."""
        page = await self._access.list_tenants(
            page_size=request.page_size if request.HasField("page_size") else None, page_token=request.page_token
        )
        return admin_service_pb2.ListTenantsResponse(
            tenants=map(tenant_to_message, page.tenants), next_page_token=page.next_page_token
        )

    async def DisableTenant(  # noqa: N802 - named by the contract
        self, request: admin_service_pb2.DisableTenantRequest, context: _Context
    ) -> admin_service_pb2.DisableTenantResponse:
        """Refuse the calls of a tenant."""
        tenant = await self._administration.disable_tenant(
            TenantId(request.tenant_id), act("DisableTenant", request.reason)
        )
        return admin_service_pb2.DisableTenantResponse(tenant=tenant_to_message(tenant))

    async def EnableTenant(  # noqa: N802 - named by the contract
        self, request: admin_service_pb2.EnableTenantRequest, context: _Context
    ) -> admin_service_pb2.EnableTenantResponse:
        """Answer the calls of a tenant again."""
        tenant = await self._administration.enable_tenant(
            TenantId(request.tenant_id), act("EnableTenant", request.reason)
        )
        return admin_service_pb2.EnableTenantResponse(tenant=tenant_to_message(tenant))

    async def CreateServiceAccount(  # noqa: N802 - named by the contract
        self, request: admin_service_pb2.CreateServiceAccountRequest, context: _Context
    ) -> admin_service_pb2.CreateServiceAccountResponse:
        """Make a service account."""
        wanted = Account(
            request.account_id,
            request.display_name or request.account_id,
            list(dict.fromkeys(request.tenant_ids)),
            [ROLES[role] for role in request.roles],
            [PERMISSIONS[permission] for permission in request.permissions],
        )
        account = await self._administration.create_account(wanted, act("CreateServiceAccount", request.reason))
        return admin_service_pb2.CreateServiceAccountResponse(account=account_to_message(account))

    async def GetServiceAccount(  # noqa: N802 - named by the contract
        self, request: admin_service_pb2.GetServiceAccountRequest, context: _Context
    ) -> admin_service_pb2.GetServiceAccountResponse:
        """One service account."""
        account = await self._access.get_account(request.account_id)
        return admin_service_pb2.GetServiceAccountResponse(account=account_to_message(account))

    async def ListServiceAccounts(  # noqa: N802 - named by the contract
        self, request: admin_service_pb2.ListServiceAccountsRequest, context: _Context
    ) -> admin_service_pb2.ListServiceAccountsResponse:
        """A page of service accounts."""
        page = await self._access.list_accounts(
            tenant_id=request.tenant_id,
            page_size=request.page_size if request.HasField("page_size") else None,
            page_token=request.page_token,
        )
        return admin_service_pb2.ListServiceAccountsResponse(
            accounts=map(account_to_message, page.accounts), next_page_token=page.next_page_token
        )

    async def DisableServiceAccount(  # noqa: N802 - named by the contract
        self, request: admin_service_pb2.DisableServiceAccountRequest, context: _Context
    ) -> admin_service_pb2.DisableServiceAccountResponse:
        """Stop the keys and tokens of an account."""
        account = await self._administration.disable_account(
            request.account_id, act("DisableServiceAccount", request.reason)
        )
        return admin_service_pb2.DisableServiceAccountResponse(account=account_to_message(account))

    async def EnableServiceAccount(  # noqa: N802 - named by the contract
        self, request: admin_service_pb2.EnableServiceAccountRequest, context: _Context
    ) -> admin_service_pb2.EnableServiceAccountResponse:
        """Let the keys of an account work again."""
        account = await self._administration.enable_account(
            request.account_id, act("EnableServiceAccount", request.reason)
        )
        return admin_service_pb2.EnableServiceAccountResponse(account=account_to_message(account))

    async def CreateApiKey(  # noqa: N802 - named by the contract
        self, request: admin_service_pb2.CreateApiKeyRequest, context: _Context
    ) -> admin_service_pb2.CreateApiKeyResponse:
        """Make a key, and answer its secret this once."""
        made = await self._administration.create_key(
            request.account_id,
            bounds.end("expires_at", request.expires_at) if request.HasField("expires_at") else None,
            act("CreateApiKey", request.reason),
        )
        return admin_service_pb2.CreateApiKeyResponse(key=key_to_message(made.key), secret=made.secret)

    async def ListApiKeys(  # noqa: N802 - named by the contract
        self, request: admin_service_pb2.ListApiKeysRequest, context: _Context
    ) -> admin_service_pb2.ListApiKeysResponse:
        """The keys of an account."""
        keys = await self._access.list_keys(request.account_id)
        return admin_service_pb2.ListApiKeysResponse(keys=map(key_to_message, keys))

    async def RevokeApiKey(  # noqa: N802 - named by the contract
        self, request: admin_service_pb2.RevokeApiKeyRequest, context: _Context
    ) -> admin_service_pb2.RevokeApiKeyResponse:
        """Revoke a key for good."""
        key = await self._administration.revoke_key(
            request.account_id, request.key_id, act("RevokeApiKey", request.reason)
        )
        return admin_service_pb2.RevokeApiKeyResponse(key=key_to_message(key))
