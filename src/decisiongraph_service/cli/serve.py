"""`decisiongraph serve`: one gRPC server, for use behind Envoy."""

import asyncio

from decisiongraph_service.cli import failure


def serve() -> None:
    """Run the gRPC server in the foreground until SIGTERM or Ctrl-C.

    Configured by DG_ environment variables: DG_DATABASE_URL (required, a migrated database), DG_GRPC_HOST,
    DG_GRPC_PORT, DG_TOKEN_KEY_FILE and more.
    """
    import uvloop

    from decisiongraph_service.domain import errors
    from decisiongraph_service.runtime import server, telemetry
    from decisiongraph_service.runtime.settings import Settings

    try:
        settings = Settings()
        telemetry.configure_logging(settings.log_level, settings.log_format)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve(settings))
    except errors.DecisionGraphError as error:
        failure.exit_with(error.message)
    except (ValueError, RuntimeError) as error:
        failure.exit_with(str(error))
