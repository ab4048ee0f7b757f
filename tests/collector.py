"""A collector on loopback that takes what servers and Envoy export, OTLP over HTTP."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

_WITHIN_SECONDS: Final = 30


class Collector:
    """Takes what servers export."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: dict[bytes, str] = {}
        """Whose a span is, by its id."""
        spans, services = self.spans, self.services

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = self.headers["content-length"]
                # Envoy sends in pieces, servers send at once.
                body = b"".join(self._pieces()) if length is None else self.rfile.read(int(length))
                if self.headers.get("content-encoding") == "gzip":
                    raise AssertionError("nobody asked for compression")
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    named = {one.key: one.value.string_value for one in resource.resource.attributes}
                    for scope in resource.scope_spans:
                        services.update((span.span_id, named["service.name"]) for span in scope.spans)
                        spans.extend(scope.spans)
                self.send_response(200)
                self.end_headers()

            def _pieces(self) -> Iterator[bytes]:
                while size := int(self.rfile.readline(), 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by the library
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    async def of_trace(self, trace_id: str, names: set[str]) -> dict[str, Span]:
        """The spans of a trace by name, when all of `names` have arrived."""
        async with asyncio.timeout(_WITHIN_SECONDS):
            while True:
                found = {span.name: span for span in list(self.spans) if span.trace_id.hex() == trace_id}
                if names <= found.keys():
                    return found
                await asyncio.sleep(0.1)
