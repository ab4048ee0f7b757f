"""The words of a text: what separates them, what makes two of them the same, and how much of a text counts."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from decisiongraph_service.domain.words import MAX_CHARACTERS, MAX_WORD_CHARACTERS, words

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \t\n\u00a0\u3000", []),
        ("-- ?! … 。、 ¿", []),
        ("👟 🙂👍🏽 👨‍👩‍👧", []),
        ("Refund for damaged espresso machine", ["refund", "for", "damaged", "espresso", "machine"]),
        ("refund REFUND Refund", ["refund"]),
        ("b a b c a", ["b", "a", "c"]),
        ("240 over 200", ["240", "over", "200"]),
        ("order A-77120, 2nd", ["order", "a", "77120", "2nd"]),
        ("refund_limit __init__ _", ["refund", "limit", "init"]),
        ("don't e-mail: m.okafor@example.com", ["don", "t", "e", "mail", "m", "okafor", "example", "com"]),
        ("size42 42size", ["size42", "42size"]),
        ("Größe 👟 42", ["grösse", "42"]),
        ("shoe👟size", ["shoe", "size"]),
        ("返金 カメラ, 환불", ["返金", "カメラ", "환불"]),
        ("返金してください", ["返金してください"]),
        ("٣ ३", ["٣", "३"]),
    ],
    ids=repr,
)
def test_a_word_is_a_run_of_letters_and_digits(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("refund", "ReFuNd"),
        ("straße", "STRASSE"),
        ("größe", "GRÖSSE"),
        ("ὀδυσσεύς", "ὈΔΥΣΣΕΎΣ"),
        ("кофе", "КОФЕ"),
        ("café", "cafe\u0301"),
        ("Ångström", "A\u030angstro\u0308m"),
        ("한국", unicodedata.normalize("NFD", "한국")),
        ("ofﬁce", "office"),
        ("Ⅷ", "viii"),
        ("x²", "x2"),
        ("\uff32\uff45\uff46\uff55\uff4e\uff44", "refund"),
        ("ｶﾀｶﾅ", "カタカナ"),
        ("①", "1"),
    ],
)
def test_case_and_the_way_a_letter_is_written_do_not_count(one: str, other: str) -> None:
    assert words(one) == words(other)
    assert len(words(one)) == 1


@pytest.mark.parametrize(("one", "other"), [("cafe", "café"), ("refund", "refunds"), ("o", "ø"), ("3", "٣")])
def test_accents_endings_and_other_digits_do_count(one: str, other: str) -> None:
    assert words(one) != words(other)


def test_of_a_long_word_only_the_beginning_counts() -> None:
    beginning = "w" * MAX_WORD_CHARACTERS
    assert MAX_WORD_CHARACTERS == 64
    assert words(beginning[1:]) == [beginning[1:]]
    assert words(f"{beginning} {beginning}x {beginning}y z") == [beginning, "z"]


def test_the_beginning_is_that_of_the_folded_word() -> None:
    assert words("ß" * 33) == ["s" * 64]


def test_of_a_long_text_only_the_beginning_counts() -> None:
    assert MAX_CHARACTERS == 10_000
    blanks = " " * (MAX_CHARACTERS - len("end"))
    assert words(f"{blanks}end") == ["end"]
    assert words(f"{blanks}ending") == ["end"]
    assert words(f"{blanks}end more") == ["end"]
    assert words(f"{blanks}    late") == []


@example(text="İstanbul ΐ ŉ ᾳ ǰ")
@given(text=_TEXTS)
def test_words_are_their_own_words(text: str) -> None:
    found = words(text)
    assert words(" ".join(found)) == found


def is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


@pytest.mark.parametrize("word", ["हिन्दी", "ที่นี่", "i̇stanbul", "שָׁלוֹם"])
def test_marks_belong_to_their_word(word: str) -> None:
    assert len(words(word)) == 1


@pytest.mark.parametrize("letter", "ΐΰῒΐῗῢΰῧ")
def test_case_does_not_count_for_letters_that_fold_to_several(letter: str) -> None:
    assert words(letter) == words(letter.upper())


@given(text=_TEXTS)
def test_no_word_is_empty_or_twice_there_or_has_anything_but_letters_and_digits(text: str) -> None:
    found = words(text)
    assert len(set(found)) == len(found)
    assert all(len(word) <= MAX_WORD_CHARACTERS for word in found)
    assert all(character.isalnum() or is_mark(character) for word in found for character in word)
    # A cut may leave marks alone only at the end of a word that begins with something else.
    assert all(any(map(str.isalnum, word)) for word in found)


@given(parts=st.lists(st.sampled_from(["Ab", "ab", "c1", "é", "e\u0301", "ß", "ss", "日本"]), max_size=12))
def test_words_come_in_the_order_of_their_first_occurrence(parts: list[str]) -> None:
    same = {"Ab": "ab", "e\u0301": "é", "ß": "ss"}
    assert words(" ".join(parts)) == list(dict.fromkeys(same.get(part, part) for part in parts))


@given(first=_TEXTS, second=_TEXTS)
def test_a_text_of_two_parts_has_the_words_of_both(first: str, second: str) -> None:
    assert words(f"{first} {second}") == list(dict.fromkeys([*words(first), *words(second)]))
