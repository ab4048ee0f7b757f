"""Whether the service can do its work now."""

from collections.abc import Callable

from decisiongraph_service.domain import errors
from decisiongraph_service.storage import installation
from decisiongraph_service.storage.database import Database


class Readiness:
    """Checks what a request needs."""

    def __init__(
        self, database: Database, *, needed_revision: str, projector_follows: Callable[[], bool] | None
    ) -> None:
        """Set up.

        Args:
            database: What every request needs.
            needed_revision: The migration that this version works with.
            projector_follows: Whether this process's projector is at work. None: it has none, others project.
        """
        self._database = database
        self._projector_follows = projector_follows
        self._needed_revision = needed_revision

    async def check(self) -> list[str]:
        """The names of all checks, if every one passes.

        Raises:
            StorageUnavailable: says which one fails.
        """
        await self.check_database()
        if self._projector_follows is None:
            return ["database", "migrations"]
        if not self._projector_follows():
            raise errors.StorageUnavailable("projector: it has ended; the log says why; restart this server")
        return ["database", "migrations", "projector"]

    async def check_database(self) -> None:
        """Return if the database answers and has the schema of this version.

        Raises:
            StorageUnavailable: it does not.
        """
        await installation.ping(self._database)
        revision = await installation.fetch_revision(self._database)
        if revision != self._needed_revision:
            raise errors.StorageUnavailable(
                f"migrations: the database is at revision {revision or 'none'}, this version needs "
                f"{self._needed_revision}; run `decisiongraph migrate`"
            )
