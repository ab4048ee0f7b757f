"""Ports for the servers of tests: of no other worker of the run, and none that the system hands out.

What the system picks may be given to somebody else until it is bound, seconds later.
"""

import itertools
import os
import random
from typing import Final

from decisiongraph_service.runtime import ports

_FIRST: Final = 12_000
_OF_A_WORKER: Final = 2_000
_WORKER: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw9").removeprefix("gw")) % 10
_FIRST_OF_THIS: Final = _FIRST + _WORKER * _OF_A_WORKER
"""The ports of ten workers end below 32,768, where those begin that systems hand out."""
_NUMBERS: Final = itertools.count(random.randrange(_OF_A_WORKER))  # noqa: S311 - so that runs at the same time differ


def own_port() -> int:
    """A port of this machine that nobody listens on, and that nobody else is given."""
    return own_ports_in_a_row(1)


def own_ports_in_a_row(count: int) -> int:
    """The first of so many such ports that follow on each other."""
    row: list[int] = []
    while len(row) < count:
        port = _FIRST_OF_THIS + next(_NUMBERS) % _OF_A_WORKER
        if row and port != row[-1] + 1:
            row.clear()
        if _is_free(port):
            row.append(port)
        else:
            row.clear()
    return row[0]


def _is_free(port: int) -> bool:
    try:
        ports.require_free("127.0.0.1", port)
    except ports.PortError:
        return False
    return True
