"""The examples do what they say against a running service: once, again, and refused. What they did, the log says."""

import json
import re

import pytest
from tests.accounts import UNKNOWN_SECRET, make_account, make_key
from tests.appending import started
from tests.calling import Callers, Service
from tests.example_programs import DECISION, NUMBER, Example, Examples, recorded

from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage.database import Database


async def test_it_records_each_event_once_and_in_order(
    example: Example, service: Service, reader_and_writer: str, database: Database, tenant_id: TenantId
) -> None:
    variables = {**example.at(service), "DG_TOKEN": reader_and_writer}
    first = await example.run(**variables)
    first.assert_done()
    assert first.err == ""
    assert sum(stored for stored, _ in first.stored) == len(example.events())
    assert sum(reused for _, reused in first.stored) == 0
    assert await recorded(database, tenant_id) == example.events()
    said = re.findall(r"^  (\d+ \w+ by \S+)$", first.out, re.MULTILINE)
    held = [f"{position} {kind} by {actor}" for position, (_, kind, actor) in enumerate(DECISION, start=1)]
    assert said == held, "what it says is not what the log holds"

    second = await example.run(**variables)
    second.assert_done()
    assert sum(stored for stored, _ in second.stored) == 0
    assert sum(reused for _, reused in second.stored) == len(example.events())
    assert await recorded(database, tenant_id) == example.events()


async def test_what_one_language_recorded_another_finds_there(
    example: Example,
    examples: Examples,
    service: Service,
    reader_and_writer: str,
    database: Database,
    tenant_id: TenantId,
) -> None:
    """JSON and typed payloads, whoever sends them, are the same events."""
    other = examples.get("rest_httpx")
    (await other.run(**other.at(service), DG_TOKEN=reader_and_writer)).assert_done()
    ran = await example.run(**example.at(service), DG_TOKEN=reader_and_writer)
    ran.assert_done()
    assert ran.stored[0] == (0, len(DECISION))
    assert await recorded(database, tenant_id) == example.events()


async def test_it_finds_the_service_of_make_run(
    example: Example,
    examples: Examples,
    service: Service,
    callers: Callers,
    database: Database,
    tenant_id: TenantId,
) -> None:
    file = examples.root / ".run" / "service.json"
    file.parent.mkdir(exist_ok=True)
    tokens = dict(callers.tenant.tokens)
    file.write_text(json.dumps({"rest": service.rest, "grpc": service.grpc, "tenant": tenant_id, "tokens": tokens}))
    try:
        (await example.run()).assert_done()
    finally:
        file.unlink()
    assert await recorded(database, tenant_id) == example.events()


async def test_an_api_key_is_exchanged_for_a_token(
    example: Example, service: Service, callers: Callers, database: Database, tenant_id: TenantId
) -> None:
    account = await make_account(callers, roles=["ROLE_READER", "ROLE_WRITER"])
    _, secret = await make_key(callers, account)
    ran = await example.run(**example.at(service), DG_API_KEY=secret)
    ran.assert_done()
    assert secret not in ran.out + ran.err
    assert await recorded(database, tenant_id) == example.events()


# Refused


@pytest.mark.parametrize(
    ("variable", "value"), [("DG_TOKEN", "not-a-token"), ("DG_API_KEY", UNKNOWN_SECRET)], ids=["token", "api key"]
)
async def test_wrong_credentials_end_it_with_the_reason(
    example: Example, service: Service, variable: str, value: str
) -> None:
    ran = await example.run(**example.at(service), **{variable: value})
    ran.assert_refused("UNAUTHENTICATED", "request id ")
    assert value not in ran.out + ran.err


async def test_a_missing_role_ends_it_with_the_reason(
    example: Example, service: Service, database: Database, tenant_id: TenantId
) -> None:
    token = service.token(tenant_ids=[tenant_id], roles=["reader"])
    (await example.run(**example.at(service), DG_TOKEN=token)).assert_refused("FORBIDDEN", "writer")
    assert await recorded(database, tenant_id) == []


async def test_another_decision_of_the_same_number_is_kept_apart(
    example: Example,
    service: Service,
    callers: Callers,
    reader_and_writer: str,
    database: Database,
    tenant_id: TenantId,
) -> None:
    other = started(
        source={"producer_id": "refund-agent", "system": "support"}, idempotency_key=f"refund-{NUMBER}/start"
    )
    assert (await callers.call("grpc", "AppendEvent", {"event": other})).ok
    ran = await example.run(**example.at(service), DG_TOKEN=reader_and_writer)
    ran.assert_refused("IDEMPOTENCY_CONFLICT", "payload")
    assert len(await recorded(database, tenant_id)) == 1


@pytest.mark.parametrize("named", [False, True], ids=["nothing", "address only"])
async def test_without_service_or_credentials_it_says_what_to_set(
    example: Example, service: Service, named: bool
) -> None:
    ran = await example.run(**example.at(service) if named else {})
    ran.assert_refused("DG_API_KEY", "DG_TOKEN", *([] if named else ["make run", example.address]))
