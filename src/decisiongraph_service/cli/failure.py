"""How a command says that it failed: one line on standard error, exit code 1, no stack trace."""

import sys
from typing import NoReturn


def exit_with(message: str) -> NoReturn:
    """End the command as failed."""
    print(f"decisiongraph: {message}", file=sys.stderr)
    raise SystemExit(1)
