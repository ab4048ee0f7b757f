"""The published OpenAPI document, for tests: it knows nothing of schemathesis."""

from pathlib import Path
from typing import Any, Final

import yaml

METHODS: Final = ("get", "put", "post", "delete", "patch")
DOCUMENT: Final[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).resolve().parents[2] / "generated/openapi.yaml").read_text()
)


def operations() -> dict[str, dict[str, Any]]:
    """The operations of the published document by their label, e.g. `GET /api/v1/events`."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    }


def components() -> dict[str, Any]:
    """What schemas of the published document refer to."""
    found: dict[str, Any] = DOCUMENT["components"]
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
