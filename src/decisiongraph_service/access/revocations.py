"""Tokens that stop before they expire: their key is revoked, their account or tenant disabled.

Every server looks again each second, and refuses everybody when it could not look for five: what is revoked anywhere is
refused everywhere by then.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

import structlog

from decisiongraph_service.access.tokens import Caller
from decisiongraph_service.domain import errors
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage import revocations
from decisiongraph_service.storage.database import Database
from decisiongraph_service.storage.revocations import Revoked

EFFECTIVE_SECONDS: Final = 5.0
"""The longest time from a revocation to its effect."""

_LOOK_EVERY_SECONDS: Final = 1.0
_LONGEST_TOKEN_MICROS: Final = 25 * 3600 * 1_000_000
"""A key that was revoked before that has no valid token left."""

_log = structlog.get_logger("decisiongraph.access")


class Revocations:
    """What is switched off, as this server knows it."""

    def __init__(
        self, database: Database, *, clock: Callable[[], int], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` tells microseconds since 1970-01-01T00:00:00Z, `monotonic` seconds since any moment."""
        self._database = database
        self._clock = clock
        self._monotonic = monotonic
        self._revoked = Revoked()
        self._looked_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look once, then again and again.

        Raises:
            StorageUnavailable: the database cannot be reached.
        """
        await self.refresh()
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def refresh(self) -> None:
        """Look now; what this server revoked itself is refused by it at once.

        Raises:
            StorageUnavailable: the database cannot be reached.
        """
        began = self._monotonic()
        found = await revocations.fetch(self._database, since_micros=self._clock() - _LONGEST_TOKEN_MICROS)
        # A look that began later may have ended sooner, and knows more.
        if began >= self._looked_at:
            self._revoked, self._looked_at = found, began

    def require_valid(self, caller: Caller) -> None:
        """Return if the key and the account of a token still work.

        Raises:
            Unauthenticated: they do not.
            StorageUnavailable: it could not be found out for five seconds.
        """
        if self._monotonic() - self._looked_at > EFFECTIVE_SECONDS:
            raise errors.StorageUnavailable(
                "whether tokens were revoked cannot be found out, because the database does not answer; try again later"
            )
        if caller.account_id in self._revoked.accounts:
            raise errors.Unauthenticated(f"authorization: the account {caller.account_id} is disabled")
        if caller.key_id is not None and caller.key_id in self._revoked.keys:
            raise errors.Unauthenticated("authorization: the API key of the token is revoked; get a token with another")

    def require_enabled(self, tenant_id: TenantId) -> None:
        """Return if calls of the tenant are answered.

        Raises:
            Forbidden: the tenant is disabled.
        """
        if tenant_id in self._revoked.tenants:
            raise errors.Forbidden(f"the tenant {tenant_id} is disabled; an administrator can enable it (EnableTenant)")

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001 - whatever it was, it must look again
                _log.warning("revocations_unknown", cause=repr(error.__cause__ or error))
