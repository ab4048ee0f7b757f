"""What the parts of a server tell about their work, for whoever measures it. By itself nothing is measured.

The lowest layer: every part may tell, and none needs to know whom. Telling is cheap, for it stands on hot paths.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EndedCall:
    """An rpc that was answered."""

    path: str
    """`/package.Service/Method`."""
    code: str
    """Name of its gRPC code, e.g. `OK`."""
    reason: str
    """`ErrorInfo.reason`; empty if it was answered with OK."""
    tenant_id: str | None
    """None: it acts in no tenant, or was refused before one was known."""
    seconds: float
    """From its arrival to its end; of a stream, its whole life."""


class Observer:
    """Is told. Every method returns at once and raises nothing."""

    def call_ended(self, call: EndedCall) -> None:
        """An rpc was answered."""

    def batch_committed(self, *, callers: int, stored: int, reused: int, seconds: float) -> None:
        """A group commit is durable.

        Args:
            callers: Appends that it answered.
            stored: Events that it wrote.
            reused: Events that were stored before.
            seconds: From taking the batch to its answers.
        """

    def batch_projected(self, *, events: int, seconds: float) -> None:
        """So many events are applied to the live projections of a tenant; `seconds`: reading and writing included."""

    def projection_stopped(self) -> None:
        """An event cannot be applied, and a tenant's projections wait before it."""
