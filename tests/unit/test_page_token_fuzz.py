"""A page token is taken as it was given, for what it was given for, and in no other way whatsoever."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.effort import fuzzed
from tests.fuzz.values import TEXTS, near

from decisiongraph_service.domain import errors
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries.paging import PageTokens, Parameter

_TOKENS: Final = PageTokens(b"k" * 32)
_PIECES: Final = ("=", "==", "-", "_", "+", "/", "A", "\n", " ", "%3D", "é", "\0")
# What a message can hold: text that is UTF-8, and integers of 64 bits.
_PARAMETERS: Final[st.SearchStrategy[Parameter]] = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=8)
)
_PLACES: Final = st.lists(_PARAMETERS, max_size=3)
_SCOPES: Final = st.tuples(
    st.sampled_from(["events", "traces", ""]),
    st.sampled_from([TenantId("acme"), TenantId("other"), TenantId("")]),
    st.lists(_PARAMETERS, max_size=3).map(tuple),
)
_Scope = tuple[str, TenantId, tuple[Parameter, ...]]


def _assert_refused(scope: _Scope, token: str, tokens: PageTokens = _TOKENS) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        tokens.decode(*scope, token)
    assert [(one.field, one.code) for one in caught.value.violations] == [("page_token", "FOREIGN_TOKEN")]


@given(_SCOPES, _PLACES, st.data())
@fuzzed(200)
def test_a_token_with_any_change_is_refused(scope: _Scope, place: list[Parameter], data: st.DataObject) -> None:
    token = _TOKENS.encode(*scope, place)
    assert _TOKENS.decode(*scope, token) == place
    changed = data.draw(near(token, _PIECES))
    if changed != token:
        _assert_refused(scope, changed)


@given(st.lists(_PARAMETERS, max_size=9))
@fuzzed(60)
def test_no_other_spelling_of_a_token_is_taken(place: list[Parameter]) -> None:
    scope = ("events", TenantId("acme"), ())
    token = _TOKENS.encode(*scope, place)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spellings = {
        token.replace("-", "+"),
        token.replace("_", "/"),
        token + "=" * (-len(token) % 4),
        # Of the last character some bits stand for nothing.
        *(token[:-1] + character for character in alphabet),
    }
    for other in spellings - {token}:
        _assert_refused(scope, other)


@given(_SCOPES, _SCOPES, _PLACES)
@fuzzed(200)
def test_a_token_of_one_request_is_none_of_another(one: _Scope, other: _Scope, place: list[Parameter]) -> None:
    token = _TOKENS.encode(*one, place)
    # True and 1 are equal and are not the same parameter.
    if repr(one) != repr(other):
        _assert_refused(other, token)
    _assert_refused(one, token, PageTokens(b"x" * 32))


@given(_SCOPES, TEXTS | st.text("ABab01-_=+/", max_size=60))
@fuzzed(150)
def test_no_text_is_a_token_by_accident(scope: _Scope, text: str) -> None:
    _assert_refused(scope, text)
