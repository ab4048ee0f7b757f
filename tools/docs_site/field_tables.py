"""The fields of a message as a table: name, type, rules, meaning."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from tools.docs_site import bounds
from tools.docs_site.markdown import code, table
from tools.openapi.contract import PACKAGE, Contract

from buf.validate import validate_pb2

MESSAGES_PAGE: Final = "messages.md"
EVENTS_PAGE: Final = "events.md"
_PAYLOAD: Final = "Payload"
_HEADER: Final = ("Field", "Type", "Rules", "Meaning")
_SCALARS: Final = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_STRING: "string",
}
_FOREIGN: Final = {"google.protobuf.Struct": "JSON object", "google.rpc.Status": "google.rpc.Status"}


@dataclass(frozen=True, slots=True)
class Texts:
    """What the tables say beside the descriptors: comments by full name, and which fields must be there."""

    comments: Mapping[str, str]
    contract: Contract

    def comment(self, full_name: str) -> str:
        """The comment of a part of the contract; empty for parts of other packages."""
        return self.comments.get(full_name, "")

    def required(self, field: FieldDescriptor) -> bool:
        """Whether a request that leaves the field out is refused."""
        scope = field.full_name.removesuffix(f".{field.name}")
        message = self.contract.messages.get(scope)
        return message is not None and message.field(field.name).required


def of_message(message: Descriptor, texts: Texts) -> str:
    """The table of a message's own fields; parts that are messages are linked."""
    return _table(_row(field, field.name, texts) for field in message.fields)


def of_message_with_parts(message: Descriptor, texts: Texts) -> str:
    """The table of a message's fields and those of its parts, by their paths: `entity.entity_id`, `facts[].key`."""
    return _table(_row(field, path, texts, links=False) for path, field in _with_parts(message))


def of_enum(enum: EnumDescriptor, texts: Texts) -> str:
    """The table of an enum's values."""
    scope = enum.full_name
    return table(
        ("Value", "Meaning"),
        ((code(value.name), texts.comment(f"{scope}.{value.name}")) for value in enum.values if value.number),
    )


def parts(message: Descriptor) -> Iterator[Descriptor | EnumDescriptor]:
    """The messages and enums of the contract that a message's fields hold."""
    for field in message.fields:
        part = field.message_type or field.enum_type
        if part is not None and part.file.package == PACKAGE and not _is_map(field):
            yield part


def is_payload(part: Descriptor | EnumDescriptor) -> bool:
    """Whether this is the typed payload of an event type."""
    return str(part.name).endswith(_PAYLOAD)


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    """The table, without the column of rules where there are none."""
    whole = list(rows)
    if any(rules for _, _, rules, _ in whole):
        return table(_HEADER, whole)
    return table((*_HEADER[:2], _HEADER[3]), ((name, kind, meaning) for name, kind, _, meaning in whole))


def _with_parts(message: Descriptor, above: str = "") -> Iterable[tuple[str, FieldDescriptor]]:
    for field in message.fields:
        path = above + field.name + ("[]" if field.is_repeated and not _is_map(field) else "")
        yield path, field
        part = field.message_type
        if part is not None and part.file.package == PACKAGE and not _is_map(field):
            yield from _with_parts(part, f"{path}.")


def _row(field: FieldDescriptor, path: str, texts: Texts, *, links: bool = True) -> tuple[str, ...]:
    rules = [*_presence(field, texts), *bounds.describe(field)]
    return code(path), _type(field, links=links), "; ".join(rules), texts.comment(field.full_name)


def _presence(field: FieldDescriptor, texts: Texts) -> Iterator[str]:
    oneof: Any = field.containing_oneof
    if oneof is not None and len(oneof.fields) > 1:
        required = oneof.GetOptions().Extensions[validate_pb2.oneof].required
        yield f"{'exactly' if required else 'at most'} one of {code(oneof.name)}"
    elif texts.required(field):
        yield "**required**"


def _type(field: FieldDescriptor, *, links: bool) -> str:
    if _is_map(field):
        return "object of text"
    part = field.message_type or field.enum_type
    if part is None:
        name = _SCALARS[field.type]
    elif part.file.package != PACKAGE:
        name = _FOREIGN[part.full_name]
    else:
        name = f"[{part.name}]({_place(part)})" if links else "object"
    if not field.is_repeated:
        return name
    return f"list of {name}" if links else "list"


def _place(part: Descriptor | EnumDescriptor) -> str:
    page = EVENTS_PAGE if is_payload(part) else MESSAGES_PAGE
    return f"{page}#{str(part.name).removesuffix(_PAYLOAD).lower()}"


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)
