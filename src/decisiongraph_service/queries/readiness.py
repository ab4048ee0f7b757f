"""Whether the service can do its work now."""

import asyncio
from collections.abc import Callable
from typing import Final, Literal

from decisiongraph_service.domain import errors
from decisiongraph_service.storage import installation
from decisiongraph_service.storage.database import Database

CHECKS: Final = ("database", "migrations", "projector")
"""What a request needs."""
State = Literal["ok", "failing", "unknown", "elsewhere"]
"""How one of them stands; unknown: the database does not say; elsewhere: another process does that work."""
_STATES_SECONDS: Final = 2.0
_UNREACHABLE: Final[dict[str, State]] = {"database": "failing", "migrations": "unknown"}


class Readiness:
    """Checks what a request needs."""

    def __init__(
        self,
        database: Database,
        *,
        needed_revision: str,
        projector_follows: Callable[[], bool] | None,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Set up.

        Args:
            database: What every request needs.
            needed_revision: The migration that this version works with.
            projector_follows: Whether this process's projector is at work. None: it has none, others project.
            is_stopping: Whether this server was asked to stop.
        """
        self._database = database
        self._projector_follows = projector_follows
        self._needed_revision = needed_revision
        self._is_stopping = is_stopping
        self._look: asyncio.Task[dict[str, State]] | None = None

    async def check(self) -> list[str]:
        """The names of all checks, if every one passes.

        Raises:
            StorageUnavailable: says which one fails.
        """
        if self._is_stopping():
            raise errors.StorageUnavailable("this server is stopping; send no more requests to it")
        await self.check_database()
        if self._projector_follows is None:
            return ["database", "migrations"]
        if not self._projector_follows():
            raise errors.StorageUnavailable("projector: it has ended; the log says why; restart this server")
        return list(CHECKS)

    async def check_database(self) -> None:
        """Return if the database answers and has the schema of this version, or a later one that it works with.

        Raises:
            StorageUnavailable: it does not.
        """
        await installation.ping(self._database)
        await self._check_revision()

    async def states(self) -> dict[str, State]:
        """How each of `CHECKS` stands, without the reason; a database that says nothing for two seconds is failing.

        Who asks while others wait for the database waits with them: however many ask, it is asked once at a time.
        """
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._look_at_database(), name="readiness-states")
        done, _ = await asyncio.wait([self._look], timeout=_STATES_SECONDS)
        states = done.pop().result() if done else _UNREACHABLE
        return {**states, "projector": self._projector_state()}

    def _projector_state(self) -> State:
        if self._projector_follows is None:
            return "elsewhere"
        return "ok" if self._projector_follows() else "failing"

    async def _look_at_database(self) -> dict[str, State]:
        try:
            await installation.ping(self._database)
        except errors.StorageUnavailable:
            return _UNREACHABLE
        try:
            await self._check_revision()
        except errors.StorageUnavailable:
            return {"database": "ok", "migrations": "failing"}
        return {"database": "ok", "migrations": "ok"}

    async def _check_revision(self) -> None:
        revision = await installation.fetch_revision(self._database)
        if revision == self._needed_revision:
            return
        if revision < self._needed_revision:
            raise errors.StorageUnavailable(
                f"migrations: the database is at revision {revision or 'none'}, this version needs "
                f"{self._needed_revision}; run `decisiongraph migrate`"
            )
        oldest = await installation.fetch_oldest_server(self._database)
        if not oldest or self._needed_revision < oldest:
            raise errors.StorageUnavailable(
                f"migrations: the database is at revision {revision}, which needs servers of revision "
                f"{oldest or revision} or later, and this one is of {self._needed_revision}; update this server"
            )
