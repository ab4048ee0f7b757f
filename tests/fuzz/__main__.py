"""Fuzzes operations of the document and tells, in a line of JSON for each, what came of it.

Reads what to do as JSON from standard input: see `Orders`.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import requests
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from requests.adapters import HTTPAdapter
from schemathesis.checks import load_all_checks
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.generation.drivers import CoverageGenerator, ExamplesGenerator
from schemathesis.generation.feedback import NO_FEEDBACK
from schemathesis.generation.overrides import Override

from tests.fuzz import checks, schema
from tests.fuzz.checks import Case, Operation

_MAX_FAILURES: Final = 20


@dataclass(frozen=True)
class Orders:
    """What to do."""

    rest: str
    """Where Envoy is."""
    tokens: Mapping[str, str | None]
    """The token for each operation to fuzz, by the operation's label."""
    known: Mapping[str, Sequence[str]]
    """Values of parameters of which something is known."""
    coverage: int
    """Most of the systematic requests of an operation that are sent, taken evenly; 0 for all."""
    examples: int
    """Random requests of an operation: so many valid ones and so many invalid ones."""
    seed: int
    """Of the random requests."""
    shrink: bool
    """Whether to look for the smallest request that fails; that takes up to five minutes for each failure."""


@dataclass
class Outcome:
    """What came of an operation."""

    operation: str
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


class _FirstLines(HTTPAdapter):
    """Reads one line of answers that are streams, which never end. Envoy tells the length of all others."""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        response = super().send(request, *args, **options | {"stream": True})
        if "content-length" not in response.headers:
            response._content = next(response.iter_lines(chunk_size=1), b"")
            response.close()
        return response


class Fuzz:
    """Sends the requests of one operation and checks the answers."""

    def __init__(self, operation: Operation, token: str | None, session: requests.Session) -> None:
        self.outcome = Outcome(operation.label)
        self._operation = operation
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._session = session
        self._seen: set[str] = set()

    def run(self, orders: Orders) -> Outcome:
        """Everything: the document's examples, the systematic requests, and random ones."""
        for case in (*self._examples(), *_spread(self._systematic(), orders.coverage)):
            try:
                self._exchange(case)
            except (FailureGroup, requests.RequestException) as failure:
                self._note(failure)
        for mode in GenerationMode:
            self._random(mode, orders)
        return self.outcome

    def _examples(self) -> Iterator[Case]:
        yield from ExamplesGenerator(
            operation=self._operation, override=Override(), feedback=NO_FEEDBACK, fill_missing=True
        )

    def _systematic(self) -> Iterator[Case]:
        config = self._operation.schema.config.generation_for(operation=self._operation, phase="coverage")
        yield from CoverageGenerator(
            operation=self._operation,
            generation_modes=list(GenerationMode),
            generation_config=config,
            auth_storage=None,
            override=Override(),
            feedback=NO_FEEDBACK,
        )

    def _random(self, mode: GenerationMode, orders: Orders) -> None:
        @seed(orders.seed)
        @settings(
            max_examples=orders.examples,
            phases=[Phase.generate, Phase.shrink] if orders.shrink else [Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(self._operation.as_strategy(generation_mode=mode))
        def exchange(case: Case) -> None:
            self._exchange(case)

        try:
            exchange()
        except (FailureGroup, requests.RequestException) as failure:
            self._note(failure)
        except BaseExceptionGroup as several:
            for one in several.exceptions:
                self._note(one)
        except Unsatisfiable:
            # Without parameters and body there is nothing to make invalid.
            if mode.is_positive or self._operation.body or list(self._operation.iter_parameters()):
                self.outcome.failures.append(f"no {mode.value} request can be made from the document")

    def _exchange(self, case: Case) -> None:
        wanted = list(checks.ALWAYS)
        if not any(status < 300 for status in self.outcome.statuses):
            wanted.append(checks.ONCE_IT_SUCCEEDS)
        response = case.call(session=self._session, headers=self._headers)
        self.outcome.statuses[response.status_code] += 1
        sent = {"session": self._session, "headers": self._headers}
        case.validate_response(response, wanted, headers=self._headers, transport_kwargs=sent)

    def _note(self, failure: BaseException) -> None:
        """Keep a failure, the first of its kind."""
        parts = failure.exceptions if isinstance(failure, FailureGroup) else [failure]
        kinds = {getattr(part, "title", repr(part)) for part in parts}
        if kinds <= self._seen or len(self.outcome.failures) >= _MAX_FAILURES:
            return
        self._seen |= kinds
        self.outcome.failures.append(str(failure))


def _spread(cases: Iterator[Case], most: int) -> list[Case]:
    """At most so many of them, from first to last, valid and invalid ones alike where there are enough; 0 for all."""
    by_mode: dict[GenerationMode, list[Case]] = {mode: [] for mode in GenerationMode}
    for case in cases:
        assert case.meta is not None
        by_mode[case.meta.generation.mode].append(case)
    few, many = sorted(by_mode.values(), key=len)
    if not most:
        return few + many
    few = _evenly(few, most // 2)
    return few + _evenly(many, most - len(few))


def _evenly(cases: list[Case], most: int) -> list[Case]:
    if len(cases) <= most:
        return cases
    return [cases[index * len(cases) // most] for index in range(most)]


def main() -> int:
    """Fuzz, an operation after the other."""
    orders = Orders(**json.load(sys.stdin))
    load_all_checks()
    session = requests.Session()
    session.mount(orders.rest, _FirstLines())
    for result in schema.load(orders.rest, orders.known).get_all_operations():
        if not isinstance(result, Ok):
            raise result.err()
        operation = result.ok()
        if operation.label in orders.tokens:
            outcome = Fuzz(operation, orders.tokens[operation.label], session).run(orders)
            sys.stdout.write(json.dumps(vars(outcome)) + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
