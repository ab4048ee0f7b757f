"""SystemService: probes and documents."""

from typing import Any

import grpc
from google.api import httpbody_pb2

from decisiongraph.v1 import system_service_pb2, system_service_pb2_grpc
from decisiongraph_service.queries.readiness import Readiness

_Context = grpc.aio.ServicerContext[Any, Any]


class SystemServicer(system_service_pb2_grpc.SystemServiceServicer):
    """Answers SystemService. Rpcs that are not here are not implemented yet."""

    def __init__(self, readiness: Readiness, *, version: str, openapi: bytes) -> None:
        """`openapi`: the generated document, YAML."""
        self._readiness = readiness
        self._version = version
        self._openapi = openapi

    async def GetLiveness(  # noqa: N802 - named by the contract
        self, request: system_service_pb2.GetLivenessRequest, context: _Context
    ) -> system_service_pb2.GetLivenessResponse:
        """The process answers."""
        return system_service_pb2.GetLivenessResponse(status="live", version=self._version)

    async def GetReadiness(  # noqa: N802 - named by the contract
        self, request: system_service_pb2.GetReadinessRequest, context: _Context
    ) -> system_service_pb2.GetReadinessResponse:
        """Everything that the service needs works."""
        passed = await self._readiness.check()
        checks = [system_service_pb2.ReadinessCheck(name=name, status="ok") for name in passed]
        return system_service_pb2.GetReadinessResponse(status="ready", checks=checks)

    async def GetOpenApi(  # noqa: N802 - named by the contract
        self, request: system_service_pb2.GetOpenApiRequest, context: _Context
    ) -> httpbody_pb2.HttpBody:
        """The contract as an OpenAPI document."""
        return httpbody_pb2.HttpBody(content_type="application/yaml", data=self._openapi)
