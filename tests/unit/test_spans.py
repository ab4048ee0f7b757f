"""Spans of commits and projections: one of them for many appends, and links to all that are traced."""

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from decisiongraph_service.spans import Spans


class Recording:
    """Spans, and what became of them."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.spans = Spans(provider.get_tracer("test"))

    def append(self) -> trace.Span:
        """The span of an append, as its task has it."""
        token = context.attach(context.Context())
        try:
            span = self.spans.begin_call("/s.S/AppendEvent", {}, "request")
        finally:
            context.detach(token)
        assert span is not None
        return span

    def end(self, span: trace.Span) -> None:
        self.spans.end_call(span, code=0, reason="", tenant_id="t")

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]


@pytest.fixture
def recording() -> Recording:
    return Recording()


def test_a_commit_of_many_appends_is_linked_with_all(recording: Recording) -> None:
    appends = [recording.append() for _ in range(3)]
    with recording.spans.commit("t", [appends[0], None, *appends[1:]]):
        pass
    for append in appends:
        recording.end(append)

    (commit,) = recording.named("group commit")
    identities = [append.get_span_context().span_id for append in appends]
    assert commit.parent is not None
    assert [commit.parent.span_id, *(link.context.span_id for link in commit.links)] == identities
    for span in recording.named("s.S/AppendEvent"):
        assert [link.context.span_id for link in span.links] == [commit.context.span_id]


def test_a_projection_is_linked_with_the_commits_that_it_applied(recording: Recording) -> None:
    for log_seq in (3, 5, 9):
        append = recording.append()
        with recording.spans.commit("t", [append]) as span:
            pass
        recording.spans.committed("t", span, log_seq)
        recording.end(append)

    recording.spans.projected("t", up_to=5, events=5, began_ns=1, ended_ns=2)
    recording.spans.projected("other", up_to=9, events=1, began_ns=1, ended_ns=2)
    recording.spans.projected("t", up_to=9, events=4, began_ns=3, ended_ns=4)
    recording.spans.projected("t", up_to=10, events=1, began_ns=5, ended_ns=6)

    commits = [span.context.span_id for span in recording.named("group commit")]
    projections = recording.named("project")
    assert [
        [one.parent.span_id if one.parent else None, *(link.context.span_id for link in one.links)]
        for one in projections
    ] == [commits[:2], commits[2:]]


def test_commits_that_nobody_traces_have_no_span(recording: Recording) -> None:
    with recording.spans.commit("t", [None, None]) as span:
        assert span is None
    recording.spans.committed("t", None, 1)
    recording.spans.projected("t", up_to=1, events=1, began_ns=1, ended_ns=2)

    assert recording.named("group commit") == recording.named("project") == []


def test_what_is_remembered_is_bounded(recording: Recording) -> None:
    append = recording.append()
    for tenant in range(1_500):
        with recording.spans.commit(f"t{tenant}", [append]) as span:
            pass
        for log_seq in range(1, 4 if tenant else 300):
            recording.spans.committed(f"t{tenant}", span, log_seq)

    assert len(recording.spans._commits) == 1_000
    assert max(len(commits) for commits in recording.spans._commits.values()) <= 100


def test_without_a_tracer_nothing_is_made() -> None:
    spans = Spans()
    assert spans.begin_call("/s.S/M", {}, "request") is None
    assert spans.current() is None
    with spans.commit("t", [None]) as span:
        assert span is None


def test_a_call_is_traced_as_its_caller_says_and_by_the_ratio_where_he_says_nothing() -> None:
    tracer = TracerProvider().get_tracer("test")
    parent = f"00-{'a' * 32}-{'b' * 16}"
    never, always, mostly = (Spans(tracer, sample_ratio=ratio) for ratio in (0, 1, 0.75))
    for spans in (never, always):
        assert spans.begin_call("/s.S/M", {"traceparent": f"{parent}-00"}, "request") is None
        traced = spans.begin_call("/s.S/M", {"traceparent": f"{parent}-01"}, "request")
        assert traced is not None
        assert traced.get_span_context().trace_id == int("a" * 32, 16)
    # What is no `traceparent` says nothing: nobody can have his calls traced, or hide them, by writing nonsense.
    for said in (None, "", "nonsense", "nonsense-00", f"{parent}-zz", f"ff-{'a' * 32}-{'b' * 16}-01"):
        metadata = {} if said is None else {"traceparent": said}
        assert never.begin_call("/s.S/M", metadata, "request") is None, said
        assert always.begin_call("/s.S/M", metadata, "request") is not None, said
    chosen = sum(mostly.begin_call("/s.S/M", {}, "request") is not None for _ in range(1_000))
    assert 650 < chosen < 850
