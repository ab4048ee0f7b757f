"""REST and gRPC are one contract: every rpc tells the same by both ways, whether it answers or refuses.

The cases are in tests/rpc_cases.py and tests/rpc_refusals.py.
"""

from typing import Final

import pytest
from tests.bad_tokens import BAD_HEADERS, BAD_TOKENS
from tests.both_ways import assert_same, both, told, without_what_differs
from tests.broken_fields import broken_requests
from tests.calling import BOTH_WAYS, METHODS
from tests.rpc_cases import SUCCESSES, Case
from tests.rpc_examples import OVER_REST, PRIVATE, RULES, example
from tests.rpc_refusals import CANNOT_FAIL, ON_ITS_OWN_SERVER, REFUSALS
from tests.rpc_stages import Stage

from decisiongraph_service.access import tokens


@pytest.mark.parametrize("case", [case for case in SUCCESSES if not case.acts], ids=str)
async def test_what_is_asked_is_answered_the_same(stage: Stage, case: Case) -> None:
    request, headers = await case.prepare(stage), stage.headers(case.rpc)
    answers = [await told(stage.callers, way, case.rpc, request, headers, events=case.events) for way in BOTH_WAYS]
    assert not answers[0].error, answers[0].error
    assert_same(*(case.without_time(answer) for answer in answers))
    assert answers[0].headers == ({} if case.events else {"x-request-id": f"parity-{case.rpc}"})


@pytest.mark.parametrize("case", [case for case in SUCCESSES if case.acts], ids=str)
async def test_what_is_done_is_answered_the_same_but_for_times_and_ids(stage: Stage, case: Case) -> None:
    answers = []
    for way in BOTH_WAYS:
        own = await stage.another(way)
        request = await case.prepare(own)
        answer = await told(own.callers, way, case.rpc, request, own.headers(case.rpc))
        assert not answer.error, answer.error
        (message,) = answer.messages
        answers.append((without_what_differs(message, own.name, case.differs), answer.headers))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("case", REFUSALS, ids=str)
async def test_what_is_refused_is_refused_the_same(stage: Stage, case: Case) -> None:
    request = await case.prepare(stage)
    headers = {**stage.headers(case.rpc), **case.headers(stage)}
    refusal = await both(stage.callers, case.rpc, request, headers)
    assert refusal.reason == case.refused, refusal.error
    if case.fields:
        assert refusal.fields == list(case.fields)
    assert refusal.headers["x-request-id"] == f"parity-{case.rpc}"
    assert f'"request_id": "parity-{case.rpc}"' in refusal.error
    assert ("retry-after" in refusal.headers) == ("RetryInfo" in refusal.error)


def test_every_rpc_has_a_call_that_succeeds_and_one_that_is_refused() -> None:
    succeeding, refused = ({case.rpc for case in cases} for cases in (SUCCESSES, REFUSALS))
    assert OVER_REST - succeeding == set(), "add a case that succeeds to tests/rpc_cases.py"
    refused |= ON_ITS_OWN_SERVER.keys()
    assert OVER_REST - refused - CANNOT_FAIL.keys() == set(), "add a case that is refused to tests/rpc_refusals.py"
    assert CANNOT_FAIL.keys() & refused == set(), "it can fail after all: it is no exception"
    assert METHODS.keys() - OVER_REST == {"IngestEvents"}, "an rpc without a route needs a test of its own, as this one"


@pytest.mark.parametrize("rpc", [rpc for rpc in PRIVATE if rpc in OVER_REST])
async def test_who_may_not_call_is_refused_the_same(stage: Stage, rpc: str) -> None:
    rule, name = RULES[rpc], stage.name
    others = tuple(role for role in tokens.ROLES if role != rule.role)
    callers = [
        ("UNAUTHENTICATED", {}),
        ("UNAUTHENTICATED", {"authorization": f"Bearer {BAD_TOKENS['expired'](stage.service)}"}),
        ("FORBIDDEN", {"authorization": stage.bearer(name, roles=())}),
        ("FORBIDDEN", {"authorization": stage.bearer(name, roles=others)}),
    ]
    if rule.permissions:
        rest = [permission for permission in tokens.PERMISSIONS if permission not in rule.permissions]
        callers.append(("FORBIDDEN", {"authorization": stage.bearer(name, roles=("admin",), permissions=rest)}))
    if not rule.installation_wide:
        both_tenants = stage.bearer(name, f"{name}-other")
        callers += [
            ("FORBIDDEN", {"authorization": stage.bearer()}),
            ("FORBIDDEN", {"authorization": stage.bearer(f"{name}-other"), "x-tenant-id": name}),
            ("INVALID_ARGUMENT", {"authorization": both_tenants}),
            ("INVALID_ARGUMENT", {"authorization": both_tenants, "x-tenant-id": "Not A Slug"}),
        ]
    for reason, headers in callers:
        refusal = await both(stage.callers, rpc, example(rpc), {"x-request-id": "who", **headers})
        assert refusal.reason == reason, f"{headers}: {refusal.error}"


_OWN_WORDS: Final = {
    "garbage",
    "three parts of garbage",
    "5000 bytes",
    "two tokens",
    "a header of 2900 open brackets",
    "a header that is a list",
    "a key id that is a list",
    "algorithm none",
    "HS256 with the raw public key",
    "HS256 with the PEM public key",
    "unknown key id",
    "another key under our key id",
    "tampered claims",
    "signature cut off",
    "no expiry",
    "expiry is text",
    "expiry is a number in quotes",
    "expiry is infinite",
    "expiry is null",
    "claims are a list",
}
"""What gateway and server, each of which verifies tokens by itself, find wrong with different words."""


@pytest.mark.parametrize("fault", [*BAD_HEADERS, *BAD_TOKENS])
async def test_a_bad_token_is_refused_the_same(stage: Stage, fault: str) -> None:
    header = BAD_HEADERS[fault] if fault in BAD_HEADERS else f"Bearer {BAD_TOKENS[fault](stage.service)}"
    headers = {"x-request-id": "who", "authorization": header}
    answers = [await told(stage.callers, way, "GetEvent", {"event_id": "e"}, headers) for way in BOTH_WAYS]
    if fault in _OWN_WORDS:
        assert all(answer.message.startswith("authorization: the token ") for answer in answers)
        answers = [answer.with_message("") for answer in answers]
    assert_same(*answers)
    assert answers[0].reason == "UNAUTHENTICATED"


_WITH_RULES = [rpc for rpc in METHODS if rpc in OVER_REST and broken_requests(rpc)]


@pytest.mark.parametrize("rpc", _WITH_RULES)
async def test_a_field_that_breaks_a_rule_is_refused_the_same(stage: Stage, rpc: str) -> None:
    for field, request in broken_requests(rpc):
        refusal = await both(stage.callers, rpc, request, stage.headers(rpc))
        assert refusal.reason == "INVALID_ARGUMENT", f"{field} {str(request[field])[:60]!r}: {refusal.error}"
        assert {name.partition("[")[0] for name in refusal.fields} == {field}
