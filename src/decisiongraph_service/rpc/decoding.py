"""Decoding requests so that one that cannot be decoded becomes an answer and not a broken call.

gRPC answers a failed decoder with INTERNAL and the library's words. Here the decoder hands on what went wrong, and the
call refuses it after it has seen who calls.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.internal import decoder
from google.protobuf.message import DecodeError, Message

from decisiongraph_service.domain import errors
from decisiongraph_service.domain.errors import Violation

_MAX_DEPTH: Final = 100
"""How deeply messages may nest for the protobuf library. A payload level takes three."""
_MAX_FIELDS: Final = 20_000
"""Most fields that are looked at to find what is wrong: the search runs before it is known who calls."""


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A request that could not be decoded."""

    violation: Violation

    def error(self) -> errors.InvalidArgument:
        """What the caller is told."""
        return errors.InvalidArgument([self.violation])


def tolerant_decoder(message: type[Message], max_bytes: int) -> Callable[[bytes], Message | Undecodable]:
    """A request decoder for `message` that refuses more than `max_bytes` and never raises."""

    def decode(data: bytes) -> Message | Undecodable:
        if len(data) > max_bytes:
            return Undecodable(
                Violation(
                    "request", "TOO_LONG", f"has {len(data)} bytes, at most {max_bytes} are taken; send less at once"
                )
            )
        try:
            return message.FromString(data)
        except DecodeError:
            descriptor: Descriptor = message.DESCRIPTOR  # type: ignore[assignment]
            return Undecodable(_diagnose(descriptor, data))

    return decode


def tolerant(decoder: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """The decoder of requests that are not of the contract, but never raising either. None: bytes stay as they are."""

    def decode(data: bytes) -> Any:
        try:
            return data if decoder is None else decoder(data)
        except DecodeError:
            return Undecodable(_malformed("request"))

    return decode


def _malformed(path: str) -> Violation:
    return Violation(
        path,
        "MALFORMED",
        "is not a protobuf message of this type, or holds text that is not UTF-8; use the generated stubs",
    )


def _diagnose(descriptor: Descriptor, data: bytes) -> Violation:
    """The first thing in `data` that no decoder takes: text that is not UTF-8, too many levels, or broken bytes."""
    path = ""
    try:
        for path, depth, text in _Walk().fields(descriptor, memoryview(data), "", 1):
            if depth > _MAX_DEPTH:
                return Violation(path, "TOO_DEEP", "is nested too deeply; a JSON object may have 32 levels")
            if text is not None:
                bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        return Violation(path, "INVALID_UTF8", "is not valid UTF-8; encode text as UTF-8")
    except _TooManyFieldsError:
        path = ""
    except (IndexError, ValueError, DecodeError):
        pass
    return _malformed(path or "request")


class _TooManyFieldsError(Exception):
    """What is wrong lies too far behind to be looked for."""


class _Walk:
    """A walk over the wire format of a message that gives up after `_MAX_FIELDS` fields."""

    def __init__(self) -> None:
        self._left = _MAX_FIELDS

    def fields(
        self, descriptor: Descriptor, data: memoryview, prefix: str, depth: int
    ) -> Iterator[tuple[str, int, memoryview | None]]:
        """Every text and message field in wire order: its path, its depth, and the bytes if it is text."""
        position = 0
        while position < len(data):
            self._left -= 1
            if self._left < 0:
                raise _TooManyFieldsError
            key, position = decoder._DecodeVarint(data, position)  # type: ignore[attr-defined]  # noqa: SLF001
            number, wire_type = key >> 3, key & 7
            if wire_type != 2:
                position = _skip(data, position, wire_type)
                continue
            size, position = decoder._DecodeVarint(data, position)  # type: ignore[attr-defined]  # noqa: SLF001
            value, position = data[position : position + size], position + size
            if position > len(data):
                raise ValueError("truncated")
            field = descriptor.fields_by_number.get(number)
            if field is None:
                continue
            path = _join(prefix, field, descriptor)
            if field.type == FieldDescriptor.TYPE_STRING:
                yield path, depth, value
            elif field.message_type is not None:
                yield path, depth + 1, None
                if depth <= _MAX_DEPTH:
                    yield from self.fields(field.message_type, value, path, depth + 1)


def _join(prefix: str, field: FieldDescriptor, parent: Descriptor) -> str:
    """Paths name the fields of our messages; inside a Struct they end at the field that holds it.

    A request that is one event and nothing else is named by the fields of the event, as the domain names them.
    """
    if parent.file.package == "google.protobuf" or parent.GetOptions().map_entry or _only_holds(parent, field):
        return prefix
    return f"{prefix}.{field.name}" if prefix else str(field.name)


def _only_holds(parent: Descriptor, field: FieldDescriptor) -> bool:
    return field.full_name.endswith("Request.event") and len(parent.fields) == 1


def _skip(data: memoryview, position: int, wire_type: int) -> int:
    if wire_type == 0:
        return int(decoder._DecodeVarint(data, position)[1])  # type: ignore[attr-defined]  # noqa: SLF001
    if wire_type in (1, 5):
        return position + (8 if wire_type == 1 else 4)
    raise ValueError("groups are not part of proto3")
