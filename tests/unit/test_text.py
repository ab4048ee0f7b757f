"""Blank text, encodable text, size of text."""

import sys

import pytest

from decisiongraph_service.domain import text

WHITE_SPACE = {
    *range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000
}  # fmt: skip


def test_exactly_the_characters_of_white_space_are_blank() -> None:
    blank = {code for code in range(sys.maxunicode + 1) if text.is_blank(chr(code))}
    assert blank == WHITE_SPACE


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u3000\u00a0 "])
def test_empty_and_white_space_are_blank(blank: str) -> None:
    assert text.is_blank(blank)


@pytest.mark.parametrize("sent", ["a", " a ", "\x1c", "\u200b", "\x00", "\n."])
def test_one_other_character_is_enough(sent: str) -> None:
    assert not text.is_blank(sent)


@pytest.mark.parametrize(("sent", "unpaired"), [("a", False), ("ü😀", False), ("\ud800", True), ("a\udfff", True)])
def test_unpaired_surrogates_are_found(sent: str, unpaired: bool) -> None:
    assert text.has_unpaired_surrogate(sent) is unpaired


@pytest.mark.parametrize(("sent", "size"), [("", 0), ("a", 1), ("é", 2), ("😀", 4), ("\ud800", 3)])
def test_size_is_bytes_of_utf8(sent: str, size: int) -> None:
    assert text.utf8_size(sent) == size
