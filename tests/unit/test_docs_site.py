"""The pages that the documentation site makes from the code: complete, true, and with links that lead somewhere."""

import re
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import typer
from google.protobuf.descriptor import Descriptor
from mkdocs.exceptions import PluginError

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.docs_site import command_page, error_page, hooks, links, settings_page  # noqa: E402
from tools.docs_site.contract_pages import ContractPages, event_types, service_page  # noqa: E402

from decisiongraph_service.cli import main  # noqa: E402
from decisiongraph_service.domain import errors, vocabulary  # noqa: E402
from decisiongraph_service.rpc import contract, status  # noqa: E402
from decisiongraph_service.runtime.settings import Settings  # noqa: E402

PAGES: Final = dict(ContractPages(ROOT).pages())
METHODS: Final = [method for _, method in contract.methods()]


def section(page: str, heading: str) -> str:
    """The part of a page below a heading of the second level."""
    found = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"there is no heading {heading}"
    return found[1]


def row(text: str, first: str) -> list[str]:
    """The cells of the table row whose first cell is `first`."""
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    found = [cells for cells in rows if cells[0] == f"`{first}`"]
    assert len(found) == 1, f"{len(found)} rows of {first}"
    return found[0]


def part_of(method: Any) -> str:
    return section(PAGES[service_page(method.containing_service)], method.name)


# Services and messages


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_rpc_says_how_it_is_called_who_may_and_what_its_fields_are(method: Any) -> None:
    rule = contract.authorization_rules()[f"/{method.containing_service.full_name}/{method.name}"]
    text = part_of(method)
    assert f"`{method.containing_service.full_name}/{method.name}`" in text
    needs = "nothing: public" if rule.role is None else f"role `{rule.role}`"
    assert needs in text
    assert needs in PAGES["index.md"].split(f"[{method.name}](")[1].split("\n")[0]
    assert all(f"`{permission}`" in text for permission in rule.permissions)
    asked, _, answered = text.split("**Request**")[1].partition("nswer**")
    for message, part in ((method.input_type, asked), (method.output_type, answered)):
        if message.full_name.startswith("decisiongraph."):
            assert f"`{message.name}`" in part
            assert all(row(part, field.name)[-1] for field in message.fields)


def test_routes_and_comments_stand_beside_their_rpc() -> None:
    text = section(PAGES["admin-service.md"], "CancelReplay")
    assert "`POST /api/v1/admin/replays/{job_id}:cancel`<br>`POST /api/v1/admin/replays/{job_id}/cancel`" in text
    assert "What it committed stays." in text
    assert "permission `projection_replay` or `projection_rebuild`" in text
    assert "stream in both directions" in section(PAGES["ingestion-service.md"], "IngestEvents")


@pytest.mark.parametrize(
    ("page", "heading", "field", "kind", "rules"),
    [
        (
            "messages.md",
            "Event",
            "event_id",
            "string",
            "not blank; at most 200 bytes; no U+0000",
        ),
        (
            "messages.md",
            "Event",
            "source",
            "[Source](messages.md#source)",
            "**required**",
        ),
        (
            "messages.md",
            "Event",
            "trace_finished",
            "[TraceFinishedPayload](events.md#tracefinished)",
            "exactly one of `content`",
        ),
        (
            "messages.md",
            "Event",
            "tags",
            "list of string",
            "at most 64 items; each not blank, at most 100 bytes, no U+0000",
        ),
        (
            "messages.md",
            "Actor",
            "actor_type",
            "string",
            "**required**; `agent`, `person`, `role` or `system`",
        ),
        (
            "query-service.md",
            "ListEvents",
            "page_size",
            "int32",
            "1 to 10,000",
        ),
        (
            "query-service.md",
            "ListEvents",
            "since_log_seq",
            "int64",
            "0 or greater",
        ),
        (
            "ingestion-service.md",
            "AppendEvents",
            "events",
            "list of [Event](messages.md#event)",
            "**required**; 1 to 1,000 items",
        ),
        (
            "access-service.md",
            "IssueToken",
            "api_key",
            "string",
            "**required**; not empty; at most 500 bytes; no U+0000",
        ),
    ],
)
def test_a_field_has_its_type_and_its_rules(page: str, heading: str, field: str, kind: str, rules: str) -> None:
    assert row(section(PAGES[page], heading), field)[1:3] == [kind, rules]


