"""Which service a command talks to, and as whom: the named one, or that of the running `decisiongraph run`."""

import contextlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from decisiongraph_service.cli import failure

if TYPE_CHECKING:
    import grpc

SERVER_VARIABLE: Final = "DG_SERVER"
TOKEN_VARIABLE: Final = "DG_TOKEN"  # noqa: S105 - the name of a variable
KEY_VARIABLE: Final = "DG_API_KEY"
_EXCHANGE_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class ServiceConnection:
    """A channel, and the metadata that say who calls."""

    channel: "grpc.aio.Channel"
    tenant: str | None
    tokens: dict[str, str]
    """By role; the token under `` is for every role."""

    def metadata(self, role: str) -> tuple[tuple[str, str], ...]:
        """The metadata of a call that needs `role`."""
        token = self.tokens.get(role) or self.tokens[""]
        tenant = () if self.tenant is None else (("x-tenant-id", self.tenant),)
        return (("authorization", f"Bearer {token}"), *tenant)


@contextlib.asynccontextmanager
async def connect(server: str | None, tenant: str | None) -> AsyncIterator[ServiceConnection]:
    """Connect to `server`, or to that of the running `decisiongraph run`; ends the command if there is none."""
    import grpc

    from decisiongraph_service.runtime.settings import Settings

    address, tokens = server or os.environ.get(SERVER_VARIABLE), {"": os.environ.get(TOKEN_VARIABLE, "")}
    api_key = "" if tokens[""] else os.environ.get(KEY_VARIABLE, "")
    if not address or not (tokens[""] or api_key):
        path = Settings().data_dir / "service.json"
        try:
            running = json.loads(path.read_text())
        except FileNotFoundError:
            failure.exit_with(
                f"no service: {path} does not exist, so none runs from this folder; start it with `make run`, or set "
                f"{SERVER_VARIABLE} (host:port of the gRPC server) and {KEY_VARIABLE} (an API key) or "
                f"{TOKEN_VARIABLE} (a token) of an account with the roles that the command needs"
            )
        address = address or running["grpc"]
        tokens = tokens if tokens[""] or api_key else running["tokens"]
    # A proxy of the environment is not for this service.
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            if api_key:
                tokens = {"": await _exchange(channel, api_key)}
            yield ServiceConnection(channel, tenant, tokens)
        except grpc.aio.AioRpcError as error:
            failure.exit_with(f"{address}: {error.code().name}: {error.details()}")


async def _exchange(channel: "grpc.aio.Channel", api_key: str) -> str:
    from decisiongraph.v1 import access_service_pb2, access_service_pb2_grpc

    stub = access_service_pb2_grpc.AccessServiceStub(channel)
    answer = await stub.IssueToken(access_service_pb2.IssueTokenRequest(api_key=api_key), timeout=_EXCHANGE_SECONDS)
    return answer.token
