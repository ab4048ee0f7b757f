"""Takes events from the outbox to the log, in their order, until each is there once.

A batch is appended whole or not at all, and leaves the outbox after that: cut off in between, it is sent again and the
service finds that it has it. Of the processes that share an outbox one delivers at a time.
"""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Final

from decisiongraph.v1.ingestion_service_pb2 import AppendEventsRequest
from decisiongraph_client import _forks, _methods, errors
from decisiongraph_client._outbox import Outbox, Waiting
from decisiongraph_client._outbox_status import RefusedEvent
from decisiongraph_client._retries import RetryPolicy
from decisiongraph_client._sync.session import Session

CALL_SECONDS: Final = 20.0
"""How long one batch may take."""

_BATCH_EVENTS: Final = 200
_BATCH_BYTES: Final = 2 * 1024 * 1024
_LOOK_EVERY_SECONDS: Final = 1.0
"""How soon events of another process are seen, and a process that has died is followed by another."""
_BACKOFF: Final = RetryPolicy(attempts=1_000_000_000, first_delay=0.1, longest_delay=30.0)
_MOST_DOUBLINGS: Final = 20
_LEAST_SECONDS: Final = 0.1
_FORK_SECONDS: Final = 5.0

# The events are as they should be, the caller is not: they wait until somebody mends it.
_OF_THE_CALLER: Final = (errors.Unauthenticated, errors.Forbidden, errors.NotFound, errors.Unimplemented)
_OF_ANY_EVENT: Final = (errors.InvalidArgument, errors.SchemaViolation, errors.PiiPolicyViolation)
_TENANT_FIELD: Final = "x-tenant-id"

_log = logging.getLogger("decisiongraph.client")


