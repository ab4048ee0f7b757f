"""The published document as schemathesis gets it: it lets fewer faults through so, and is fuzzed faster."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import schemathesis

from tests.fuzz import document

# What invalid data may be refused with. 404: it is in the path, and names nothing, or no route at all.
_REFUSALS: Final = ("400", "401", "403", "404", "413", "422", "431")


def load(rest: str, known: Mapping[str, Sequence[str]]) -> schemathesis.BaseSchema:
    """The document for schemathesis.

    Args:
        rest: Where Envoy is.
        known: For names of parameters, values of which something is known: the first becomes the example, and half of
            the valid requests have one of them. All others would find nothing.
    """
    changed = copy.deepcopy(document.DOCUMENT)
    for operation in _operations(changed):
        # `default` allows every status. Here each must be named.
        del operation["responses"]["default"]
        for parameter in operation.get("parameters", ()):
            _take_known(parameter, known)
        for content in operation.get("requestBody", {}).get("content", {}).values():
            content.get("example", {}).update({name: known[key][0] for name, key in _in_body(content, known)})
    for parameter in changed["components"]["parameters"].values():
        _take_known(parameter, known)
    for schema in changed["components"]["schemas"].values():
        _spell_out_choice(schema)
        if "properties" in schema:
            # Said in the document's introduction.
            schema["propertyNames"] = {"minLength": 1}
    return schemathesis.openapi.from_dict(changed, config=_config(rest, known))


def _operations(changed: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in changed["paths"].values():
        yield from (operation for method, operation in methods.items() if method in document.METHODS)


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
