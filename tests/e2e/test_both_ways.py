"""REST and gRPC are one contract: every rpc tells the same by both ways, whether it answers or refuses.

The cases are in tests/rpc_cases.py and tests/rpc_refusals.py.
"""

import contextlib
from collections.abc import AsyncIterator

import pytest
from tests.both_ways import assert_same, both, told, without_what_differs
from tests.calling import BOTH_WAYS, Callers, Service
from tests.rpc_cases import SUCCESSES, Case
from tests.rpc_refusals import REFUSALS
from tests.rpc_stages import Stage

from decisiongraph_service.storage.database import Database


@pytest.fixture
async def stage(callers: Callers, service: Service, database: Database, database_url: str) -> AsyncIterator[Stage]:
    async with contextlib.AsyncExitStack() as stack:
        yield Stage(callers, service, database, database_url, stack)


@pytest.mark.parametrize("case", [case for case in SUCCESSES if not case.acts], ids=str)
async def test_what_is_asked_is_answered_the_same(stage: Stage, case: Case) -> None:
    request = await case.prepare(stage)
    answer = await both(stage.callers, case.rpc, request, stage.headers(case.rpc), events=case.events)
    assert not answer.error, answer.error
    assert answer.headers == ({} if case.events else {"x-request-id": f"parity-{case.rpc}"})


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
