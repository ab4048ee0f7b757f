"""Replay jobs: what is asked for, and how far it is (docs/reference/PROJECTION_AND_REPLAY_SEMANTICS.md, jobs)."""

from collections.abc import Sequence
from dataclasses import dataclass

from decisiongraph_service.domain import vocabulary


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What a verification found for one projection."""

    projection: str
    matches: bool
    """Whether the live rows are what the log says."""
    log_seq: int
    """The position at which both were compared."""
    live_digest: str
    expected_digest: str
    first_difference: str | None
    """Key of the first row that differs."""


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What a job is to do. Times and positions as the contract says."""

    projection: str
    """One of the three, or `all`."""
    mode: str
    reason: str
    since_log_seq: int
    """Only recorded."""
    until_log_seq: int | None
    metadata: str
    """JSON of an object."""

    @property
    def projections(self) -> tuple[str, ...]:
        """The projections that it works on, in their order."""
        return vocabulary.PROJECTIONS if self.projection == vocabulary.ALL_PROJECTIONS else (self.projection,)


@dataclass(frozen=True, slots=True)
class ReplayJob:
    """A job as it stands. Instants are microseconds since 1970-01-01T00:00:00Z."""

    job_seq: int
    """Position among the tenant's jobs."""
    job_id: str
    request: ReplayRequest
    status: str
    requested_by: str
    requested_at_micros: int
    started_at_micros: int | None = None
    finished_at_micros: int | None = None
    processed_events: int = 0
    """Applied events; for `all` the sum over the projections."""
    total_events: int = 0
    """Events to apply in all, as far as known."""
    last_log_seq: int = 0
    events_per_second: float = 0.0
    error_code: str | None = None
    error_message: str | None = None
    verify_results: Sequence[VerifyResult] = ()

    @property
    def is_active(self) -> bool:
        """Whether it waits or works."""
        return self.status in vocabulary.ACTIVE_STATUSES

    @property
    def seconds_left(self) -> float | None:
        """Estimated; None if it cannot be told."""
        if self.status != vocabulary.RUNNING or self.events_per_second <= 0:
            return None
        return max(0, self.total_events - self.processed_events) / self.events_per_second
