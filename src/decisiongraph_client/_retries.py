"""When a call is sent again, and after how long: pure rules."""

import math
import random
from dataclasses import dataclass
from typing import Final

from decisiongraph_client import errors

# Nothing was done, so even what must not happen twice may be sent again.
_NOTHING_DONE: Final = (errors.RateLimited,)
_MOST_DOUBLINGS: Final = 60


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon a call is sent again, within the call's time."""

    attempts: int = 30
    """Sends in all; 1: never again. With these delays they go on for about two minutes: the call's time ends them."""
    first_delay: float = 0.1
    """Seconds; doubles with each try. A random part of it is waited, so that clients do not come back all at once."""
    longest_delay: float = 5.0
    """Seconds. A longer wait that the service asks for ends the call instead."""

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise errors.ConfigurationError("RetryPolicy: attempts must be at least 1, the first send included")
        for name, seconds in (("first_delay", self.first_delay), ("longest_delay", self.longest_delay)):
            if not 0 <= seconds < math.inf:
                raise errors.ConfigurationError(f"RetryPolicy: {name} must be a number of seconds, 0 or more")

    def delay(self, error: errors.ServiceError, attempt: int, *, repeatable: bool, left: float) -> float | None:
        """Seconds to wait before the next try, or None: give up.

        Args:
            error: How the last try ended.
            attempt: Which one that was, counted from 1.
            repeatable: Whether the call has the same effect however often it is carried out.
            left: Seconds of the call's time that are left.
        """
        if not isinstance(error, errors.TryAgain) or attempt >= self.attempts:
            return None
        if not repeatable and not isinstance(error, _NOTHING_DONE):
            return None
        backoff = min(self.longest_delay, self.first_delay * 2 ** min(attempt - 1, _MOST_DOUBLINGS))
        wait = random.uniform(backoff / 2, backoff)  # noqa: S311 - spreads clients, keeps no secret
        if error.retry_after is not None:
            if error.retry_after > self.longest_delay:
                return None
            # All who were refused together were told the same: they must not come back together.
            wait = max(wait, error.retry_after + random.uniform(0, backoff / 2))  # noqa: S311
        return wait if wait < left else None
