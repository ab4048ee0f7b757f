"""The reference of errors, from what the service raises and the one mapping to codes."""

from typing import Final

from tools.docs_site.markdown import code, table, wide_page

from decisiongraph_service.domain import errors
from decisiongraph_service.rpc.status import _CODES as CODES

PAGE: Final = "errors.md"


def render() -> str:
    """The page: every reason that the service itself gives, with its codes."""
    rows = [
        (code(error.reason), code(error.category), codes.grpc.name, str(codes.http), _meaning(error))
        for error, codes in CODES.items()
    ]
    return wide_page(
        "# Errors",
        "Programs act on the *reason* (`ErrorInfo.reason`), or on the *category* (`ErrorInfo.metadata.category`) where "
        "a reason is new to them. [Conventions](../conventions.md#errors) says how an error looks and when to send a "
        "request again; HTTP_API_CONTRACT.md, section 5.3 has those that the gateway answers itself.",
        table(("Reason", "Category", "gRPC", "HTTP", "When"), rows),
    )


def _meaning(error: type[errors.DecisionGraphError]) -> str:
    """The first paragraph of the docstring."""
    return (error.__doc__ or "").partition("\n\n")[0]
