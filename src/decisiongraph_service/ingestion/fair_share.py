"""A tenant with many appends at once leaves room for others: while others append, only so many of its are at work.

All calls of a process share one event loop. Hundred appends that are ready at once are a long line for everybody's next
step, whoever is served first at the database. A tenant that is alone is not held up.
"""

import asyncio
import contextlib
import itertools
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from decisiongraph_service.domain.vocabulary import TenantId

BESIDE_OTHERS: Final = 4
"""Appends of a tenant at work at once while another tenant appends."""

_ACTIVE_SECONDS: Final = 1.0


@dataclass(slots=True)
class _Share:
    at_work: int = 0
    last_seen: float = 0.0
    waiting: "deque[asyncio.Future[None]]" = field(default_factory=deque)


class FairShare:
    """One per process. What waits is bounded by whoever admits calls."""

    def __init__(self, *, clock: Callable[[], float], beside_others: int = BESIDE_OTHERS) -> None:
        """`clock` tells seconds and never goes back."""
        self._clock = clock
        self._beside_others = beside_others
        self._shares: OrderedDict[TenantId, _Share] = OrderedDict()
        """Who appended in the last second or is at work, those that were seen last at the end."""

    @contextlib.asynccontextmanager
    async def held(self, tenant_id: TenantId) -> AsyncIterator[None]:
        """One append is at work inside this block; waits for its turn, those of a tenant in the order they came."""
        share = self._shares.setdefault(tenant_id, _Share())
        share.last_seen = self._clock()
        self._shares.move_to_end(tenant_id)
        self._forget_idle()
        if share.waiting or (share.at_work >= self._beside_others and len(self._shares) > 1):
            turn = asyncio.get_running_loop().create_future()
            share.waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._leave(share)  # the turn had come already
                raise
        else:
            share.at_work += 1
        try:
            yield
        finally:
            self._leave(share)

    def _leave(self, share: _Share) -> None:
        """One less at work; the next ones begin."""
        share.at_work -= 1
        self._forget_idle()
        while share.waiting and (share.at_work < self._beside_others or len(self._shares) == 1):
            turn = share.waiting.popleft()
            if not turn.done():
                share.at_work += 1
                turn.set_result(None)

    def _forget_idle(self) -> None:
        """Forget who was not seen for a second and has nothing at work, so that what is left contends."""
        long_ago = self._clock() - _ACTIVE_SECONDS
        for tenant_id, share in list(
            itertools.takewhile(lambda kept: kept[1].last_seen < long_ago, self._shares.items())
        ):
            if not share.at_work and not share.waiting:
                del self._shares[tenant_id]
