"""Over the wire too, no list takes a page token that it did not give, for the request that it gave it for."""

from collections.abc import Mapping
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import jobs, traces
from tests.accounts import make_account, make_tenant
from tests.calling import METHODS, Answer, Callers, Service
from tests.fuzz.effort import fuzzed
from tests.fuzz.values import near
from tests.rpc_examples import OVER_REST, RULES

from decisiongraph_service.access import tokens

_LISTS: Final = sorted(
    name for name, (_, method) in METHODS.items() if "page_token" in method.input_type.fields_by_name
)
_REQUESTS: Final[Mapping[str, dict[str, Any]]] = {
    "ListTraceEvents": {"trace_id": "trace 0"},
    "ListNodeEdges": {"node_type": "trace", "node_id": "trace 0"},
}
# Each changes what is asked for, and not who asks.
_OTHERS: Final[Mapping[str, dict[str, Any]]] = {
    "ListTraces": {"outcome": "success"},
    "ListTraceEvents": {"since_trace_seq": "0"},
    "ListEvents": {"trace_id": "trace 0"},
    "ListNodeEdges": {"direction": "incoming"},
    "FindPrecedents": {"outcome": "success"},
    "ListReplays": {"projection": "context_graph"},
    "ListProjectionFailures": {"include_resolved": True},
    "ListAuditEntries": {"outcome": "done"},
    "ListServiceAccounts": {"tenant_id": "acme"},
}
_PIECES: Final = ("=", "-", "_", "+", "/", "A", "%3D", "é", "\n", " ")


def _request(rpc: str) -> dict[str, Any]:
    return {"page_size": 1, **_REQUESTS.get(rpc, {})}


async def _ask(callers: Callers, rpc: str, way: str = "grpc", **changes: Any) -> Answer:
    return await callers.call(way, rpc, {**_request(rpc), **changes})


def _assert_refused(answer: Answer, what: object, reason: str = "FOREIGN_TOKEN") -> None:
    assert (answer.ok, answer.reason, answer.fields) == (False, "INVALID_ARGUMENT", ["page_token"]), (what, answer.body)
    assert answer.detail("BadRequest")["field_violations"][0]["reason"] == reason


@pytest.fixture
async def given_tokens(callers: Callers) -> dict[str, str]:
    """A token of each list that has a second page."""
    for number in range(3):
        await jobs.append(callers, traces.whole_trace(f"trace {number}", 5))
    for name in ("one", "two"):
        await make_account(callers, name)
        await jobs.ended(callers, await jobs.start(callers, projection="trace_summary", mode="catch_up"))
    found = {}
    for rpc in _LISTS:
        answer = await _ask(callers, rpc)
        assert answer.ok, answer.body
        if answer.body.get("next_page_token"):
            found[rpc] = str(answer.body["next_page_token"])
    return found


async def test_each_list_refuses_what_is_not_its_own_token(
    callers: Callers, service: Service, given_tokens: dict[str, str]
) -> None:
    # A projection that fails would be none of this test's.
    assert set(_LISTS) - set(given_tokens) <= {"ListProjectionFailures"}, "others have no second page"
    elsewhere = service.token(tenant_ids=[await make_tenant(callers, "elsewhere")], roles=tokens.ROLES)
    for rpc, token in given_tokens.items():
        assert (await _ask(callers, rpc, page_token=token)).ok
        for other, foreign in given_tokens.items():
            if other != rpc:
                _assert_refused(await _ask(callers, rpc, page_token=foreign), (rpc, other))
        if rpc in _OTHERS:
            _assert_refused(await _ask(callers, rpc, page_token=token, **_OTHERS[rpc]), rpc)
        if not RULES[rpc].installation_wide:
            request = {**_request(rpc), "page_token": token}
            _assert_refused(await callers.call("grpc", rpc, request, token=elsewhere), f"{rpc} of another tenant")


@given(data=st.data())
@fuzzed(60)
async def test_no_list_takes_a_token_with_any_change(
    callers: Callers, given_tokens: dict[str, str], data: st.DataObject
) -> None:
    rpc = data.draw(st.sampled_from(_LISTS))
    token = given_tokens.get(rpc, next(iter(given_tokens.values())))
    changed = data.draw(near(token, _PIECES))
    if changed in (token, "") or any("\ud800" <= character <= "\udfff" for character in changed):
        return  # no client sends half a surrogate pair
    reason = "NO_NUL" if "\0" in changed else "FOREIGN_TOKEN"
    for way in ("grpc", "rest") if rpc in OVER_REST else ("grpc",):
        _assert_refused(await _ask(callers, rpc, way, page_token=changed), (rpc, way, changed), reason)
