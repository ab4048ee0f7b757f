"""What each exchange is checked for: schemathesis' own checks where they hold of a transcoder, else our own."""

import json
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import jsonschema
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.meta import CoverageScenario, coverage_scenario
from schemathesis.specs.openapi import checks as openapi

from tests.fuzz import document

Case: TypeAlias = "schemathesis.Case[Any]"
Operation: TypeAlias = "schemathesis.APIOperation[Any, Any, Any, Any]"
Check: TypeAlias = Callable[[schemathesis.CheckContext, schemathesis.Response, Case], bool | None]

_VALIDATOR: Final = jsonschema.Draft202012Validator
_ERROR: Final = _VALIDATOR(document.error_schema())
_INT64_MAX: Final = 2**63 - 1

# Rules that a request can break although it keeps its schema, by the code in `BadRequest`.
_BEYOND_SCHEMAS: Final = {
    "FOREIGN_TOKEN",  # page tokens are opaque
    "IN_THE_PAST",
    "ABOVE_UPPER_BOUND",  # of two parameters
    "OUT_OF_RANGE",  # beyond the end of the log
    "UNKNOWN",  # tenants of an account must exist
    "NEEDS_ROLE",  # permissions of an account need its role
    "FRACTIONAL_NUMBER",  # of free JSON within typed payloads
    "NUMBER_OUT_OF_RANGE",
    "TOO_DEEP",
    "NO_WORD",  # a search needs a letter or digit
    "TOO_MANY_WORDS",
}
# The same, if the text is of this kind.
_BEYOND_SCHEMAS_OF_TEXTS: Final = {
    "MAX_BYTES": re.compile(r"[^\x00-\x7f]"),  # `maxLength` counts characters
    "TOO_LONG": re.compile(r"[^\x00-\x7f]"),
    "NO_NUL": re.compile("\0"),  # said in the descriptions
    "NUL_NOT_ALLOWED": re.compile("\0"),
    "TIMESTAMP": re.compile("^[0-9]{4}-"),  # 30 February has the form of a date
    "INVALID_TIMESTAMP": re.compile("^[0-9]{4}-"),
}
_PAYLOAD: Final = re.compile(r"(?:events\[(\d+)\]\.)?payload(?:\W|$)")


def valid_data_is_accepted(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: Case
) -> bool | None:
    """Schemathesis' check, but for refusals that name only rules which no schema can say."""
    if response.status_code in (400, 422):
        answer = response.json()
        violations = [one for detail in answer["details"] for one in detail.get("field_violations", ())]
        if violations and all(_is_beyond_schemas(one, case) for one in violations):
            return None
        # The document says 19 digits: a pattern for less than 2^63 is not for people.
        numbers = [int(text) for text in _texts_in([case.query, case.body]) if re.fullmatch("-?[0-9]{19}", text)]
        if answer["message"].endswith("TYPE_INT64") and any(abs(number) > _INT64_MAX for number in numbers):
            return None
    return openapi.positive_data_acceptance(context, response, case)


def _is_beyond_schemas(violation: Mapping[str, str], case: Case) -> bool:
    field, reason = violation["field"], violation["reason"]
    body: Any = case.body
    if inside := _PAYLOAD.match(field):
        # What a JSON payload must hold depends on the event type; the document has it in words.
        event = body if inside[1] is None else body["events"][int(inside[1])]
        if "payload" in event:
            return True
        # A typed payload is named as the JSON that it becomes.
        value: Any = event
    else:
        value = _value_of(case, field)
    if reason == "REQUIRED":
        # A parameter that is needed because another one is there.
        return any(one.name == field and not one.is_required for one in case.operation.query)
    kind = _BEYOND_SCHEMAS_OF_TEXTS.get(reason)
    return reason in _BEYOND_SCHEMAS or (kind is not None and any(map(kind.search, _texts_in(value))))


