"""The reference of the configuration, from the one settings class. Defaults are those of the class, never values."""

import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from tools.docs_site.markdown import code, codes, table, wide_page

from decisiongraph_service.runtime.settings import Settings

PAGE: Final = "configuration.md"
_TYPES: Final = {
    bool: "`true` or `false`",
    float: "number",
    int: "integer",
    str: "text",
    Path: "path",
    SecretStr: "text, secret",
    dict: "JSON object",
}


def render() -> str:
    """The page."""
    prefix = Settings.model_config.get("env_prefix", "")
    rows = [
        (code(f"{prefix}{name}".upper()), _type(field.annotation), _default(field), _bounds(field), _meaning(field))
        for name, field in Settings.model_fields.items()
    ]
    return wide_page(
        "# Configuration",
        f"The server, `decisiongraph run` and the commands read the same environment variables, all beginning with "
        f"`{prefix}`. One that is empty counts as unset. A value that is out of bounds keeps the server from starting, "
        "and the message names the setting.",
        f"Each may stand in a [settings file](API_RUNTIME.md#settings-file) instead, by its name without `{prefix}` in "
        "lower case; the environment comes before it. `decisiongraph config show` tells which settings are found, and "
        "where.",
        table(("Variable", "Type", "Default", "Bounds", "Meaning"), rows),
    )


def _type(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return next(_type(one) for one in typing.get_args(annotation) if one is not type(None))
    if origin is typing.Literal:
        return codes(typing.get_args(annotation))
    return _TYPES[origin or annotation]


def _default(field: FieldInfo) -> str:
    default = field.get_default()
    if default is None or default == {}:
        return "-"
    if isinstance(default, SecretStr):
        raise TypeError("a secret has no default")
    return code(str(default).lower() if isinstance(default, bool) else str(default))


def _bounds(field: FieldInfo) -> str:
    return " ".join(_rules(field.metadata))


def _rules(metadata: Iterable[Any]) -> Iterable[str]:
    low = next((one.ge for one in metadata if hasattr(one, "ge")), None)
    high = next((one.le for one in metadata if hasattr(one, "le")), None)
    if low is not None and high is not None:
        yield f"{low:,} to {high:,}"
    elif low is not None or high is not None:
        raise ValueError("a number has both bounds")
    if any(hasattr(one, "min_length") for one in metadata):
        yield "not empty"


def _meaning(field: FieldInfo) -> str:
    if not field.description:
        raise ValueError("every setting has a description")
    return field.description
