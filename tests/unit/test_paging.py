"""Page tokens go on where they say, and for the request, tenant and installation that they were made for alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisiongraph_service.domain import errors
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.queries import paging
from decisiongraph_service.queries.paging import PageTokens

ACME = TenantId("acme")
TOKENS = PageTokens(b"k" * 32)
PARAMETERS = ("trace", 5, None, True)
PLACE: list[paging.Parameter] = [7, "ü", None, False]
TOKEN = TOKENS.encode("List", ACME, PARAMETERS, PLACE)


def refused(
    tokens: PageTokens, name: str, tenant_id: str, parameters: tuple[paging.Parameter, ...], token: str
) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        tokens.decode(name, TenantId(tenant_id), parameters, token)
    assert [(v.field, v.code) for v in caught.value.violations] == [("page_token", "FOREIGN_TOKEN")]


def test_a_token_gives_its_place() -> None:
    assert TOKENS.decode("List", ACME, PARAMETERS, TOKEN) == PLACE


def test_another_process_with_the_same_key_reads_it() -> None:
    assert PageTokens(b"k" * 32).decode("List", ACME, PARAMETERS, TOKEN) == PLACE


def test_a_token_can_stand_in_a_query_as_it_is() -> None:
    assert TOKEN.replace("-", "").replace("_", "").isalnum()


def test_a_token_of_something_else_is_refused() -> None:
    refused(TOKENS, "Other", "acme", PARAMETERS, TOKEN)
    refused(TOKENS, "List", "other", PARAMETERS, TOKEN)
    refused(PageTokens(b"x" * 32), "List", "acme", PARAMETERS, TOKEN)
    for parameters in (
        ("trace", 5, None),
        ("trace", 5, None, None),
        ("trace", "5", None, True),
        ("other", 5, None, True),
    ):
        refused(TOKENS, "List", "acme", parameters, TOKEN)


def test_parameters_do_not_run_into_each_other() -> None:
    token = TOKENS.encode("List", ACME, ("a", "bc"), [1])
    refused(TOKENS, "List", "acme", ("ab", "c"), token)


@pytest.mark.parametrize(
    "token", ["x", "nonsense", "====", "ü", "\0", "a b", "A" * 22, TOKEN[:-1], TOKEN + "A", TOKEN * 2]
)
def test_a_damaged_token_is_refused(token: str) -> None:
    refused(TOKENS, "List", "acme", PARAMETERS, token)


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from("ABCXYZabcxyz0189-_"))
def test_no_character_of_a_token_can_be_changed(position: int, character: str) -> None:
    changed = TOKEN[:position] + character + TOKEN[position + 1 :]
    if changed != TOKEN:
        refused(TOKENS, "List", "acme", PARAMETERS, changed)


@given(st.text(max_size=60))
def test_no_text_makes_decoding_fail_otherwise(token: str) -> None:
    refused(TOKENS, "List", "acme", PARAMETERS, token)


@given(st.lists(st.integers(0, 2 * paging.MAX_ANSWER_BYTES), max_size=20))
def test_a_page_holds_what_fits_and_at_least_one(sizes: list[int]) -> None:
    fitting = paging.fit(sizes)
    assert fitting == min(len(sizes), max(1, fitting))
    assert fitting <= 1 or sum(sizes[:fitting]) <= paging.MAX_ANSWER_BYTES
    assert fitting == len(sizes) or sum(sizes[: fitting + 1]) > paging.MAX_ANSWER_BYTES
