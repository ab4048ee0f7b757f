"""Corrects the generator's schemas: what Envoy prints in answers, what it and the server take in requests."""

from dataclasses import dataclass
from typing import Any

from tools.openapi import text
from tools.openapi.contract import PACKAGE, Contract, Field, Message

Schema = dict[str, Any]

REF = "#/components/schemas/"
# White space as the contract's rule `not_blank` lists it. Escapes that ECMA-262 and Python read alike.
NOT_BLANK = r"[^\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
# Of every timestamp in a request; the contract has it as the rule of `occurred_at`.
TIMESTAMP = (
    "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    "(\\.[0-9]+)?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1

_STRUCT = "google.protobuf.Struct"
_ORDER = (
    "$ref", "type", "description", "format", "const", "enum", "pattern", "minLength", "maxLength", "minimum",
    "maximum", "minItems", "maxItems", "uniqueItems", "items", "required", "properties",
    "additionalProperties", "oneOf", "discriminator",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Usage:
    """Where a schema is used. Messages of both directions get what is true for both."""

    request: bool = False
    response: bool = False
    parameter: bool = False


def short_name(full_name: str) -> str:
    """Name of a component: the message's name without its package."""
    return full_name.removeprefix(f"{PACKAGE}.")


def reference(full_name: str) -> Schema:
    """A reference to the component of a message or enum."""
    return {"$ref": REF + short_name(full_name)}


def ordered(schema: Schema) -> Schema:
    """The same schema with its keywords in reading order."""
    return {key: schema[key] for key in sorted(schema, key=_ORDER.index)}


def message_schema(raw: Schema, message: Message, usage: Usage, *, without: tuple[str, ...] = ()) -> Schema:
    """The component of a message, without the fields that travel elsewhere (in the path)."""
    properties = raw_properties(raw)
    fields = [field for field in message.fields if field.name not in without]
    required = [field.name for field in fields if _must_be_there(field, usage)]
    schema: Schema = {
        "type": "object",
        "description": text.prose(raw.get("description", "")),
        "required": required,
        "properties": {field.name: field_schema(properties[field.name], field, usage) for field in fields},
        **_choice(message),
    }
    return ordered({key: value for key, value in schema.items() if value})


def enum_schema(raw: Schema, values: dict[int, str]) -> Schema:
    """The component of an enum. The unspecified value 0 is neither taken nor ever printed."""
    names = [name for number, name in values.items() if number]
    return ordered({"type": "string", "description": text.prose(raw.get("description", "")), "enum": names})


def field_schema(raw: Schema, field: Field, usage: Usage) -> Schema:
    """The schema of a field: the generator's, corrected by what Envoy does and by rules it leaves out."""
    schema = _unwrapped(raw)
    if field.repeated and "items" in schema:
        schema["items"] = _value_schema(_unwrapped(schema["items"]), field, usage)
        schema["items"].pop("description", None)
    elif isinstance(schema.get("additionalProperties"), dict):
        schema["additionalProperties"] = _unwrapped(schema["additionalProperties"])
    else:
        schema = _value_schema(schema, field, usage)
    if usage.request and not field.required and not field.oneof:
        _allow_null(schema)
    comment = text.prose(raw.get("description", ""))
    description = text.sentences(comment, *_extra_sentences(comment, field))
    return ordered(schema | {"description": description} if description else schema)


def raw_properties(raw: Schema) -> dict[str, Schema]:
    """The properties of a generated message schema, which has the fields of a `oneof` apart."""
    found = dict(raw.get("properties", {}))
    for part in (*raw.get("allOf", ()), *raw.get("oneOf", ())):
        found |= raw_properties(part)
    return found


def used_names(value: Any) -> set[str]:
    """The component names that a part of the document refers to."""
    if isinstance(value, dict):
        own = {value["$ref"].removeprefix(REF)} if str(value.get("$ref", "")).startswith(REF) else set()
        return own.union(*(used_names(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(used_names(item) for item in value))
    return set()


def usages(contract: Contract) -> dict[str, Usage]:
    """For every message that a REST rpc uses: whether requests, answers or both hold it."""
    rpcs = contract.rest_rpcs().values()
    requests = _reachable(contract, {rpc.request for rpc in rpcs})
    responses = _reachable(contract, {rpc.response for rpc in rpcs})
    return {name: Usage(name in requests, name in responses) for name in requests | responses}


def _reachable(contract: Contract, names: set[str]) -> set[str]:
    found: set[str] = set()
    while names:
        found |= names
        fields = [field for name in names if name in contract.messages for field in contract.messages[name].fields]
        names = {field.type_name for field in fields if field.type_name} - found
    return found


def _must_be_there(field: Field, usage: Usage) -> bool:
    always_printed = not field.has_presence
    return (usage.request and field.required) or (usage.response and always_printed)


def _choice(message: Message) -> Schema:
    """How a `oneof` reads in JSON Schema: exactly one of its fields is there."""
    members = [field.name for field in message.fields if field.oneof]
    if not members:
        return {}
    choice = _event_choice if message.name == f"{PACKAGE}.Event" else _plain_choice
    return {"oneOf": [choice(member) for member in members]}


def _plain_choice(member: str) -> Schema:
    return {"required": [member]}


def _event_choice(member: str) -> Schema:
    """A content of an event: the JSON payload needs an event type, a typed one names it and is not contradicted."""
    if member == "payload":
        return {"required": [member, "event_type"], "properties": {"event_type": {"type": "string", "minLength": 1}}}
    named = "".join(word.title() for word in member.split("_"))
    return {"required": [member], "properties": {"event_type": {"enum": [named, "", None]}}}


def _unwrapped(raw: Schema) -> Schema:
    """The generator's schema without titles, without its `or null`, and with our component names."""
    schema = {key: value for key, value in raw.items() if key not in ("title", "description")}
    if "oneOf" in schema:
        schema = dict(schema["oneOf"][0])
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(REF)
        return {"type": "object", "additionalProperties": True} if name == _STRUCT else reference(name)
    kinds = schema.get("type")
    if isinstance(kinds, list):
        kinds = [kind for kind in kinds if kind != "null"]
        schema["type"] = kinds[0] if len(kinds) == 1 else kinds
    return schema


def _value_schema(schema: Schema, field: Field, usage: Usage) -> Schema:
    """One value of a field: an element of it, if it is a list."""
    match field.kind:
        case "string":
            return _or_empty(schema | _text_schema(field, usage), field, usage)
        case "int64":
            return _long_schema(schema, usage)
        case "int32" if not usage.response:
            return {"maximum": INT32_MAX} | schema
        case _:
            return schema


def _text_schema(field: Field, usage: Usage) -> Schema:
    rules = field.text
    schema: Schema = {}
    if field.name.endswith("_at"):
        schema |= {"format": "date-time"} if usage.response else {"pattern": TIMESTAMP}
    if rules.not_blank:
        schema["pattern"] = NOT_BLANK
    if rules.not_blank or rules.min_length:
        schema["minLength"] = 1
    if rules.max_bytes is not None:
        schema["maxLength"] = rules.max_bytes
    return schema


def _or_empty(schema: Schema, field: Field, usage: Usage) -> Schema:
    """In requests, the empty text is the same as a text that is left out, if it may be left out."""
    if usage.response or field.has_presence or field.required or field.repeated:
        return schema
    if "enum" in schema and "" not in schema["enum"]:
        schema["enum"] = [*schema["enum"], ""]
    if "pattern" in schema:
        schema["pattern"] = f"^$|{schema['pattern']}"
    return schema


def _long_schema(schema: Schema, usage: Usage) -> Schema:
    """Envoy prints 64-bit integers as text and takes both text and numbers."""
    if usage.response:
        return {"type": "string", "pattern": "^-?[0-9]+$"}
    sign = "" if schema.get("minimum", -1) >= 0 else "-?"
    limits = {"maximum": INT64_MAX, "pattern": f"^{sign}[0-9]{{1,19}}$"}
    return limits | schema | {"type": ["string", "integer"]}


def _allow_null(schema: Schema) -> None:
    """Envoy reads null as `left out`. References do not say so, to stay readable."""
    kind = schema.get("type")
    if kind is None:
        return
    schema["type"] = [*(kind if isinstance(kind, list) else [kind]), "null"]
    if "enum" in schema:
        schema["enum"] = [*schema["enum"], None]


def _extra_sentences(comment: str, field: Field) -> list[str]:
    """What JSON Schema cannot say, where the comment does not say it either."""
    rules, extra = field.text, []
    if rules.max_bytes is not None and not rules.pattern and "bytes" not in comment:
        extra.append(f"{'Each at' if field.repeated else 'At'} most {rules.max_bytes:,} bytes in UTF-8.")
    if rules.no_nul:
        extra.append("U+0000 is refused.")
    return extra
