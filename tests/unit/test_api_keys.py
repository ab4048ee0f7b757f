"""The secrets of API keys: only the very text matches, and what is kept or shown of one helps nobody."""

import hashlib
import hmac
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisiongraph_service.access import api_keys
from decisiongraph_service.access.administration import NewKey
from decisiongraph_service.access.token_exchange import IssuedToken
from decisiongraph_service.storage.accounts import ApiKey

MADE = api_keys.make()
RANDOM = MADE.secret.rpartition(f"{MADE.key_id}_")[2]
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
# A digit and a letter, but not of ASCII.
_ARABIC_ZERO, _WIDE_A = "\u0660", "\uff21"
_near = st.builds(
    lambda index, text: MADE.secret[:index] + text + MADE.secret[index + 1 :],
    st.integers(0, len(MADE.secret) - 1),
    st.text(st.characters(), max_size=2),
)


def test_a_secret_names_its_key_and_has_256_random_bits() -> None:
    assert re.fullmatch(r"dgk_[0-9a-f]{16}_[A-Za-z0-9_-]{43}", MADE.secret)
    assert MADE.secret.startswith(f"dgk_{MADE.key_id}_")
    assert len(RANDOM) * 6 >= 256


def test_no_two_secrets_share_an_id_or_their_random_part() -> None:
    made = [api_keys.make() for _ in range(200)]
    assert len({one.key_id for one in made}) == 200
    assert len({one.secret[-43:] for one in made}) == 200
    assert len({one.secret_hash for one in made}) == 200


def test_the_prefix_is_the_beginning_of_the_secret_and_holds_nothing_of_its_random_part() -> None:
    assert MADE.secret.startswith(MADE.prefix)
    assert f"dgk_{MADE.key_id}_".startswith(MADE.prefix)
    assert len(MADE.prefix) >= len("dgk_") + 6, "shorter ones do not tell keys apart"


def test_the_key_of_a_secret_is_found_by_its_id() -> None:
    assert api_keys.key_id_of(MADE.secret) == MADE.key_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        MADE.key_id,
        MADE.secret[:-1],
        f"{MADE.secret}A",
        f"{MADE.secret}\n",
        f" {MADE.secret}",
        f"{MADE.secret}\0",
        f"{MADE.secret}\ud800",
        MADE.secret.replace("dgk_", "DGK_"),
        f"dgk_{MADE.key_id.upper()}x_{RANDOM}",
        f"dgk_{'g' * 16}_{RANDOM}",
        f"dgk_{_ARABIC_ZERO * 16}_{RANDOM}",
        f"dgk_{MADE.key_id}_{_WIDE_A * 43}",
    ],
    # Keys are made by chance: every process of a run must call the cases alike.
    ids=map(str, itertools.count()),
)
def test_other_texts_name_no_key(text: str) -> None:
    assert api_keys.key_id_of(text) is None
    assert not api_keys.matches(text, MADE.secret_hash)


def test_a_secret_matches_its_own_hash_and_no_other() -> None:
    assert api_keys.matches(MADE.secret, MADE.secret_hash)
    assert not api_keys.matches(MADE.secret, api_keys.make().secret_hash)
    assert not api_keys.matches(MADE.secret, MADE.secret_hash[:-1] + bytes([MADE.secret_hash[-1] ^ 1]))


@pytest.mark.parametrize("stored", [None, bytes(32), b""], ids=["unknown", "zeros", "empty"])
def test_without_a_hash_nothing_matches(stored: bytes | None) -> None:
    assert not api_keys.matches(MADE.secret, stored)
    assert not api_keys.matches("", stored)


def test_the_hash_of_an_unknown_key_is_compared_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return True  # even if a text had a hash of zeros, an unknown key must not match

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert not api_keys.matches(MADE.secret, None)
    assert compared == [(32, 32)]


@given(st.text(st.characters(), max_size=100) | st.text(_ALPHABET, min_size=43, max_size=43) | _near)
def test_no_other_text_matches(text: str) -> None:
    if text != MADE.secret:
        assert not api_keys.matches(text, MADE.secret_hash)
        assert not api_keys.matches(f"dgk_{MADE.key_id}_{text}", MADE.secret_hash) or text == RANDOM


@given(st.text(st.characters(), max_size=200) | _near)
def test_whatever_names_a_key_has_the_form_of_a_secret(text: str) -> None:
    found = api_keys.key_id_of(text)
    assert found is None or (len(text) == len(MADE.secret) and text.startswith(f"dgk_{found}_") and text.isascii())


def test_what_is_printed_of_a_key_does_not_hold_its_secret() -> None:
    row = ApiKey(MADE.key_id, "account", MADE.prefix, 0, None, None, None)
    for shown in (MADE, NewKey(row, MADE.secret), IssuedToken(MADE.secret, 0)):
        for text in (repr(shown), str(shown), f"{shown}"):
            assert RANDOM not in text
            assert MADE.secret_hash.hex() not in text


def test_the_hash_does_not_depend_on_the_machine_or_the_run() -> None:
    assert MADE.secret_hash == hashlib.sha256(MADE.secret.encode()).digest(), "stored hashes would match no more"
