"""`decisiongraph admin …`: tenants, service accounts, API keys and the audit log."""

from typing import Annotated, Any

import typer

from decisiongraph_service.cli import configuration, database_url, failure, output, service_connection
from decisiongraph_service.cli.group import Group
from decisiongraph_service.cli.options import AsJson, Reason, Server, Tenant

app = Group(help="Tenants, service accounts, API keys and the audit log.")
tenants = Group(help="Isolation scopes: everything belongs to one.")
accounts = Group(help="Accounts for programs.")
keys = Group(help="Keys of accounts, exchanged for short-lived tokens.")
app.add_typer(tenants, name="tenants")
app.add_typer(accounts, name="accounts")
app.add_typer(keys, name="keys")

TenantId = Annotated[str, typer.Argument(help="Id: 1 to 63 characters of a-z, 0-9 and '-'.")]
AccountId = Annotated[str, typer.Argument(help="Id: 1 to 63 characters of a-z, 0-9 and '-'.")]
Name = Annotated[str, typer.Option(help="Name for people. Unset: the id.")]


@app.named("bootstrap")
def bootstrap(
    account: Annotated[str, typer.Option(help="Id of the first administrator's account.")] = "administrator",
    tenant: Annotated[
        list[str] | None, typer.Option(help="Tenant it may act in besides the installation's own.")
    ] = None,
) -> None:
    """Make the first administrator and print its API key, once.

    Works on the database itself (DG_DATABASE_URL, or that of the running `decisiongraph run`), so only who may read the
    database's password can do it. Refused while an account that may manage access has a valid key.
    """
    import asyncio

    from decisiongraph_service.access import tokens
    from decisiongraph_service.access.administration import Administration
    from decisiongraph_service.domain import errors
    from decisiongraph_service.runtime.server import clock_micros
    from decisiongraph_service.storage.audit import Act
    from decisiongraph_service.storage.database import Database
    from decisiongraph_service.storage.tenants import SYSTEM

    async def nothing() -> None:
        return None

    async def make() -> str:
        database = await Database.open(database_url.find(configuration.settings()), pool_size=1)
        try:
            act = Act("local command", "decisiongraph admin bootstrap", "first administrator", "local")
            administration = Administration(database, clock=clock_micros, revoked=nothing)
            made = await administration.bootstrap(account, [SYSTEM, *(tenant or ())], tokens.PERMISSIONS, act)
            return made.secret
        finally:
            await database.close()

    try:
        print(asyncio.run(make()))
    except errors.DecisionGraphError as error:
        failure.exit_with(error.message)


@tenants.named("create")
def create_tenant(tenant_id: TenantId, reason: Reason, name: Name = "", server: Server = None) -> None:
    """Make a tenant."""
    _act("CreateTenant", server, tenant_id=tenant_id, display_name=name, reason=reason)


@tenants.named("list")
def list_tenants(server: Server = None, as_json: AsJson = False) -> None:
    """List all tenants."""
    _list("ListTenants", "tenants", ("tenant_id", "display_name", "created_at", "disabled_at"), server, as_json)


@tenants.named("disable")
def disable_tenant(tenant_id: TenantId, reason: Reason, server: Server = None) -> None:
    """Refuse a tenant's calls; its data stays. Undo with `enable`."""
    _act("DisableTenant", server, tenant_id=tenant_id, reason=reason)


@tenants.named("enable")
def enable_tenant(tenant_id: TenantId, reason: Reason, server: Server = None) -> None:
    """Answer a tenant's calls again."""
    _act("EnableTenant", server, tenant_id=tenant_id, reason=reason)


@accounts.named("create")
def create_account(
    account_id: AccountId,
    reason: Reason,
    tenant: Annotated[list[str], typer.Option(help="Tenant it may act in; repeat for several.")],
    role: Annotated[list[str], typer.Option(help="reader, writer or admin; repeat for several.")],
    permission: Annotated[
        list[str] | None,
        typer.Option(help="projection_replay, projection_rebuild, audit_read or access_manage; repeat for several."),
    ] = None,
    name: Name = "",
    server: Server = None,
) -> None:
    """Make a service account."""
    _act(
        "CreateServiceAccount",
        server,
        account_id=account_id,
        display_name=name,
        tenant_ids=tenant,
        roles=[f"ROLE_{one.upper()}" for one in role],
        permissions=[f"PERMISSION_{one.upper()}" for one in permission or ()],
        reason=reason,
    )


