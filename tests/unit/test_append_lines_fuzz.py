"""Whatever a file of events holds, each line is an event that can be sent or a refusal that can be written down."""

import io
import json
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st
from tests import samples
from tests.fuzz.effort import fuzzed
from tests.fuzz.values import JSON, documents, with_value

from decisiongraph_service.cli import append_lines, output
from decisiongraph_service.cli.append_lines import Completion, Line, LineRefused, ReadEvent, Refusal

_EVENT: Final[dict[str, Any]] = samples.json_event("TraceStarted", key="k", trace_seq="3", tags=["a"])
_TYPED: Final = {
    **{name: value for name, value in _EVENT.items() if name != "payload"},
    "trace_started": _EVENT["payload"],
}
_EVENTS: Final = (
    with_value(_EVENT)
    | with_value(_TYPED)
    | st.dictionaries(st.sampled_from(sorted(append_lines._FIELDS)), JSON, max_size=4)
)


def _read(content: bytes, completion: Completion | None) -> ReadEvent | Refusal:
    try:
        return append_lines.parse(Line(1, content), completion)
    except LineRefused as refused:
        return refused.refusal


def _written(refusal: Refusal) -> Any:
    """What can be read of the line of JSON that a refusal becomes in a file."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    with io.TextIOWrapper(io.BytesIO(), encoding="utf-8") as file:
        output.print_json_line(refusal.as_dict(), file)
        file.seek(0)
        return json.loads(file.read(), parse_constant=refuse)


def _assert_sendable_or_told(content: bytes) -> None:
    for completion in (None, Completion("producer", "system")):
        read = _read(content, completion)
        if isinstance(read, ReadEvent):
            assert read.event.SerializeToString()
            assert read.event.idempotency_key
            assert read.event.HasField("source")
            again = _read(content, completion)
            assert isinstance(again, ReadEvent)
            assert again.event == read.event, "the same line is another event"
        else:
            assert read.reason == "INVALID_ARGUMENT"
            assert read.message
            assert _written(read) == read.as_dict()


@given(_EVENTS)
@fuzzed(200)
def test_an_event_with_values_of_any_type(event: dict[str, Any]) -> None:
    _assert_sendable_or_told(json.dumps(event).encode())


@given(documents(_EVENT))
@fuzzed(200)
def test_a_line_that_is_nearly_an_event(content: bytes) -> None:
    _assert_sendable_or_told(content)


@given(st.lists(documents(_EVENT) | st.sampled_from([b"", b" ", b"\r", b"\xef\xbb\xbf", b"\0"]), max_size=5))
@fuzzed(60)
def test_any_file_falls_into_its_lines(contents: list[bytes]) -> None:
    whole = b"\n".join(contents)
    lines = whole.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    found = list(append_lines.read(io.BytesIO(whole)))
    wanted = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    assert [(line.number, (line.content or b"").removesuffix(b"\n")) for line in found] == wanted
