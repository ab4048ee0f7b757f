"""Encoded protobuf messages, and what can be done to them: to their bits, and to their fields at every depth."""

from typing import Final, NamedTuple

from hypothesis import strategies as st

from tests.appending import field, varint

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_HUGE: Final = (0, 1, 2**31, 2**32, 2**63, 2**64 - 1, 2**70)
_ODD_BYTES: Final = (
    b"",
    b"\xff",
    b"a\xc3",
    b"\xed\xa0\x80",
    b"\0",
    b"\xc0\x80",
    "\u202e👟".encode(),
    b"x" * 300,
    b"\x0a" * 50,
    b"\x08" + b"\xff" * 10,
)


class Field(NamedTuple):
    """A field as it stands on the wire."""

    number: int
    wire_type: int
    content: bytes
    """Without the length of a text or message."""

    def encoded(self) -> bytes:
        """Its bytes."""
        length = varint(len(self.content)) if self.wire_type == _BYTES else b""
        return varint(self.number << 3 | self.wire_type) + length + self.content


def fields(data: bytes) -> list[Field]:
    """The fields of a message.

    Raises:
        ValueError: it is none.
    """
    found, position = [], 0
    while position < len(data):
        key, position = _read_varint(data, position)
        wire_type, start = key & 7, position
        if wire_type == _VARINT:
            position = _read_varint(data, position)[1]
        elif wire_type == _BYTES:
            length, start = _read_varint(data, position)
            position = start + length
        elif wire_type in (_FIXED64, _FIXED32):
            position += 8 if wire_type == _FIXED64 else 4
        else:
            raise ValueError("a group")
        if position > len(data) or not key >> 3:
            raise ValueError("cut off")
        found.append(Field(key >> 3, wire_type, data[start:position]))
    return found


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError("no varint")
        value |= (data[position] & 127) << shift
        shift, position = shift + 7, position + 1
        if data[position - 1] < 128:
            return value, position


def nested(number: int, levels: int) -> bytes:
    """A message in a message in a message."""
    inner = b""
    for _ in range(levels):
        inner = field(number, inner)
    return inner


_MORE: Final = st.one_of(
    st.builds(lambda number, value: varint(number << 3) + varint(value), st.integers(1, 40), st.sampled_from(_HUGE)),
    st.builds(field, st.integers(1, 40) | st.just(2**29 - 1), st.sampled_from(_ODD_BYTES) | st.binary(max_size=20)),
    st.builds(lambda number, wire_type: varint(number << 3 | wire_type), st.integers(0, 40), st.integers(0, 7)),
    st.builds(lambda number: varint(number << 3 | 3) + b"\x08\x01" + varint(number << 3 | 4), st.integers(1, 40)),
    st.builds(nested, st.integers(1, 20), st.sampled_from([1, 60, 101, 300])),
    st.binary(max_size=12),
)
_ACTIONS: Final = ("double", "reverse", "drop", "retype", "replace", "more", "inside", "inside", "inside")
_CHANGES: Final = st.tuples(
    st.sampled_from(_ACTIONS),
    st.integers(0, 30),
    st.integers(0, 7),
    st.sampled_from(_ODD_BYTES) | st.sampled_from(_HUGE).map(varint),
    _MORE,
)
_Change = tuple[str, int, int, bytes, bytes]


def mutated(message: bytes) -> st.SearchStrategy[bytes]:
    """The message with changes of its fields, or of its bits and its length."""
    by_fields = st.lists(_CHANGES, min_size=1, max_size=4).map(lambda changes: _changed(message, changes))
    by_bytes = st.lists(
        st.tuples(st.integers(0, max(0, len(message) - 1)), st.integers(1, 255), st.booleans()), min_size=1, max_size=3
    ).map(lambda flips: _flipped(message, flips))
    return by_fields | by_fields | by_bytes


def _flipped(message: bytes, flips: list[tuple[int, int, bool]]) -> bytes:
    changed = bytearray(message)
    for position, bits, cut in flips:
        if position >= len(changed):
            continue
        if cut:
            del changed[position:]
        else:
            changed[position] ^= bits
    return bytes(changed)


def _changed(message: bytes, changes: list[_Change]) -> bytes:
    """The message after the first change; those that follow an `inside` are made within a field."""
    if not changes:
        return message
    (action, place, wire_type, content, more), rest = changes[0], changes[1:]
    try:
        found = fields(message)
    except ValueError:
        return message + more
    if not found or action == "more":
        return _changed(message, rest) + more
    one = found[place % len(found)]
    if action == "reverse":
        return _changed(b"".join(each.encoded() for each in reversed(found)), rest)
    if action == "inside" and one.wire_type == _BYTES:
        put = one._replace(content=_changed(one.content, rest or [("replace", place, wire_type, content, more)]))
        rest = []
    elif action == "double":
        return _changed(message + one.encoded(), rest)
    elif action == "retype":
        put = one._replace(wire_type=wire_type)
    else:
        put = one._replace(content=content)
    kept = [put if each is one else each for each in found]
    if action == "drop":
        kept.remove(put)
    return _changed(b"".join(each.encoded() for each in kept), rest)
