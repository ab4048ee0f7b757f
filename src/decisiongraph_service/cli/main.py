"""The `decisiongraph` command: the list of its commands. Each imports what it needs when it runs."""

import io
import sys
from typing import Final

from decisiongraph_service.cli import (
    admin,
    append,
    bench,
    config,
    configuration,
    db,
    doctor,
    envoy_config,
    failure,
    graph,
    health,
    migrate,
    precedents,
    projections,
    replay,
    run,
    serve,
    tail,
    token,
    token_keys,
    trace,
    worker,
)
from decisiongraph_service.cli.group import Group

app = Group(
    name="decisiongraph",
    help="Records the decisions of AI agents and automation, and answers afterwards what happened and why.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(configuration.choose_file)

_RUN: Final = "Run a service"
app.add("run", run.run, panel=_RUN)
app.add("serve", serve.serve, panel=_RUN)
app.add("worker", worker.worker, panel=_RUN)
app.add("migrate", migrate.migrate, panel=_RUN)
app.add_typer(db.app, name="db", rich_help_panel=_RUN)
app.add("check-log", db.check, hidden=True)
app.add("envoy-config", envoy_config.envoy_config, panel=_RUN)

_ASK: Final = "Record decisions, and ask about them"
app.add("append", append.append, panel=_ASK)
app.add("tail", tail.tail, panel=_ASK)
app.add_typer(trace.app, name="trace", rich_help_panel=_ASK)
app.add("graph", graph.graph, panel=_ASK)
app.add("precedents", precedents.precedents, panel=_ASK)

_LOOK_AFTER: Final = "Look after a service"
app.add("health", health.health, panel=_LOOK_AFTER)
app.add("doctor", doctor.doctor, panel=_LOOK_AFTER)
app.add_typer(config.app, name="config", rich_help_panel=_LOOK_AFTER)
app.add_typer(projections.app, name="projections", rich_help_panel=_LOOK_AFTER)
app.add_typer(replay.app, name="replay", rich_help_panel=_LOOK_AFTER)
app.add_typer(bench.app, name="bench", rich_help_panel=_LOOK_AFTER)

_ACCESS: Final = "Let programs in"
app.add_typer(admin.app, name="admin", rich_help_panel=_ACCESS)
app.add("token", token.token, panel=_ACCESS)
app.add_typer(token_keys.app, name="token-keys", rich_help_panel=_ACCESS)


def main() -> None:
    """Run the command line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a terminal cannot show must not end a command.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except Exception as error:  # noqa: BLE001 - the outermost edge: one line, never a stack trace
        failure.exit_with_error(error)


if __name__ == "__main__":
    main()
