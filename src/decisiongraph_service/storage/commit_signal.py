"""Telling everybody who waits for a tenant's log that it has grown: in this process at once, in others by NOTIFY.

A hint and never more: a signal may be lost when a connection breaks, so whoever waits also looks again after a while.
The NOTIFY is sent beside the appends and not inside them, where it would take a lock of the whole database; it is
throttled and carries many tenants at once.
"""

import asyncio
import contextlib
import json
from collections.abc import Iterable, Iterator
from typing import Final

import asyncpg
import structlog

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import database

_CHANNEL: Final = "decisiongraph_commits"
_THROTTLE_SECONDS: Final = 0.01
_MAX_PAYLOAD_BYTES: Final = 7_000
"""Postgres takes 8,000."""
_RECONNECT_SECONDS: Final = 1.0
_ELSEWHERE_FIRST_SECONDS: Final = 0.1
"""The process that committed projects at once; the others look after a while whether it did."""

_log = structlog.get_logger("decisiongraph.commit_signal")


class CommitSignal:
    """One per process: hands on what its own appends and those of other processes report."""

    def __init__(self, database_url: str, *, elsewhere_first_seconds: float = _ELSEWHERE_FIRST_SECONDS) -> None:
        """`elsewhere_first_seconds`: for so long what another process committed is left to its own projector."""
        self._database_url = database_url
        self._elsewhere_first_seconds = elsewhere_first_seconds
        self._listeners: dict[TenantId, set[asyncio.Event]] = {}
        self._everything: set[_Collector] = set()
        self._collected_later: set[TenantId] = set()
        self._readers: dict[TenantId, int] = {}
        self._paused: dict[TenantId, asyncio.Event] = {}
        self._unsent: set[TenantId] = set()
        self._own_pid: int | None = None
        self._something_unsent = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to exchange signals with other processes."""
        self._task = asyncio.create_task(self._exchange(), name="commit-signal")

    async def stop(self) -> None:
        """End the exchange."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def committed(self, tenant_id: TenantId) -> None:
        """Report that a tenant's log has grown."""
        self._deliver(tenant_id)
        self._unsent.add(tenant_id)
        self._something_unsent.set()

    def projected(self, tenant_id: TenantId) -> None:
        """Report, in this process, that a tenant's projections have moved."""
        for event in self._listeners.get(tenant_id, ()):
            event.set()

    @contextlib.contextmanager
    def listen(self, tenant_id: TenantId) -> Iterator[asyncio.Event]:
        """An event that is set whenever the tenant's log or projections have grown.

        Clear it before you look, then wait for it.
        """
        event = asyncio.Event()
        self._listeners.setdefault(tenant_id, set()).add(event)
        try:
            yield event
        finally:
            listeners = self._listeners[tenant_id]
            listeners.discard(event)
            if not listeners:
                del self._listeners[tenant_id]

    @contextlib.contextmanager
    def listen_to_projection(self, tenant_id: TenantId) -> Iterator[asyncio.Event]:
        """As `listen`, for a read that waits for the projections: ends their pause."""
        self._readers[tenant_id] = self._readers.get(tenant_id, 0) + 1
        if (paused := self._paused.get(tenant_id)) is not None:
            paused.set()
        try:
            with self.listen(tenant_id) as event:
                yield event
        finally:
            self._readers[tenant_id] -= 1
            if not self._readers[tenant_id]:
                del self._readers[tenant_id]

    async def pause_projection(self, tenant_id: TenantId, seconds: float) -> None:
        """Let events gather for so long, or until a read waits for them."""
        if tenant_id in self._readers:
            return
        over = self._paused[tenant_id] = asyncio.Event()
        timer = asyncio.get_running_loop().call_later(seconds, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()
            del self._paused[tenant_id]

    @contextlib.contextmanager
    def listen_to_all(self) -> Iterator["_Collector"]:
        """Collects the tenants whose logs have grown."""
        collector = _Collector()
        self._everything.add(collector)
        try:
            yield collector
        finally:
            self._everything.discard(collector)

    def _deliver(self, tenant_id: TenantId) -> None:
        for event in self._listeners.get(tenant_id, ()):
            event.set()
        self._collect(tenant_id)

    def _deliver_from_elsewhere(self, tenant_id: TenantId) -> None:
        for event in self._listeners.get(tenant_id, ()):
            event.set()
        if tenant_id not in self._collected_later:
            self._collected_later.add(tenant_id)
            asyncio.get_running_loop().call_later(self._elsewhere_first_seconds, self._collect, tenant_id)

    def _collect(self, tenant_id: TenantId) -> None:
        self._collected_later.discard(tenant_id)
        for collector in self._everything:
            collector.add(tenant_id)

    async def _exchange(self) -> None:
        while True:
            try:
                connection = await asyncpg.connect(
                    self._database_url,
                    timeout=5,
                    server_settings={"application_name": "decisiongraph-signal", "role": database.RUNTIME_ROLE},
                )
                try:
                    self._own_pid = connection.get_server_pid()
                    # Nothing else would notice an idle connection that broke.
                    connection.add_termination_listener(lambda _: self._something_unsent.set())
                    await connection.add_listener(_CHANNEL, self._received)
                    await self._send_from(connection)
                finally:
                    connection.terminate()
            except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
                _log.warning("commit_signal_interrupted", error=str(error))
                await asyncio.sleep(_RECONNECT_SECONDS)

    async def _send_from(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        while not connection.is_closed():
            await self._something_unsent.wait()
            self._something_unsent.clear()
            tenants, self._unsent = self._unsent, set()
            for payload in _payloads(tenants):
                await connection.execute("SELECT pg_notify($1, $2)", _CHANNEL, payload)
            await asyncio.sleep(_THROTTLE_SECONDS)

    def _received(self, connection: object, pid: int, channel: str, payload: object) -> None:
        if pid == self._own_pid:
            return  # delivered already, when it was committed here
        with contextlib.suppress(ValueError, TypeError):
            for tenant_id in json.loads(str(payload)):
                self._deliver_from_elsewhere(TenantId(tenant_id))


class _Collector:
    """The tenants that were reported since they were last taken."""

    def __init__(self) -> None:
        self._tenants: set[TenantId] = set()
        self._some = asyncio.Event()

    def add(self, tenant_id: TenantId) -> None:
        """Report a tenant."""
        self._tenants.add(tenant_id)
        self._some.set()

    async def take(self, timeout_seconds: float) -> set[TenantId]:
        """The tenants reported since the last call; waits for one, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._some.wait()
        self._some.clear()
        tenants, self._tenants = self._tenants, set()
        return tenants


def _payloads(tenants: Iterable[TenantId]) -> Iterator[str]:
    part: list[TenantId] = []
    size = 2
    for tenant_id in tenants:
        if size + len(tenant_id) + 4 > _MAX_PAYLOAD_BYTES:
            yield json.dumps(part)
            part, size = [], 2
        part.append(tenant_id)
        size += len(tenant_id) + 4
    if part:
        yield json.dumps(part)
