"""A server that does nothing: what the same gRPC set-up takes for a call before any work is done.

`python -m bench.empty_server PORT KEY` answers AppendEvent on 127.0.0.1:PORT with an empty message. An Envoy in front
of it lets in tokens of the key in the file KEY, as it does in front of the service.
"""

import argparse
import asyncio
import signal
from pathlib import Path
from typing import Any

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from decisiongraph.v1 import (
    access_pb2,
    access_service_pb2,
    access_service_pb2_grpc,
    ingestion_service_pb2,
    ingestion_service_pb2_grpc,
)
from decisiongraph_service.access import keys
from decisiongraph_service.access.keys import SigningKey

_MESSAGE_BYTES = 16 * 1024 * 1024
_LISTENERS = 8


class _Nothing(ingestion_service_pb2_grpc.IngestionServiceServicer):
    async def AppendEvent(  # noqa: N802 - named by the contract
        self, request: ingestion_service_pb2.AppendEventRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ingestion_service_pb2.AppendEventResponse:
        return ingestion_service_pb2.AppendEventResponse()


class _Keys(access_service_pb2_grpc.AccessServiceServicer):
    def __init__(self, key: SigningKey) -> None:
        self._key = access_pb2.JsonWebKey(kty="OKP", crv="Ed25519", x=key.public_base64url, kid=key.key_id, alg="EdDSA")

    async def GetJsonWebKeySet(  # noqa: N802 - named by the contract
        self, request: access_service_pb2.GetJsonWebKeySetRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> access_service_pb2.GetJsonWebKeySetResponse:
        return access_service_pb2.GetJsonWebKeySetResponse(keys=[self._key])


async def _serve(port: int, key: SigningKey) -> None:
    healthy = health.aio.HealthServicer()
    await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    # As runtime/server.py: the same number of listeners, with the same options.
    listeners = [_listener(port, healthy, key) for _ in range(_LISTENERS)]
    for listener in listeners:
        await listener.start()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await asyncio.gather(*(listener.stop(1) for listener in listeners))


def _listener(port: int, healthy: health.aio.HealthServicer, key: SigningKey) -> grpc.aio.Server:
    listener = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MESSAGE_BYTES),
            ("grpc.so_reuseport", 1),
        ],
        maximum_concurrent_rpcs=2000,
    )
    ingestion_service_pb2_grpc.add_IngestionServiceServicer_to_server(_Nothing(), listener)
    access_service_pb2_grpc.add_AccessServiceServicer_to_server(_Keys(key), listener)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, listener)
    listener.add_insecure_port(f"127.0.0.1:{port}")
    return listener


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="Answer AppendEvent with an empty message.")
    parser.add_argument("port", type=int)
    parser.add_argument("key", type=Path, help="PEM file of the key whose tokens Envoy lets in.")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(arguments.port, keys.load(arguments.key)))


if __name__ == "__main__":
    main()
