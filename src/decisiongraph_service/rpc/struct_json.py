"""google.protobuf.Struct to JSON objects and back, without rounding anything.

A Struct's numbers are doubles: integral ones become `int`, others stay `float` for the domain to refuse.
"""

from typing import Final

from google.protobuf import struct_pb2

from decisiongraph_service.domain.events import JsonObject, JsonValue


class _NotJson:
    """Stands for a google.protobuf.Value without a kind, which is no JSON value; the domain refuses it."""


_NOT_JSON: Final = _NotJson()


def to_object(struct: struct_pb2.Struct) -> dict[str, JsonValue]:
    """The JSON object that a Struct holds."""
    return {key: _to_value(value) for key, value in struct.fields.items()}


def _to_value(value: struct_pb2.Value) -> JsonValue:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            if not number:
                value.number_value = 0.0  # -0.0 is 0, also where the message itself goes into the answer
            return int(number) if number.is_integer() else number
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return to_object(value.struct_value)
        case "list_value":
            return [_to_value(item) for item in value.list_value.values]
        case "null_value":
            return None
        case _:
            return _NOT_JSON  # type: ignore[return-value]


def fill(struct: struct_pb2.Struct, content: JsonObject) -> None:
    """Copy a JSON object into an empty Struct."""
    fields = struct.fields
    for key, value in content.items():
        _fill_value(fields[key], value)


def _fill_value(target: struct_pb2.Value, value: JsonValue) -> None:
    # By exact type, the most frequent first: answers hold thousands of values.
    kind = type(value)
    if kind is str:
        target.string_value = value  # type: ignore[assignment]
    elif kind is dict:
        struct = target.struct_value
        struct.SetInParent()
        fill(struct, value)  # type: ignore[arg-type]
    elif kind is list:
        values = target.list_value
        values.SetInParent()
        add = values.values.add
        for item in value:  # type: ignore[union-attr]
            _fill_value(add(), item)
    elif kind is bool:
        target.bool_value = value  # type: ignore[assignment]
    elif value is None:
        target.null_value = struct_pb2.NULL_VALUE
    else:
        target.number_value = value  # type: ignore[assignment]
