"""Where the `decisiongraph` script begins: says so in one line if what the command needs is not installed.

The light client alone brings this module along, so it imports nothing that is not in the standard library.
"""

import sys

_OURS = ("decisiongraph", "decisiongraph_client", "decisiongraph_service")


def main() -> None:
    """Run the command line."""
    try:
        from decisiongraph_service.cli import main as command_line
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in _OURS:
            raise
        print(missing(error), file=sys.stderr)
        raise SystemExit(1) from None
    command_line.main()


def missing(error: ModuleNotFoundError) -> str:
    """What to say of a package that is not there."""
    return (
        f"decisiongraph: the command needs the package {error.name!r}, which is not installed; "
        "install it with: pip install 'decisiongraph[server]'"
    )
