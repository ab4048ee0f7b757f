"""Options that mean the same in every command."""

from collections.abc import Callable
from typing import Annotated, Final

import typer

SERVER_VARIABLE: Final = "DG_SERVER"
TENANT_VARIABLE: Final = "DG_TENANT"

Server = Annotated[
    str | None,
    typer.Option(
        envvar=SERVER_VARIABLE,
        metavar="HOST:PORT",
        help="gRPC server, also with https:// or http:// before it. Unset: that of the running `decisiongraph run`.",
    ),
]
Tenant = Annotated[
    str | None,
    typer.Option(envvar=TENANT_VARIABLE, metavar="TENANT", help="Tenant to act in, if the account may act in several."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with the field names of the contract.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; recorded in the audit log.")]


def one_of(*values: str) -> Callable[[list[str] | None], list[str] | None]:
    """Checks the values of an option that may be repeated."""

    def check(given: list[str] | None) -> list[str] | None:
        for value in given or ():
            if value not in values:
                raise typer.BadParameter(f"{value!r} is not one of {', '.join(values)}.")
        return given

    return check


def completes(*values: str) -> Callable[[str], list[str]]:
    """Completes the values of an option that may be repeated."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete
