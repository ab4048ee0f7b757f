"""`decisiongraph worker`: projections and replay jobs, without serving calls."""

from decisiongraph_service.cli import configuration, failure


def worker() -> None:
    """Keep projections up to date and run replay jobs, in the foreground until SIGTERM or Ctrl-C.

    Works on DG_DATABASE_URL (required, a migrated database), and serves no calls. `serve` does the same beside its
    calls, unless DG_PROJECTOR_ENABLED=false leaves it to workers. Any number of workers may run: they share the tenants
    among them. Ends with exit code 1 when it cannot go on; start it again then.
    """
    import asyncio

    import uvloop

    from decisiongraph_service.domain import errors
    from decisiongraph_service.runtime import telemetry
    from decisiongraph_service.runtime import worker as process

    settings = configuration.settings()
    telemetry.configure_logging(settings.log_level, settings.log_format)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(process.work(settings))
    except errors.DecisionGraphError as error:
        failure.exit_with(error.message)
    except (ValueError, process.WorkerEnded) as error:
        failure.exit_with(str(error))
