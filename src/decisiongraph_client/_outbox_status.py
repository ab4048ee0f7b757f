"""What an outbox tells of itself."""

from dataclasses import dataclass

from decisiongraph.v1.event_pb2 import Event


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """An event that the service will never take, kept for its owner to look at."""

    id: int
    tenant: str | None
    event: Event
    reason: str
    """Why, as the contract names it, e.g. `SCHEMA_VIOLATION`."""
    message: str


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """How an outbox stands."""

    waiting: int
    """Events that are not delivered yet."""
    refused: int
    """Events that the service refused."""
    size_bytes: int
    """What both hold."""
    max_bytes: int
