"""How a command says that it failed: one line on standard error, exit code 1, no stack trace."""

import os
import sys
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from decisiongraph_client.errors import ServiceError

TRACEBACK_VARIABLE: Final = "DG_TRACEBACK"
"""Set to anything, the stack trace of an unexpected error is shown."""


def exit_with(message: str) -> NoReturn:
    """End the command as failed."""
    print(f"decisiongraph: {one_line(message)}", file=sys.stderr)
    raise SystemExit(1)


def exit_with_error(error: Exception) -> NoReturn:
    """End the command as failed by an error that nothing inside has handled."""
    if os.environ.get(TRACEBACK_VARIABLE):
        raise error
    exit_with(_explained(error))


def one_line(text: str) -> str:
    """The text without line breaks and without what a terminal takes for commands."""
    return "".join(c if c.isprintable() else " " for c in text)


def of_service(error: "ServiceError", address: str) -> str:
    """What the service said, and what to do about it."""
    from decisiongraph_client import errors

    text = f"{address}: {error.code.name}: {error.message}"
    if isinstance(error, errors.Unreachable):
        return f"{text}; does the service run there? `decisiongraph doctor` looks what is missing"
    if isinstance(error, errors.DeadlineExceeded):
        return f"{text}; `decisiongraph health` tells how the service stands"
    if isinstance(error, errors.Unauthenticated):
        return f"{text}; set DG_API_KEY or DG_TOKEN to a valid one, `decisiongraph doctor` looks at it"
    if "x-tenant-id" in error.message:
        return f"{text}; name it with --tenant or DG_TENANT"
    if isinstance(error, errors.Internal) and error.request_id:
        return f"{text} (request id {error.request_id})"
    return text


def _explained(error: Exception) -> str:
    from decisiongraph_service.domain import errors

    if isinstance(error, errors.DecisionGraphError):
        return error.message
    if isinstance(error, ModuleNotFoundError):
        return (
            f"this command needs the package {error.name!r}, which is not installed; "
            "install it with: pip install 'decisiongraph[server]'"
        )
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if _is_of_client(error):
        return str(error)
    return (
        f"unexpected {type(error).__name__}: {error}. This should not happen; run it again with {TRACEBACK_VARIABLE}=1 "
        "to see where, and report that"
    )


def _is_of_client(error: Exception) -> bool:
    client = sys.modules.get("decisiongraph_client.errors")
    return client is not None and isinstance(error, client.DecisionGraphError)
