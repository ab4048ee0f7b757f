"""The masking hook sees every text of a payload before it leaves, and an event that it fails on does not leave."""

from collections.abc import Iterator
from typing import Any, Final, cast

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from decisiongraph.v1.event_pb2 import Actor, Event, Source
from decisiongraph_client import Client, _events, errors

CONTENTS: Final = {
    field.name: cast("Descriptor", field.message_type) for field in Event.DESCRIPTOR.oneofs_by_name["content"].fields
}
TEXTS: Final = st.text(max_size=10)
JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-100, 100) | TEXTS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXTS, values, max_size=3),
    max_leaves=12,
)


def structs() -> st.SearchStrategy[Struct]:
    return st.dictionaries(TEXTS, JSON, max_size=4).map(lambda value: ParseDict(value, Struct()))


def filled(descriptor: Descriptor) -> st.SearchStrategy[Any]:
    """Messages with anything in their fields."""
    if descriptor.full_name == Struct.DESCRIPTOR.full_name:
        return structs()
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for field in descriptor.fields:
        inner = field.message_type
        if inner is None:
            assert field.type == FieldDescriptor.TYPE_STRING, field.full_name
        one = TEXTS if inner is None else filled(inner)
        if inner is not None and inner.GetOptions().map_entry:
            one = st.dictionaries(TEXTS, TEXTS, max_size=3)
        elif field.is_repeated:
            one = st.lists(one, max_size=3)
        fields[field.name] = st.none() | one
    return st.builds(message_factory.GetMessageClass(descriptor), **fields)


@st.composite
def events(draw: st.DrawFn) -> Event:
    name, descriptor = draw(st.sampled_from(sorted(CONTENTS.items(), key=lambda item: item[0])))
    event = Event(event_id="e", trace_id="t", source=Source(producer_id="p"), actor=Actor(actor_id="a"), tags=["tag"])
    getattr(event, name).CopyFrom(draw(filled(descriptor)))
    return event


def texts_of(value: object) -> Iterator[str]:
    """Every text value inside, by a walk of another kind than the code's."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Message):
        for field, inner in value.ListFields():
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                for one in inner.values():
                    yield from texts_of(one)
            elif field.is_repeated:
                for one in inner:
                    yield from texts_of(one)
            else:
                yield from texts_of(inner)


def content_of(event: Event) -> Message:
    name = event.WhichOneof("content")
    assert name is not None
    return cast("Message", getattr(event, name))


@given(events())
def test_every_text_passes_the_hook_once_with_its_path(event: Event) -> None:
    before = event.SerializeToString(deterministic=True)
    seen: list[tuple[str, str]] = []

    def mask(path: str, text: str) -> str:
        seen.append((path, text))
        return f"<{text}>"

    masked = _events.masked(event, mask)
    expected = sorted(texts_of(content_of(event)))
    assert sorted(text for _, text in seen) == expected
    assert sorted(texts_of(content_of(masked))) == sorted(f"<{text}>" for text in expected)
    assert all(path.startswith("payload.") for path, _ in seen)
    assert event.SerializeToString(deterministic=True) == before, "the original was changed"


@given(events())
def test_a_hook_that_changes_nothing_gives_an_equal_event(event: Event) -> None:
    assert _events.masked(event, lambda _, text: text) == event
    assert _events.masked(event, None) is event


@given(events(), st.sampled_from([None, 1, b"x", "\ud800"]))
def test_a_hook_that_returns_no_text_fails(event: Event, result: Any) -> None:
    if list(texts_of(content_of(event))):
        with pytest.raises(errors.MaskFailed):
            _events.masked(event, lambda _path, _text: result)


def test_paths_name_fields_keys_and_places() -> None:
    payload = {"facts": [{"key": "name", "value": {"deep": "x"}}], "n": 1}
    event = _events.make(_events.Origin("p", None, None, None), "t", payload, event_type="InputObserved")
    masked = _events.masked(event, lambda path, _: path)
    assert sorted(texts_of(masked.payload)) == ["payload.facts[0].key", "payload.facts[0].value.deep"]


def test_an_event_that_the_hook_fails_on_is_not_sent() -> None:
    def mask(_path: str, text: str) -> str:
        raise ZeroDivisionError(text)

    with Client("localhost:1", token="t", producer="p", mask=mask) as client:
        with (
            pytest.raises(errors.MaskFailed) as raised,
            client.trace(workflow="w", title="secret", primary_entity=("order", "1")),
        ):
            raise AssertionError("the block is not entered")
        assert isinstance(raised.value.__cause__, ZeroDivisionError)
        assert "secret" not in str(raised.value)
        assert client._session._transport._channel is None, "a connection was opened"