def _value_of(case: Case, field: str) -> Any:
    """What was sent for a field, e.g. `events[3].source.system`; None if nothing was."""
    for parameters in (case.query, case.path_parameters, case.headers):
        if field in parameters:
            return parameters[field]
    value: Any = case.body
    for part in re.findall(r"\w+", field):
        if isinstance(value, list):
            value = value[int(part)]
        elif isinstance(value, Mapping):
            value = value.get(part)
        else:
            return None
    return value


def _texts_in(value: Any) -> Iterator[str]:
    """Every text, percent-encoding undone: path parameters have it."""
    if isinstance(value, str):
        yield urllib.parse.unquote(value)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts_in(inner)


def invalid_data_is_refused(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: Case
) -> bool | None:
    """Schemathesis' check, but for what is valid as the transcoder reads it."""
    try:
        return openapi.negative_data_rejection(context, response, case)
    except AcceptedNegativeData:
        places = {place for place, part in _meta(case).components.items() if part.mode.is_negative}
        if places == {ParameterLocation.BODY}:
            schema = document.body_schema(case.operation.label)
            if _VALIDATOR(schema).is_valid(_as_read(case.body, schema)):
                return None
        # It drops a parameter without a name, `?=1`.
        if "" in _sent_parameters(response) and ParameterLocation.BODY not in places:
            return None
        raise


def _meta(case: Case) -> Any:
    assert case.meta is not None
    return case.meta


def _as_read(value: Any, schema: Mapping[str, Any]) -> Any:
    """A body as protobuf's JSON mapping reads it.

    Null is the same as left out, one value is a list of one, lists in lists are one list, numbers may be text.
    """
    if "$ref" in schema:
        schema = document.components()["schemas"][schema["$ref"].rpartition("/")[2]]
    if "items" in schema:
        return [_as_read(item, schema["items"]) for item in _flat(value)]
    if isinstance(value, dict) and "properties" in schema:
        inner = schema["properties"]
        return {name: _as_read(item, inner.get(name, {})) for name, item in value.items() if item is not None}
    if "integer" in schema.get("type", ()) and isinstance(value, str) and re.fullmatch("[+-]?[0-9]+", value):
        return int(value)
    return value


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    elif value is not None:
        yield value


def unknown_parameters_are_refused(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: Case
) -> bool | None:
    """No request with a query parameter that the document does not have is answered: schemathesis allows that."""
    unknown = _sent_parameters(response) - {one.name for one in case.operation.query} - {""}
    assert not unknown or response.status_code >= 400, f"{response.status_code} in spite of {sorted(unknown)}"
    return None


def _sent_parameters(response: schemathesis.Response) -> set[str]:
    query = urllib.parse.urlsplit(response.request.url or "").query
    return set(urllib.parse.parse_qs(query, keep_blank_values=True))


def errors_have_one_shape(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: Case
) -> bool | None:
    """Every error is JSON and has the schema `Error`, also where schemathesis looks at the status only."""
    if response.status_code < 400:
        return None
    kinds = response.headers.get("content-type", [])
    assert kinds == ["application/json"], f"an error of the type {kinds}: {response.text[:300]}"
    wrong = [f"{error.json_path}: {error.message}" for error in _ERROR.iter_errors(json.loads(response.content))]
    assert not wrong, "\n".join(wrong)
    return None


def unknown_methods_are_not_found(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: Case
) -> bool | None:
    """The transcoder routes by method and path together, so there is no 405 (HTTP_API_CONTRACT.md, section 5.3)."""
    if coverage_scenario(case) == CoverageScenario.UNSPECIFIED_HTTP_METHOD:
        # 400: Envoy does not know the method at all. 401: the token is looked at first.
        assert response.status_code in (400, 401, 404), f"{response.request.method} gave {response.status_code}"
    return None


ALWAYS: Final[list[Check]] = [
    not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
    openapi.missing_required_header,
    valid_data_is_accepted,
    invalid_data_is_refused,
    unknown_parameters_are_refused,
    errors_have_one_shape,
    unknown_methods_are_not_found,
]
ONCE_IT_SUCCEEDS: Final[Check] = openapi.ignored_auth
"""Sends two more requests for each success, and an operation either looks at tokens or does not."""