def test_every_message_that_a_table_links_to_is_there() -> None:
    linked = {found for page in PAGES.values() for found in re.findall(r"\]\((\w+\.md#\w+)\)", page)}
    there = {
        f"{name}#{heading.lower()}"
        for name in ("messages.md", "events.md")
        for heading in re.findall("^## (.*)$", PAGES[name], re.MULTILINE)
    }
    assert {link for link in linked if link.startswith(("messages", "events"))} <= there


# Event types


def test_every_event_type_shows_all_fields_of_its_payload_by_their_paths() -> None:
    types = event_types()
    assert list(types) == list(vocabulary.EVENT_TYPES)
    for name, field in types.items():
        payload = field.message_type
        assert isinstance(payload, Descriptor)
        text = section(PAGES["events.md"], name)
        for part in payload.fields:
            row(text, f"{part.name}[]" if part.is_repeated and part.name != "context" else part.name)
        assert "??? example" in text


def test_paths_lead_into_the_parts_of_a_payload() -> None:
    text = section(PAGES["events.md"], "ActionProposed")
    assert row(text, "target_entity.entity_id")[2] == "**required**; not empty"
    assert row(text, "changes[].new_value.type")[2].startswith("**required**; `string`, `int`")


# Errors


def test_every_reason_has_the_codes_that_callers_get() -> None:
    page = error_page.render()
    refused = status.of_error(errors.TraceFinished(), "request")
    assert row(page, refused.reason) == [
        "`TRACE_FINISHED`",
        "`conflict`",
        refused.code.name,
        str(refused.http),
        "The trace holds a TraceFinished event and takes no new ones.",
    ]
    everything = [*errors.DecisionGraphError.__subclasses__()]
    for one in everything:
        everything += one.__subclasses__()
    reasons = {one.reason for one in everything if hasattr(one, "reason")}
    assert reasons == set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE))


# Settings


def test_every_setting_is_described() -> None:
    page = settings_page.render()
    for name in Settings.model_fields:
        assert row(page, f"DG_{name.upper()}")[-1]
    assert row(page, "DG_GRPC_PORT")[1:4] == ["integer", "`50051`", "0 to 65,535"]
    assert row(page, "DG_PROFILE")[1:3] == ["`development` or `production`", "`development`"]
    assert row(page, "DG_REBUILD_ENABLED")[1:3] == ["`true` or `false`", "-"]


def test_values_of_this_machine_are_not_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    before = settings_page.render()
    monkeypatch.setenv("DG_DATABASE_URL", "postgresql://me:hush-hush@db/decisions")
    monkeypatch.setenv("DG_GRPC_PORT", "4711")
    assert settings_page.render() == before
    assert row(before, "DG_DATABASE_URL")[1:3] == ["text, secret", "-"]


# Command line


def test_every_command_and_every_option_is_described() -> None:
    page = command_page.render()
    waiting: list[tuple[str, Any]] = [("decisiongraph", typer.main.get_command(main.app))]
    while waiting:
        name, command = waiting.pop()
        children = getattr(command, "commands", {})
        waiting += [(f"{name} {word}", child) for word, child in children.items() if not child.hidden]
        if not children:
            text = section(page, name)
            assert " ".join(command.help.split("\n\n")[0].split()) in text
            for parameter in command.params:
                argument = parameter.param_type_name == "argument"
                assert row(text, parameter.name.upper() if argument else ", ".join(parameter.opts))[-1]
    assert row(section(page, "decisiongraph admin tenants create"), "TENANT_ID")[2] == "**required**"
    assert row(section(page, "decisiongraph envoy-config"), "--admin-port")[1:3] == ["integer, 1 to 65,535", "`9901`"]
    assert row(section(page, "decisiongraph tail"), "--since")[1] == "integer, at least 0"
    assert row(section(page, "decisiongraph replay start"), "MODE")[1] == "`catch_up`, `rebuild`, `verify`"


