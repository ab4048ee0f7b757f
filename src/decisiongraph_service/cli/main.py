"""The `decisiongraph` command: the list of its commands. Each imports what it needs when it runs."""

import typer

from decisiongraph_service.cli import (
    admin,
    check,
    distribute,
    envoy_config,
    migrate,
    projections,
    run,
    serve,
    token,
    token_keys,
)

app = typer.Typer(
    name="decisiongraph",
    help="Records the decisions of AI agents and automation, and answers afterwards what happened and why.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("serve")(serve.serve)
app.command("migrate")(migrate.migrate)
app.add_typer(distribute.app, name="db")
app.command("check-log")(check.check_log)
app.command("envoy-config")(envoy_config.envoy_config)
app.command("token")(token.token)
app.add_typer(token_keys.app, name="token-keys")
app.add_typer(projections.app, name="projections")
app.add_typer(admin.app, name="admin")


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
