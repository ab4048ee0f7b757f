"""What the secret guard refuses is repeated nowhere: not in the answer, not in its headers, not in a log."""

import json
from typing import Any

import pytest
from tests.appending import append_bytes, changed, event_message, head, post, request_bytes, started
from tests.calling import Callers, Service, rest_answer

from decisiongraph_service.storage.database import Database

# Put together here, so that no scanner of the repository takes it for a real one.
SECRET = "sk" + "-Zq7Wv3Xk9Lm2Np4Rt6"

SCANNED: dict[str, Any] = {
    "payload.note": f"the key is {SECRET}",
    "payload.deep": {"a": [{"b": SECRET}]},
    "payload.title": SECRET,
    "tags": ["ok", SECRET],
    "correlation_id": SECRET,
    "causation_event_id": SECRET,
    "idempotency_key": SECRET,
    "source.producer_id": SECRET,
    "source.system": SECRET,
    "source.subsystem": SECRET,
    "actor.actor_id": SECRET,
}
# Refused by an earlier check than the guard's; the value is a secret all the same.
REFUSED_EARLIER: dict[str, Any] = {
    "event_type": SECRET,
    "occurred_at": SECRET,
    "actor.actor_type": SECRET,
    "tags": [SECRET * 10],
    "trace_id": SECRET * 20,
    "event_id": SECRET * 20,
    "idempotency_key": SECRET * 20,
    "correlation_id": f"{SECRET}\0",
    "payload.primary_entity": SECRET,
    "payload.workflow": f"{SECRET}\0",
}


def assert_not_in_the_logs(service: Service) -> None:
    for name in ("server", "envoy"):
        assert SECRET not in (service.folder / "logs" / f"{name}.log").read_text(), f"{name} logged it"


async def assert_refused_silently(
    callers: Callers, database: Database, service: Service, event: dict[str, Any]
) -> set[str]:
    """Send the event both ways; the categories of the refusals."""
    response = await post(callers, json.dumps(event))
    assert SECRET not in response.text
    assert SECRET not in str(response.headers)
    by_rest = rest_answer(response)
    by_grpc = await append_bytes(callers, request_bytes(event_message(event)))
    assert SECRET not in json.dumps(by_grpc.body)
    assert SECRET not in str(by_grpc.metadata)
    assert not by_rest.ok
    assert not by_grpc.ok
    assert by_rest.fields
    assert by_rest.fields == by_grpc.fields
    assert await head(callers, database) == 0
    assert_not_in_the_logs(service)
    return {by_rest.category, by_grpc.category}


@pytest.mark.parametrize("path", SCANNED)
async def test_a_secret_is_named_by_its_place_alone(
    callers: Callers, database: Database, service: Service, path: str
) -> None:
    event = changed(started(), path, SCANNED[path])
    assert await assert_refused_silently(callers, database, service, event) == {"pii_policy_violation"}


@pytest.mark.parametrize("path", REFUSED_EARLIER)
async def test_a_secret_that_is_refused_for_another_reason_is_not_repeated(
    callers: Callers, database: Database, service: Service, path: str
) -> None:
    event = changed(started(), path, REFUSED_EARLIER[path])
    categories = await assert_refused_silently(callers, database, service, event)
    assert categories < {"invalid_argument", "schema_violation"}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(started(payload=SECRET)),
        json.dumps(started(trace_seq=SECRET)),
        json.dumps(started(tags={"a": SECRET})),
        json.dumps(started(trace_seq=f'a " for type {SECRET} for type b')),
        json.dumps(started(source=SECRET)),
        json.dumps(changed(started(), "payload.note", SECRET))[:-3],
        json.dumps(changed(started(), "payload.note", SECRET)) + " oops",
        f'{{"payload": {{"note": "{SECRET}" "other": 1}}}}',
        f'{{"payload": {{"note": {SECRET}}}}}',
        f'{{"payload": {{"n": 1e999, "note": "{SECRET}"}}}}',
        f'{{"payload": {{"note": "{SECRET}\\ud800"}}}}',
        json.dumps(SECRET),
        SECRET,
    ],
    ids=lambda text: f"{len(text)} characters",
)
async def test_what_the_edge_refuses_is_not_repeated(
    callers: Callers, database: Database, service: Service, text: str
) -> None:
    response = await post(callers, text)
    answer = rest_answer(response)
    assert (answer.http_status, answer.reason) == (400, "INVALID_ARGUMENT")
    assert answer.body["message"]
    # Half of a secret is one too.
    assert not [part for part in (SECRET, SECRET[:10], SECRET[-10:]) if part in response.text], response.text
    assert await head(callers, database) == 0
    assert_not_in_the_logs(service)


async def test_a_query_parameter_of_the_wrong_type_is_not_repeated(callers: Callers) -> None:
    headers = {"authorization": f"Bearer {callers.tenant.tokens['reader']}"}
    response = await callers.client.get(f"/api/v1/traces/t/events?page_size={SECRET}", headers=headers)
    assert response.status_code == 400
    assert "page_size" in response.text
    assert SECRET not in response.text
