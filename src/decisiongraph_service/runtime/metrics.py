"""Metrics of one process for Prometheus: what its parts tell, and what is counted in the database now and then.

Counting costs microseconds and happens where the work is; answering a scrape is another thread's. No label has more
values than the contract, the configuration or the projections have: never a tenant, an account or a trace.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import prometheus_client
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from decisiongraph_service.domain import errors, vocabulary
from decisiongraph_service.observer import EndedCall, Observer
from decisiongraph_service.storage import measurements
from decisiongraph_service.storage.database import Connections, Database
from decisiongraph_service.storage.measurements import Measurements

if TYPE_CHECKING:
    import threading
    from wsgiref.simple_server import WSGIServer

STANDARD: Final = "standard"
"""The class of tenants that DG_TENANT_CLASSES does not name."""
MAX_TENANT_CLASSES: Final = 20

_LOOK_SECONDS: Final = 5.0
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)

_log = structlog.get_logger("decisiongraph.metrics")


@dataclass(frozen=True, slots=True)
class Gauges:
    """What stands at the moment of a scrape, each as a function that any thread may call."""

    calls: Callable[[], int]
    streams: Callable[[], int]
    waiting: Callable[[], tuple[int, int]]
    """Events that wait to be committed, and their bytes."""
    connections: Callable[[], Connections]
    watches: Callable[[], int]


class Metrics(Observer):
    """Counts for one process."""

    def __init__(self, paths: Collection[str], tenant_classes: Mapping[str, str]) -> None:
        """`paths`: the rpcs that are told apart. `tenant_classes`: the label of single tenants.

        Raises:
            ValueError: there are too many classes.
        """
        if len(set(tenant_classes.values())) > MAX_TENANT_CLASSES:
            raise ValueError(
                f"DG_TENANT_CLASSES has more than {MAX_TENANT_CLASSES} classes; each makes metrics of its own"
            )
        self.registry = CollectorRegistry()
        self._classes = tenant_classes
        self._names = {path: tuple(path[1:].rsplit("/", 1)) for path in paths}
        self._calls = Histogram(
            "decisiongraph_rpc_seconds",
            "Calls by how long they took, in seconds; of streams their whole life.",
            ("service", "method", "code", "tenant_class"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._refusals = Counter(
            "decisiongraph_refusals",
            "Calls that were not answered with OK, by the reason of the contract.",
            ("method", "reason", "tenant_class"),
            registry=self.registry,
        )
        self._commit_seconds = Histogram(
            "decisiongraph_commit_seconds",
            "Group commits by how long they took, in seconds.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._commit_callers = Histogram(
            "decisiongraph_commit_appends", "Appends that one commit answered.", buckets=_SIZES, registry=self.registry
        )
        self._commit_events = Histogram(
            "decisiongraph_commit_events", "Events that one commit wrote.", buckets=_SIZES, registry=self.registry
        )
        self._events = Counter(
            "decisiongraph_events",
            "Events that were appended: `stored`, or `reused` because they were stored before.",
            ("outcome",),
            registry=self.registry,
        )
        self._projected = Counter(
            "decisiongraph_projected_events", "Events that were applied to live projections.", registry=self.registry
        )
        self._projection_seconds = Histogram(
            "decisiongraph_projection_batch_seconds",
            "Batches of the projector by how long they took, in seconds.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._stops = Counter(
            "decisiongraph_projection_stops",
            "How often a tenant's projections stopped before an event that cannot be applied.",
            registry=self.registry,
        )
        for outcome in ("stored", "reused"):
            self._events.labels(outcome)

    def call_ended(self, call: EndedCall) -> None:
        """An rpc was answered."""
        # Another path is its caller's own text, of which there is no end.
        service, method = self._names.get(call.path, ("unknown", "unknown"))
        tenant_class = STANDARD if call.tenant_id is None else self._classes.get(call.tenant_id, STANDARD)
        self._calls.labels(service, method, call.code, tenant_class).observe(call.seconds)
        if call.reason:
            self._refusals.labels(method, call.reason, tenant_class).inc()

    def batch_committed(self, *, callers: int, stored: int, reused: int, seconds: float) -> None:
        """A group commit is durable."""
        self._commit_seconds.observe(seconds)
        self._commit_callers.observe(callers)
        self._commit_events.observe(stored)
        self._events.labels("stored").inc(stored)
        self._events.labels("reused").inc(reused)

    def batch_projected(self, *, events: int, seconds: float) -> None:
        """Events were applied to live projections."""
        self._projected.inc(events)
        self._projection_seconds.observe(seconds)

    def projection_stopped(self) -> None:
        """A tenant's projections wait before an event that cannot be applied."""
        self._stops.inc()

    def add(self, collector: Collector) -> None:
        """Also tell what this collects at each scrape."""
        self.registry.register(collector)


