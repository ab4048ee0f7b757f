"""What the contract's own rules (`buf.validate`) say about a message, in the domain's words."""

import protovalidate
from google.protobuf.message import Message

from decisiongraph_service.domain.errors import Violation


def of_message(validator: protovalidate.Validator, message: Message, *, prefix: str = "") -> list[Violation]:
    """Every broken rule of a message, with the path of its field below `prefix`."""
    return [
        Violation(
            field=_path(violation, prefix),
            code=violation.proto.rule_id.rpartition(".")[2].upper() or "INVALID",
            description=violation.proto.message,
        )
        for violation in validator.collect_violations(message)
    ]


def _path(violation: protovalidate.Violation, prefix: str) -> str:
    path = prefix
    elements = violation.proto.field.elements if violation.proto.field else []
    for element in elements:
        path = f"{path}.{element.field_name}" if path else element.field_name
        if element.subscript is not None:
            path += f"[{element.subscript.value}]"
    return path or "request"