# Links

REPOSITORY: Final = links.Repository(
    documents={
        "docs/a/ONE.md": "a/ONE.md",
        "docs/b/TWO_RULES.md": "b/TWO_RULES.md",
        "CHANGELOG.md": "changelog.md",
    },
    texts={
        "a/ONE.md": "",
        "b/TWO_RULES.md": "## 1. First\n\n```text\n## 9. Not a heading\n```\n\n### 1.2 Its `part`, and more\n",
        "changelog.md": "",
    },
    exists=lambda path: path in ("bench/run.py", "docs/b"),
)


@pytest.mark.parametrize(
    ("written", "on_the_site"),
    [
        ("[two](../b/TWO_RULES.md)", "[two](../b/TWO_RULES.md)"),
        ("[two](../b/TWO_RULES.md#1-first)", "[two](../b/TWO_RULES.md#1-first)"),
        ("[what is new](../../CHANGELOG.md)", "[what is new](../changelog.md)"),
        ("[`the` program](../../bench/run.py)", "`bench/run.py`"),
        ("[rules](../b/)", "`docs/b`"),
        ("[made](../api/errors.md#x)", "[made](../api/errors.md#x)"),
        ("[site](https://example.com/TWO_RULES.md)", "[site](https://example.com/TWO_RULES.md)"),
        ("see TWO_RULES.md.", "see [TWO_RULES.md](../b/TWO_RULES.md)."),
        ("(TWO_RULES.md, section 1)", "([TWO_RULES.md, section 1](../b/TWO_RULES.md#1-first))"),
        ("TWO_RULES.md, section 1.2", "[TWO_RULES.md, section 1.2](../b/TWO_RULES.md#12-its-part-and-more)"),
        ("[two](../b/TWO_RULES.md), section 1", "[two](../b/TWO_RULES.md#1-first), section 1"),
        ("`TWO_RULES.md` and README.md", "`TWO_RULES.md` and README.md"),
        ("```text\nTWO_RULES.md\n```", "```text\nTWO_RULES.md\n```"),
    ],
)
def test_a_link_becomes_what_the_site_needs(written: str, on_the_site: str) -> None:
    assert links.for_site(written, source="docs/a/ONE.md", page="a/ONE.md", repository=REPOSITORY) == on_the_site


@pytest.mark.parametrize(
    "written", ["[gone](../../bench/gone.py)", "TWO_RULES.md, section 9", "[two](../b/TWO_RULES.md), section 3"]
)
def test_a_link_to_nothing_is_an_error(written: str) -> None:
    with pytest.raises(links.LinkError, match=r"docs/a/ONE\.md"):
        links.for_site(written, source="docs/a/ONE.md", page="a/ONE.md", repository=REPOSITORY)


@pytest.mark.parametrize(
    ("html", "foreign"),
    [
        ('<script src="https://cdn.example.com/x.js"></script>', True),
        ('<link rel="stylesheet" href="//fonts.example.com/x.css">', True),
        ('<img alt="" src="http://example.com/x.png">', True),
        ('<script src="../assets/x.js"></script><a href="https://example.com">x</a>', False),
    ],
)
def test_a_page_fetches_nothing_from_other_hosts(html: str, foreign: bool) -> None:
    page: Any = type("Page", (), {"file": type("File", (), {"src_uri": "x.md"})})
    config: Any = None
    if foreign:
        with pytest.raises(PluginError, match="another host"):
            hooks.on_post_page(html, page, config)
    else:
        assert hooks.on_post_page(html, page, config) == html
