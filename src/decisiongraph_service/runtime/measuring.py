"""What a server measures, by its settings: metrics, spans, both or nothing."""

import asyncio
from collections.abc import Collection

import structlog

from decisiongraph_service.observer import Observer
from decisiongraph_service.runtime.metrics import Gauges, InstallationMetrics, Metrics, MetricsServer, Standing
from decisiongraph_service.runtime.settings import Settings
from decisiongraph_service.runtime.tracing import Tracing
from decisiongraph_service.spans import Spans
from decisiongraph_service.storage.database import Database

_log = structlog.get_logger("decisiongraph.server")


class Measuring:
    """Of one process. Its `observer` and `spans` are what the parts are given."""

    def __init__(self, settings: Settings, *, paths: Collection[str]) -> None:
        """`paths`: the rpcs that metrics tell apart.

        Raises:
            ValueError: the settings do not go together.
        """
        self._settings = settings
        self._metrics = None if settings.metrics_port is None else Metrics(paths, settings.tenant_classes)
        self._tracing = (
            None
            if settings.otlp_endpoint is None
            else Tracing.to_collector(settings.otlp_endpoint, sample_ratio=settings.otlp_sample_ratio)
        )
        self._server: MetricsServer | None = None
        self._installation: InstallationMetrics | None = None

    @property
    def observer(self) -> Observer:
        """Counts, or does nothing."""
        return self._metrics or Observer()

    @property
    def spans(self) -> Spans:
        """Makes spans, or none."""
        return Spans() if self._tracing is None else self._tracing.spans

    def start(self, database: Database, gauges: Gauges) -> None:
        """Answer scrapes.

        Raises:
            ValueError: the port cannot be listened on.
        """
        if self._metrics is None or self._settings.metrics_port is None:
            return
        self._metrics.add(Standing(gauges))
        self._installation = InstallationMetrics(database, self._metrics.registry)
        self._installation.start()
        server = MetricsServer(self._metrics.registry)
        host, port = self._settings.metrics_host, self._settings.metrics_port
        try:
            port = server.start(host, port)
        except OSError as error:
            raise ValueError(
                f"DG_METRICS_PORT: cannot listen on {host}:{port}: {error.strerror or error}; choose another"
            ) from error
        self._server = server
        _log.info("metrics_served", address=f"http://{host}:{port}/metrics")

    async def stop(self) -> None:
        """Send what is left, and answer no longer."""
        if self._installation is not None:
            await self._installation.stop()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.stop)
        if self._server is not None:
            await asyncio.to_thread(self._server.stop)
