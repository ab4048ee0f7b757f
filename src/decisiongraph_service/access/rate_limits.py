"""How much accounts and tenants may ask for in a time: requests by scope, and of writes events and bytes too.

Counted by the `limits` library in sliding windows: in this process, or in a Redis or Valkey that all servers share.
"""

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final, Self

import limits
import structlog
from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.storage import storage_from_string

from decisiongraph_service.domain import errors
from decisiongraph_service.domain.limits import RequestLimits

READ: Final = "read"
WRITE: Final = "write"
ADMIN: Final = "admin"
PUBLIC: Final = "public"
SCOPE_OF_ROLE: Final[Mapping[str | None, str]] = {"reader": READ, "writer": WRITE, "admin": ADMIN, None: PUBLIC}
"""What a call counts as, by the role that its rpc needs."""

_OFF: Final = "off"
_STORAGE_URL: Final = "must be an address that begins with async+, e.g. async+redis://host:6379"
_SHARED_SECONDS: Final = 0.25
"""So long shared counters are waited for; then the process counts alone."""
_REPORT_EVERY_SECONDS: Final = 10
_LEAST: Final = {"events": 1_000, "bytes": 4 * 1024 * 1024}
"""One request may hold so much; a lower limit would refuse it for ever."""

_log = structlog.get_logger("decisiongraph.access")


@dataclass(frozen=True, slots=True)
class Spending:
    """What a call asks for."""

    scope: str
    events: int = 0
    size_bytes: int = 0


def parsed(of_one: RequestLimits) -> dict[str, limits.RateLimitItem]:
    """The limits by name, without those that are off.

    Raises:
        ValueError: one is no limit, or lower than what one request may hold.
    """
    found: dict[str, limits.RateLimitItem] = {}
    for name, text in asdict(of_one).items():
        if text == _OFF:
            continue
        try:
            # More than one would be read, and all but the first left out of account.
            [item] = limits.parse_many(text)
        except ValueError as error:
            raise ValueError(f"the limit of {name}, {text!r}, is not like `100/second` or `off`") from error
        least = _LEAST.get(name, 1)
        if item.amount < least:
            raise ValueError(f"the limit of {name}, {text!r}, is below {least}: one request may hold so much")
        found[name] = item
    return found


class RateLimits:
    """Counts what accounts and tenants ask for."""

    def __init__(self, base: RequestLimits, overrides: Mapping[str, RequestLimits], storage: Storage) -> None:
        """`overrides`: the limits of single tenants, by id.

        Raises:
            ValueError: a limit cannot be understood.
        """
        self._base = parsed(base)
        self._overrides = {tenant_id: parsed(of_tenant) for tenant_id, of_tenant in overrides.items()}
        self._shared = SlidingWindowCounterRateLimiter(storage)
        self._own = self._shared
        if not isinstance(storage, MemoryStorage):
            self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._reported_at = float("-inf")

    @classmethod
    def open(cls, base: RequestLimits, overrides: Mapping[str, RequestLimits], storage_url: str) -> Self:
        """Count in this process (`async+memory://`) or where the URL says, e.g. `async+redis://host:6379`.

        Raises:
            ValueError: a limit or the URL cannot be understood.
        """
        try:
            storage = storage_from_string(storage_url)
        except limits.errors.ConfigurationError as error:
            # What the library says of an address quotes it, password included; of a missing package it names that.
            said = str(error) if "prerequisite" in str(error) else _STORAGE_URL
            raise ValueError(f"DG_LIMIT_STORAGE_URL: {said}") from None
        except ValueError:
            raise ValueError(f"DG_LIMIT_STORAGE_URL: {_STORAGE_URL}") from None
        if not isinstance(storage, Storage):
            raise ValueError(  # noqa: TRY004 - it is the setting that is wrong
                f"DG_LIMIT_STORAGE_URL: {_STORAGE_URL}"
            )
        return cls(base, overrides, storage)

    async def spend_of_account(self, account_id: str | None, spending: Spending) -> None:
        """Count a call for its account; one without an account counts for the installation.

        Raises:
            RateLimited: it is at its limit.
        """
        subject = "the installation" if account_id is None else f"account {account_id}"
        await self._spend(subject, self._base, spending)

    async def spend_of_tenant(self, tenant_id: str, spending: Spending) -> None:
        """Count a call for its tenant.

        Raises:
            RateLimited: it is at its limit.
        """
        await self._spend(f"tenant {tenant_id}", self._overrides.get(tenant_id, self._base), spending)

    async def _spend(self, subject: str, of_subject: Mapping[str, limits.RateLimitItem], spending: Spending) -> None:
        for name, cost in ((spending.scope, 1), ("events", spending.events), ("bytes", spending.size_bytes)):
            item = of_subject.get(name)
            if item is None or not cost:
                continue
            if not await self._hit(item, name, subject, cost):
                unit = "" if name == spending.scope else f" {name}"
                raise errors.RateLimited(
                    f"{subject}, scope {spending.scope}",
                    f"{item.amount}{unit} per {item.multiples} {item.GRANULARITY.name}",
                    await self._seconds_left(item, name, subject),
                )

    async def _hit(self, item: limits.RateLimitItem, name: str, subject: str, cost: int) -> bool:
        if self._shared is self._own:
            return await self._own.hit(item, name, subject, cost=cost)
        try:
            async with asyncio.timeout(_SHARED_SECONDS):
                return await self._shared.hit(item, name, subject, cost=cost)
        except Exception as error:  # noqa: BLE001 - whatever the library of the shared counters raises
            # Nobody is refused because counters cannot be reached: this process counts alone.
            self._report_outage(error)
            return await self._own.hit(item, name, subject, cost=cost)

    def _report_outage(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._reported_at >= _REPORT_EVERY_SECONDS:
            self._reported_at = now
            _log.warning("limits_counted_alone", cause=repr(error))

    async def _seconds_left(self, item: limits.RateLimitItem, name: str, subject: str) -> int:
        try:
            async with asyncio.timeout(_SHARED_SECONDS):
                stats = await self._shared.get_window_stats(item, name, subject)
        except Exception:  # noqa: BLE001 - as above
            return 1
        return max(1, math.ceil(stats.reset_time - time.time()))
