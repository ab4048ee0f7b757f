"""How the blocks of a page are read and compared: what the test of the documentation lets pass, and what not."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests import page_blocks
from tests.page_blocks import Block


def _blocks(tmp_path: Path, markdown: str) -> list[Block]:
    page = tmp_path / "page.md"
    page.write_text(markdown)
    return page_blocks.blocks(tmp_path, page)


def _shown(language: str, text: str) -> Block:
    return Block("page.md", 1, language, text, printed=True)


def test_a_block_knows_its_place_its_language_and_what_the_comment_before_it_says(tmp_path: Path) -> None:
    run, printed, skipped = _blocks(
        tmp_path,
        "# Page\n\n```sh\nls\n```\n\n<!-- prints -->\n```text\na\n```\n\n1. In a list:\n\n"
        "    <!-- not run: needs a\n    whole cluster -->\n    ```python\n    1\n    ```\n",
    )
    assert (run.place, run.language, run.text, run.executed) == ("page.md:3", "sh", "ls\n", True)
    assert (printed.printed, printed.executed) == (True, False)
    assert (skipped.language, skipped.text, skipped.executed) == ("python", "1\n", False)
    assert skipped.not_run == "needs a whole cluster"


def test_a_comment_counts_for_the_block_right_after_it_only(tmp_path: Path) -> None:
    (block,) = _blocks(tmp_path, "<!-- not run: for some reason -->\n\nSome words.\n\n```sh\nls\n```\n")
    assert block.executed


@pytest.mark.parametrize(
    ("markdown", "fault"),
    [
        ("```\nls\n```", "in no language"),
        ("    indented\n", "in no language"),
        ("```console\n$ ls\n```", "is console"),
        ("```text\ncurl -s http://127.0.0.1\n```", "holds a command"),
        ("```text\n  make run\n```", "holds a command"),
        ("```json\n{\n```", "is no JSON"),
        ("<!-- not run: later -->\n```sh\nls\n```", "needs a reason"),
        ("<!-- not run -->\n```sh\nls\n```", "needs a reason"),
        ("<!-- not run: it is only shown here -->\n```json\n{}\n```", "would be run without it"),
        ("<!-- prints -->\n```sh\nls\n```", "is no output"),
    ],
)
def test_a_block_that_would_go_unnoticed_is_a_fault(tmp_path: Path, markdown: str, fault: str) -> None:
    (block,) = _blocks(tmp_path, markdown)
    assert [told for told in page_blocks.faults(block) if fault in told], list(page_blocks.faults(block))


@pytest.mark.parametrize(
    "markdown",
    [
        "```sh\nls\n```",
        "```python\n1\n```",
        '```json\n{"a": 1}\n```',
        "```text\nREST ──► Envoy\n```",
        "<!-- not run: needs a whole cluster -->\n```sh\nls\n```",
        "<!-- prints -->\n```text\nmake run\n```",
    ],
)
def test_a_block_that_is_looked_at_has_no_fault(tmp_path: Path, markdown: str) -> None:
    (block,) = _blocks(tmp_path, markdown)
    assert list(page_blocks.faults(block)) == []


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ({"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}),
        ({"a": "…"}, {"a": {"deep": []}}),
        ({"a": "sha256:…"}, {"a": "sha256:00"}),
        ({"a": "a*[?]"}, {"a": "a*[?]"}),
        ({"a": 1, "…": "…"}, {"a": 1, "b": 2}),
        ({"a": 1, "…": "…"}, {"a": 1}),
        ([1, "…"], [1, 2, 3]),
        ([1, "…", 4], [1, 2, 3, 4]),
        (["…"], []),
        (1.0, 1.0),
    ],
)
def test_what_a_page_shows_may_leave_things_out(shown: Any, printed: Any) -> None:
    assert list(page_blocks.differences(_shown("json", json.dumps(shown)), json.dumps(printed))) == []


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1, "b": 2, "…": "…"}, {"a": 1}),
        ({"a": "sha256:…"}, {"a": "md5:00"}),
        ({"a": "a.c"}, {"a": "abc"}),
        ({"a": True}, {"a": 1}),
        ({"a": "1"}, {"a": 1}),
        ([1, 2], [1]),
        ([1], [1, 2]),
        ([1, "…", 4], [1]),
        ([1, "…", 4], [1, 2, 3]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}),
    ],
)
def test_what_differs_from_a_page_is_told(shown: Any, printed: Any) -> None:
    assert list(page_blocks.differences(_shown("json", json.dumps(shown)), json.dumps(printed)))


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a …\n", "a whole lot\n", True),
        ("…\nz\n", "a\nb\nz\n", True),
        ("…\nz\n", "z\n", True),
        ("a\n", "a\nb\n", False),
        ("a\nb\n", "a\n", False),
        ("a\nb\n", "b\na\n", False),
        ("…\nz\n", "a\nb\n", False),
        ("a\n", "", False),
    ],
)
def test_lines_are_compared_one_by_one(shown: str, printed: str, same: bool) -> None:
    assert (list(page_blocks.differences(_shown("text", shown), printed)) == []) is same


def test_what_is_no_json_is_told() -> None:
    (told,) = page_blocks.differences(_shown("json", "{}"), "Traceback")
    assert "Traceback" in told


@pytest.mark.parametrize(
    ("printed", "refused"),
    [
        ('{"code": 5, "message": "no", "details": []}', True),
        ('first\n{"code": 5, "message": "no", "details": []}\n', True),
        ('{"event": {"payload": {"code": 5}}}', False),
        ("code message", False),
        ("", False),
    ],
)
def test_an_answer_that_is_an_error_is_noticed(printed: str, refused: bool) -> None:
    assert (page_blocks.refusal(printed) is not None) is refused
