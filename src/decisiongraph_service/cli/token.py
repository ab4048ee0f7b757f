"""`decisiongraph token`: one more token of the development issuer."""

from typing import Annotated

import typer

from decisiongraph_service.cli import configuration, database_url, failure, output
from decisiongraph_service.cli.options import AsJson


def token(
    tenant: Annotated[str, typer.Option(help="Tenant that the token is for; made if it does not exist.")],
    role: Annotated[list[str], typer.Option(help="reader, writer or admin; repeat for an account with several.")],
    account: Annotated[str | None, typer.Option(help="Account that the token speaks for.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print a token of the development issuer, valid for 30 days, and make its tenant if it does not exist.

    Only in the development profile. Works beside a running `decisiongraph run`, or with DG_DATABASE_URL.
    """
    import asyncio

    from decisiongraph_service.access import tokens
    from decisiongraph_service.domain import errors
    from decisiongraph_service.runtime import demo

    settings = configuration.settings()
    if settings.profile != "development":
        failure.exit_with("tokens are printed in the development profile only (DG_PROFILE=development)")
    unknown = [name for name in role if name not in tokens.ROLES]
    if unknown:
        failure.exit_with(f"--role {unknown[0]}: there is no such role; use {', '.join(tokens.ROLES)}")
    url = database_url.find(settings)
    try:
        asyncio.run(demo.create_tenant(url, tenant))
        made = demo.development_token(
            settings, tenant_id=tenant.strip(), roles=role, account_id=account or f"{tenant}-{'-'.join(role)}"
        )
    except errors.DecisionGraphError as error:
        failure.exit_with(error.message)
    except ValueError as error:
        failure.exit_with(str(error))
    if as_json:
        output.print_json({"token": made})
    else:
        print(made)
