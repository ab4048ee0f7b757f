"""The comments of the contract, from the source positions in its descriptor set."""

from collections.abc import Iterator
from pathlib import Path

from google.protobuf import descriptor_pb2
from tools.openapi import text

# Numbers of the fields of descriptor.proto that lead to what has a comment.
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_FIELDS, _VALUES, _METHODS = 2, 2, 2


def read_comments(path: Path, package: str) -> dict[str, str]:
    """The comment of every message, field, enum, enum value, service and rpc of a package, by its full name.

    Raises:
        ValueError: the set was written without source positions.
    """
    found: dict[str, str] = {}
    for file in descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file:
        if file.package != package:
            continue
        if not file.source_code_info.location:
            raise ValueError(f"{path} has no comments of {file.name}; `make generate` writes them")
        at = {tuple(location.path): location.leading_comments for location in file.source_code_info.location}
        found |= {f"{package}.{name}": text.prose(at.get(position, "")) for name, position in _names(file)}
    return found


def _names(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    for number, message in enumerate(file.message_type):
        yield message.name, (_MESSAGES, number)
        for at, field in enumerate(message.field):
            yield f"{message.name}.{field.name}", (_MESSAGES, number, _FIELDS, at)
    for number, enum in enumerate(file.enum_type):
        yield enum.name, (_ENUMS, number)
        for at, value in enumerate(enum.value):
            yield f"{enum.name}.{value.name}", (_ENUMS, number, _VALUES, at)
    for number, service in enumerate(file.service):
        yield service.name, (_SERVICES, number)
        for at, method in enumerate(service.method):
            yield f"{service.name}.{method.name}", (_SERVICES, number, _METHODS, at)
