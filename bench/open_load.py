"""Latency when calls come at their own pace: an open load, at shares of what the service takes at most.

Calls are due at even distances whether answers come or not, and a call's time counts from when it was due. A service
that stands still for a while is seen in the percentiles of all calls that came meanwhile, which a caller that waits for
its answer would never have sent.
"""

from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

from bench import queries, query_cases
from bench.cases import Bench, Measurement
from bench.load_program import Group
from bench.query_log import Shape

Way: TypeAlias = Literal["gRPC", "REST"]
WAYS: Final[tuple[Way, ...]] = ("gRPC", "REST")
SHARES: Final = (0.25, 0.5, 0.75)
"""Of the rate that 64 callers reach who wait for their answers."""
READ_EVENTS: Final = 20_000
"""Length of the log that is read."""
_CALLERS: Final = 256
"""Calls that may be unanswered at once; further ones wait, and their time counts."""
_READS: Final = ("trace10", "events", "traces", "prec-policy")
_MIXED_SHARE: Final = 0.1
"""Of reads in a second, and as many appends beside them, to what 64 callers append in one."""


class OpenLoad:
    """Appends by gRPC and REST, and reads beside appends, on one log that has something to read."""

    def __init__(self, bench: Bench, reads: Sequence[Group], append: Group) -> None:
        self._bench = bench
        self._reads = reads
        self._append = append

    @classmethod
    async def on_a_log(cls, bench: Bench, *, most_per_second: float, note: Callable[[str], None]) -> "OpenLoad":
        """Make the log.

        `most_per_second`: events that 64 callers append who wait for their answers.
        """
        tenant_id, headers = await bench.stack.tenant()
        shape = Shape.of(READ_EVENTS)
        await queries.make_log(bench.stack, tenant_id, shape, note)
        rate = most_per_second * _MIXED_SHARE / len(_READS)
        reads = [
            Group(
                "unary",
                bench.stack.service,
                16,
                [headers],
                f"/decisiongraph.v1.QueryService/{case.rpc}",
                calls_per_second=rate,
                requests=[request.SerializeToString() for request in case.requests[:200]],
                name=case.title,
            )
            for case in query_cases.build(shape, [])
            if case.name in _READS
        ]
        append = Group(
            "unary",
            bench.stack.service,
            _CALLERS,
            [headers],
            calls_per_second=most_per_second * _MIXED_SHARE,
            name="AppendEvent beside reads",
        )
        return cls(bench, reads, append)

    async def appends(self, way: Way, calls_per_second: float) -> Measurement:
        """AppendEvent alone.

        Raises:
            LoadFailed: a call was not answered with OK.
            WrongCount: not everything that was acknowledged is in the log, or more than that.
        """
        headers = await self._bench.headers("open")
        if way == "gRPC":
            group = Group("unary", self._bench.stack.service, _CALLERS, headers, calls_per_second=calls_per_second)
        else:
            group = Group("rest", self._bench.stack.rest, _CALLERS, headers, calls_per_second=calls_per_second)
        return await self._bench.load(group)

    async def beside_reads(self) -> dict[str, Measurement]:
        """Reads of the log beside appends to it, by what was called.

        Raises:
            LoadFailed: a call was not answered with OK.
            WrongCount: not everything that was acknowledged is in the log, or more than that.
        """
        groups = [self._append, *self._reads]
        return {group.name: figures for group, figures in zip(groups, await self._bench.load_all(*groups), strict=True)}
