"""Where settings come from, and which variables of the environment look like settings and are none."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from pydantic import SecretStr
from pydantic_settings import EnvSettingsSource

from decisiongraph_service.runtime import secret_texts, settings_file
from decisiongraph_service.runtime.settings import PREFIX, Settings, variable

Source: TypeAlias = Literal["environment", "file", "default", "database_url_file"]

OTHER_VARIABLES: Final = frozenset(
    f"{PREFIX}{name}"
    for name in (
        *("SERVER", "TOKEN", "API_KEY", "TENANT", "TLS_CA_FILE", "PRODUCER", "SYSTEM"),  # of clients
        *("TRACEBACK", "WORKER_OF"),  # of the command line
    )
)
"""Variables that begin like settings and are none."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as people may see it."""

    name: str
    variable: str
    value: Any
    """JSON; secrets are masked."""
    source: Source


@dataclass(frozen=True, slots=True)
class UnknownVariable:
    """A variable that begins like a setting and is none."""

    name: str
    meant: str
    """`; did you mean …?`, or empty."""


def list_settings(settings: Settings) -> list[Setting]:
    """All settings, in the order of their declaration.

    Raises:
        SettingsFileError: the settings file cannot be used any more.
    """
    found = sources()
    if settings.database_url is not None and found["database_url"] == "default":
        found["database_url"] = "database_url_file"
    return [Setting(name, variable(name), _shown(getattr(settings, name)), source) for name, source in found.items()]


def sources() -> dict[str, Source]:
    """Where each setting comes from, by its name.

    Raises:
        SettingsFileError: the settings file cannot be used.
    """
    environment = EnvSettingsSource(Settings)
    in_file = Settings.values_of_file(environment)

    def source(name: str) -> Source:
        if environment.get_field_value(Settings.model_fields[name], name)[0] is not None:
            return "environment"
        return "file" if name in in_file else "default"

    return {name: source(name) for name in Settings.model_fields}


def unknown_variables(
    environment: Mapping[str, str] = os.environ, known: Collection[str] | None = None
) -> list[UnknownVariable]:
    """The variables that are perhaps misspelt settings, sorted."""
    known = {*map(variable, Settings.model_fields), *OTHER_VARIABLES} if known is None else known
    return [
        UnknownVariable(name, settings_file.did_you_mean(name.upper(), known))
        for name in sorted(environment)
        if name.upper().startswith(PREFIX) and name.upper() not in known
    ]


def _shown(value: object) -> Any:
    if isinstance(value, SecretStr):
        return secret_texts.masked(value.get_secret_value())
    if isinstance(value, Path):
        return secret_texts.masked_path(value)
    if value is None or isinstance(value, (bool, int, float, dict)):
        return value
    return secret_texts.masked(str(value))
