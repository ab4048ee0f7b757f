"""AccessService: the keys that verify tokens."""

from collections.abc import Sequence
from typing import Any

import grpc

from decisiongraph.v1 import access_pb2, access_service_pb2, access_service_pb2_grpc


class AccessServicer(access_service_pb2_grpc.AccessServiceServicer):
    """Answers AccessService. Rpcs that are not here are not implemented yet."""

    def __init__(self, keys: Sequence[tuple[str, str]]) -> None:
        """`keys`: id and base64url of each public key, the one in use first."""
        self._keys = [
            access_pb2.JsonWebKey(kty="OKP", crv="Ed25519", x=public, kid=key_id, use="sig", alg="EdDSA")
            for key_id, public in keys
        ]

    async def GetJsonWebKeySet(  # noqa: N802 - named by the contract
        self,
        request: access_service_pb2.GetJsonWebKeySetRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> access_service_pb2.GetJsonWebKeySetResponse:
        """The public keys."""
        return access_service_pb2.GetJsonWebKeySetResponse(keys=self._keys)
