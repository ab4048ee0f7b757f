"""Events as lines of JSON: reading them with their numbers, and making of each line an event or a refusal."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from google.protobuf import json_format

from decisiongraph.v1.event_pb2 import Event, Source

MAX_LINE_BYTES: Final = 4 * 1024 * 1024
"""Longest line; a request may not be longer either."""
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_ADDED_BY_THE_LOG: Final = frozenset(("tenant_id", "log_seq", "recorded_at", "payload_hash"))
_FIELDS: Final = frozenset(name for field in Event.DESCRIPTOR.fields for name in (field.name, field.json_name))


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the input that is not blank."""

    number: int
    """Counted from 1, blank lines included."""
    content: bytes | None
    """None: it is longer than `MAX_LINE_BYTES`."""


@dataclass(frozen=True, slots=True)
class ReadEvent:
    """The event of a line."""

    number: int
    event: Event
    given: dict[str, Any]
    """As it stands in the line."""
    unknown: tuple[str, ...]
    """Fields that no event has; they are not stored."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A line that is not in the log, and why."""

    line: int
    reason: str
    """Of the contract: `SCHEMA_VIOLATION`, `IDEMPOTENCY_CONFLICT`, …"""
    message: str
    violations: tuple[dict[str, str], ...] = ()
    event: dict[str, Any] | None = None
    """As it stands in the line. None: the line is no JSON object, or holds what looks like a secret."""

    def as_dict(self) -> dict[str, Any]:
        """For a line of JSON; `event` can be appended again when it is mended."""
        told: dict[str, Any] = {"line": self.line, "reason": self.reason, "message": self.message}
        if self.violations:
            told["violations"] = list(self.violations)
        if self.event is not None:
            told["event"] = self.event
        return told


class LineRefused(Exception):
    """A line holds no event that could be sent."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Completion:
    """What events get that have no source or no idempotency key."""

    producer: str
    system: str

    def complete(self, event: Event, given: dict[str, Any]) -> None:
        """Fill in what is missing. The key is a digest of the line, so that the same line gets the same key again."""
        if not event.HasField("source"):
            event.source.CopyFrom(Source(producer_id=self.producer, system=self.system))
        if not event.idempotency_key:
            text = json.dumps(given, sort_keys=True, separators=(",", ":"))
            event.idempotency_key = f"line-{hashlib.sha256(text.encode()).hexdigest()[:40]}"


def read(stream: BinaryIO) -> Iterator[Line]:
    """The lines that are not blank, one after another."""
    number = 0
    while content := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1:
            content = content.removeprefix(_BYTE_ORDER_MARK)
        if len(content) > MAX_LINE_BYTES and not content.endswith(b"\n"):
            while (rest := stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield Line(number, None)
        elif content.strip():
            yield Line(number, content)


def parse(line: Line, completion: Completion | None) -> ReadEvent:
    """The event of a line, completed if asked for.

    Raises:
        LineRefused: it holds none, or one without what makes a repetition safe.
    """
    given = _object(line)
    unknown = tuple(name for name in given if name not in _FIELDS)
    known = {name: value for name, value in given.items() if name in _FIELDS}
    try:
        event = json_format.ParseDict(known, Event())
    except (json_format.ParseError, ValueError, TypeError, RecursionError, SystemError) as error:
        raise LineRefused(Refusal(line.number, "INVALID_ARGUMENT", _reason(error), event=given)) from None
    if completion is not None:
        completion.complete(event, given)
    missing = [
        name
        for name, there in (("source", event.HasField("source")), ("idempotency_key", event.idempotency_key))
        if not there
    ]
    if missing:
        message = f"{' and '.join(missing)}: required; add it, or let --producer complete the events"
        raise LineRefused(Refusal(line.number, "INVALID_ARGUMENT", message, event=given))
    return ReadEvent(line.number, event, given, tuple(name for name in unknown if name not in _ADDED_BY_THE_LOG))


def _object(line: Line) -> dict[str, Any]:
    if line.content is None:
        raise _no_event(line, f"longer than {MAX_LINE_BYTES} bytes")
    try:
        value = json.loads(line.content.decode(), parse_constant=_refuse_constant, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise _no_event(line, f"no UTF-8 at byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        raise _no_event(line, f"no JSON: {error.msg} at character {error.pos + 1}") from None
    except (ValueError, RecursionError) as error:
        raise _no_event(line, f"no JSON: {error}") from None
    if not isinstance(value, dict):
        raise _no_event(line, "no JSON object; write one event as one object in one line")
    return value


def _no_event(line: Line, message: str) -> LineRefused:
    return LineRefused(Refusal(line.number, "INVALID_ARGUMENT", message))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is larger than any number that is kept")
    return number


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    # What protobuf's library makes of such a text where the name of a field should be.
    return "holds half of a surrogate pair, which is no text" if isinstance(error, SystemError) else str(error)
