"""What a line of an event file is: an event, completed if asked for, or a refusal that says where and why."""

import io
import json
from typing import Any

import pytest
from tests import samples

from decisiongraph_service.cli import append_lines
from decisiongraph_service.cli.append_lines import MAX_LINE_BYTES, Completion, Line, LineRefused, ReadEvent, Refusal


def _read(content: bytes) -> list[tuple[int, bytes | None]]:
    return [(line.number, line.content) for line in append_lines.read(io.BytesIO(content))]


def _parse(given: Any, completion: Completion | None = None) -> ReadEvent:
    content = given if isinstance(given, bytes) else json.dumps(given).encode()
    return append_lines.parse(Line(7, content), completion)


def _refusal(given: Any) -> Refusal:
    with pytest.raises(LineRefused) as refused:
        _parse(given)
    return refused.value.refusal


def test_lines_are_numbered_and_blank_ones_left_out() -> None:
    assert _read(b'{"a":1}\n\n  \r\n{"b":2}\r\n{"c":3}') == [(1, b'{"a":1}\n'), (4, b'{"b":2}\r\n'), (5, b'{"c":3}')]
    assert _read(b"") == []


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    assert _read(b"\xef\xbb\xbf{}\n\xef\xbb\xbf{}") == [(1, b"{}\n"), (2, b"\xef\xbb\xbf{}")]


def test_a_line_that_is_too_long_is_passed_over_without_being_kept() -> None:
    long = b"x" * (2 * MAX_LINE_BYTES)
    assert _read(long + b"\n{}\n") == [(1, None), (2, b"{}\n")]
    assert "longer than" in _refusal_of_long_line()


def _refusal_of_long_line() -> str:
    with pytest.raises(LineRefused) as refused:
        append_lines.parse(Line(1, None), None)
    return refused.value.refusal.message


def test_an_event_is_read_as_the_contract_writes_it() -> None:
    read = _parse(samples.json_event("TraceStarted", key="k", trace_seq="3", correlation_id=None))
    assert (read.number, read.event.trace_seq, read.event.idempotency_key) == (7, 3, "k")
    assert read.event.HasField("payload")
    assert not read.event.HasField("correlation_id")
    typed = samples.json_event(key="k", precedent_cited={"cited_trace_id": "c", "reason": "r"})
    del typed["payload"]
    assert _parse(typed).event.precedent_cited.reason == "r"


def test_an_event_of_a_log_can_be_appended_to_another_one() -> None:
    stored = samples.json_event(key="k", log_seq="9", recorded_at="t", payload_hash="sha256:0", tenant_id="acme")
    assert _parse(stored).unknown == ()


def test_fields_that_no_event_has_are_told() -> None:
    assert _parse(samples.json_event(key="k", causation_id="e", note=1)).unknown == ("causation_id", "note")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "no JSON"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -1e400}', "-1e400 is larger than any number"),
        (b"[]", "no JSON object"),
        (b'"text"', "no JSON object"),
        (b'{"a": "\xff"}', "no UTF-8 at byte 8"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_what_is_no_object_is_refused_without_repeating_it(content: bytes, words: str) -> None:
    refusal = _refusal(content)
    assert (refusal.line, refusal.reason, refusal.event) == (7, "INVALID_ARGUMENT", None)
    assert words in refusal.message


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"payload": "text"}, "payload"),
        ({"trace_seq": "x"}, "trace_seq"),
        ({"source": {"producer": "p"}}, "producer"),
        ({"tags": ["\ud800"]}, "surrogate"),
        ({"actor": "\ud800"}, "half of a surrogate pair"),
        ({"source": {"\ud800": 1}}, "half of a surrogate pair"),
        ({"payload": {"a": {"b": {}}}, "trace_started": {}}, "oneof"),
    ],
)
def test_what_is_no_event_is_refused_and_can_be_mended(changes: dict[str, Any], word: str) -> None:
    given = samples.json_event(key="k", **changes)
    refusal = _refusal(given)
    assert refusal.event == given
    assert word in refusal.message


def test_what_makes_a_repetition_safe_is_required() -> None:
    given = samples.json_event(key="")
    del given["source"]
    assert _refusal(given).message.startswith("source and idempotency_key: required")
    assert _refusal(samples.json_event(key="")).message.startswith("idempotency_key: required")


def test_what_is_missing_is_completed_if_asked_for() -> None:
    given = samples.json_event(key="")
    del given["source"]
    completion = Completion("importer", "batch")
    event = _parse(given, completion).event
    assert (event.source.producer_id, event.source.system) == ("importer", "batch")
    reordered = dict(reversed(given.items()))
    assert _parse(reordered, completion).event.idempotency_key == event.idempotency_key
    other = _parse({**given, "tags": ["x"]}, completion).event
    assert other.idempotency_key != event.idempotency_key


def test_what_is_there_is_left_as_it_is() -> None:
    event = _parse(samples.json_event(key="k"), Completion("importer", "batch")).event
    assert (event.source.producer_id, event.idempotency_key) == ("p", "k")
