"""Takes events from the outbox to the log, in their order, until each is there once.

A batch is appended whole or not at all, and leaves the outbox after that: cut off in between, it is sent again and the
service finds that it has it. Of the processes that share an outbox one delivers at a time.
"""

import fcntl
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Final

from decisiongraph.v1.ingestion_service_pb2 import AppendEventsRequest
from decisiongraph_client import _forks, _methods, errors
from decisiongraph_client._outbox import Outbox, RefusedEvent, Waiting
from decisiongraph_client._retries import RetryPolicy
from decisiongraph_client._sync.session import Session

CALL_SECONDS: Final = 20.0
"""How long one batch may take."""

_BATCH_EVENTS: Final = 200
_BATCH_BYTES: Final = 2 * 1024 * 1024
_LOOK_EVERY_SECONDS: Final = 1.0
"""How soon events of another process are seen, and a process that has died is followed by another."""
_BACKOFF: Final = RetryPolicy(attempts=1_000_000_000, first_delay=0.1, longest_delay=30.0)
_LEAST_SECONDS: Final = 0.05

# The events are as they should be, the caller is not: they wait until somebody mends it.
_OF_THE_CALLER: Final = (errors.Unauthenticated, errors.Forbidden, errors.Unimplemented)

_log = logging.getLogger("decisiongraph.client")


@dataclass(slots=True)
class _Turn:
    """What is known about the last try."""

    failures: int = 0
    error: errors.DecisionGraphError | None = None


class Delivery:
    """A thread that delivers. Starts by itself with the first event, in each process anew."""

    def __init__(
        self, outbox: Outbox, session: Callable[[], Session], *, on_refused: Callable[[RefusedEvent], None] | None
    ) -> None:
        """Set up.

        Args:
            outbox: Where the events wait.
            session: Makes what calls the service; used by the delivering thread alone.
            on_refused: Is told of every event that the service will never take, on the delivering thread.
        """
        self._outbox = outbox
        self._make_session = session
        self._on_refused = on_refused
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._moved = threading.Condition()
        self._turn = _Turn()
        self._sole: IO[bytes] | None = None
        _forks.watch(self)

    @property
    def last_error(self) -> errors.DecisionGraphError | None:
        """Why nothing is delivered at the moment; None: nothing is wrong."""
        return self._turn.error

    def wake(self) -> None:
        """There is something to deliver."""
        with self._starting:
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(target=self._run, name="decisiongraph-delivery", daemon=True)
                self._thread.start()
        self._wake.set()

    def flush(self, timeout: float) -> bool:
        """Wait until everything that waits now is delivered or refused; False: the time was over."""
        last = self._outbox.last()
        if not last:
            return True
        self.wake()
        ends = time.monotonic() + timeout
        while self._outbox.waits(last):
            left = ends - time.monotonic()
            if left <= 0:
                return False
            with self._moved:
                self._moved.wait(min(left, _LOOK_EVERY_SECONDS))
        return True

    def stop(self, timeout: float) -> None:
        """End the thread; it gets `timeout` seconds, and is left behind after that."""
        with self._starting:
            self._stopped.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(max(timeout, _LEAST_SECONDS))

    def forked(self) -> None:
        """In a forked child: the thread is the parent's, and so is the turn to deliver."""
        stopped = self._stopped.is_set()
        self._thread, self._turn = None, _Turn()
        self._starting, self._wake = threading.Lock(), threading.Event()
        self._stopped, self._moved = threading.Event(), threading.Condition()
        if stopped:
            self._stopped.set()
        if self._sole is not None:
            self._sole.close()
            self._sole = None

    def _run(self) -> None:
        session = self._make_session()
        try:
            while not self._stopped.is_set():
                try:
                    while self._is_its_turn() and not self._stopped.is_set() and self._deliver_some(session):
                        pass
                except errors.OutboxError as error:
                    self._turn.error = error
                    _log.error("%s", error)
                self._wake.wait(_LOOK_EVERY_SECONDS)
                self._wake.clear()
        except errors.ClientClosed:
            pass  # closed under our hands, which is how it ends when its time is over
        finally:
            session.close()
            if self._sole is not None:
                self._sole.close()
                self._sole = None

    def _is_its_turn(self) -> bool:
        """Whether this is the one that delivers from the file; stays so until it ends, however it ends."""
        if self._sole is not None:
            return True
        # Never closed while it matters, and not handed on to programs that are started.
        file = self._outbox.path.with_name(self._outbox.path.name + ".lock").open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._sole = file
        return True

    def _deliver_some(self, session: Session) -> bool:
        """Deliver a batch, or find out that it cannot be and pause; False: nothing waits."""
        waiting = self._outbox.first(events=_BATCH_EVENTS, size_bytes=_BATCH_BYTES)
        if not waiting:
            return False
        try:
            self._deliver(session, waiting)
        except errors.ServiceError as error:
            self._turn.error = error
            self._turn.failures += 1
            if self._turn.failures == 1 or isinstance(error, _OF_THE_CALLER):
                _log.warning("events wait in %s: %s: %s", self._outbox.path, error.reason, error.message)
            pause = _BACKOFF.delay(
                errors.Unreachable(error.message, retry_after=error.retry_after),
                min(self._turn.failures, 20),
                repeatable=True,
                left=float("inf"),
            )
            # What is put in meanwhile must not cut the pause short.
            self._stopped.wait(_BACKOFF.longest_delay if pause is None else pause)
            return True
        if self._turn.failures:
            _log.info("events of %s are delivered again", self._outbox.path)
        self._turn = _Turn()
        with self._moved:
            self._moved.notify_all()
        return True

    def _deliver(self, session: Session, waiting: Sequence[Waiting]) -> None:
        """Append all of them, without those that the service refuses."""
        batches = [list(waiting)]
        while batches:
            batch = batches.pop(0)
            request = AppendEventsRequest(events=[one.event for one in batch])
            try:
                session.call(_methods.APPEND_EVENTS, request, tenant=batch[0].tenant)
            except errors.Refused as error:
                if isinstance(error, _OF_THE_CALLER):
                    raise
                batches[:0] = self._without_refused(batch, error)
            else:
                self._outbox.delivered([one.id for one in batch])

    def _without_refused(self, batch: list[Waiting], error: errors.Refused) -> list[list[Waiting]]:
        """What is still to be sent of a batch that was refused."""
        index = error.index
        if index is None and len(batch) > 1:
            # Which of them is meant is not said: alone, each is judged by itself.
            return [[one] for one in batch]
        refused = batch.pop(index or 0)
        self._refuse(refused, error)
        return [batch] if batch else []

    def _refuse(self, refused: Waiting, error: errors.ServiceError) -> None:
        self._outbox.refuse(refused.id, error.reason, error.message)
        _log.error("the service refused event %s: %s: %s", refused.event.event_id, error.reason, error.message)
        if self._on_refused is not None:
            try:
                self._on_refused(RefusedEvent(refused.id, refused.tenant, refused.event, error.reason, error.message))
            except Exception:  # noqa: BLE001 - the hook's faults must not end the delivery
                _log.exception("on_refused failed")
