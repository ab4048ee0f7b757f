"""`decisiongraph envoy-config`: the configuration of an Envoy in front of servers."""

from pathlib import Path
from typing import Annotated

import typer

from decisiongraph_service.cli import failure


def envoy_config(
    folder: Annotated[Path, typer.Argument(help="Folder for the files; made if it is missing.", file_okay=False)],
    server: Annotated[list[str], typer.Option(help="host:port of a gRPC server; repeat for several.")],
    listen: Annotated[str, typer.Option(help="host:port to listen on.")] = "0.0.0.0:8443",
    admin_port: Annotated[int, typer.Option(min=1, max=65535, help="Envoy's own port, on loopback.")] = 9901,
    cert: Annotated[Path | None, typer.Option(help="Certificate chain that callers are shown, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    server_ca: Annotated[Path | None, typer.Option(help="Authority of the servers' certificates, PEM.")] = None,
    client_cert: Annotated[Path | None, typer.Option(help="Certificate that servers are shown, PEM.")] = None,
    client_key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
) -> None:
    """Write the configuration of an Envoy in front of servers, with TLS towards callers and towards servers.

    Run it with `envoy -c FOLDER/envoy.yaml`, here or wherever the folder is at the same path: but for certificates, all
    that Envoy reads is in it. Certificates are read anew when their folders change. Without --cert callers call without
    TLS: only for a network that ends TLS before.
    """
    from decisiongraph_service.runtime import edge_config, envoy
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
    try:
        files = edge_config.render(
            folder,
            listen=_address(listen, "--listen"),
            servers=[_address(one, "--server") for one in server],
            admin_port=admin_port,
            tls=tls,
            with_assets=True,
        )
    except (envoy.EnvoyConfigError, ValueError) as error:
        failure.exit_with(str(error))
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    edge_config.copy_assets(folder)
    print(folder / edge_config.CONFIG)


def _address(text: str, option: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        failure.exit_with(f"{option} {text}: write host:port")
    return host.strip("[]"), int(port)
