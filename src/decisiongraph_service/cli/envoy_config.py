"""`decisiongraph envoy-config`: the configuration of an Envoy in front of servers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from decisiongraph_service.cli import configuration, failure, output
from decisiongraph_service.cli.options import AsJson

if TYPE_CHECKING:
    from decisiongraph_service.runtime.settings import Settings


def envoy_config(
    folder: Annotated[Path, typer.Argument(help="Folder for the files; made if it is missing.", file_okay=False)],
    server: Annotated[list[str], typer.Option(help="host:port of a gRPC server; repeat for several.")],
    listen: Annotated[str, typer.Option(help="host:port to listen on.")] = "0.0.0.0:8443",
    admin_port: Annotated[int, typer.Option(min=1, max=65535, help="Envoy's own port, on loopback.")] = 9901,
    keys_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port on loopback where it asks itself for the servers' keys.")
    ] = 9902,
    token_issuer: Annotated[
        str | None, typer.Option(help="`iss` of the servers' tokens; DG_TOKEN_ISSUER by default.")
    ] = None,
    token_audience: Annotated[
        str | None, typer.Option(help="`aud` of the servers' tokens; DG_TOKEN_AUDIENCE by default.")
    ] = None,
    issuers: Annotated[
        Path | None,
        typer.Option(help="The servers' file of other issuers whose tokens pass too; DG_EXTERNAL_ISSUERS by default."),
    ] = None,
    otlp_endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Collector that Envoy's spans go to; DG_OTLP_ENDPOINT by default."),
    ] = None,
    otlp_sample_ratio: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of calls that are traced; DG_OTLP_SAMPLE_RATIO by default."),
    ] = None,
    cert: Annotated[Path | None, typer.Option(help="Certificate chain that callers are shown, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    server_ca: Annotated[Path | None, typer.Option(help="Authority of the servers' certificates, PEM.")] = None,
    client_cert: Annotated[Path | None, typer.Option(help="Certificate that servers are shown, PEM.")] = None,
    client_key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the configuration of an Envoy in front of servers, with TLS towards callers and towards servers.

    Run it with `envoy -c FOLDER/envoy.yaml`, here or wherever the folder is at the same path: but for certificates, all
    that Envoy reads is in it. Certificates are read anew when their folders change. Without --cert callers call without
    TLS: only for a network that ends TLS before.

    It lets in whoever has a valid token, of the servers' own issuer or of one in --issuers, and everybody to what is
    public. The settings of tokens must be those of the servers. Envoy fetches the servers' keys every five seconds and
    those at a `jwks_url` every minute (authorities: the system's, or SSL_CERT_FILE). It reads a `jwks_file` when it
    starts.

    With a collector Envoy takes part in traces: it makes a span of each call that is traced, above that of the server.
    """
    from decisiongraph_service.runtime import edge_config, edge_spans, gate
    from decisiongraph_service.runtime.config_template import EnvoyConfigError
    from decisiongraph_service.runtime.edge_config import Certificate, EdgeTls

    def certificate(first: Path | None, second: Path | None, names: str) -> Certificate | None:
        if (first is None) is not (second is None):
            failure.exit_with(f"{names} go together; name both, or neither")
        return None if first is None or second is None else Certificate(first, second)

    for file in (cert, key, server_ca, client_cert, client_key):
        if file is not None and not file.is_file():
            failure.exit_with(f"{file} is no file")
    tls = EdgeTls(
        certificate(cert, key, "--cert and --key"),
        server_ca,
        certificate(client_cert, client_key, "--client-cert and --client-key"),
    )
    at = _address(listen, "--listen")
    if len({at[1], admin_port, keys_port}) < 3:
        failure.exit_with("--listen, --admin-port and --keys-port must be three different ports")
    settings = _servers(
        token_issuer=token_issuer,
        token_audience=token_audience,
        external_issuers=issuers,
        otlp_endpoint=otlp_endpoint,
        otlp_sample_ratio=otlp_sample_ratio,
    )
    try:
        files = edge_config.render(
            folder,
            listen=at,
            servers=[_address(one, "--server") for one in server],
            admin_port=admin_port,
            gate=gate.of_servers(settings, keys_port=keys_port),
            tls=tls,
            spans=edge_spans.of_servers(settings),
            with_assets=True,
        )
    except (EnvoyConfigError, ValueError) as error:
        failure.exit_with(str(error))
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    edge_config.copy_assets(folder)
    if as_json:
        output.print_json({"config": str(folder / edge_config.CONFIG)})
    else:
        print(folder / edge_config.CONFIG)


def _servers(**options: str | float | Path | None) -> "Settings":
    """The servers' settings, with the options in the place of those that are given."""
    return configuration.settings(**{name: value for name, value in options.items() if value not in (None, "")})


def _address(text: str, option: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        failure.exit_with(f"{option} {text}: write host:port")
    return host.strip("[]"), int(port)