@dataclass(slots=True)
class _Turn:
    """What is known about the last try."""

    failures: int = 0
    error: Exception | None = None


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
        self._sole: IO[bytes] | None = None
        self._begin()
        _forks.watch(self)

    def _begin(self) -> None:
        self._thread: threading.Thread | None = None
        self._session: Session | None = None
        self._starting, self._taking = threading.Lock(), threading.Lock()
        self._holds_for_fork = False
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._stopped = threading.Event()
        self._moved = threading.Condition()
        self._turn = _Turn()

    @property
    def last_error(self) -> Exception | None:
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
        ends = time.monotonic() + timeout
        last = self._outbox.last(patience=timeout)
        if last == 0:
            return True
        self.wake()
        with self._moved:
            while last is None or self._outbox.waits(last, patience=ends - time.monotonic()):
                left = ends - time.monotonic()
                if left <= 0:
                    return False
                # Somebody waits: a pause after failures is over, if it was not the service that asked for it.
                self._hurry.set()
                self._moved.wait(min(left, _LOOK_EVERY_SECONDS))
                if last is None:
                    last = self._outbox.last(patience=ends - time.monotonic())
        return True

    def stop(self, timeout: float) -> None:
        """End the thread; it gets `timeout` seconds, then its call is cut off."""
        with self._starting:
            self._stopped.set()
        self._wake.set()
        self._hurry.set()
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        thread.join(min(max(timeout, 0.0), threading.TIMEOUT_MAX))
        if thread.is_alive() and self._session is not None:
            self._session.close()
            thread.join(_LEAST_SECONDS)

    def before_fork(self) -> None:
        """Let the file of the turn be known, so that a child can let go of it."""
        self._holds_for_fork = self._taking.acquire(timeout=_FORK_SECONDS)

    def after_fork(self) -> None:
        """In the parent: go on."""
        if self._holds_for_fork:
            self._holds_for_fork = False
            self._taking.release()

    def forked(self) -> None:
        """In a forked child: the thread is the parent's, and so is the turn to deliver."""
        stopped = self._stopped.is_set()
        self._begin()
        if stopped:
            self._stopped.set()
        self._hand_over()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                pause = self._deliver_some()
                if pause is None:
                    self._wake.wait(_LOOK_EVERY_SECONDS)
                    self._wake.clear()
                elif pause:
                    # What is put in meanwhile must not cut it short.
                    self._stopped.wait(min(pause, _LEAST_SECONDS))
                    self._hurry.wait(max(0.0, pause - _LEAST_SECONDS))
        except errors.ClientClosed:
            pass  # closed under our hands, which is how it ends when its time is over
        finally:
            if self._session is not None:
                self._session.close()
            self._hand_over()

    def _deliver_some(self) -> float | None:
        """Deliver a batch. Seconds to pause after that; None: there is nothing to do.

        Raises:
            ClientClosed: it is over.
        """
        try:
            if not self._outbox.waits() or not self._is_its_turn():
                self._turn = _Turn()
                return None
            if self._session is None:
                self._session = self._make_session()
            # Not before it is this one's turn: until then another process delivers them.
            self._deliver(self._session, self._outbox.first(events=_BATCH_EVENTS, size_bytes=_BATCH_BYTES))
        except errors.ClientClosed:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the events must not wait for ever
            return self._pause_after(error)
        if self._turn.failures:
            _log.info("events of %s are delivered again", self._outbox.path)
        self._turn = _Turn()
        with self._moved:
            self._moved.notify_all()
        return 0.0

    def _pause_after(self, error: Exception) -> float:
        """Seconds to wait after a failure; all but those that the service asks for end with the next flush."""
        self._turn.error = error
        self._turn.failures += 1
        retry_after = None
        if isinstance(error, errors.ServiceError):
            retry_after = error.retry_after
            if self._turn.failures == 1 or isinstance(error, errors.Refused):
                _log.warning("events wait in %s: %s: %s", self._outbox.path, error.reason, error.message)
        else:
            _log.error("events wait in %s", self._outbox.path, exc_info=error)
        pause = _BACKOFF.delay(
            errors.Unreachable("", retry_after=retry_after),
            min(self._turn.failures, _MOST_DOUBLINGS),
            repeatable=True,
            left=float("inf"),
        )
        pause = _BACKOFF.longest_delay if pause is None else pause
        if retry_after is not None:
            self._stopped.wait(pause)
            return 0.0
        self._hurry.clear()
        return pause

    def _is_its_turn(self) -> bool:
        """Whether this is the one that delivers from the file; stays so until it ends, however it ends."""
        if self._sole is not None:
            return True
        with self._taking:
            # Never closed while it matters, and not handed on to programs that are started.
            path = self._outbox.path.with_name(self._outbox.path.name + ".lock")
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return False
            self._sole = file
        return True

    def _hand_over(self) -> None:
        sole, self._sole = self._sole, None
        if sole is not None:
            sole.close()

    def _deliver(self, session: Session, waiting: Sequence[Waiting]) -> None:
        """Append all of them, without those that the service refuses."""
        batches = [list(waiting)] if waiting else []
        while batches:
            batch = batches.pop(0)
            request = AppendEventsRequest(events=[one.event for one in batch])
            try:
                session.call(_methods.APPEND_EVENTS, request, tenant=batch[0].tenant)
            except errors.Refused as error:
                if not _is_about_an_event(error):
                    raise
                batches[:0] = self._without_refused(batch, error)
            else:
                self._outbox.delivered([one.id for one in batch])

    def _without_refused(self, batch: list[Waiting], error: errors.Refused) -> list[list[Waiting]]:
        """What is still to be sent of a batch that was refused."""
        index = error.index
        if len(batch) == 1:
            index = 0
        if index is None or index >= len(batch):
            # Which of them is meant is not said: halves are judged by themselves.
            middle = len(batch) // 2
            return [batch[:middle], batch[middle:]]
        self._refuse(batch.pop(index), error)
        return [batch] if batch else []

    def _refuse(self, refused: Waiting, error: errors.ServiceError) -> None:
        self._outbox.refuse(refused.id, error.reason, error.message)
        _log.error("the service refused event %s: %s: %s", refused.event.event_id, error.reason, error.message)
        if self._on_refused is not None:
            try:
                self._on_refused(RefusedEvent(refused.id, refused.tenant, refused.event, error.reason, error.message))
            except Exception:  # noqa: BLE001 - the hook's faults must not end the delivery
                _log.exception("on_refused failed")


def _is_about_an_event(error: errors.Refused) -> bool:
    """Whether an event will never be taken; else the events are held, and delivered when the caller is mended."""
    if isinstance(error, _OF_THE_CALLER) or any(one.field == _TENANT_FIELD for one in error.violations):
        return False
    return error.index is not None or isinstance(error, _OF_ANY_EVENT)
