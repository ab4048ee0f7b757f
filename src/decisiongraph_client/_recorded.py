"""What recording an event gives back."""

from dataclasses import dataclass

from decisiongraph.v1.event_pb2 import EventReceipt


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event that was accepted: it is in the log, or, with an outbox, in the outbox and will be."""

    trace_id: str
    event_id: str
    """Pass it as `causation_event_id` of what it causes."""
    subject_id: str | None = None
    """Id of what the event is about: input, exception, approval or action. Later events name it."""
    receipt: EventReceipt | None = None
    """Its place in the log. None: it waits in the outbox."""


def subject(value: "Recorded | str") -> str:
    """The id that is meant by an earlier event or by the id itself.

    Raises:
        ValueError: the earlier event is about nothing that has an id.
    """
    if isinstance(value, str):
        return value
    if value.subject_id is None:
        raise ValueError(f"event {value.event_id} is about nothing that has an id; pass the id itself")
    return value.subject_id
