"""`decisiongraph graph`: the neighbourhood of a node, as a picture or as text."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from decisiongraph_service.cli import failure, options, output, service_connection
from decisiongraph_service.cli.options import AsJson, Server, Tenant

if TYPE_CHECKING:
    from decisiongraph.v1.query_service_pb2 import GetContextGraphResponse
    from decisiongraph_service.cli.drawing.picture import Renderer

Format = Literal["text", "dot", "mermaid", "svg", "json"]

_NODE_TYPES: Final = ("trace", "actor", "entity", "input", "policy", "exception", "action")
_BY_ENDING: Final[Mapping[str, Format]] = {
    ".dot": "dot",
    ".gv": "dot",
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".svg": "svg",
    ".json": "json",
    ".txt": "text",
}


def graph(
    node_type: Annotated[
        str,
        typer.Argument(
            metavar="TYPE", help=f"{', '.join(_NODE_TYPES)}.", autocompletion=options.completes(*_NODE_TYPES)
        ),
    ],
    node_id: Annotated[str, typer.Argument(metavar="ID", help="Id without the type, e.g. order:A-77120.")],
    depth: Annotated[int, typer.Option(min=0, max=10, help="How many edges away to look.")] = 2,
    format_: Annotated[
        Format | None, typer.Option("--format", help="Unset: by the ending of --output, otherwise text.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", dir_okay=False, help="Unset: standard output.")
    ] = None,
    only_nodes: Annotated[
        list[str] | None, typer.Option("--node-type", help="Only nodes of this type; repeat for several.")
    ] = None,
    only_edges: Annotated[
        list[str] | None, typer.Option("--edge-type", help="Only edges of this type; repeat for several.")
    ] = None,
    max_nodes: Annotated[int, typer.Option(min=1, help="Most nodes.")] = 100,
    max_edges: Annotated[int, typer.Option(min=1, help="Most edges.")] = 500,
    as_of: Annotated[
        int | None, typer.Option(min=0, metavar="LOG_SEQ", help="As the log stood at this position. Unset: now.")
    ] = None,
    server: Server = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Show what decisions touched around a node: Graphviz DOT, Mermaid, SVG, JSON, or a tree of text.

    For example `decisiongraph graph entity order:A-77120 -o order.svg`. SVG needs no other program. JSON is the answer
    of GetContextGraph. Needs the role reader.
    """
    chosen: Format = "json" if as_json else format_ or _BY_ENDING.get(file.suffix.lower() if file else "", "text")
    place = service_connection.find(server)
    with service_connection.client(place, "reader", tenant) as client:
        found = client.get_context_graph(
            node_type,
            node_id,
            max_depth=depth,
            node_types=only_nodes or (),
            edge_types=only_edges or (),
            max_nodes=max_nodes,
            max_edges=max_edges,
            as_of_log_seq=as_of,
        )
    _write(file, _rendered(chosen, found))
    if found.truncated:
        output.print_failure("there is more than what is shown; raise --max-nodes or --max-edges, or look less far")


def _rendered(chosen: Format, found: "GetContextGraphResponse") -> str:
    from decisiongraph_service.cli.drawing import dot, mermaid, picture, svg, tree

    if chosen == "json":
        return output.document(output.as_dict(found)) + "\n"
    renderers: Mapping[str, Renderer] = {
        "text": tree.render,
        "dot": dot.render,
        "mermaid": mermaid.render,
        "svg": svg.render,
    }
    return renderers[chosen](picture.picture_of(found))


def _write(file: Path | None, text: str) -> None:
    if file is None:
        print(text, end="")
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        failure.exit_with(f"{file} cannot be written: {error.strerror}")
