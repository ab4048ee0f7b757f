"""A valid request for every rpc: the examples of the published OpenAPI document."""

from pathlib import Path
from typing import Any, Final

import yaml
from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor

from decisiongraph_service.access.authorization import Rule
from decisiongraph_service.rpc import contract
from tests.calling import METHODS


def http_rule(method: MethodDescriptor) -> Any:
    """The REST route of an rpc; without a pattern if it has none."""
    options: Any = method.GetOptions()
    return options.Extensions[annotations_pb2.http]


_FILE: Final = Path(__file__).resolve().parents[1] / "tools/openapi/examples.yaml"
_EXAMPLES: Final[dict[str, Any]] = yaml.safe_load(_FILE.read_text())["operations"]

RULES: Final[dict[str, Rule]] = {path.rpartition("/")[2]: rule for path, rule in contract.authorization_rules().items()}
"""The authorization rule of every rpc, by its name."""
PRIVATE: Final = tuple(name for name, rule in RULES.items() if not rule.public)
PUBLIC: Final = tuple(name for name, rule in RULES.items() if rule.public)
OVER_REST: Final = frozenset(name for name, (_, method) in METHODS.items() if http_rule(method).WhichOneof("pattern"))


def ways(rpc: str) -> tuple[str, ...]:
    """The ways that an rpc can be called."""
    return ("rest", "grpc") if rpc in OVER_REST else ("grpc",)


def calls(rpcs: tuple[str, ...]) -> list[tuple[str, str]]:
    """Every way of every rpc."""
    return [(way, rpc) for rpc in rpcs for way in ways(rpc)]


def example(rpc: str) -> dict[str, Any]:
    """A request that breaks no rule of the contract."""
    if rpc == "IngestEvents":
        return example("AppendEvent")
    given = _EXAMPLES.get(rpc, {})
    bodies = list(given.get("requests", {}).values()) or [given.get("request", {})]
    body = {"event": bodies[0]} if rpc == "AppendEvent" else bodies[0]
    parameters = {name: value for name, value in given.get("parameters", {}).items() if name != "page_token"}
    return {**parameters, **body}
