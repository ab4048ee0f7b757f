"""The published OpenAPI document: valid, complete, true to the contract, and with examples that keep its schemas."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openapi_spec_validator
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools import openapi_document  # noqa: E402
from tools.openapi import contract as contracts  # noqa: E402
from tools.openapi import errors, schemas, text  # noqa: E402

from decisiongraph_service.domain import errors as domain_errors  # noqa: E402
from decisiongraph_service.domain.vocabulary import EVENT_TYPES  # noqa: E402

PUBLISHED = (ROOT / "generated/openapi.yaml").read_text()
DOCUMENT: dict[str, Any] = yaml.safe_load(PUBLISHED)
CONTRACT = contracts.read_contract(ROOT / "generated/decisiongraph.binpb")
RPCS = CONTRACT.rest_rpcs()
OPERATIONS = {
    (method, path): operation for path, methods in DOCUMENT["paths"].items() for method, operation in methods.items()
}


def rpc_of(operation: dict[str, Any]) -> contracts.Rpc:
    return RPCS[operation["operationId"].rstrip("0123456789")]


def violations(schema: Any, value: Any) -> list[str]:
    whole = {"allOf": [schema], "components": DOCUMENT["components"]}
    found = jsonschema.Draft202012Validator(whole).iter_errors(value)
    return [f"{error.json_path}: {error.message}" for error in found]


def leaves(kind: type[domain_errors.DecisionGraphError]) -> set[type[domain_errors.DecisionGraphError]]:
    """The errors that are raised: those that have a reason, with all below them."""
    below = {one for child in kind.__subclasses__() for one in leaves(child)}
    return below | ({kind} if hasattr(kind, "reason") else set())


def parts(value: Any, keyword: str) -> Iterator[Any]:
    """Every value of a keyword, anywhere in the document outside of examples."""
    if isinstance(value, dict):
        if keyword in value:
            yield value[keyword]
        for key, item in value.items():
            if key not in ("example", "examples"):
                yield from parts(item, keyword)
    if isinstance(value, list):
        for item in value:
            yield from parts(item, keyword)


def shown(content: dict[str, Any]) -> list[Any]:
    """The examples of a media type."""
    named = [example["value"] for example in content.get("examples", {}).values()]
    return named or [content[key] for key in ("example",) if key in content]


@pytest.fixture(params=OPERATIONS, ids=" ".join)
def operation(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = OPERATIONS[request.param]
    return found


def test_document_is_valid_openapi() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    openapi_spec_validator.OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_document_is_in_the_form_that_the_program_writes() -> None:
    assert openapi_document.render(DOCUMENT) == PUBLISHED
    assert "&id0" not in PUBLISHED


def test_document_has_exactly_the_routes_of_the_contract() -> None:
    assert set(OPERATIONS) == {(route.method, route.path) for rpc in RPCS.values() for route in rpc.routes}
    assert "IngestEvents" not in PUBLISHED


def test_operation_ids_are_rpc_names_and_differ() -> None:
    ids = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(ids) == len(set(ids))
    assert {rpc_of(operation).name for operation in OPERATIONS.values()} == set(RPCS)


def test_components_are_used_and_have_short_names() -> None:
    used = schemas.used_names([DOCUMENT["paths"], DOCUMENT["components"]])
    assert used | {"Error"} == set(DOCUMENT["components"]["schemas"])
    assert not [name for name in used if "." in name]


def test_every_body_parameter_set_and_answer_has_an_example(operation: dict[str, Any]) -> None:
    own = [parameter for parameter in operation.get("parameters", []) if "$ref" not in parameter]
    contents = [*operation["responses"]["200"]["content"].values()]
    contents += operation.get("requestBody", {}).get("content", {}).values()
    assert all(shown(content) for content in contents)
    assert all("example" in parameter for parameter in own if parameter.get("required"))
    assert not own or any("example" in parameter for parameter in own)


def test_examples_keep_their_schemas(operation: dict[str, Any]) -> None:
    own = [parameter for parameter in operation.get("parameters", []) if "example" in parameter]
    contents = [*operation["responses"]["200"]["content"].values()]
    contents += operation.get("requestBody", {}).get("content", {}).values()
    pairs = [(content["schema"], example) for content in contents for example in shown(content)]
    pairs += [(parameter["schema"], parameter["example"]) for parameter in own]
    assert [broken for schema, example in pairs for broken in violations(schema, example)] == []


@pytest.mark.parametrize("name", DOCUMENT["components"]["responses"])
def test_error_examples_keep_the_error_schema(name: str) -> None:
    content = DOCUMENT["components"]["responses"][name]["content"]["application/json"]
    assert violations(content["schema"], content["example"]) == []


def test_error_examples_use_the_reason_and_category_of_the_contract() -> None:
    for response in DOCUMENT["components"]["responses"].values():
        for detail in response["content"]["application/json"]["example"]["details"]:
            if reason := detail.get("reason"):
                assert detail["metadata"].get("category") == errors.CATEGORIES.get(reason)
                assert f"`{reason}`" in response["description"]


def test_error_reasons_are_those_of_the_service_and_of_the_gateway() -> None:
    service = {error.reason: error.category for error in leaves(domain_errors.DecisionGraphError)}
    of_damage = {"INTERNAL": "internal_error"}  # what is damaged says more: its category is that of what was found
    gateway = dict(
        re.findall(r"reason: (\w+)\n.*\n +metadata: {category: (\w+)}", (ROOT / "envoy/envoy.yaml").read_text())
    )
    assert service | gateway | of_damage == errors.CATEGORIES


def test_reference_events_post_unchanged() -> None:
    event = {"$ref": "#/components/schemas/Event"}
    for path in sorted((ROOT / "tests/golden").glob("*.json")):
        for given in json.loads(path.read_text())["events"]:
            assert violations(event, given) == [], given["event_id"]


@pytest.mark.parametrize(
    "change",
    [
        {"payload": None},
        {"trace_finished": {"outcome": "success"}},
        {"event_type": "Unknown"},
        {"trace_id": " \u3000"},
        {"trace_seq": -1},
        {"trace_seq": "-1"},
        {"actor": {"actor_type": "robot", "actor_id": "a"}},
        {"idempotency_key": ""},
        {"occurred_at": "2026-03-02T09:00:00"},
        {"tags": [" "]},
    ],
    ids=str,
)
def test_event_schema_refuses(change: dict[str, Any]) -> None:
    given = shown(OPERATIONS["post", "/api/v1/events"]["requestBody"]["content"]["application/json"])[0]
    assert violations({"$ref": "#/components/schemas/Event"}, given | change) != []


def test_event_schema_wants_event_type_with_a_json_payload_only() -> None:
    json_payload, typed_payload = shown(
        OPERATIONS["post", "/api/v1/events"]["requestBody"]["content"]["application/json"]
    )
    assert "event_type" not in typed_payload
    del json_payload["event_type"]
    assert violations({"$ref": "#/components/schemas/Event"}, json_payload) != []


def test_event_schema_refuses_an_event_type_that_contradicts_its_typed_payload() -> None:
    _, typed_payload = shown(OPERATIONS["post", "/api/v1/events"]["requestBody"]["content"]["application/json"])
    event = {"$ref": "#/components/schemas/Event"}
    for agreeing in ("TraceFinished", "", None):
        assert violations(event, typed_payload | {"event_type": agreeing}) == []
    assert violations(event, typed_payload | {"event_type": "TraceStarted"}) != []
    typed = {field.name for field in CONTRACT.messages[f"{contracts.PACKAGE}.Event"].fields if field.oneof} - {
        "payload"
    }
    named = {
        branch["required"][0]: branch["properties"]["event_type"]["enum"][0]
        for branch in DOCUMENT["components"]["schemas"]["Event"]["oneOf"][1:]
    }
    assert set(named) == typed
    assert set(named.values()) == set(EVENT_TYPES)


def test_security_is_on_all_but_public_operations(operation: dict[str, Any]) -> None:
    assert operation["security"] == ([] if rpc_of(operation).public else [{"bearer": []}])


def test_headers_and_rights_are_named(operation: dict[str, Any]) -> None:
    rpc = rpc_of(operation)
    names = {parameter.get("$ref", "").rsplit("/", 1)[-1] for parameter in operation.get("parameters", [])} - {""}
    tenant = set() if rpc.installation_wide else {"x-tenant-id"}
    assert names == (set() if rpc.public else {"x-request-id", *tenant})
    assert "x-request-id" in operation["responses"]["200"]["headers"]
    if not rpc.public:
        assert all(f"`{right}`" in operation["description"] for right in (rpc.role, *rpc.permissions))


def test_every_operation_answers_errors_in_the_shared_form(operation: dict[str, Any]) -> None:
    found = operation["responses"]
    private = set() if rpc_of(operation).public else {"401", "403"}
    assert {"400", "429", "431", "500", "501", "503", "default", *private} <= set(found)
    assert all("$ref" in response for status, response in found.items() if status != "200")


def test_retry_after_is_on_answers_that_are_worth_a_retry() -> None:
    for one in errors.RESPONSES:
        headers = DOCUMENT["components"]["responses"][one.name]["headers"]
        assert ("retry-after" in headers) == (one.status in ("429", "503"))
        assert "x-request-id" in headers


def test_every_set_of_allowed_texts_is_an_enum() -> None:
    found = {tuple(item for item in enum if item) for enum in parts(DOCUMENT, "enum")}
    used = [CONTRACT.messages[name] for name in schemas.usages(CONTRACT) if name in CONTRACT.messages]
    assert {field.text.allowed for message in used for field in message.fields if field.text.allowed} <= found


def test_descriptions_are_for_people() -> None:
    texts = [item for item in parts(DOCUMENT, "description") if isinstance(item, str)]
    assert len(texts) > 500
    assert not [item for item in texts if re.search(r"max_bytes|min_len|not_blank|no_nul| // ", item)]


def test_instants_have_one_form() -> None:
    assert CONTRACT.messages[f"{contracts.PACKAGE}.Event"].field("occurred_at").text.pattern == schemas.TIMESTAMP
    answered = DOCUMENT["components"]["schemas"]["StoredEvent"]["properties"]
    assert answered["recorded_at"]["format"] == answered["occurred_at"]["format"] == "date-time"
    asked = {
        one["name"]: one["schema"]
        for one in OPERATIONS["get", "/api/v1/events"]["parameters"]
        if one.get("name", "").endswith("_at")
    }
    assert set(asked) == {"since_occurred_at", "until_occurred_at"}
    for schema in asked.values():
        assert [value for value in ("", "2026-03-02T09:00:00.5+01:00") if violations(schema, value)] == []
        assert [value for value in ("today", "2026-03-02T09:00:00") if not violations(schema, value)] == []


def test_the_empty_text_is_allowed_where_it_is_the_same_as_left_out() -> None:
    schemas_by_name = {
        one["name"]: one["schema"]
        for operation in OPERATIONS.values()
        for one in operation.get("parameters", [])
        if one.get("in") == "query"
    }
    allowed = {name for name, schema in schemas_by_name.items() if not violations(schema, "")}
    assert {"view", "outcome", "direction", "tenant_id", "workflow", "page_token"} <= allowed
    assert not {"node_type", "node_id", "page_size", "since_log_seq"} & allowed
    typed = {"trace_finished": {"outcome": "success"}, "event_type": ""}
    given = shown(OPERATIONS["post", "/api/v1/events"]["requestBody"]["content"]["application/json"])[0]
    event = {"$ref": "#/components/schemas/Event"}
    assert violations(event, {key: given[key] for key in given if key != "payload"} | typed) == []
    assert violations(event, given | {"event_type": ""}) != []


def test_patterns_compile() -> None:
    patterns = {item for item in parts(DOCUMENT, "pattern") if isinstance(item, str)}
    assert schemas.NOT_BLANK in patterns
    assert all(re.compile(pattern) for pattern in patterns)


def test_answers_hold_64_bit_integers_as_text_and_always_print_plain_fields() -> None:
    receipt = DOCUMENT["components"]["schemas"]["EventReceipt"]
    assert set(receipt["required"]) == set(receipt["properties"])
    assert receipt["properties"]["log_seq"]["type"] == "string"
    stored = DOCUMENT["components"]["schemas"]["StoredEvent"]
    assert "tags" in stored["required"]
    assert stored["properties"]["correlation_id"]["type"] == "string"
    assert "correlation_id" not in stored["required"]


def test_requests_take_64_bit_integers_as_text_and_number() -> None:
    start = DOCUMENT["components"]["schemas"]["StartReplayRequest"]["properties"]["until_log_seq"]
    assert [value for value in (5, "5", None) if violations(start, value)] == []
    assert [value for value in (-5, "-5", "five", 1.5) if not violations(start, value)] == []


def test_fields_in_the_path_are_not_in_the_body() -> None:
    assert set(DOCUMENT["components"]["schemas"]["RevokeApiKeyRequest"]["properties"]) == {"reason"}


@pytest.mark.parametrize(
    "characters", ["\t\n\x0b\x0c\r \x85\xa0", "\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000"], ids=ascii
)
def test_not_blank_knows_all_white_space(characters: str) -> None:
    assert not re.search(schemas.NOT_BLANK, characters)
    assert re.search(schemas.NOT_BLANK, characters + "a")
    assert re.search(schemas.NOT_BLANK, "\u200b")


def test_prose_joins_lines_and_drops_rules() -> None:
    comment = "One\n two.\n\n Three.\nstring.max_bytes = 200\nevent.event_type // event_type: is required\n"
    assert text.prose(comment) == "One two.\n\nThree."


def test_first_sentence_is_not_cut_at_abbreviations() -> None:
    assert text.first_sentence("Says e.g. this. And that.") == "Says e.g. this"


@pytest.mark.parametrize(
    ("rules", "optional"),
    [
        (contracts.TextRules(max_bytes=5), True),
        (contracts.TextRules(min_length=1), False),
        (contracts.TextRules(not_blank=True), False),
        (contracts.TextRules(allowed=("a",)), False),
        (contracts.TextRules(pattern="^[a-z]+$"), False),
    ],
)
def test_a_text_is_required_if_the_empty_one_breaks_its_rules(rules: contracts.TextRules, optional: bool) -> None:
    assert rules.allows_empty() is optional


def test_examples_must_be_complete_and_known() -> None:
    given = yaml.safe_load((ROOT / "tools/openapi/examples.yaml").read_text())["operations"]
    assert set(openapi_document.read_examples(given, CONTRACT)) == set(RPCS)
    with pytest.raises(ValueError, match="Nothing"):
        openapi_document.read_examples(given | {"Nothing": {}}, CONTRACT)
    for part in ("request", "response", "parameters"):
        reduced = {key: value for key, value in given["CancelReplay"].items() if key != part}
        with pytest.raises(ValueError, match="CancelReplay"):
            openapi_document.read_examples(given | {"CancelReplay": reduced}, CONTRACT)
    with pytest.raises(ValueError, match="unknown parameters"):
        openapi_document.read_examples(given | {"GetEvent": {"parameters": {"x": 1}, "response": {}}}, CONTRACT)
