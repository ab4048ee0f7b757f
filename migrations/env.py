"""Alembic's environment. Revisions are plain SQL; `decisiongraph migrate` runs them over a connection of its own."""

from alembic import context
from sqlalchemy import Connection  # noqa: TC002 - Alembic runs this file, it is not imported


def run() -> None:
    """Run the pending revisions in one transaction over the connection that the caller opened."""
    connection: Connection | None = context.config.attributes.get("connection")
    if connection is None:
        raise SystemExit("run migrations with `decisiongraph migrate`: it opens the connection and takes the lock")
    context.configure(connection=connection, transaction_per_migration=False)
    with context.begin_transaction():
        context.run_migrations()


run()
