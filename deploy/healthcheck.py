"""Whether the server of this container takes calls: ends with 0 if its gRPC health check says SERVING, else with 1.

A server with TLS is asked for a handshake only, since this script has no certificate that the server would take.
"""

import os
import socket
import ssl
import sys
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_SECONDS: Final = 3


def main() -> int:
    """Ask the server; return the exit code and print why it is not 0."""
    port = int(os.environ.get("DG_GRPC_PORT") or 50051)
    try:
        if os.environ.get("DG_TLS_CERT_FILE"):
            _shake_hands(port)
            return 0
        status = _ask(port)
    except (OSError, grpc.RpcError) as error:
        print(f"port {port}: {error}", file=sys.stderr)
        return 1
    if status != health_pb2.HealthCheckResponse.SERVING:
        print(f"port {port}: {health_pb2.HealthCheckResponse.ServingStatus.Name(status)}", file=sys.stderr)
        return 1
    return 0


def _ask(port: int) -> int:
    # A proxy of the environment is not for this server.
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=_SECONDS).status)


def _shake_hands(port: int) -> None:
    context = ssl.create_default_context()
    # It is asked whether it answers, not who it is: what answers on loopback is this container's own.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=_SECONDS) as connection,
        context.wrap_socket(connection),
    ):
        pass


if __name__ == "__main__":
    sys.exit(main())
