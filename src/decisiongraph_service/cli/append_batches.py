"""Appending many events in requests of many: a refused one is told by its line, and the others are not lost with it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from decisiongraph.v1.event_pb2 import Event, EventReceipt
from decisiongraph_client import errors
from decisiongraph_service.cli.append_lines import ReadEvent, Refusal

MAX_REQUEST_BYTES: Final = 3 * 1024 * 1024
"""Of the events of one request; servers take requests of 4 MiB."""
_PLACE_IN_REQUEST: Final = re.compile(r"^events\[\d+\]\.")
_OF_AN_EVENT: Final = (
    errors.InvalidArgument,
    errors.SchemaViolation,
    errors.PiiPolicyViolation,
    errors.IdempotencyConflict,
    errors.EventIdConflict,
    errors.TraceFinished,
    errors.EventSequenceInvalid,
)


@dataclass(slots=True)
class Counts:
    """What became of the lines so far."""

    stored: int = 0
    reused: int = 0
    """Were in the log before."""
    refused: int = 0
    last_log_seq: int = 0
    """The greatest position of an event of the input; 0: none is in the log."""

    @property
    def lines(self) -> int:
        """All of them."""
        return self.stored + self.reused + self.refused


class Appending:
    """Sends events in their order, many in a request."""

    def __init__(
        self,
        append_all: Callable[[Sequence[Event]], Sequence[EventReceipt]],
        refused: Callable[[Refusal], None],
        *,
        batch: int,
    ) -> None:
        """Set up.

        Args:
            append_all: Appends all or none.
            refused: Is told of each event that is refused. What it raises ends the appending, with everything before
                that event in the log and nothing after it.
            batch: Most events of a request.
        """
        self.counts = Counts()
        self._append_all = append_all
        self._refused = refused
        self._batch = batch
        self._waiting: list[ReadEvent] = []
        self._waiting_bytes = 0

    def add(self, read: ReadEvent) -> None:
        """The next event. It is sent when enough of them are together.

        Raises:
            ServiceError: the service refuses the call and not an event, or cannot be reached.
        """
        length = read.event.ByteSize()
        if self._waiting_bytes + length > MAX_REQUEST_BYTES:
            self.flush()
        self._waiting.append(read)
        self._waiting_bytes += length
        if len(self._waiting) >= self._batch:
            self.flush()

    def refuse(self, refusal: Refusal) -> None:
        """The next line holds no event: what is before it is sent.

        Raises:
            ServiceError: as `add`.
        """
        self.flush()
        self._refuse(refusal)

    def flush(self) -> None:
        """Send what waits.

        Raises:
            ServiceError: as `add`.
        """
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        self._send(waiting)

    def _send(self, batch: Sequence[ReadEvent]) -> None:
        while batch:
            try:
                receipts = self._append_all([one.event for one in batch])
            except errors.Refused as error:
                if not _is_of_an_event(error):
                    raise
                if error.index is None and len(batch) > 1:
                    # The request as a whole is too much for the service.
                    middle = len(batch) // 2
                    self._send(batch[:middle])
                    batch = batch[middle:]
                    continue
                index = error.index or 0
                self._send(batch[:index])
                self._refuse(_refusal(batch[index], error))
                batch = batch[index + 1 :]
            else:
                self._count(receipts)
                return

    def _refuse(self, refusal: Refusal) -> None:
        self.counts.refused += 1
        self._refused(refusal)

    def _count(self, receipts: Sequence[EventReceipt]) -> None:
        for receipt in receipts:
            if receipt.reused:
                self.counts.reused += 1
            else:
                self.counts.stored += 1
            self.counts.last_log_seq = max(self.counts.last_log_seq, receipt.log_seq)


def _is_of_an_event(error: errors.Refused) -> bool:
    about_the_call = any(violation.field.startswith("x-") for violation in error.violations)
    return isinstance(error, _OF_AN_EVENT) and not about_the_call


def _refusal(line: ReadEvent, error: errors.Refused) -> Refusal:
    violations = tuple(
        {"field": _in_event(one.field), "reason": one.code, "description": one.description} for one in error.violations
    )
    holds_secret = isinstance(error, errors.PiiPolicyViolation)
    return Refusal(
        line.number, error.reason, _in_event(error.message), violations, event=None if holds_secret else line.given
    )


def _in_event(text: str) -> str:
    return _PLACE_IN_REQUEST.sub("", text)
