"""Spans of calls, group commits and projections, and how they are linked; nothing where tracing is off.

An append's span is linked with that of the commit that stored it, and that one with the batch that projected it.
Only what the sampler chose is followed: a commit has a span if one of its appends has.
"""

import contextlib
import random
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, Tracer

_PARENT: Final = "traceparent"
_MOST_TENANTS: Final = 1_000
_MOST_COMMITS: Final = 100
"""Commits of a tenant that are remembered until they are projected; older ones get no link."""
_MOST_LINKS: Final = 100


class Spans:
    """Begins and ends the spans of one process."""

    def __init__(self, tracer: Tracer | None = None, *, sample_ratio: float = 1.0) -> None:
        """`tracer` None: there are no spans. `sample_ratio`: see `begin_call`."""
        self._tracer = tracer
        self._sample_ratio = sample_ratio
        self._commits: OrderedDict[str, deque[tuple[int, SpanContext]]] = OrderedDict()

    def begin_call(self, path: str, metadata: Mapping[str, str | bytes], request_id: str) -> Span | None:
        """The span of a call, from now on the current one of this task; None if the call is not traced.

        Continues that of a `traceparent`, if that is traced; without one a share of the calls begins traces. Chosen
        here and not by a sampler, since a call that is not traced must cost nothing.
        """
        if self._tracer is None:
            return None
        caller = context.Context()
        if _PARENT in metadata:
            caller = propagate.extract({key: text for key, text in metadata.items() if isinstance(text, str)})
        if not self._is_traced(trace.get_current_span(caller).get_span_context()):
            return None
        service, _, method = path[1:].rpartition("/")
        span = self._tracer.start_span(
            path[1:],
            context=caller,
            kind=SpanKind.SERVER,
            attributes={
                "rpc.system": "grpc",
                "rpc.service": service,
                "rpc.method": method,
                "decisiongraph.request_id": request_id,
            },
        )
        # Each call is a task of its own, so nothing is to be set back.
        context.attach(trace.set_span_in_context(span))
        return span

    def _is_traced(self, parent: SpanContext) -> bool:
        if parent.is_valid:
            return parent.trace_flags.sampled
        return random.random() < self._sample_ratio  # noqa: S311 - a sample, no secret

    def end_call(self, span: Span | None, *, code: int, reason: str, tenant_id: str | None) -> None:
        """The call was answered."""
        if span is None:
            return
        if span.is_recording():
            span.set_attribute("rpc.grpc.status_code", code)
            if tenant_id is not None:
                span.set_attribute("decisiongraph.tenant", tenant_id)
            if reason:
                span.set_attribute("decisiongraph.reason", reason)
                span.set_status(Status(StatusCode.ERROR, reason))
        span.end()

    def current(self) -> Span | None:
        """The span of the call that this task answers, if it is recorded."""
        if self._tracer is None:
            return None
        span = trace.get_current_span()
        return span if span.is_recording() else None

    @contextlib.contextmanager
    def commit(self, tenant_id: str, appends: Sequence[Span | None]) -> Iterator[Span | None]:
        """The span of a group commit inside this block. `appends`: those of its callers."""
        recorded = [span for span in appends if span is not None]
        if self._tracer is None or not recorded:
            yield None
            return
        first = recorded[0]
        with self._tracer.start_as_current_span(
            "group commit",
            context=trace.set_span_in_context(first),
            links=[Link(span.get_span_context()) for span in recorded[1:_MOST_LINKS]],
            attributes={"decisiongraph.tenant": tenant_id, "decisiongraph.appends": len(appends)},
        ) as span:
            for one in recorded:
                one.add_link(span.get_span_context())
            yield span

    def committed(self, tenant_id: str, span: Span | None, log_seq: int) -> None:
        """The commit has stored events up to this position: remember it until they are projected."""
        if span is None:
            return
        commits = self._commits.setdefault(tenant_id, deque(maxlen=_MOST_COMMITS))
        commits.append((log_seq, span.get_span_context()))
        self._commits.move_to_end(tenant_id)
        if len(self._commits) > _MOST_TENANTS:
            self._commits.popitem(last=False)

    def projected(self, tenant_id: str, *, up_to: int, events: int, began_ns: int, ended_ns: int) -> None:
        """Events up to this position are in the live projections."""
        if self._tracer is None or (commits := self._commits.get(tenant_id)) is None:
            return
        found: list[SpanContext] = []
        while commits and commits[0][0] <= up_to:
            found.append(commits.popleft()[1])
        if not commits:
            del self._commits[tenant_id]
        if not found:
            return
        span = self._tracer.start_span(
            "project",
            context=trace.set_span_in_context(trace.NonRecordingSpan(found[0])),
            links=[Link(one) for one in found[1:_MOST_LINKS]],
            attributes={
                "decisiongraph.tenant": tenant_id,
                "decisiongraph.events": events,
                "decisiongraph.log_seq": up_to,
            },
            start_time=began_ns,
        )
        span.end(ended_ns)
