"""Makes the published OpenAPI document from the generator's raw output, the descriptor set and the examples.

The generator (protoc-gen-connect-openapi) knows routes, comments and most rules. What it cannot know is how
Envoy prints and reads JSON, who may call what, how errors look, and good examples; that is added here.
"""

import argparse
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.openapi import errors, operations, schemas, text  # noqa: E402
from tools.openapi.contract import Contract, Route, Rpc, read_contract  # noqa: E402
from tools.openapi.schemas import Schema  # noqa: E402

HEADER = "# Made by `make generate` (tools/openapi_document.py) from proto/. Do not edit.\n"
DESCRIPTION = """\
An append-only log of the decisions of AI agents and automation, and exact answers about them. The same
contract as gRPC: package `decisiongraph.v1`.

- **Token.** Send `authorization: Bearer <JWT>`; `POST /api/v1/auth/token` exchanges an API key for one.
- **Tenant.** `x-tenant-id` names the tenant to act in. It may be left out when the token allows exactly one.
- **Request id.** `x-request-id` is taken from the request or made; it stands on every answer and in errors.
- **Errors** have one shape, the schema `Error`. Programs read `reason` in its `ErrorInfo`; the header
  `retry-after` says when a retry makes sense.
- **Numbers.** 64-bit integers are texts in answers (`"log_seq": "42"`); requests may send text or number. In
  `payload`, numbers must be integral and within ±(2^53 - 1): send other numbers as text.
- **Fields.** Names are in snake_case. Answers always hold plain fields and lists, also empty ones, and
  leave out what is unset; they may gain fields. In requests null is the same as left out, and so is the empty
  text where it is among the allowed values; unknown fields are ignored (within `payload` all are kept), but not
  one whose name is empty. Unknown query parameters are refused.
- **Lengths** count bytes in UTF-8 where a description says so; `maxLength`, in characters, is an upper bound.
"""


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, lists indented, and everything in full."""

    def ignore_aliases(self, data: Any) -> bool:
        """No anchors: readers see each part where it stands."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent the items of lists."""
        super().increase_indent(flow, False)


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _represent_text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the document. Prints nothing when all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, required=True, help="the generator's output")
    parser.add_argument("--descriptors", type=Path, required=True, help="FileDescriptorSet of the contract")
    parser.add_argument("--examples", type=Path, required=True, help="examples by rpc")
    parser.add_argument("--out", type=Path, required=True, help="the document to write")
    options = parser.parse_args(arguments)
    document = build(
        yaml.safe_load(options.raw.read_text()),
        read_contract(options.descriptors),
        yaml.safe_load(options.examples.read_text()),
        tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"],
    )
    options.out.write_text(render(document))
    return 0


def render(document: Schema) -> str:
    """The document as YAML, the same bytes for the same content."""
    return HEADER + yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def build(raw: Schema, contract: Contract, examples: Schema, version: str) -> Schema:
    """The document. Fails if an rpc lacks examples or an example belongs to none."""
    by_rpc = read_examples(examples["operations"], contract)
    paths = _paths(raw, contract, by_rpc)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "DecisionGraph API",
            "version": version,
            "description": DESCRIPTION,
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The service that this document was read from."}],
        "tags": [
            {"name": tag["name"], "description": text.wrapped(text.prose(tag["description"]))} for tag in raw["tags"]
        ],
        "paths": paths,
        "components": {
            "schemas": _schemas(raw, contract, paths),
            "parameters": operations.parameter_components(),
            "headers": operations.header_components(),
            "responses": errors.response_components(examples["errors"]),
            "securitySchemes": {
                operations.SECURITY_SCHEME: {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A token of `POST /api/v1/auth/token`, without the word `Bearer`.",
                }
            },
        },
    }


def read_examples(examples: dict[str, Any], contract: Contract) -> dict[str, operations.Examples]:
    """The examples by rpc name, complete and with nothing left over."""
    rpcs = contract.rest_rpcs()
    if unknown := sorted(set(examples) - set(rpcs)):
        raise ValueError(f"examples name rpcs that REST does not have: {unknown}")
    return {name: _examples_of(rpc, examples.get(name, {}), contract) for name, rpc in rpcs.items()}


def _examples_of(rpc: Rpc, given: dict[str, Any], contract: Contract) -> operations.Examples:
    requests = given.get("requests") or ({"request": given["request"]} if "request" in given else {})
    fields = {field.name for field in contract.messages[rpc.request].fields}
    parameters = given.get("parameters", {})
    has_parameters = any((not route.body and fields) or route.path_fields for route in rpc.routes)
    if unknown := sorted(set(parameters) - fields):
        raise ValueError(f"examples of {rpc.name} name unknown parameters: {unknown}")
    if "response" not in given:
        raise ValueError(f"{rpc.name} has no example of its response")
    if any(route.body for route in rpc.routes) != bool(requests):
        raise ValueError(f"{rpc.name} needs an example of its request exactly if it has a body")
    if has_parameters != bool(parameters):
        raise ValueError(f"{rpc.name} needs examples of its parameters exactly if it has any")
    return operations.Examples(parameters, requests, given["response"])


def _paths(raw: Schema, contract: Contract, examples: dict[str, operations.Examples]) -> Schema:
    """Every route of the contract, in the order of the generator."""
    routes: dict[tuple[str, str], tuple[Rpc, Route]] = {
        (route.path, route.method): (rpc, route) for rpc in contract.rest_rpcs().values() for route in rpc.routes
    }
    found = {(path, method) for path, methods in raw["paths"].items() for method in methods}
    if found != set(routes):
        raise ValueError(f"the generator's paths are not those of the contract: {sorted(found ^ set(routes))}")
    return {
        path: {
            method: operations.operation(one, rpc, route, contract, examples[rpc.name])
            for method, one in methods.items()
            for rpc, route in [routes[path, method]]
        }
        for path, methods in raw["paths"].items()
    }


def _schemas(raw: Schema, contract: Contract, paths: Schema) -> Schema:
    """The components that the paths refer to, directly or through others, by name."""
    usages = schemas.usages(contract)
    in_path = {
        operations.body_message(rpc, route, contract): route.path_fields
        for rpc in contract.rest_rpcs().values()
        for route in rpc.routes
    }
    made: dict[str, Schema] = {}
    for full_name, usage in usages.items():
        component, name = raw["components"]["schemas"].get(full_name), schemas.short_name(full_name)
        if component is None or name == full_name:
            continue
        if full_name in contract.enums:
            made[name] = schemas.enum_schema(component, contract.enums[full_name])
        else:
            message, without = contract.messages[full_name], in_path.get(full_name, ())
            made[name] = schemas.message_schema(component, message, usage, without=without)
    own, used = errors.schema_components(), schemas.used_names(paths)
    while more := set().union(*(schemas.used_names(made[name]) for name in used)) - used:
        used |= more
    return {name: (made | own)[name] for name in sorted(used | set(own))}


if __name__ == "__main__":
    raise SystemExit(main())
