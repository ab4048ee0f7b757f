"""Which database a command works on: the configured one, or that of the running `decisiongraph run`."""

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from decisiongraph_service.cli import failure

if TYPE_CHECKING:
    from decisiongraph_service.runtime.settings import Settings

FILE: Final = "database-url"
"""Name of the file in the data folder in which `decisiongraph run` leaves its database's address, mode 0600."""

_CONNECT_SECONDS: Final = 5.0


class Unreachable(Exception):
    """The database cannot be connected to; the message names it, and never the password."""


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


async def require_reachable(url: str) -> None:
    """Return if the database takes a connection.

    Raises:
        Unreachable: it does not within five seconds.
    """
    import asyncpg

    try:
        connection = await asyncpg.connect(url, timeout=_CONNECT_SECONDS)
    except TimeoutError:
        reason = f"no answer within {_CONNECT_SECONDS:.0f} s"
    except asyncpg.PostgresError as error:
        reason = str(error)
    except ConnectionRefusedError:
        reason = "nothing listens there"
    except OSError as error:
        reason = error.strerror or str(error)
    except (ValueError, asyncpg.InterfaceError):
        # Without the reason: what is wrong with an address may be told by quoting it, password included.
        raise Unreachable(
            "DG_DATABASE_URL is not an address like postgresql://user:password@host:5432/database"
        ) from None
    else:
        await connection.close()
        return
    raise Unreachable(f"cannot connect to {place(url)} (DG_DATABASE_URL): {reason}")


def place(url: str) -> str:
    """The database for people: its name, host and port, and nothing secret."""
    parts = urlsplit(url)
    if "@" in url and "@" not in parts.netloc:
        # A password with `/`, `?` or `#` that is not escaped: its beginning would pass for the host.
        return "the database"
    host = parts.netloc.rpartition("@")[2] or "localhost"
    port = "" if ":" in host.rpartition("]")[2] else ":5432"
    return f"database {parts.path.lstrip('/') or '(default)'} at {host}{port}"
