"""No rpc of the contract can be called without a valid token and the powers that it needs, by either way."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import grpc
import pytest
from tests.bad_tokens import BAD_HEADERS, BAD_TOKENS, parts, signed
from tests.calling import METHODS, Answer, Callers, Service
from tests.rpc_examples import PRIVATE, PUBLIC, RULES, calls, example, http_rule

from decisiongraph_service.access import tokens

_HTTP = {3: 400, 5: 404, 7: 403, 12: 501, 16: 401}
_GRPC_THROUGH_ENVOY = "grpc through envoy"


async def call_all(
    callers: Callers, through_envoy: Callers, rpcs: tuple[str, ...], headers: Mapping[str, str]
) -> dict[tuple[str, str], Answer]:
    """Call rpcs by every way that they have, with valid requests and these headers."""
    wanted = [*calls(rpcs), *((_GRPC_THROUGH_ENVOY, rpc) for rpc in rpcs)]
    ways = {"rest": callers.by_rest, "grpc": callers.by_grpc, _GRPC_THROUGH_ENVOY: through_envoy.by_grpc}

    async def one(way: str, rpc: str) -> Answer:
        request = dict(example(rpc))
        if rpc.startswith("Create"):
            # What is really made must not be in the way of others on the shared database.
            for name in {"tenant_id", "account_id"} & request.keys():
                request[name] = f"{callers.tenant.tenant_id}-{request[name]}"
        return await ways[way](rpc, request, headers)

    answers = await asyncio.gather(*(one(way, rpc) for way, rpc in wanted))
    return dict(zip(wanted, answers, strict=True))


def assert_all_refused(answers: Mapping[tuple[str, str], Answer], code: int, reason: str, category: str) -> None:
    wrong = {}
    for (way, rpc), answer in answers.items():
        status = _HTTP[code] if way == "rest" else None
        got = (
            answer.ok,
            answer.body.get("code"),
            answer.http_status,
            answer.reason,
            answer.category,
            answer.detail("ErrorInfo").get("domain"),
            bool(answer.detail("RequestInfo").get("request_id")),
        )
        if got != (False, code, status, reason, category, "decisiongraph", True):
            wrong[way, rpc] = got
    assert not wrong, f"not refused as {reason}: {wrong}"


async def test_no_private_rpc_answers_without_a_token(callers: Callers, through_envoy: Callers) -> None:
    assert_all_refused(await call_all(callers, through_envoy, PRIVATE, {}), 16, "UNAUTHENTICATED", "unauthorized")


@pytest.mark.parametrize("header", BAD_HEADERS.values(), ids=list(BAD_HEADERS))
async def test_no_private_rpc_answers_to_a_malformed_header(
    callers: Callers, through_envoy: Callers, header: str
) -> None:
    answers = await call_all(callers, through_envoy, PRIVATE, {"authorization": header})
    assert_all_refused(answers, 16, "UNAUTHENTICATED", "unauthorized")


@pytest.mark.parametrize("fault", BAD_TOKENS)
async def test_no_private_rpc_answers_to_a_bad_token(
    callers: Callers, through_envoy: Callers, service: Service, fault: str
) -> None:
    answers = await call_all(callers, through_envoy, PRIVATE, {"authorization": f"Bearer {BAD_TOKENS[fault](service)}"})
    assert_all_refused(answers, 16, "UNAUTHENTICATED", "unauthorized")


async def test_a_refused_token_is_not_repeated(callers: Callers, service: Service) -> None:
    token = signed(service, aud="other")
    answer = await callers.call("rest", "GetEvent", {"event_id": "e"}, token=token)
    assert not [part for part in parts(token) if part in json.dumps(answer.body)]


async def test_the_scheme_may_be_written_in_any_case(callers: Callers, through_envoy: Callers) -> None:
    token = callers.tenant.tokens["reader"]
    for scheme in ("bearer", "BEARER"):
        for call in (callers.by_rest, callers.by_grpc, through_envoy.by_grpc):
            answer = await call("GetEvent", {"event_id": "e"}, {"authorization": f"{scheme} {token}"})
            assert answer.reason == "NOT_FOUND", answer.body


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer garbage"}], ids=["no token", "garbage"])
async def test_public_rpcs_do_not_look_at_the_token(
    callers: Callers, through_envoy: Callers, headers: dict[str, str]
) -> None:
    for rpc in PUBLIC:
        if rpc == "IssueToken":  # refuses what its request holds, not who calls
            continue
        answer = await callers.by_grpc(rpc, example(rpc), headers)
        assert answer.ok, f"{rpc}: {answer.body}"
        through = await through_envoy.by_grpc(rpc, example(rpc), headers)
        assert through.ok, f"{rpc}: {through.body}"
        response = await callers.client.get(_public_path(rpc), headers=headers)
        assert response.status_code == 200, f"{rpc}: {response.text}"


def _public_path(rpc: str) -> str:
    return str(http_rule(METHODS[rpc][1]).get).format(**example(rpc))


@pytest.mark.parametrize("role", tokens.ROLES)
async def test_a_role_opens_no_rpc_of_another_role(callers: Callers, through_envoy: Callers, role: str) -> None:
    others = tuple(rpc for rpc in PRIVATE if RULES[rpc].role != role)
    answers = await call_all(callers, through_envoy, others, {"authorization": f"Bearer {callers.tenant.tokens[role]}"})
    assert_all_refused(answers, 7, "FORBIDDEN", "forbidden")


async def test_a_token_without_roles_opens_no_rpc(callers: Callers, through_envoy: Callers, service: Service) -> None:
    token = service.token(tenant_ids=[callers.tenant.tenant_id], roles=[])
    answers = await call_all(callers, through_envoy, PRIVATE, {"authorization": f"Bearer {token}"})
    assert_all_refused(answers, 7, "FORBIDDEN", "forbidden")


@pytest.mark.parametrize("held", [(), *((name,) for name in tokens.PERMISSIONS), ("all", "*")], ids=str)
async def test_an_administrator_needs_one_of_the_permissions(
    callers: Callers, through_envoy: Callers, service: Service, held: tuple[str, ...]
) -> None:
    token = service.token(tenant_ids=[callers.tenant.tenant_id], roles=["admin"], permissions=held)
    closed = tuple(rpc for rpc in PRIVATE if RULES[rpc].permissions and not set(RULES[rpc].permissions) & set(held))
    answers = await call_all(callers, through_envoy, closed, {"authorization": f"Bearer {token}"})
    assert closed
    assert_all_refused(answers, 7, "FORBIDDEN", "forbidden")


async def test_those_with_all_powers_get_an_answer_or_a_status_that_says_why(
    callers: Callers, through_envoy: Callers, service: Service
) -> None:
    token = service.token(tenant_ids=[callers.tenant.tenant_id], roles=tokens.ROLES)
    # A watch over REST ends only with its connection.
    rpcs = tuple(rpc for rpc in PRIVATE if not METHODS[rpc][1].server_streaming)
    answers = await call_all(callers, through_envoy, rpcs, {"authorization": f"Bearer {token}"})
    refused = {key: answer for key, answer in answers.items() if not answer.ok}
    for key, answer in refused.items():
        assert answer.reason not in ("", "INTERNAL", "UNAUTHENTICATED", "FORBIDDEN"), f"{key}: {answer.body}"
        assert answer.detail("ErrorInfo")["domain"] == "decisiongraph", f"{key}: {answer.body}"
        assert answer.detail("RequestInfo")["request_id"], f"{key}: {answer.body}"
    missing = {key: answer for key, answer in refused.items() if answer.reason == "UNIMPLEMENTED"}
    assert_all_refused(missing, 12, "UNIMPLEMENTED", "unimplemented")


@pytest.mark.parametrize("name", ["decisiongraph.v1.QueryService", "no.such.Service"])
async def test_a_method_that_does_not_exist_is_refused_like_everything_else(
    callers: Callers, through_envoy: Callers, name: str
) -> None:
    for channel in (callers.channel, through_envoy.channel):
        call: Any = channel.unary_unary(f"/{name}/NoSuchMethod")
        with pytest.raises(grpc.aio.AioRpcError) as without_token:
            await call(b"", timeout=10)
        assert without_token.value.code() is grpc.StatusCode.UNAUTHENTICATED
        token = callers.tenant.tokens["reader"]
        with pytest.raises(grpc.aio.AioRpcError) as with_token:
            await call(b"", metadata=(("authorization", f"Bearer {token}"),), timeout=10)
        assert with_token.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "grpc-status-details-bin" in dict(with_token.value.trailing_metadata() or ())
