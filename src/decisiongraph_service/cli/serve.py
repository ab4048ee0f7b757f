"""`decisiongraph serve`: the gRPC server, for use behind Envoy."""

from typing import TYPE_CHECKING, Annotated

import typer

from decisiongraph_service.cli import configuration, failure

if TYPE_CHECKING:
    from decisiongraph_service.runtime.settings import Settings


def serve(
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Server processes on the one port; DG_WORKERS by default.")
    ] = None,
) -> None:
    """Run the gRPC server in the foreground until SIGTERM or Ctrl-C.

    Configured by DG_ environment variables or a settings file (`decisiongraph --config FILE serve`): DG_DATABASE_URL
    (required, a migrated database), DG_GRPC_HOST, DG_GRPC_PORT, DG_TOKEN_KEY_FILE and more; `decisiongraph config show`
    tells all of them. It keeps the projections up to date and runs replay jobs as well, unless
    DG_PROJECTOR_ENABLED=false leaves that to `decisiongraph worker`. With several workers each also listens on a
    port of its own after DG_GRPC_PORT (+1, +2, ...), for a balancer that spreads calls and not connections.
    """
    from decisiongraph_service.domain import errors
    from decisiongraph_service.runtime import telemetry
    from decisiongraph_service.runtime.ports import PortError
    from decisiongraph_service.runtime.workers import WorkersFailed

    settings = configuration.settings() if workers is None else configuration.settings(workers=workers)
    try:
        telemetry.configure_logging(settings.log_level, settings.log_format)
        _serve(settings)
    except errors.DecisionGraphError as error:
        failure.exit_with(error.message)
    except (ValueError, RuntimeError, PortError, WorkersFailed) as error:
        failure.exit_with(str(error))


def _serve(settings: "Settings") -> None:
    import asyncio

    if settings.workers > 1:
        from decisiongraph_service.runtime.workers import Workers

        asyncio.run(Workers(settings).run())
        return
    import uvloop

    from decisiongraph_service.runtime import server

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve(settings))
