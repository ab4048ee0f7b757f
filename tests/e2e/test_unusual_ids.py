"""Ids are any text: whatever they hold, they come back by both ways, percent-encoded in REST paths."""

import urllib.parse

import pytest
from tests.appending import append, started
from tests.calling import BOTH_WAYS, Callers, rest_answer

IDS = [
    "a/b",
    "/",
    "a//b/",
    "urn:a:b",
    "a:watch",
    ":cancel",
    "100%",
    "%2F",
    "%zz",
    "a b",
    " a ",
    "a+b",
    "👟 ü",
    "..",
    ".",
    "../../admin",
    "?#",
    "a?b=c&d=e#f",
    "a\\b",
    "{id}",
    "*",
    "events",
    "\t\n",
    "\x7f\x85",
    "null",
    '"',
    "'; --",
    "a" * 200,
    "\ufeffa",
    "e\u0301",
]
IDS = [text for text in IDS if text.strip()]


async def get(callers: Callers, path: str) -> dict[str, object]:
    headers = {"authorization": f"Bearer {callers.tenant.tokens['reader']}"}
    answer = rest_answer(await callers.client.get(path, headers=headers))
    assert answer.ok, f"{path}: {answer.body}"
    return answer.body


def in_path(text: str) -> str:
    """Percent-encoded, dots too: clients take `..` in a path for a step up."""
    return urllib.parse.quote(text, safe="").replace(".", "%2E")


@pytest.mark.parametrize("name", IDS, ids=ascii)
async def test_an_unusual_id_comes_back(callers: Callers, name: str) -> None:
    sent = started(event_id=name, trace_id=name)
    appended = await append(callers, "rest", sent)
    assert appended.ok, appended.body
    stored = appended.body["event"]
    assert (stored["event_id"], stored["trace_id"]) == (name, name)

    encoded = in_path(name)
    by_rest = {
        "GetEvent": await get(callers, f"/api/v1/events/{encoded}"),
        "GetTrace": await get(callers, f"/api/v1/traces/{encoded}"),
        "ListTraceEvents": await get(callers, f"/api/v1/traces/{encoded}/events"),
    }
    assert by_rest["GetEvent"]["event"] == stored
    assert by_rest["GetTrace"]["events"] == [stored]
    assert by_rest["ListTraceEvents"]["events"] == [stored]
    for rpc, body in by_rest.items():
        request = {"event_id" if rpc == "GetEvent" else "trace_id": name}
        assert (await callers.call("grpc", rpc, request)).body == body, rpc


async def test_ids_that_look_alike_are_different(callers: Callers) -> None:
    alike = ["é", "e\u0301", "É", "é ", "a", "A", "\uff41"]
    for name in alike:
        answer = await append(callers, "grpc", started(event_id=name, trace_id=name))
        assert answer.ok, f"{name!r}: {answer.body}"
    for way in BOTH_WAYS:
        for name in alike:
            answer = await callers.call(way, "GetTrace", {"trace_id": name})
            assert [event["event_id"] for event in answer.body["events"]] == [name]


@pytest.mark.parametrize(("path", "named"), [("%00", "trace_id"), ("%FF", "trace_id"), ("a%C3", "trace_id")])
async def test_a_path_that_is_no_text_is_an_invalid_argument(callers: Callers, path: str, named: str) -> None:
    headers = {"authorization": f"Bearer {callers.tenant.tokens['reader']}"}
    answer = rest_answer(await callers.client.get(f"/api/v1/traces/{path}", headers=headers))
    assert (answer.http_status, answer.category, answer.fields) == (400, "invalid_argument", [named])
