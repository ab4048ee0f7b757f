"""Schemathesis sends what the published document allows, and what it forbids, through Envoy to the service.

No status that an operation does not name, no answer that breaks its schema, no 5xx; what is valid is accepted, what is
not is refused. Every operation of the document takes part without being named here. `make fuzz` runs it for longer.
"""

import asyncio
import dataclasses
import json
import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import jsonschema
import pytest
from tests import jobs
from tests.accounts import done, make_account, make_key
from tests.calling import METHODS, Callers, Service
from tests.fuzz import document
from tests.fuzz.own_service import own_service
from tests.rpc_examples import RULES

from decisiongraph_service.access import tokens
from decisiongraph_service.domain.vocabulary import TenantId

_ROOT: Final = Path(__file__).resolve().parents[2]
_OPERATIONS: Final = document.operations()
_TENANT: Final = TenantId("fuzzed")
_LONG: Final = "FUZZ_EXAMPLES" in os.environ
_EXAMPLES: Final = int(os.environ.get("FUZZ_EXAMPLES", "3"))
"""Valid random requests of each operation, and as many invalid ones."""
_SEED: Final = int(os.environ.get("FUZZ_SEED", "1"))
_COVERAGE: Final = 0 if _LONG else 24
"""Most systematic requests of each operation; 0 for all."""
_LOG: Final = logging.getLogger("fuzz")
# Values that fit together. With others, what is to be refused for one parameter would be refused for another one.
_FITTING: Final = {
    "page_token": "",
    "since_log_seq": "0",
    "until_log_seq": "24",
    "as_of_log_seq": "24",
    "min_log_seq": "0",
    "since_trace_seq": "0",
    **{f"since_{what}_at": "2026-01-01T00:00:00Z" for what in ("occurred", "started", "finished", "recorded")},
    **{f"until_{what}_at": "2099-01-01T00:00:00Z" for what in ("occurred", "started", "finished", "recorded")},
    "primary_entity_type": "order",
    "primary_entity_id": "A-77120",
    "entity_type": "order",
    "entity_id": "A-77120",
    "policy_id": "refund_limit",
    "policy_version": "2026-02",
}


def _rpc(label: str) -> str:
    return str(_OPERATIONS[label]["operationId"]).rstrip("0123456789")


_STREAMS: Final = [label for label in _OPERATIONS if METHODS[_rpc(label)][1].server_streaming]


def _not_landed() -> set[str]:
    """The rpcs that the contract's own table says are missing."""
    table = (_ROOT / "docs/reference/HTTP_API_CONTRACT.md").read_text()
    return set(re.findall(r"^\| \w+ \| `(\w+)` \|.*\| UNIMPLEMENTED \|$", table, re.MULTILINE))


@dataclasses.dataclass(frozen=True)
class Fuzzed:
    """A service with something in it, and values of parameters that find it."""

    callers: Callers
    database_url: str
    rest: str
    known: Mapping[str, Sequence[str]]

    def token(self, label: str) -> str | None:
        """The token that the operation needs; None if it needs none."""
        role = RULES[_rpc(label)].role
        return self.callers.tenant.tokens[role] if role else None


@pytest.fixture(scope="module")
async def fuzzed(service: Service, database_url: str) -> AsyncIterator[Fuzzed]:
    """A server of its own with the story in it."""
    async with own_service(service, database_url, _TENANT) as own:
        yield Fuzzed(own.callers, own.database_url, own.running.rest, await _tell_the_story(own.callers))


