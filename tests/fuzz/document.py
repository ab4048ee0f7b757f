"""The published document as schemathesis gets it: it lets fewer faults through so, and is fuzzed faster."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import schemathesis
import yaml

_METHODS: Final = ("get", "put", "post", "delete", "patch")
_DOCUMENT: Final[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).resolve().parents[2] / "generated/openapi.yaml").read_text()
)
# What invalid data may be refused with. 404: it is in the path, and names nothing, or no route at all.
_REFUSALS: Final = ("400", "401", "403", "404", "413", "422", "431")


def operations() -> dict[str, dict[str, Any]]:
    """The operations of the published document by their label, e.g. `GET /api/v1/events`."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in _DOCUMENT["paths"].items()
        for method, operation in methods.items()
        if method in _METHODS
    }


def components() -> dict[str, Any]:
    """What schemas of the published document refer to."""
    found: dict[str, Any] = _DOCUMENT["components"]
    return found


def answer_schema(label: str) -> dict[str, Any]:
    """The schema of the successful answer of an operation, with the components that it refers to."""
    schema = next(iter(operations()[label]["responses"]["200"]["content"].values()))["schema"]
    return {"allOf": [schema], "components": components()}


def body_schema(label: str) -> dict[str, Any]:
    """The schema of the request body of an operation, with the components that it refers to."""
    schema: dict[str, Any] = operations()[label]["requestBody"]["content"]["application/json"]["schema"]
    return schema | {"components": components()}


def error_schema() -> dict[str, Any]:
    """The schema of every error, with the components that it refers to."""
    return {"$ref": "#/components/schemas/Error", "components": components()}


def load(rest: str, known: Mapping[str, Sequence[str]]) -> schemathesis.BaseSchema:
    """The document for schemathesis.

    Args:
        rest: Where Envoy is.
        known: For names of parameters, values of which something is known: the first becomes the example, and half of
            the valid requests have one of them. All others would find nothing.
    """
    document = copy.deepcopy(_DOCUMENT)
    for operation in _operations(document):
        # `default` allows every status. Here each must be named.
        del operation["responses"]["default"]
        for parameter in operation.get("parameters", ()):
            _take_known(parameter, known)
        for content in operation.get("requestBody", {}).get("content", {}).values():
            content.get("example", {}).update({name: known[key][0] for name, key in _in_body(content, known)})
    for parameter in document["components"]["parameters"].values():
        _take_known(parameter, known)
    for schema in document["components"]["schemas"].values():
        _spell_out_choice(schema)
        if "properties" in schema:
            # Said in the document's introduction.
            schema["propertyNames"] = {"minLength": 1}
    return schemathesis.openapi.from_dict(document, config=_config(rest, known))


def _operations(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in document["paths"].values():
        yield from (operation for method, operation in methods.items() if method in _METHODS)


def _take_known(parameter: dict[str, Any], known: Mapping[str, Sequence[str]]) -> None:
    if parameter.get("name") in known:
        parameter["example"] = known[parameter["name"]][0]


def _in_body(content: Mapping[str, Any], known: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """The members of a body's example of which values are known, with the names that the values have in `known`."""
    return [(name, f"body.{name}") for name in content.get("example", {}) if f"body.{name}" in known]


def _spell_out_choice(schema: dict[str, Any]) -> None:
    """Exactly one of N members, said so that one can be drawn directly.

    Schemathesis draws objects with any of them and throws away all that have not exactly one; of eleven, that is almost
    all.
    """
    branches = schema.get("oneOf", ())
    members = [branch["required"][0] for branch in branches if "required" in branch]
    for member, branch in zip(members, branches, strict=False):
        branch["properties"] = branch.get("properties", {}) | {other: False for other in members if other != member}


def _config(rest: str, known: Mapping[str, Sequence[str]]) -> schemathesis.Config:
    return schemathesis.Config.from_dict(
        {
            "base-url": rest,
            # No answer takes long: the gateway gives up after 30 seconds.
            "request-timeout": 40,
            # Every request has a token that is enough; those that are not have tests of their own.
            "generation": {"with-security-parameters": False},
            "checks": {
                "negative_data_rejection": {"expected-statuses": list(_REFUSALS)},
                # 501: the test that reads the outcome knows which rpcs have not landed.
                "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "501"]},
            },
            "dictionaries": {name: {"values": list(values)} for name, values in known.items()},
            "parameters": {
                # Another tenant is refused before anything else is looked at.
                name: {"dictionary": name, "probability": 0.9 if name == "x-tenant-id" else 0.5}
                for name in known
            },
        }
    )
