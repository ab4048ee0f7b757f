"""Whether the service can do its work now."""

from decisiongraph_service.domain import errors
from decisiongraph_service.storage import installation
from decisiongraph_service.storage.database import Database


class Readiness:
    """Checks what a request needs."""

    def __init__(self, database: Database, *, needed_revision: str) -> None:
        """`needed_revision`: the migration that this version works with."""
        self._database = database
        self._needed_revision = needed_revision

    async def check(self) -> list[str]:
        """The names of all checks, if every one passes. The projector works inside the appends and has none.

        Raises:
            StorageUnavailable: says which one fails.
        """
        await installation.ping(self._database)
        revision = await installation.fetch_revision(self._database)
        if revision != self._needed_revision:
            raise errors.StorageUnavailable(
                f"migrations: the database is at revision {revision or 'none'}, this version needs "
                f"{self._needed_revision}; run `decisiongraph migrate`"
            )
        return ["database", "migrations"]