@accounts.named("list")
def list_accounts(
    tenant: Annotated[str, typer.Option(help="Only accounts that may act in this tenant.")] = "",
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """List service accounts."""
    columns = ("account_id", "tenant_ids", "roles", "permissions", "disabled_at")
    _list("ListServiceAccounts", "accounts", columns, server, as_json, tenant_id=tenant)


@accounts.named("disable")
def disable_account(account_id: AccountId, reason: Reason, server: Server = None) -> None:
    """Stop the keys and tokens of an account within five seconds. Undo with `enable`."""
    _act("DisableServiceAccount", server, account_id=account_id, reason=reason)


@accounts.named("enable")
def enable_account(account_id: AccountId, reason: Reason, server: Server = None) -> None:
    """Let the keys of an account work again."""
    _act("EnableServiceAccount", server, account_id=account_id, reason=reason)


@keys.named("create")
def create_key(
    account_id: AccountId,
    reason: Reason,
    expires_at: Annotated[str | None, typer.Option(help="RFC 3339 with offset. Unset: never.")] = None,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print its secret, once. An account has at most two valid keys."""
    request: dict[str, object] = {"account_id": account_id, "reason": reason}
    if expires_at is not None:
        request["expires_at"] = expires_at
    answer = _call("CreateApiKey", server, request)
    if as_json:
        output.print_json(output.as_dict(answer))
    else:
        print(answer.secret)


@keys.named("list")
def list_keys(account_id: AccountId, server: Server = None, as_json: AsJson = False) -> None:
    """List the keys of an account."""
    columns = ("key_id", "prefix", "created_at", "expires_at", "last_used_at", "revoked_at")
    _list("ListApiKeys", "keys", columns, server, as_json, account_id=account_id)


@keys.named("revoke")
def revoke_key(
    account_id: AccountId,
    key_id: Annotated[str, typer.Argument(help="Id of the key, see `list`.")],
    reason: Reason,
    server: Server = None,
) -> None:
    """Revoke a key for good; tokens that were issued for it stop within five seconds."""
    _act("RevokeApiKey", server, account_id=account_id, key_id=key_id, reason=reason)


@app.named("audit")
def audit(
    tenant: Tenant = None,
    account: Annotated[str, typer.Option(help="Only acts of this account.")] = "",
    outcome: Annotated[str, typer.Option(help="done or refused.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many entries, the newest.")] = 100,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest administrative acts, done and refused. Needs the permission audit_read.

    Acts on tenants, accounts and keys are in the audit log of the tenant decisiongraph-system.
    """
    columns = ("recorded_at", "account_id", "action", "target", "outcome", "refusal_reason", "reason")
    wanted = {"account_id": account, "outcome": outcome, "page_size": limit}
    answer = _call("ListAuditEntries", server, wanted, tenant)
    _print([output.as_dict(entry) for entry in answer.entries], columns, as_json)


def _act(rpc: str, server: str | None, **request: object) -> None:
    answer = _call(rpc, server, request)
    for _, value in answer.ListFields():
        output.print_json(output.as_dict(value))


def _list(rpc: str, name: str, columns: tuple[str, ...], server: str | None, as_json: bool, **request: object) -> None:
    rows: list[dict[str, Any]] = []
    while True:
        answer = _call(rpc, server, request)
        rows.extend(output.as_dict(one) for one in getattr(answer, name))
        if not getattr(answer, "next_page_token", ""):
            break
        request["page_token"] = answer.next_page_token
    _print(rows, columns, as_json)


def _call(rpc: str, server: str | None, request: dict[str, object], tenant: str | None = None) -> Any:
    from decisiongraph.v1 import admin_service_pb2

    message = service_connection.message(getattr(admin_service_pb2, f"{rpc}Request"), request)
    with service_connection.admin(server, tenant) as service:
        return service.call(rpc, message)


def _print(rows: list[dict[str, Any]], columns: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        output.print_json(rows)
    else:
        output.print_table(rows, columns)
