"""The `decisiongraph` command: the list of its commands. Each imports what it needs when it runs."""

from decisiongraph_service.cli import (
    admin,
    append,
    db,
    envoy_config,
    failure,
    graph,
    migrate,
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
app.add("run", run.run)
app.add("serve", serve.serve)
app.add("worker", worker.worker)
app.add("migrate", migrate.migrate)
app.add("append", append.append)
app.add("tail", tail.tail)
app.add_typer(trace.app, name="trace")
app.add("graph", graph.graph)
app.add_typer(db.app, name="db")
app.add("check-log", db.check, hidden=True)
app.add("envoy-config", envoy_config.envoy_config)
app.add("token", token.token)
app.add_typer(token_keys.app, name="token-keys")
app.add_typer(projections.app, name="projections")
app.add_typer(replay.app, name="replay")
app.add_typer(admin.app, name="admin")


def main() -> None:
    """Run the command line."""
    try:
        app()
    except Exception as error:  # noqa: BLE001 - the outermost edge: one line, never a stack trace
        failure.exit_with_error(error)


if __name__ == "__main__":
    main()
