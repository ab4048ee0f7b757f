"""How much the tests of decoders try: the same inputs in every run, or more and other ones if the environment asks.

`FUZZ_EXAMPLES` and `FUZZ_SEED` are what `make fuzz` sets.
"""

import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

from hypothesis import HealthCheck, Phase, seed, settings

_Test = TypeVar("_Test", bound=Callable[..., Any])

_USUAL: Final = 10
"""`FUZZ_EXAMPLES` that asks for as many inputs as without it."""
WANTED: Final = os.environ.get("FUZZ_EXAMPLES")
SEED: Final = os.environ.get("FUZZ_SEED")


def fuzzed(inputs: int) -> Callable[[_Test], _Test]:
    """Marks a test with `given` as one that decodes so many inputs in a usual run.

    What a request leaves behind at a service is not undone between inputs, so that fixtures are those of the test.
    """
    effort = settings(
        max_examples=inputs if WANTED is None else max(1, inputs * int(WANTED) // _USUAL),
        derandomize=SEED is None,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    )

    def marked(test: _Test) -> _Test:
        test = effort(test)
        return test if SEED is None else seed(int(SEED))(test)

    return marked
