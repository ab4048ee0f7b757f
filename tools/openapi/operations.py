"""Corrects the generator's operations: parameters, bodies, answers, errors, and what a caller needs."""

from dataclasses import dataclass
from typing import Any

from tools.openapi import errors, schemas, text
from tools.openapi.contract import PACKAGE, Contract, Field, Route, Rpc
from tools.openapi.schemas import Schema, Usage

HTTP_BODY = "google.api.HttpBody"
SECURITY_SCHEME = "bearer"
_EVENT = f"{PACKAGE}.Event"
_STREAM_NOTE = (
    "A stream of JSON objects, one a line (newline-delimited JSON). The schema is that of one line; the content"
    " type stays `application/json`. An error after the first line ends the stream without a line about it: resume"
    " after what was received."
)


@dataclass(frozen=True, slots=True)
class Examples:
    """The examples of one rpc: parameters, named request bodies, and one answer.

    The answer is a list of lines for streams, and one text for each content type for `google.api.HttpBody`.
    """

    parameters: dict[str, Any]
    requests: dict[str, Any]
    response: Any


def operation(raw: Schema, rpc: Rpc, route: Route, contract: Contract, examples: Examples) -> Schema:
    """One operation of the document. Further bindings of an rpc get a number: operation ids must differ."""
    position = rpc.routes.index(route)
    description = _full_text(raw)
    parameters = [_parameter(one, rpc, route, contract, examples) for one in raw.get("parameters", ())]
    result: Schema = {
        "tags": raw["tags"],
        "operationId": rpc.name if position == 0 else f"{rpc.name}{position + 1}",
        # Summaries are plain text, descriptions Markdown.
        "summary": text.first_sentence(description).replace("`", ""),
        "description": _description(description, rpc, route),
        "security": [] if rpc.public else [{SECURITY_SCHEME: []}],
        "parameters": [*_header_parameters(rpc), *parameters],
    }
    if route.body:
        result["requestBody"] = _request_body(rpc, route, contract, examples)
    names = _error_names(rpc, route, contract, _texts(raw))
    result["responses"] = {"200": _success(rpc, examples), **errors.error_responses(names)}
    return {key: value for key, value in result.items() if value or key == "security"}


def parameter_components() -> dict[str, Schema]:
    """The headers that a request may carry."""
    return {
        "x-tenant-id": {
            "name": "x-tenant-id",
            "in": "header",
            "description": "Tenant to act in. May be left out when the token allows exactly one.",
            "schema": {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]*$", "minLength": 1, "maxLength": 63},
            "example": "acme",
        },
        "x-request-id": {
            "name": "x-request-id",
            "in": "header",
            "description": "Id of this request in answers, errors and logs. Taken if it is 1 to 128 visible"
            " ASCII characters, else the service makes one.",
            "schema": {"type": "string"},
            "example": "refund-agent-5f0c1d",
        },
    }


def header_components() -> dict[str, Schema]:
    """The headers that an answer carries."""
    request_id = {"schema": {"type": "string"}, "example": "refund-agent-5f0c1d"}
    return {
        "x-request-id": {
            "description": "Id of the request: the caller's, or the one that the service made.",
            "required": True,
            **request_id,
        },
        "x-request-id-if-read": {
            "description": "Id of the request. Left out of the answer to one that was refused before it was read.",
            **request_id,
        },
        "retry-after": {
            "description": "Seconds to wait before the next try.",
            "required": True,
            "schema": {"type": "integer", "minimum": 0},
            "example": 1,
        },
    }


def body_message(rpc: Rpc, route: Route, contract: Contract) -> str | None:
    """Full name of the message that is the request body of a route."""
    if not route.body:
        return None
    if route.body == "*":
        return rpc.request
    return contract.messages[rpc.request].field(route.body).type_name


def _full_text(raw: Schema) -> str:
    """The rpc's whole comment; the generator moves a first paragraph to the summary if another follows."""
    description = raw.get("description", "")
    name = raw["operationId"].rsplit(".", maxsplit=1)[-1]
    summary = raw["summary"] if not name.startswith(raw["summary"]) else ""
    return text.prose(f"{summary}\n\n{description}")


def _description(description: str, rpc: Rpc, route: Route) -> str:
    parts = [description, _needs(rpc)]
    if route != rpc.routes[0]:
        first = rpc.routes[0]
        parts.append(f"The same as `{first.method.upper()} {first.path}`.")
    return text.wrapped("\n\n".join(parts))