async def _tell_the_story(callers: Callers) -> dict[str, Sequence[str]]:
    """Fill the tenant with what the document's examples speak of."""
    for tenant_id, display_name in ((_TENANT, ""), ("acme", "Acme Shop")):
        await done(callers, "CreateTenant", tenant_id=tenant_id, display_name=display_name)
    refunds = json.loads((_ROOT / "tests/golden/refunds.json").read_text())["events"]
    await jobs.append(callers, refunds)
    job = await jobs.ended(callers, await jobs.start(callers, projection="context_graph", mode="verify"))
    # Fuzzing disables this account and revokes this key. The other one stays as it is.
    account = await make_account(callers)
    key, _ = await make_key(callers, account)
    _, secret = await make_key(callers, await make_account(callers, "other"))
    return {
        **{name: [value] for name, value in _FITTING.items()},
        "x-tenant-id": [_TENANT],
        "trace_id": ["rf-1001", "rf-1002"],
        "like_trace_id": ["rf-1001"],
        "event_id": ["ev-006"],
        "node_type": ["entity", "trace"],
        "node_id": ["order:A-77120", "rf-1001"],
        "job_id": [job["job_id"]],
        "tenant_id": ["acme"],
        "account_id": [account],
        "key_id": [key],
        "body.tenant_ids[*]": ["acme"],
        "body.api_key": [secret],
    }


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of an operation."""

    operation: str
    statuses: Mapping[str, int]
    failures: Sequence[str]


@pytest.fixture(scope="module")
async def outcomes(fuzzed: Fuzzed, request: pytest.FixtureRequest) -> dict[str, Outcome]:
    """What came of the operations whose tests are asked for."""
    name = test_an_operation_does_what_the_document_says.__name__
    items = [item for item in request.session.items if getattr(item, "originalname", None) == name]
    wanted = {item.callspec.params["label"] for item in items if isinstance(item, pytest.Function)}
    powers = {label: fuzzed.token(label) for label in _OPERATIONS if label in wanted}
    orders = {
        "rest": fuzzed.rest,
        "tokens": powers,
        "known": fuzzed.known,
        "coverage": _COVERAGE,
        "examples": _EXAMPLES,
        "seed": _SEED,
        "shrink": _LONG,
    }
    _LOG.info("%d operations, %d examples of each kind, seed %d", len(powers), _EXAMPLES, _SEED)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fuzz"),
        cwd=_ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**26,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(orders).encode())
        process.stdin.close()
        found = {}
        assert process.stdout is not None
        async for line in process.stdout:
            outcome = Outcome(**json.loads(line))
            _LOG.info("%s: %s, %d failures", outcome.operation, outcome.statuses, len(outcome.failures))
            found[outcome.operation] = outcome
        assert await process.wait() == 0, "the fuzzing itself failed, see its output"
    finally:
        if process.returncode is None:
            process.kill()
    return found


@pytest.mark.parametrize("label", _OPERATIONS)
def test_an_operation_does_what_the_document_says(outcomes: dict[str, Outcome], label: str) -> None:
    outcome = outcomes[label]
    if outcome.failures:
        again = f"Again: make fuzz EXAMPLES={_EXAMPLES} SEED={_SEED}"
        pytest.fail("\n".join((*outcome.failures, again)), pytrace=False)
    landed = _rpc(label) not in _not_landed()
    assert ("501" in outcome.statuses) != landed, outcome.statuses
    if landed and _rpc(label) != "CancelReplay":  # its job has ended; one that has not is cancelled below
        assert "200" in outcome.statuses, f"never asked for anything that is there: {outcome.statuses}"


def _mismatches(response: httpx.Response, label: str) -> list[str]:
    """What in an error is not as the document says."""
    found = []
    if str(response.status_code) not in _OPERATIONS[label]["responses"]:
        found.append(f"{response.status_code} is not named")
    if response.headers["content-type"] != "application/json":
        found.append(response.headers["content-type"])
    validator = jsonschema.Draft202012Validator(document.error_schema())
    return found + [f"{error.json_path}: {error.message}" for error in validator.iter_errors(response.json())]


def _url(fuzzed: Fuzzed, label: str) -> tuple[str, str]:
    """Method and path of an operation, for something that is there."""
    method, path = label.split(" ")
    return method, re.sub(r"{(\w+)}", lambda match: fuzzed.known.get(match[1], ["x"])[0], path)


@pytest.mark.parametrize("label", [label for label, one in _OPERATIONS.items() if one["security"]])
async def test_refused_powers_are_as_the_document_says(fuzzed: Fuzzed, service: Service, label: str) -> None:
    role = RULES[_rpc(label)].role
    other = fuzzed.callers.tenant.tokens["reader" if role != "reader" else "writer"]
    foreign = service.token(tenant_ids=["acme"], roles=tokens.ROLES, permissions=[])
    method, path = _url(fuzzed, label)
    for status, authorization in ((401, None), (401, "Bearer x"), (401, "Basic eDp4"), (403, other), (403, foreign)):
        headers: dict[str, str] = {"x-tenant-id": _TENANT}
        if authorization is not None:
            headers["authorization"] = authorization if " " in authorization else f"Bearer {authorization}"
        response = await fuzzed.callers.client.request(method, path, headers=headers)
        assert response.status_code == status, response.text
        assert _mismatches(response, label) == []
        [request_id] = [one["request_id"] for one in response.json()["details"] if "request_id" in one]
        assert request_id == response.headers["x-request-id"]


def _broken(label: str, answer: Any) -> list[str]:
    """What in a successful answer is not as the document says."""
    errors = jsonschema.Draft202012Validator(document.answer_schema(label)).iter_errors(answer)
    return [f"{error.json_path}: {error.message}" for error in errors]


@pytest.mark.parametrize("label", _STREAMS)
async def test_the_lines_of_a_stream_are_as_the_document_says(fuzzed: Fuzzed, label: str) -> None:
    method, path = _url(fuzzed, label)
    query = {"since_log_seq": "0"} if label.startswith("GET /api/v1/events") else {}
    headers = {"authorization": f"Bearer {fuzzed.token(label)}"}
    async with fuzzed.callers.client.stream(method, path, params=query, headers=headers) as response:
        assert response.headers["content-type"] == "application/json"
        seen = 0
        async for line in response.aiter_lines():
            assert _broken(label, json.loads(line)) == [], line
            seen += 1
            if seen == 30:  # all events of the story, and heartbeats
                break
    assert seen


async def test_a_cancelled_job_is_as_the_document_says(fuzzed: Fuzzed) -> None:
    labels = [label for label in _OPERATIONS if _rpc(label) == "CancelReplay"]
    assert labels
    async with jobs.jobs_held(fuzzed.database_url, _TENANT):
        for label in labels:
            job = await jobs.start(fuzzed.callers, projection="trace_summary", mode="catch_up")
            headers = {"authorization": f"Bearer {fuzzed.token(label)}"}
            path = label.split(" ")[1].replace("{job_id}", job["job_id"])
            response = await fuzzed.callers.client.post(path, headers=headers, json={"reason": "to see"})
            assert response.status_code == 200, response.text
            assert _broken(label, response.json()) == []
            await jobs.ended(fuzzed.callers, job)
