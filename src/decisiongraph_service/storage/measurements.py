"""What is counted over all tenants, for metrics: sums, and nothing of any single tenant."""

from dataclasses import dataclass
from typing import Final

from decisiongraph_service.storage.database import Database

# Functions of migration 0006, which run with the rights of the schema's owner.
_LAG: Final = """
    SELECT projection, lagging_tenants, lag_events, largest_lag_events, lag_seconds
    FROM projection_lag()
"""
_STOPPED: Final = """
    SELECT projection, tenants
    FROM stopped_projections()
"""
_REPLAYS: Final = """
    SELECT projection, mode, jobs, processed_events, total_events
    FROM running_replays()
"""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a projection is behind the logs."""

    projection: str
    tenants: int
    """How many are behind."""
    events: int
    """Of all of them together."""
    largest: int
    """Of the one that is furthest behind."""
    seconds: float
    """How long the first event that waits has been in the log."""


@dataclass(frozen=True, slots=True)
class RunningReplays:
    """The jobs of a projection and mode that wait or run."""

    projection: str
    mode: str
    jobs: int
    processed_events: int
    total_events: int


@dataclass(frozen=True, slots=True)
class Measurements:
    """Everything of one moment. Projections that are not named have nothing to tell."""

    lag: tuple[Lag, ...]
    stopped: dict[str, int]
    """Tenants whose projection waits before an event that cannot be applied, by projection."""
    replays: tuple[RunningReplays, ...]


async def fetch(database: Database) -> Measurements:
    """What stands now.

    Raises:
        StorageUnavailable: the database cannot be reached.
    """
    return Measurements(
        tuple(Lag(*row) for row in await database.fetch_installation_rows(_LAG)),
        {row["projection"]: row["tenants"] for row in await database.fetch_installation_rows(_STOPPED)},
        tuple(RunningReplays(*row) for row in await database.fetch_installation_rows(_REPLAYS)),
    )