def _needs(rpc: Rpc) -> str:
    if rpc.public:
        return "Needs no token."
    permissions = [f"`{permission}`" for permission in rpc.permissions]
    kind = "the permission" if len(permissions) == 1 else "one of the permissions"
    return text.sentences(
        f"Needs the role `{rpc.role}`" + (f" and {kind} {' or '.join(permissions)}." if permissions else "."),
        "Acts on the whole installation: `x-tenant-id` is not needed." if rpc.installation_wide else "",
    )


def _header_parameters(rpc: Rpc) -> list[Schema]:
    if rpc.public:
        return []
    names = ["x-request-id"] if rpc.installation_wide else ["x-tenant-id", "x-request-id"]
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def _parameter(raw: Schema, rpc: Rpc, route: Route, contract: Contract, examples: Examples) -> Schema:
    name = raw["name"]
    field = contract.messages[rpc.request].field(name)
    with_text = raw["schema"] | {"description": raw.get("description", "")}
    schema = schemas.field_schema(with_text, field, Usage(parameter=True))
    description = schema.pop("description")
    result: Schema = {"name": name, "in": raw["in"], "description": description}
    if name in route.path_fields or field.required:
        result["required"] = True
    result["schema"] = schema
    if name in examples.parameters:
        result["example"] = examples.parameters[name]
    return result


def _request_body(rpc: Rpc, route: Route, contract: Contract, examples: Examples) -> Schema:
    message = body_message(rpc, route, contract)
    if message is None:
        raise ValueError(f"{rpc.name} has no body")
    return {
        "required": True,
        "content": {
            "application/json": {"schema": schemas.reference(message)} | _named_examples(examples.requests),
        },
    }


def _success(rpc: Rpc, examples: Examples) -> Schema:
    description, shown = "Success.", {"answer": examples.response}
    if rpc.streams:
        description = _STREAM_NOTE
        shown = {f"line_{number}": line for number, line in enumerate(examples.response, start=1)}
    content = {"application/json": {"schema": schemas.reference(rpc.response)} | _named_examples(shown)}
    if rpc.response == HTTP_BODY:
        content = {
            kind: {"schema": {"type": "string" if isinstance(shown, str) else "object"}, "example": shown}
            for kind, shown in examples.response.items()
        }
    return {
        "description": description,
        "headers": {"x-request-id": {"$ref": "#/components/headers/x-request-id"}},
        "content": content,
    }


def _named_examples(examples: dict[str, Any]) -> Schema:
    if len(examples) == 1:
        return {"example": next(iter(examples.values()))}
    return {"examples": {name: {"value": value} for name, value in examples.items()}}


def _texts(raw: Schema) -> str:
    """Everything that the contract says about the operation and its parameters."""
    return "\n".join((_full_text(raw), *(one.get("description", "") for one in raw.get("parameters", ()))))


def _error_names(rpc: Rpc, route: Route, contract: Contract, texts: str) -> list[str]:
    """Which shared error responses an operation can answer, beside the default."""
    fields = contract.messages[rpc.request].fields
    writes_events = any(field.type_name == _EVENT for field in fields)
    names = ["InvalidArgument", "RateLimited", "HeadersTooLarge", "Internal", "Unimplemented", "Unavailable"]
    if not rpc.public:
        names += ["Unauthenticated", "Forbidden"]
    if "UNAUTHENTICATED" in texts:
        names.append("Unauthenticated")
    if "NOT_FOUND" in texts or "must exist" in texts or any(_is_id(field, route) for field in fields):
        names.append("NotFound")
    if writes_events:
        names += ["AppendConflict", "UnprocessableEvent"]
    if any(field.name == "allow_stale" for field in fields):
        names.append("ProjectionOutOfDate")
    if "REPLAY_CONFLICT" in texts:
        names.append("ReplayConflict")
    if "ALREADY_EXISTS" in texts or "FAILED_PRECONDITION" in texts:
        names.append("AccessConflict")
    if route.body:
        names.append("PayloadTooLarge")
    return names


def _is_id(field: Field, route: Route) -> bool:
    """Whether the path names a resource with the field; a closed set of names cannot miss."""
    return field.name in route.path_fields and not field.text.allowed
