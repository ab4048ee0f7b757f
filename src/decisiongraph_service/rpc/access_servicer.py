"""AccessService: tokens for API keys, and the keys that verify tokens."""

from collections.abc import Callable
from typing import Any

import grpc

from decisiongraph.v1 import access_pb2, access_service_pb2, access_service_pb2_grpc
from decisiongraph_service.access.key_ring import KeyRing
from decisiongraph_service.access.token_exchange import TokenExchange
from decisiongraph_service.domain import timestamps


class AccessServicer(access_service_pb2_grpc.AccessServiceServicer):
    """Answers AccessService."""

    def __init__(self, exchange: Callable[[], TokenExchange], keys: KeyRing) -> None:
        """`exchange` makes one with the key that signs now: it is another one when keys are changed."""
        self._exchange = exchange
        self._keys = keys

    async def IssueToken(  # noqa: N802 - named by the contract
        self, request: access_service_pb2.IssueTokenRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> access_service_pb2.IssueTokenResponse:
        """A token for the account of an API key."""
        issued = await self._exchange().issue(request.api_key)
        return access_service_pb2.IssueTokenResponse(
            token=issued.token, expires_at=timestamps.format_micros(issued.expires_at_micros)
        )

    async def GetJsonWebKeySet(  # noqa: N802 - named by the contract
        self,
        request: access_service_pb2.GetJsonWebKeySetRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> access_service_pb2.GetJsonWebKeySetResponse:
        """The public keys, the one that signs first."""
        return access_service_pb2.GetJsonWebKeySetResponse(
            keys=[
                access_pb2.JsonWebKey(
                    kty="OKP", crv="Ed25519", x=key.public_base64url, kid=key.key_id, use="sig", alg="EdDSA"
                )
                for key in self._keys.published
            ]
        )
