"""The reference of services, messages and event types, from the contract's descriptors, comments and rules."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from tools.docs_site import field_tables
from tools.docs_site.comments import read_comments
from tools.docs_site.field_tables import EVENTS_PAGE, MESSAGES_PAGE, Texts
from tools.docs_site.markdown import code, codes, example, page, table, wide_page
from tools.openapi import text
from tools.openapi.contract import PACKAGE, Route, read_contract

from buf.validate import validate_pb2
from decisiongraph.v1 import event_pb2
from decisiongraph_service.access.authorization import Rule
from decisiongraph_service.rpc import contract as served

OVERVIEW_PAGE: Final = "index.md"
_WORD_START: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


class ContractPages:
    """Makes the pages of the contract, one for each service and one each for overview, messages and event types."""

    def __init__(self, root: Path) -> None:
        """Read what `make generate` wrote, and the examples that the published documents share."""
        descriptors = root / "generated/decisiongraph.binpb"
        self._texts = Texts(read_comments(descriptors, PACKAGE), read_contract(descriptors))
        self._rpcs = {(rpc.service, rpc.name): rpc for rpc in self._texts.contract.rpcs}
        self._rules = served.authorization_rules()
        self._examples = yaml.safe_load((root / "tools/openapi/examples.yaml").read_text())["operations"]
        self._events = json.loads((root / "tests/golden/refunds.json").read_text())["events"]

    def pages(self) -> Iterator[tuple[str, str]]:
        """Name and Markdown of each page."""
        yield OVERVIEW_PAGE, self._overview()
        for service in served.SERVICES:
            yield service_page(service), self._service(service)
        yield EVENTS_PAGE, self._event_types()
        yield MESSAGES_PAGE, self._messages()

    def _overview(self) -> str:
        rows = [
            (
                f"[{method.name}]({service_page(service)}#{method.name.lower()})",
                "<br>".join(code(f"{route.method.upper()} {route.path}") for route in self._routes(method))
                or "gRPC only",
                _needs(self._rules[f"/{service.full_name}/{method.name}"]),
            )
            for service in served.SERVICES
            for method in service.methods
        ]
        return wide_page(
            "# API reference",
            "Made from the contract (`proto/`) when this site is built. Lengths are bytes of UTF-8. What all calls "
            "share (tenant, errors, pages, freshness) is in [Conventions](../conventions.md). A server has the same "
            f"contract as an OpenAPI 3.1 document at `/api/openapi.yaml`. [Event types]({EVENTS_PAGE}) and [messages]"
            f"({MESSAGES_PAGE}) have pages of their own, and so have [errors](errors.md).",
            table(("rpc", "REST", "Needs"), rows),
        )

    def _service(self, service: ServiceDescriptor) -> str:
        return page(
            f"# {service.name}",
            self._texts.comment(service.full_name),
            *(part for method in service.methods for part in self._rpc(service, method)),
        )

    def _rpc(self, service: ServiceDescriptor, method: MethodDescriptor) -> Iterable[str]:
        yield f"## {method.name}"
        yield self._texts.comment(method.full_name)
        yield table(("REST", "gRPC", "Needs"), [self._ways(service, method)])
        yield from self._request(method)
        yield from self._answer(method)

    def _ways(self, service: ServiceDescriptor, method: MethodDescriptor) -> tuple[str, ...]:
        routes = "<br>".join(code(f"{route.method.upper()} {route.path}") for route in self._routes(method))
        streams = {
            (True, True): "<br>stream in both directions",
            (False, True): "<br>streams its answer",
        }.get((method.client_streaming, method.server_streaming), "")
        needs = _needs(self._rules[f"/{service.full_name}/{method.name}"])
        return routes or "-", code(f"{service.full_name}/{method.name}") + streams, needs

    def _request(self, method: MethodDescriptor) -> Iterable[str]:
        message = method.input_type
        yield f"**Request** {code(message.name)}" + ("" if message.fields else ": empty.")
        yield self._fields(message)
        given = self._examples.get(method.name, {})
        requests = given.get("requests") or ({"": given["request"]} if "request" in given else {})
        for name, value in requests.items():
            yield example("Example of the body" + (f": {name.replace('_', ' ')}" if name else ""), value)

    def _answer(self, method: MethodDescriptor) -> Iterable[str]:
        message = method.output_type
        each = "**Each message of the answer**" if method.server_streaming else "**Answer**"
        if message.file.package != PACKAGE:
            yield f"{each}: the document itself."
            return
        yield f"{each} {code(message.name)}"
        yield self._fields(message)
        shown = self._examples.get(method.name, {}).get("response")
        if shown is not None:
            yield example("Example of the lines" if method.server_streaming else "Example of the answer", shown)

    def _fields(self, message: Descriptor) -> str:
        options: Any = message.GetOptions()
        rules = [f"- {rule.message}" for rule in options.Extensions[validate_pb2.message].cel]
        return page(field_tables.of_message(message, self._texts), "\n".join(rules)).strip()

    def _messages(self) -> str:
        parts = sorted(self._shared(), key=lambda part: str(part.name))
        return page(
            "# Messages",
            "The messages that requests and answers hold. A field without **required** may be left out.",
            *(part for message in parts for part in self._message(message)),
        )

    def _message(self, part: Descriptor | EnumDescriptor) -> Iterable[str]:
        yield f"## {part.name}"
        yield self._texts.comment(part.full_name)
        yield field_tables.of_enum(part, self._texts) if isinstance(part, EnumDescriptor) else self._fields(part)

    def _shared(self) -> list[Descriptor | EnumDescriptor]:
        """What requests and answers hold, directly or through others."""
        waiting: list[Any] = [one for _, method in served.methods() for one in (method.input_type, method.output_type)]
        own = {one.full_name for one in waiting}
        found: dict[str, Descriptor | EnumDescriptor] = {}
        while waiting:
            one = waiting.pop()
            for part in field_tables.parts(one) if isinstance(one, Descriptor) else ():
                if part.full_name not in found:
                    found[part.full_name] = part
                    waiting.append(part)
        return [part for name, part in found.items() if name not in own and not field_tables.is_payload(part)]

    def _event_types(self) -> str:
        typed = event_types()
        rows = [
            (
                f"[{name}](#{name.lower()})",
                code(field.name),
                text.first_sentence(_after_name(self._payload_comment(field))) + ".",
            )
            for name, field in typed.items()
        ]
        return page(
            "# Event types",
            "What an event says is its payload: a JSON object in `payload`, with `event_type` beside it, or a typed "
            "message in the field of its type. Fields are named by their paths in the JSON payload. Further keys are "
            "allowed in JSON, kept, and hashed. In a JSON payload what is **required** is enforced, and so are the "
            "literals of `role`, `decision`, `status` and `outcome`; the rest is for producers to keep "
            "(EVENT_ENVELOPE_CONTRACT.md, section 3). The envelope around a payload is [Event](messages.md#event).",
            table(("Event type", "Typed payload", "Meaning"), rows),
            *(part for name, field in typed.items() for part in self._event_type(name, field)),
        )

    def _event_type(self, name: str, field: FieldDescriptor) -> Iterable[str]:
        yield f"## {name}"
        yield _after_name(self._payload_comment(field))
        yield field_tables.of_message_with_parts(_payload(field), self._texts)
        yield example("Example", next(e["payload"] for e in self._events if e["event_type"] == name))

    def _payload_comment(self, field: FieldDescriptor) -> str:
        return self._texts.comment(_payload(field).full_name)

    def _routes(self, method: MethodDescriptor) -> tuple[Route, ...]:
        return self._rpcs[method.containing_service.name, method.name].routes


def service_page(service: ServiceDescriptor) -> str:
    """The page of a service: `query-service.md`."""
    return _WORD_START.sub("-", service.name).lower() + ".md"


def event_types() -> dict[str, FieldDescriptor]:
    """The field of an event that carries the typed payload, by event type."""
    fields: list[Any] = list(event_pb2.Event.DESCRIPTOR.oneofs_by_name["content"].fields)
    return {_payload(field).name.removesuffix("Payload"): field for field in fields if field.name != "payload"}


def _payload(field: FieldDescriptor) -> Descriptor:
    """The message of a typed payload."""
    if field.message_type is None:
        raise ValueError(f"{field.name} is no typed payload")
    return field.message_type


def _needs(rule: Rule) -> str:
    if rule.role is None:
        return "nothing: public"
    permissions = f", permission {codes(rule.permissions)}" if rule.permissions else ""
    return f"role {code(rule.role)}{permissions}"


def _after_name(comment: str) -> str:
    """A comment that begins with the name of the event type, without it."""
    said = comment.partition(": ")[2]
    return said[:1].upper() + said[1:]
