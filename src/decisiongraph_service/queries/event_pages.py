"""Reading the log forward: chunk by chunk, so that neither large payloads nor rare matches grow beyond a bound."""

from typing import Final

from decisiongraph_service.domain.events import StoredEvent
from decisiongraph_service.queries import paging
from decisiongraph_service.storage import event_log
from decisiongraph_service.storage.database import TenantTransaction
from decisiongraph_service.storage.event_log import EventFilter

_CHUNK_EVENTS: Final = 128
_WINDOW_POSITIONS: Final = 10_000
"""How many log positions one statement looks through for matches that no index leads to."""


class ForwardRead:
    """Reads matching events after a position, in log order."""

    def __init__(self, matching: EventFilter, *, after: int) -> None:
        self._matching = matching
        self.position = after
        """Every matching event up to this position was handed out."""

    async def next_page(
        self, statements: TenantTransaction, *, until: int, limit: int, max_windows: int = 50
    ) -> list[StoredEvent]:
        """Up to `limit` events with at most `until` as position, fewer if they do not fit one answer.

        Looks through at most `max_windows` windows; `position` then stands where it stopped.
        """
        page: list[StoredEvent] = []
        size = 0
        for _ in range(max_windows):
            window_end = until
            if self._matching.is_narrow:
                window_end = min(until, self.position + _WINDOW_POSITIONS)
            while self.position < window_end and len(page) < limit:
                wanted = min(_CHUNK_EVENTS, limit - len(page))
                chunk = await event_log.fetch_events_in_window(
                    statements, self.position, window_end, self._matching, limit=wanted
                )
                for event in chunk:
                    size += paging.estimated_bytes(event)
                    if page and size > paging.MAX_ANSWER_BYTES:
                        return page
                    page.append(event)
                    self.position = event.log_seq
                if len(chunk) < wanted:
                    self.position = window_end
            if self.position >= until or len(page) >= limit:
                break
        return page
