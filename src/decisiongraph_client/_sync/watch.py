# Made of ../_async by tools/make_blocking_client.py: change it there.
"""The log as it grows, over broken connections and restarted servers: each event once, in order."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from decisiongraph.v1 import event_pb2, query_service_pb2
from decisiongraph_client import _methods, errors
from decisiongraph_client._retries import RetryPolicy
from decisiongraph_client._sync.session import Session

_PATIENCE: Final = RetryPolicy(attempts=1_000_000_000, first_delay=0.2, longest_delay=5.0)


class Watch:
    """Events after a position: those that are there, and then each new one. Iterate over it.

    When the connection breaks it is opened again where it broke, as long as the service may come back; a refusal
    (`Refused`) ends the watch.
    """

    def __init__(
        self,
        session: Session,
        *,
        since_log_seq: int | None,
        trace_id: str | None,
        event_types: Sequence[str],
        silence: float,
    ) -> None:
        self.position = since_log_seq
        """Everything up to this log position was seen. Keep it, and pass it as `since_log_seq` to go on later."""
        self._session = session
        self._trace_id = trace_id
        self._event_types = event_types
        self._silence = silence

    def __iter__(self) -> Iterator[event_pb2.StoredEvent]:
        failures = 0
        renewed = False
        while True:
            try:
                answers = self._session.stream(_methods.WATCH_EVENTS, self._request(), silence=self._silence)
                with contextlib.closing(answers):
                    for answer in answers:
                        failures, renewed = 0, False
                        if answer.HasField("heartbeat"):
                            self._saw(answer.heartbeat.head_log_seq)
                        elif answer.HasField("event"):
                            self._saw(answer.event.log_seq)
                            yield answer.event
                interruption: errors.TryAgain = errors.Unreachable("the service ended the watch")
            except errors.TryAgain as error:
                interruption = error
            except errors.Unauthenticated:
                # A watch lives longer than a token.
                if renewed or not self._session.may_renew:
                    raise
                renewed = True
                continue
            failures += 1
            wait = _PATIENCE.delay(interruption, min(failures, 10), repeatable=True, left=float("inf"))
            self._session.sleep(_PATIENCE.longest_delay if wait is None else wait)

    def _saw(self, log_seq: int) -> None:
        self.position = max(self.position or 0, log_seq)

    def _request(self) -> query_service_pb2.WatchEventsRequest:
        return query_service_pb2.WatchEventsRequest(
            since_log_seq=self.position, trace_id=self._trace_id, event_types=self._event_types
        )
