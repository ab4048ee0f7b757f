"""The rules of a field in words: what `buf.validate` and the contract's own rules ask of its value."""

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from tools.docs_site.markdown import code, codes

from buf.validate import validate_pb2
from decisiongraph.v1 import rules_pb2

_NUMBERS = ("int32", "int64", "double")


def describe(field: FieldDescriptor) -> list[str]:
    """What a value must be, one rule each, without the rule that it must be there."""
    rules = _rules(field)
    if not field.is_repeated:
        return list(_of_value(rules))
    each = list(_of_value(rules.repeated.items))
    return [*_count(rules.repeated), *([f"each {', '.join(each)}"] if each else [])]


def _rules(field: FieldDescriptor) -> Any:
    options: Any = field.GetOptions()
    return options.Extensions[validate_pb2.field]


def _of_value(rules: Any) -> Iterator[str]:
    yield from _of_text(rules.string)
    for kind in _NUMBERS:
        yield from _of_number(getattr(rules, kind))
    if rules.enum.not_in:
        yield "not the unspecified value"
    if rules.WhichOneof("type") not in (None, "string", "enum", "repeated", *_NUMBERS):
        raise ValueError(f"the rule {rules.WhichOneof('type')} has no words here yet; add them in {__name__}")


def _of_text(rules: Any) -> Iterator[str]:
    if allowed := getattr(rules, "in"):
        yield codes(allowed)
    if rules.Extensions[rules_pb2.not_blank]:
        yield "not blank"
    elif rules.min_len or rules.min_bytes:
        yield "not empty"
    if rules.max_bytes:
        yield f"at most {rules.max_bytes:,} bytes"
    if rules.pattern:
        yield f"matches {code(rules.pattern)}{{ .pattern }}"
    if rules.Extensions[rules_pb2.no_nul]:
        yield "no U+0000"


def _of_number(rules: Any) -> Iterator[str]:
    low = rules.gte if rules.HasField("gte") else None
    high = rules.lte if rules.HasField("lte") else None
    if low is not None and high is not None:
        yield f"{low:,} to {high:,}"
    elif low is not None:
        yield f"{low:,} or greater"
    elif high is not None:
        yield f"at most {high:,}"


def _count(rules: Any) -> Iterator[str]:
    if rules.min_items and rules.max_items:
        yield f"{rules.min_items:,} to {rules.max_items:,} items"
    elif rules.min_items:
        yield f"at least {rules.min_items:,} items"
    elif rules.max_items:
        yield f"at most {rules.max_items:,} items"
    if rules.unique:
        yield "none twice"
