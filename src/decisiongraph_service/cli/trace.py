"""`decisiongraph trace …`: one decision as a tree, and lists of decisions."""

import itertools
import json
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from decisiongraph_service.cli import output, service_connection
from decisiongraph_service.cli.group import Group
from decisiongraph_service.cli.options import AsJson, Server, Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text

    from decisiongraph.v1.query_service_pb2 import GetTraceResponse
    from decisiongraph.v1.trace_pb2 import TraceSummary
    from decisiongraph_client import Client
    from decisiongraph_service.cli.trace_tree import TreeLine

app = Group(help="Decisions: one of them, event by event, or a list.")

_LONGEST_PAGE: Final = 1000
_STYLES: Final = {"success": "green", "failure": "red", "abandoned": "yellow", "open": "blue"}


@app.named("show")
def show(
    trace_id: Annotated[str, typer.Argument(metavar="TRACE", help="Id of the trace.")],
    as_of: Annotated[
        int | None, typer.Option(min=0, metavar="LOG_SEQ", help="As the log stood at this position. Unset: now.")
    ] = None,
    payloads: Annotated[bool, typer.Option("--payloads", help="Show the payload of each event.")] = False,
    server: Server = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Show a decision as a tree: each event below the one that caused it, in its order.

    With --json the answer of GetTrace with all events. Needs the role reader.
    """
    place = service_connection.find(server)
    with service_connection.client(place, "reader", tenant) as client:
        whole = _fetch(client, trace_id, as_of)
    if as_json:
        output.print_json(output.as_dict(whole))
        return
    console = output.console()
    for text in _tell(whole, payloads):
        console.print(text)


@app.named("list")
def list_traces(
    workflow: Annotated[str | None, typer.Option(help="Only of this workflow.")] = None,
    outcome: Annotated[Literal["success", "failure", "abandoned"] | None, typer.Option(help="Only with this end.")] = (
        None
    ),
    status: Annotated[Literal["open", "finished"] | None, typer.Option(help="Only in this state.")] = None,
    entity_type: Annotated[str | None, typer.Option(help="Only about an entity of this type.")] = None,
    entity_id: Annotated[str | None, typer.Option(help="Only about this entity. Needs --entity-type.")] = None,
    started_since: Annotated[str | None, typer.Option(metavar="TIME", help="Started after this instant.")] = None,
    started_until: Annotated[str | None, typer.Option(metavar="TIME", help="Started at or before it.")] = None,
    finished_since: Annotated[str | None, typer.Option(metavar="TIME", help="Finished after this instant.")] = None,
    finished_until: Annotated[str | None, typer.Option(metavar="TIME", help="Finished at or before it.")] = None,
    query: Annotated[str | None, typer.Option(metavar="WORDS", help="Only with all these words in the title.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="So many traces, the newest.")] = 20,
    server: Server = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """List decisions, the newest first. All filters must match. TIME is RFC 3339 with an offset.

    With --json an array of the contract's TraceSummary. Needs the role reader.
    """
    place = service_connection.find(server)
    with service_connection.client(place, "reader", tenant) as client:
        found = client.list_traces(
            workflow=workflow,
            outcome=outcome,
            status=status,
            primary_entity_type=entity_type,
            primary_entity_id=entity_id,
            since_started_at=started_since,
            until_started_at=started_until,
            since_finished_at=finished_since,
            until_finished_at=finished_until,
            query=query,
            page_size=min(limit, _LONGEST_PAGE),
        )
        summaries = list(itertools.islice(found, limit))
    if as_json:
        output.print_json([output.as_dict(one) for one in summaries])
        return
    columns = ("trace_id", "state", "workflow", "about", "started_at", "events", "title")
    output.print_table((_row(one) for one in summaries), columns)


def _fetch(client: "Client", trace_id: str, as_of: int | None) -> "GetTraceResponse":
    whole = client.get_trace(trace_id, as_of_log_seq=as_of)
    if whole.next_page_token:
        for page in client.list_trace_events(trace_id, page_size=_LONGEST_PAGE).pages(whole.next_page_token):
            whole.events.extend(page.events)
        whole.ClearField("next_page_token")
    return whole


def _row(summary: "TraceSummary") -> dict[str, Any]:
    return {
        "trace_id": summary.trace_id,
        "state": summary.outcome or summary.status,
        "workflow": summary.workflow,
        "about": f"{summary.primary_entity.entity_type}:{summary.primary_entity.entity_id}",
        "started_at": summary.started_at,
        "events": summary.event_count,
        "title": summary.title,
    }


def _tell(whole: "GetTraceResponse", payloads: bool) -> "Iterator[Text]":
    from rich.text import Text

    from decisiongraph_service.cli import trace_tree

    summary = whole.summary
    state = summary.outcome or summary.status
    yield Text.assemble(
        (output.plain(summary.trace_id), "bold cyan"),
        f"  {output.plain(summary.workflow)}  ",
        (state, _STYLES.get(state, "")),
        f"  {output.plain(summary.title)}",
    )
    for line in trace_tree.lines(whole.events):
        yield _line(line)
        if payloads:
            text = json.dumps(output.as_dict(line.event.payload), ensure_ascii=False, indent=2, sort_keys=True)
            for part in text.split("\n"):
                yield Text.assemble((line.stem, "dim"), (output.plain(part), "dim"))


def _line(line: "TreeLine") -> "Text":
    from rich.text import Text

    from decisiongraph_service.cli import event_text

    event = line.event
    said = event_text.describe(event.event_type, output.as_dict(event.payload))
    cause = f"  caused by {output.plain(line.cause)}" if line.cause else ""
    return Text.assemble(
        (line.branch, "dim"),
        f"{event.trace_seq}  {output.plain(event.occurred_at)}  ",
        (event.event_type, "bold"),
        f"  {said}",
        (f"  {output.plain(event.actor.actor_type)} {output.plain(event.actor.actor_id)}{cause}", "dim"),
    )
