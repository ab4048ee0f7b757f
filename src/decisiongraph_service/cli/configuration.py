"""The settings of a command, read from the environment and the settings file; what is wrong with them is one line."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from decisiongraph_service.cli import failure

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from decisiongraph_service.runtime.settings import Settings

FILE_VARIABLE: Final = "DG_CONFIG_FILE"


def choose_file(
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"TOML file with settings, instead of that in {FILE_VARIABLE}. Stands before the command.",
        ),
    ] = None,
) -> None:
    """Take the settings from this file. All that this process starts does so as well."""
    if config is not None:
        os.environ[FILE_VARIABLE] = str(config)


def settings(**given: Any) -> "Settings":
    """The settings, those `given` before those of the environment and of the file; ends the command if one is wrong."""
    from pydantic import ValidationError

    from decisiongraph_service.runtime.settings import Settings
    from decisiongraph_service.runtime.settings_file import SettingsFileError

    try:
        return Settings(**given)
    except ValidationError as error:
        failure.exit_with("; ".join(map(_explained, error.errors())))
    except SettingsFileError as error:
        failure.exit_with(str(error))


def _explained(error: "ErrorDetails") -> str:
    """Which setting of which place is wrong, and why; without its value, which may be secret."""
    from decisiongraph_service.runtime import settings_sources
    from decisiongraph_service.runtime.settings import variable

    place, said = error["loc"], error["msg"].removeprefix("Value error, ")
    if not place:
        return f"DG_ variables: {said}"
    found, name = settings_sources.sources(), str(place[0])
    if name == "database_url" and found[name] == "default":
        # It is what the other one leads to.
        name = "database_url_file"
    if error["type"] == "dict_type":
        said = "must be a table" if found[name] == "file" else "must be a JSON object"
    if found[name] == "file":
        return f"{os.environ.get(FILE_VARIABLE)}: {'.'.join(map(str, (name, *place[1:])))}: {said}"
    return f"{variable(name)}: {said}"