class Standing(Collector):
    """What stands in this process at the moment of a scrape."""

    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        """The gauges."""
        waiting_events, waiting_bytes = self._gauges.waiting()
        connections = self._gauges.connections()
        at_work = GaugeMetricFamily("decisiongraph_calls_at_work", "Calls and streams at work.", labels=("kind",))
        at_work.add_metric(("calls",), self._gauges.calls())
        at_work.add_metric(("streams",), self._gauges.streams())
        yield at_work
        yield GaugeMetricFamily(
            "decisiongraph_append_queue_events", "Events that wait to be committed.", waiting_events
        )
        yield GaugeMetricFamily("decisiongraph_append_queue_bytes", "Bytes of their payloads.", waiting_bytes)
        for name, what, count in (
            ("", "Connections of the pool.", connections.opened),
            ("_busy", "Those at work.", connections.busy),
            ("_limit", "How many the pool may open.", connections.limit),
        ):
            yield GaugeMetricFamily(f"decisiongraph_database_connections{name}", what, count)
        yield GaugeMetricFamily("decisiongraph_watches", "Open watches of the log.", self._gauges.watches())


class InstallationMetrics:
    """What is counted in the database, the same at every server: lags, stops, jobs. Looked up every five seconds."""

    def __init__(self, database: Database, registry: CollectorRegistry) -> None:
        self._database = database
        self._task: asyncio.Task[None] | None = None
        projection = ("projection",)
        self._lag_tenants = _gauge(registry, "projection_lagging_tenants", "Tenants that are behind.", projection)
        self._lag_events = _gauge(registry, "projection_lag_events", "Events that all tenants are behind.", projection)
        self._largest = _gauge(registry, "projection_largest_lag_events", "The same of the worst tenant.", projection)
        self._lag_seconds = _gauge(
            registry, "projection_lag_seconds", "How long the first event that waits has been stored.", projection
        )
        self._stopped = _gauge(
            registry, "projection_stopped_tenants", "Tenants that wait before a faulty event.", projection
        )
        job = ("projection", "mode")
        self._jobs = _gauge(registry, "replay_jobs", "Jobs that wait or run.", job)
        self._done = _gauge(registry, "replay_processed_events", "Events that they have applied.", job)
        self._total = _gauge(registry, "replay_total_events", "Events that they have to apply.", job)
        self._reachable = _gauge(registry, "database_reachable", "1 if the last look reached the database.", ())

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._follow(), name="installation-metrics")

    async def stop(self) -> None:
        """Look no longer."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _follow(self) -> None:
        while True:
            try:
                self._show(await measurements.fetch(self._database))
                self._reachable.set(1)
            except errors.StorageUnavailable:
                self._reachable.set(0)
            except Exception:  # noqa: BLE001 - a look that fails must not end the looking
                _log.exception("measuring_failed")
            await asyncio.sleep(_LOOK_SECONDS)

    def _show(self, found: Measurements) -> None:
        by_projection = {lag.projection: lag for lag in found.lag}
        for projection in vocabulary.PROJECTIONS:
            lag = by_projection.get(projection) or measurements.Lag(projection, 0, 0, 0, 0.0)
            self._lag_tenants.labels(projection).set(lag.tenants)
            self._lag_events.labels(projection).set(lag.events)
            self._largest.labels(projection).set(lag.largest)
            self._lag_seconds.labels(projection).set(lag.seconds)
            self._stopped.labels(projection).set(found.stopped.get(projection, 0))
        for gauge in (self._jobs, self._done, self._total):
            gauge.clear()
        for replays in found.replays:
            self._jobs.labels(replays.projection, replays.mode).set(replays.jobs)
            self._done.labels(replays.projection, replays.mode).set(replays.processed_events)
            self._total.labels(replays.projection, replays.mode).set(replays.total_events)


class MetricsServer:
    """Answers GET /metrics, on a thread of its own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._server: WSGIServer | None = None
        self._thread: threading.Thread | None = None

    def start(self, host: str, port: int) -> int:
        """Listen, and return the port.

        Raises:
            OSError: the port cannot be listened on.
        """
        server, thread = prometheus_client.start_http_server(port, host, self._registry)
        self._server, self._thread = server, thread
        return int(server.server_port)

    def stop(self) -> None:
        """Listen no longer."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


def _gauge(registry: CollectorRegistry, name: str, text: str, labels: tuple[str, ...]) -> Gauge:
    return Gauge(f"decisiongraph_{name}", text, labels, registry=registry)
