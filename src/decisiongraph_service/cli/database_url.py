"""Which database a command works on: the configured one, or that of the running `decisiongraph run`."""

from typing import TYPE_CHECKING, Final

from decisiongraph_service.cli import failure

if TYPE_CHECKING:
    from decisiongraph_service.runtime.settings import Settings

FILE: Final = "database-url"
"""Name of the file in the data folder in which `decisiongraph run` leaves its database's address, mode 0600."""


def find(settings: "Settings") -> str:
    """The address of the database; ends the command if there is none."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    path = settings.data_dir / FILE
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        failure.exit_with(
            f"no database: {path} does not exist, so no service runs from this folder; "
            "start it with `make run`, or set DG_DATABASE_URL"
        )
