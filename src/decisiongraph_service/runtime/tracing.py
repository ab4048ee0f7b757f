"""Where spans go: to a collector that takes OTLP over HTTP, in batches, from a thread of its own."""

from importlib.metadata import version
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased

from decisiongraph_service.spans import Spans

_QUEUE_SPANS: Final = 4_096
_BATCH_SPANS: Final = 512
_EXPORT_SECONDS: Final = 5
_SHUTDOWN_MILLISECONDS: Final = 2_000


class Tracing:
    """The spans of a process and the way that they leave it. When the collector is away they are dropped, not kept."""

    def __init__(self, exporter: SpanExporter, *, sample_ratio: float) -> None:
        """`sample_ratio`: the share of calls that are traced, unless their `traceparent` decides."""
        self._provider = TracerProvider(
            sampler=ParentBased(ALWAYS_ON),
            resource=Resource.create({"service.name": "decisiongraph", "service.version": version("decisiongraph")}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=_QUEUE_SPANS, max_export_batch_size=_BATCH_SPANS)
        )
        self.spans = Spans(self._provider.get_tracer("decisiongraph"), sample_ratio=sample_ratio)

    @classmethod
    def to_collector(cls, endpoint: str, *, sample_ratio: float) -> "Tracing":
        """Send to the collector at this base URL."""
        exporter = OTLPSpanExporter(endpoint.rstrip("/") + "/v1/traces", timeout=_EXPORT_SECONDS)
        return cls(exporter, sample_ratio=sample_ratio)

    def stop(self) -> None:
        """Send what is left, for two seconds at most."""
        self._provider.force_flush(_SHUTDOWN_MILLISECONDS)
        self._provider.shutdown()
