# Made of ../_async by tools/make_blocking_client.py: change it there.
"""The client: what an application holds, one for as long as it lives."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from decisiongraph.v1 import event_pb2, ingestion_service_pb2
from decisiongraph_client import _events, _methods, _settings
from decisiongraph_client._events import Mask
from decisiongraph_client._outbox_status import OutboxStatus, RefusedEvent
from decisiongraph_client._retries import RetryPolicy
from decisiongraph_client._settings import Tls
from decisiongraph_client._sync.reads import Reads
from decisiongraph_client._sync.session import Session, TokenSource
from decisiongraph_client._sync.trace import Trace, started
from decisiongraph_client._written import Freshness, Written
from decisiongraph_client.errors import ConfigurationError, OutboxError
from decisiongraph_client.payloads import ActorLike, EntityLike

if TYPE_CHECKING:
    from decisiongraph_client._delivery import Delivery
    from decisiongraph_client._outbox import Outbox

_CLOSE_SECONDS: Final = 5.0

_log = logging.getLogger("decisiongraph.client")


class Client(Reads):
    """Records decisions and asks about them, as one account in one tenant."""

    def __init__(
        self,
        server: str | None = None,
        *,
        api_key: str | None = None,
        token: TokenSource | None = None,
        tenant: str | None = None,
        producer: str | None = None,
        system: str | None = None,
        subsystem: str | None = None,
        actor: ActorLike | None = None,
        tls: Tls | None = None,
        timeout: float = 10.0,
        retries: RetryPolicy | None = None,
        reads: Freshness = "latest",
        mask: Mask | None = None,
        outbox: Path | str | None = None,
        outbox_max_bytes: int = 256 * 1024 * 1024,
        on_refused: Callable[[RefusedEvent], None] | None = None,
    ) -> None:
        """Set up. The service is called when something is asked or recorded; before, if an outbox holds events.

        Args:
            server: `host:port`, or with `https://` or `http://` before it. Without a scheme: TLS, but for this machine
                plain text. Unset: `DG_SERVER`.
            api_key: Exchanged for tokens, again and again before they expire. Unset: `DG_API_KEY`.
            token: A token, or a function that returns one. Unset: `DG_TOKEN`.
            tenant: Where to act, if the account may act in several. Unset: `DG_TENANT`.
            producer: The service or job that records; unset: `DG_PRODUCER`. Needed for recording only.
            system: What the producer belongs to; unset: `DG_SYSTEM`, or the producer.
            subsystem: A part of that.
            actor: Who acts, unless an event says otherwise. Unset: an agent called like the producer.
            tls: Authority, and certificate of the client. Unset: by the address, with `DG_TLS_CA_FILE`.
            timeout: Seconds of a call, repetitions included, unless the call says otherwise.
            retries: How often and how soon a call is sent again.
            reads: What reads include. With an outbox always `latest`: which events are in the log is not known here.
            mask: Sees every text of a payload before it leaves the process or is written to the outbox.
            outbox: A file on a local disk for events that are not delivered yet. With it recording never waits for the
                service. Processes of the same account may share it.
            outbox_max_bytes: Events of so many bytes may be in it.
            on_refused: With an outbox: is told, on a thread of the client's, what the service will never take.

        Raises:
            ConfigurationError: something is missing or impossible; the message says what to set.
        """
        endpoint = _settings.endpoint(server, tls)
        policy = retries or RetryPolicy()
        session = Session(endpoint, api_key=api_key, token=token, tenant=tenant, timeout=timeout, retries=policy)
        super().__init__(session, Written(reads if outbox is None else "latest"))
        self._origin = _events.Origin.of(producer, system, subsystem, actor)
        self._mask = mask
        self._outbox: Outbox | None = None
        self._delivery: Delivery | None = None
        self._delivered: bool | None = None
        if outbox is not None:
            self._outbox, self._delivery = _open_outbox(
                Path(outbox), outbox_max_bytes, on_refused, endpoint, api_key=api_key, token=token, tenant=tenant
            )
            if self._outbox.held_events:
                self._delivery.wake()

    def trace(
        self,
        *,
        workflow: str,
        title: str,
        primary_entity: EntityLike,
        context: Mapping[str, str] | None = None,
        trace_id: str | None = None,
        actor: ActorLike | None = None,
        tags: Sequence[str] = (),
        correlation_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Trace:
        """A new decision, for a `with` block: begins with it, and is finished when it ends.

        Args:
            workflow: Name of the kind of decision.
            title: What is decided, for people.
            primary_entity: What it is about: a message or (type, id).
            context: Circumstances, as names and texts.
            trace_id: Unset: a new one, or, with a key, one made of it.
            actor: Who acts, unless an event says otherwise.
            tags: Labels of all events, unless an event says otherwise.
            correlation_id: Groups traces; of all events.
            idempotency_key: Of the first event, and the last is given one that is made of it: name it where the whole
                block may run again after a restart. Unset: a new one.
        """
        return Trace(
            self.append,
            self._origin,
            trace_id=trace_id,
            start=started(workflow, title, primary_entity, context),
            actor=actor,
            tags=tags,
            correlation_id=correlation_id,
            idempotency_key=idempotency_key,
        )

    def resume_trace(
        self,
        trace_id: str,
        *,
        actor: ActorLike | None = None,
        tags: Sequence[str] = (),
        correlation_id: str | None = None,
    ) -> Trace:
        """A decision that was begun before, here or elsewhere. It is not finished by the block's end: call `finish`."""
        return Trace(
            self.append,
            self._origin,
            trace_id=trace_id,
            start=None,
            actor=actor,
            tags=tags,
            correlation_id=correlation_id,
            idempotency_key=None,
        )

    def append(self, event: event_pb2.Event) -> event_pb2.EventReceipt | None:
        """Append an event of your own making. With an outbox: put it there, and return None.

        Raises:
            Refused: the service does not take it as it is; the kind says why.
            TryAgain: it is not known whether it was stored: append the same event again.
            MaskFailed: the masking hook failed; nothing left the process.
            OutboxFull: the outbox has no room.
            OutboxError: the outbox cannot be written; nothing was accepted.
            ClientClosed: the client was closed.
        """
        event = _events.masked(event, self._mask)
        if self._outbox is not None:
            self._session.in_thread(self._put, event)
            return None
        request = ingestion_service_pb2.AppendEventRequest(event=event)
        answer = self._session.call(_methods.APPEND_EVENT, request)
        stored = answer.event
        self._written.saw(stored.log_seq)
        return event_pb2.EventReceipt(
            event_id=stored.event_id,
            trace_id=stored.trace_id,
            trace_seq=stored.trace_seq,
            log_seq=stored.log_seq,
            payload_hash=stored.payload_hash,
            recorded_at=stored.recorded_at,
            reused=answer.reused,
        )

    def append_all(self, events: Iterable[event_pb2.Event]) -> list[event_pb2.EventReceipt]:
        """Append up to 1,000 events in this order, all or none.

        Raises:
            Refused: one is not taken, and nothing was stored; `index` of the error says which.
            TryAgain: it is not known whether they were stored: append the same events again.
            MaskFailed: the masking hook failed; nothing left the process.
            ConfigurationError: the client has an outbox, which answers for each event alone.
        """
        if self._outbox is not None:
            raise ConfigurationError("append_all answers for all events at once; use a client without an outbox for it")
        request = ingestion_service_pb2.AppendEventsRequest(events=[_events.masked(one, self._mask) for one in events])
        answer = self._session.call(_methods.APPEND_EVENTS, request)
        for receipt in answer.receipts:
            self._written.saw(receipt.log_seq)
        return list(answer.receipts)

    def _put(self, event: event_pb2.Event) -> None:
        if self._outbox is not None and self._delivery is not None:
            self._outbox.put(event, self._session.tenant)
            self._delivery.wake()

    def flush(self, timeout: float = _CLOSE_SECONDS) -> bool:
        """Wait until the outbox's events are in the log or refused; False: after `timeout` seconds some still wait.

        Raises:
            OutboxError: the outbox cannot be read.
            ClientClosed: the client was closed.
        """
        if self._delivery is None:
            return True
        return self._session.in_thread_of_its_own(self._delivery.flush, timeout)

    def outbox_status(self) -> OutboxStatus | None:
        """How the outbox stands. None: the client has none."""
        return None if self._outbox is None else self._outbox.status()

    def delivery_error(self) -> Exception | None:
        """Why nothing is delivered from the outbox at the moment; None: nothing is wrong."""
        return None if self._delivery is None else self._delivery.last_error

    def refused_events(self) -> list[RefusedEvent]:
        """What was put aside in the outbox because the service will never take it, oldest first."""
        return [] if self._outbox is None else self._outbox.refused()

    def forget_refused_events(self, events: Iterable[RefusedEvent]) -> None:
        """Remove events that were put aside, when somebody has looked at them."""
        if self._outbox is not None:
            self._outbox.forget_refused([one.id for one in events])

    def close(self, timeout: float = _CLOSE_SECONDS) -> bool:
        """Deliver what waits, and end, within `timeout` seconds. Again: nothing happens.

        Returns False if events still wait in the outbox: the next client with that file delivers them.
        """
        if self._delivered is None:
            self._delivered = False
            try:
                if self._delivery is not None and self._outbox is not None:
                    ended = self._session.in_thread_of_its_own(_end, self._delivery, self._outbox, timeout)
                    self._delivered = ended
                else:
                    self._delivered = True
            finally:
                self._session.close()
        return self._delivered

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _end(delivery: "Delivery", outbox: "Outbox", timeout: float) -> bool:
    """Deliver what waits and close the outbox, within `timeout` seconds; whether nothing waits any more."""
    ends = time.monotonic() + timeout
    try:
        return delivery.flush(timeout)
    except OutboxError as error:
        _log.error("%s", error)
        return False
    finally:
        delivery.stop(ends - time.monotonic())
        outbox.close(patience=ends - time.monotonic())


def _open_outbox(
    path: Path,
    max_bytes: int,
    on_refused: Callable[[RefusedEvent], None] | None,
    endpoint: _settings.Endpoint,
    *,
    api_key: str | None,
    token: TokenSource | None,
    tenant: str | None,
) -> "tuple[Outbox, Delivery]":
    # It locks files as POSIX has it; a client without an outbox works without that.
    from decisiongraph_client import _delivery, _outbox
    from decisiongraph_client._sync.session import Session

    outbox = _outbox.Outbox(path, max_bytes=max_bytes)

    def make_session() -> Session:
        return Session(
            endpoint,
            api_key=api_key,
            token=token,
            tenant=tenant,
            timeout=_delivery.CALL_SECONDS,
            retries=RetryPolicy(attempts=1),
        )

    return outbox, _delivery.Delivery(outbox, make_session, on_refused=on_refused)
