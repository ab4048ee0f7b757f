"""How large an event may be. Every limit is refused with INVALID_ARGUMENT that names field, size and limit.

Source: docs/reference/EVENT_ENVELOPE_CONTRACT.md. The defaults are the largest values of the contract; an
operator may set lower ones.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EventLimits:
    """The upper bounds of one event, all inclusive; sizes are bytes of UTF-8."""

    max_id_bytes: int = 200
    """Each text of the envelope except tags and `occurred_at`: ids, key, parts of source and actor."""
    max_tags: int = 64
    """Number of tags."""
    max_tag_bytes: int = 100
    """Each tag."""
    max_payload_bytes: int = 262_144
    """The payload's canonical JSON."""
    max_payload_depth: int = 32
    """Objects and arrays inside each other; the payload object is level 1. Not above 200."""
    max_payload_values: int = 10_000
    """Values of the payload: every scalar, array and object, itself included; keys do not count."""
    max_occurred_at_bytes: int = 64
    """`occurred_at` as sent."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one account, or one tenant, may ask for in a time, e.g. `100/second`; `off`: as much as it likes."""

    read: str = "off"
    write: str = "off"
    admin: str = "off"
    public: str = "off"
    """Of the whole installation: these calls have no account."""
    events: str = "off"
    bytes: str = "off"
