"""Requests that break exactly one rule of the contract, made from the rules of the fields themselves."""

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

from buf.validate import validate_pb2
from decisiongraph.v1 import rules_pb2
from tests.calling import METHODS
from tests.rpc_examples import example, http_rule

_REPEATED: Final = FieldDescriptor.LABEL_REPEATED


def broken_requests(rpc: str) -> list[tuple[str, dict[str, Any]]]:
    """Name of the field and request, for each way to break each field that REST can carry.

    What the domain checks instead of the contract's rules (events) is not among them.
    """
    request = example(rpc)
    return [
        (field.name, {**request, field.name: value})
        for field in METHODS[rpc][1].input_type.fields
        if field.message_type is None
        for value in _bad_values(field)
        # An empty part of a path makes it another path.
        if value or f"{{{field.name}}}" not in _path(rpc)
    ]


def _path(rpc: str) -> str:
    rule = http_rule(METHODS[rpc][1])
    return str(getattr(rule, rule.WhichOneof("pattern")))


def _bad_values(field: FieldDescriptor) -> Iterator[Any]:
    options: Any = field.GetOptions()
    rules = options.Extensions[validate_pb2.field]
    kind = rules.WhichOneof("type")
    if kind == "repeated":
        yield from _bad_lists(rules.repeated)
    elif kind == "string":
        yield from _bad_texts(rules)
    elif kind is not None:
        yield from _bad_numbers(getattr(rules, kind))


def _bad_lists(rules: validate_pb2.RepeatedRules) -> Iterator[Any]:
    item = next(iter(_good_item(rules)))
    if rules.HasField("min_items"):
        yield []
    if rules.HasField("max_items"):
        yield [item if rules.unique else f"{item}{number}" for number in range(rules.max_items + 1)]
    if rules.unique:
        yield [item, item]
    if rules.items.HasField("string"):
        yield from ([item, bad] for bad in _bad_texts(rules.items))
    if rules.items.HasField("enum"):
        yield [0]
        yield [99]


def _good_item(rules: validate_pb2.RepeatedRules) -> list[Any]:
    return [1] if rules.items.HasField("enum") else ["a"]


def _bad_texts(rules: validate_pb2.FieldRules) -> Iterator[str]:
    text = rules.string
    if text.HasField("max_bytes"):
        yield "a" * (text.max_bytes + 1)
        yield "ä" * (text.max_bytes // 2 + 1)
    if text.HasField("min_len"):
        yield ""
    if text.HasField("pattern"):
        yield "Not A Slug"
        yield "-a"
    if text.Extensions[rules_pb2.not_blank]:
        yield ""
        yield " \t\u3000"
    if getattr(text, "in"):
        yield "no such word"
        if rules.ignore != validate_pb2.IGNORE_IF_ZERO_VALUE:
            yield ""
    if text.Extensions[rules_pb2.no_nul]:
        yield "a\0b"


def _bad_numbers(rules: Any) -> Iterator[int]:
    if rules.HasField("gte"):
        yield rules.gte - 1
    if rules.HasField("lte"):
        yield rules.lte + 1
