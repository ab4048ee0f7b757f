"""`decisiongraph precedents`: finished decisions that resemble one at hand."""

import itertools
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from decisiongraph_service.cli import output, service_connection
from decisiongraph_service.cli.options import AsJson, Server, Tenant

if TYPE_CHECKING:
    from decisiongraph.v1.precedent_pb2 import Precedent, PrecedentFeature

_LONGEST_PAGE: Final = 1000


def precedents(
    query: Annotated[str | None, typer.Option(metavar="WORDS", help="Rank by these words.")] = None,
    like: Annotated[
        str | None, typer.Option(metavar="TRACE", help="Rank by what they have in common with this trace.")
    ] = None,
    policy: Annotated[str | None, typer.Option(help="Only those that evaluated this policy.")] = None,
    policy_version: Annotated[str | None, typer.Option(help="Only in this version. Needs --policy.")] = None,
    entity_type: Annotated[str | None, typer.Option(help="Only about an entity of this type.")] = None,
    entity_id: Annotated[str | None, typer.Option(help="Only about this entity. Needs --entity-type.")] = None,
    outcome: Annotated[Literal["success", "failure", "abandoned"] | None, typer.Option(help="Only with this end.")] = (
        None
    ),
    workflow: Annotated[str | None, typer.Option(help="Only of this workflow.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="So many precedents.")] = 20,
    server: Server = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Find finished decisions: with --query or --like the best first and why, otherwise the newest first.

    All filters must match. With --json an array of the contract's Precedent. Needs the role reader.
    """
    place = service_connection.find(server)
    with service_connection.client(place, "reader", tenant) as client:
        found = client.find_precedents(
            query=query,
            like_trace_id=like,
            policy_id=policy,
            policy_version=policy_version,
            entity_type=entity_type,
            entity_id=entity_id,
            outcome=outcome,
            workflow=workflow,
            page_size=min(limit, _LONGEST_PAGE),
        )
        listed = list(itertools.islice(found, limit))
    if as_json:
        output.print_json([output.as_dict(one) for one in listed])
        return
    is_ranked = bool(query or like)
    columns = ("trace_id", "outcome", "workflow", "finished_at", *(("score", "because") if is_ranked else ()), "title")
    output.print_table((_row(one) for one in listed), columns)


def _row(one: "Precedent") -> dict[str, Any]:
    return {
        "trace_id": one.trace_id,
        "outcome": one.outcome,
        "workflow": one.workflow,
        "finished_at": one.finished_at,
        "score": one.score,
        "because": ", ".join(_because(feature) for feature in one.features),
        "title": one.title,
    }


def _because(feature: "PrecedentFeature") -> str:
    if feature.feature == "text":
        return f"“{feature.value}”"
    result = f" ({feature.result})" if feature.result else ""
    return f"{feature.feature.replace('_', ' ')} {feature.value}{result}"
