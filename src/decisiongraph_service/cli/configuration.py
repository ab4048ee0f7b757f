"""The settings of a command, read from the environment; what is wrong with them is one line."""

from typing import TYPE_CHECKING, Any

from decisiongraph_service.cli import failure

if TYPE_CHECKING:
    from decisiongraph_service.runtime.settings import Settings


def settings(**given: Any) -> "Settings":
    """The settings, those `given` before those of the environment; ends the command if one is wrong."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from decisiongraph_service.runtime.settings import Settings

    try:
        return Settings(**given)
    except ValidationError as error:
        # Without the values, which may be secret.
        failure.exit_with("; ".join(f"{_variable(e['loc'])}: {e['msg']}" for e in error.errors()))
    except SettingsError as error:
        failure.exit_with(f"DG_ variables: {error}; write it as JSON")


def _variable(place: tuple[int | str, ...]) -> str:
    return f"DG_{place[0]}".upper() if place else "DG_ variables"
