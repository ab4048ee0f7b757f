"""`decisiongraph migrate`: bring a database to the schema of this version."""

from typing import Annotated

import typer

from decisiongraph_service.cli import configuration, database_url, failure, output
from decisiongraph_service.cli.options import AsJson


def migrate(
    down_to: Annotated[
        str | None,
        typer.Option(help="Undo migrations down to this revision; `base` removes everything, DATA INCLUDED."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring the database of DG_DATABASE_URL (or of the running `decisiongraph run`) to the newest schema.

    Safe to repeat and to run from several places at once.
    """
    import asyncio

    from decisiongraph_service.domain import errors
    from decisiongraph_service.runtime import server
    from decisiongraph_service.storage import migrations

    folder = server.migrations_folder()
    url = database_url.find(configuration.settings())
    try:
        if down_to is not None:
            typer.confirm(f"Undo migrations down to {down_to}? Data of undone tables is lost.", abort=True, err=as_json)
            asyncio.run(migrations.downgrade(url, folder, down_to))
        else:
            asyncio.run(migrations.upgrade(url, folder))
    except errors.DecisionGraphError as error:
        failure.exit_with(error.message)
    revision = down_to or migrations.newest_revision(folder)
    if as_json:
        output.print_json({"revision": revision})
    else:
        print(f"the database is at revision {revision}")
