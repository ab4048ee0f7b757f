"""SystemService: probes, the OpenAPI document and the pages for people."""

from collections.abc import Callable
from typing import Any

import grpc
from google.api import httpbody_pb2

from decisiongraph.v1 import system_service_pb2, system_service_pb2_grpc
from decisiongraph_service.domain import errors, timestamps
from decisiongraph_service.queries.readiness import Readiness
from decisiongraph_service.rpc.pages import Pages, WebFile, landing_page

_Context = grpc.aio.ServicerContext[Any, Any]


class SystemServicer(system_service_pb2_grpc.SystemServiceServicer):
    """Answers SystemService."""

    def __init__(
        self, readiness: Readiness, pages: Pages, *, version: str, openapi: bytes, clock: Callable[[], int]
    ) -> None:
        """`openapi`: the generated document, YAML. `clock`: microseconds since 1970-01-01T00:00:00Z."""
        self._readiness = readiness
        self._pages = pages
        self._version = version
        self._openapi = WebFile("application/yaml", openapi)
        self._clock = clock

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
        return await _body(self._openapi, context)

    async def GetDocs(  # noqa: N802 - named by the contract
        self, request: system_service_pb2.GetDocsRequest, context: _Context
    ) -> httpbody_pb2.HttpBody:
        """The API explorer."""
        return await _body(self._pages.explorer, context)

    async def GetDocsAsset(  # noqa: N802 - named by the contract
        self, request: system_service_pb2.GetDocsAssetRequest, context: _Context
    ) -> httpbody_pb2.HttpBody:
        """A file that the pages need."""
        asset = self._pages.assets.get(request.name)
        if asset is None:
            raise errors.NotFound("file", request.name)
        return await _body(asset, context)

    async def GetLandingPage(  # noqa: N802 - named by the contract
        self, request: system_service_pb2.GetLandingPageRequest, context: _Context
    ) -> httpbody_pb2.HttpBody:
        """Status and links; answers whatever the status is."""
        states = await self._readiness.states()
        now = timestamps.format_micros(self._clock())
        checked_at = f"{now[:10]} {now[11:19]} UTC"
        page = landing_page(self._pages.landing_page, version=self._version, checked_at=checked_at, states=states)
        return await _body(page, context)


async def _body(file: WebFile, context: _Context) -> httpbody_pb2.HttpBody:
    """`file` as an answer; its headers are sent before it."""
    accepted = dict(context.invocation_metadata() or ()).get("accept-encoding", "")
    data, headers = file.answer(str(accepted))
    await context.send_initial_metadata(headers)
    return httpbody_pb2.HttpBody(content_type=file.content_type, data=data)
