"""Reads the contract from its descriptor set: rpcs, routes, authorization, fields and validation rules.

The descriptor set is read with classes made from itself: neither generated stubs nor their path matter.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "decisiongraph.v1"
METHODS = ("get", "put", "post", "delete", "patch")

_KINDS = {
    descriptor_pb2.FieldDescriptorProto.TYPE_BOOL: "bool",
    descriptor_pb2.FieldDescriptorProto.TYPE_DOUBLE: "double",
    descriptor_pb2.FieldDescriptorProto.TYPE_ENUM: "enum",
    descriptor_pb2.FieldDescriptorProto.TYPE_INT32: "int32",
    descriptor_pb2.FieldDescriptorProto.TYPE_INT64: "int64",
    descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE: "message",
    descriptor_pb2.FieldDescriptorProto.TYPE_STRING: "string",
}


@dataclass(frozen=True, slots=True)
class TextRules:
    """The rules of a text that JSON Schema knows in another form, or not at all."""

    min_length: int = 0
    max_bytes: int | None = None
    not_blank: bool = False
    no_nul: bool = False
    allowed: tuple[str, ...] = ()
    pattern: str = ""

    def allows_empty(self) -> bool:
        """Whether the empty text, which is what a field that was left out holds, keeps the rules."""
        if self.min_length > 0 or self.not_blank:
            return False
        if self.allowed and "" not in self.allowed:
            return False
        return not self.pattern or re.search(self.pattern, "") is not None


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message; `text` holds the rules of the text, or of each text of a list."""

    name: str
    kind: str
    type_name: str
    repeated: bool
    has_presence: bool
    oneof: str | None
    required: bool
    text: TextRules
    excluded_numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """One message."""

    name: str
    fields: tuple[Field, ...]

    def field(self, name: str) -> Field:
        """The field of that name."""
        return next(field for field in self.fields if field.name == name)


@dataclass(frozen=True, slots=True)
class Route:
    """One REST binding of an rpc."""

    method: str
    path: str
    body: str

    @property
    def path_fields(self) -> tuple[str, ...]:
        """The fields that the path carries."""
        return tuple(re.findall(r"{([a-z_0-9.]+)}", self.path))


@dataclass(frozen=True, slots=True)
class Rpc:
    """One rpc with its routes and what a caller needs for it."""

    name: str
    service: str
    request: str
    response: str
    streams: bool
    routes: tuple[Route, ...]
    public: bool
    role: str
    permissions: tuple[str, ...]
    installation_wide: bool


@dataclass(frozen=True, slots=True)
class Contract:
    """Every rpc, message and enum of the descriptor set; messages and enums by full name."""

    rpcs: tuple[Rpc, ...]
    messages: dict[str, Message]
    enums: dict[str, dict[int, str]]

    def rest_rpcs(self) -> dict[str, Rpc]:
        """The rpcs that REST callers can reach, by name."""
        return {rpc.name: rpc for rpc in self.rpcs if rpc.routes}


def read_contract(path: Path) -> Contract:
    """Read a FileDescriptorSet, as `buf build --as-file-descriptor-set` writes it."""
    return _Reader(path.read_bytes()).contract()


class _Reader:
    """Parses a descriptor set with the option types that the set itself declares."""

    def __init__(self, content: bytes) -> None:
        self._pool = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(content).file:
            self._pool.Add(file)
        name = "google.protobuf.FileDescriptorSet"
        self._files: Any = message_factory.GetMessageClass(self._pool.FindMessageTypeByName(name)).FromString(content)
        self._messages: dict[str, Message] = {}
        self._enums: dict[str, dict[int, str]] = {}

    def contract(self) -> Contract:
        """Everything that the set says about the service."""
        rpcs = []
        for file in self._files.file:
            for enum in file.enum_type:
                self._enums[f"{file.package}.{enum.name}"] = {value.number: value.name for value in enum.value}
            for message in file.message_type:
                self._add_message(file.package, message)
            rpcs += [self._rpc(service.name, method) for service in file.service for method in service.method]
        return Contract(tuple(rpcs), self._messages, self._enums)

    def _option(self, options: Any, extension: str) -> Any:
        return options.Extensions[self._pool.FindExtensionByName(extension)]

    def _add_message(self, scope: str, proto: Any) -> None:
        name = f"{scope}.{proto.name}"
        oneofs = [oneof.name for oneof in proto.oneof_decl]
        self._messages[name] = Message(name, tuple(self._field(field, oneofs) for field in proto.field))
        for nested in proto.nested_type:
            self._add_message(name, nested)

    def _field(self, proto: Any, oneofs: list[str]) -> Field:
        rules = self._option(proto.options, "buf.validate.field")
        kind = _KINDS.get(proto.type, "other")
        repeated = proto.label == descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
        oneof = oneofs[proto.oneof_index] if proto.HasField("oneof_index") and not proto.proto3_optional else None
        presence = proto.proto3_optional or oneof is not None or (kind == "message" and not repeated)
        text = self._text(rules.repeated.items.string if repeated else rules.string)
        enum = rules.repeated.items.enum if repeated else rules.enum
        return Field(
            name=proto.name,
            kind=kind,
            type_name=proto.type_name.removeprefix("."),
            repeated=repeated,
            has_presence=presence,
            oneof=oneof,
            required=_required(rules, text, repeated=repeated, presence=presence),
            text=text,
            excluded_numbers=tuple(getattr(enum, "not_in")),  # noqa: B009 - the message class is made at run time
        )

    def _text(self, rules: Any) -> TextRules:
        return TextRules(
            min_length=1 if rules.min_len or rules.min_bytes else 0,
            max_bytes=rules.max_bytes if rules.HasField("max_bytes") else None,
            not_blank=self._option(rules, f"{PACKAGE}.not_blank"),
            no_nul=self._option(rules, f"{PACKAGE}.no_nul"),
            allowed=tuple(getattr(rules, "in")),
            pattern=rules.pattern,
        )

    def _rpc(self, service: str, proto: Any) -> Rpc:
        need = self._option(proto.options, f"{PACKAGE}.authorization")
        rule = self._option(proto.options, "google.api.http")
        bindings = (rule, *rule.additional_bindings) if rule.WhichOneof("pattern") else ()
        role = self._enums[f"{PACKAGE}.Role"][need.role]
        permissions = [self._enums[f"{PACKAGE}.Permission"][number] for number in need.permissions]
        return Rpc(
            name=proto.name,
            service=service,
            request=proto.input_type.removeprefix("."),
            response=proto.output_type.removeprefix("."),
            streams=proto.server_streaming,
            routes=tuple(_route(binding) for binding in bindings),
            public=need.public,
            role=role.removeprefix("ROLE_").lower(),
            permissions=tuple(one.removeprefix("PERMISSION_").lower() for one in permissions),
            installation_wide=need.installation_wide,
        )


def _route(binding: Any) -> Route:
    method = binding.WhichOneof("pattern")
    if method not in METHODS:
        raise ValueError(f"the http rule {method} is not supported")
    return Route(method, getattr(binding, method), binding.body)


def _required(rules: Any, text: TextRules, *, repeated: bool, presence: bool) -> bool:
    """Whether a request is refused if it leaves the field out."""
    if rules.required:
        return True
    if presence or rules.ignore:
        return False
    if repeated:
        return bool(rules.repeated.min_items)
    return rules.WhichOneof("type") == "string" and not text.allows_empty()
