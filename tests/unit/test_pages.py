"""The pages for people: what is filled in is escaped, and what they need is there and comes from nowhere else."""

import gzip
import re
from html.parser import HTMLParser
from string import Template

import pytest

from decisiongraph_service.queries.readiness import CHECKS, State
from decisiongraph_service.rpc.pages import WebFile, landing_page
from decisiongraph_service.runtime import web_files

PAGES = web_files.load()
OWN = ("explorer.js", "icon.svg", "pages.css")


def shown(states: dict[str, State], version: str = "1.2.3") -> str:
    page = landing_page(PAGES.landing_page, version=version, checked_at="2026-03-02 10:00:00 UTC", states=states)
    return page.data.decode()


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the text of its scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is not None:
            self.inline += data


def both_pages() -> list[str]:
    return [shown(dict.fromkeys(CHECKS, "ok")), PAGES.explorer.data.decode()]


def test_a_service_is_ready_if_all_of_it_works() -> None:
    page = shown(dict.fromkeys(CHECKS, "ok"))
    assert "This service is <strong>ready</strong>" in page
    assert "Version 1.2.3, checked at 2026-03-02 10:00:00 UTC" in page


def test_a_service_whose_projections_are_made_elsewhere_is_ready() -> None:
    page = shown({**dict.fromkeys(CHECKS, "ok"), "projector": "elsewhere"})
    assert "This service is <strong>ready</strong>" in page


@pytest.mark.parametrize("state", ["failing", "unknown"])
@pytest.mark.parametrize("name", CHECKS)
def test_a_service_is_not_ready_if_a_part_does_not_work(name: str, state: State) -> None:
    page = shown({**dict.fromkeys(CHECKS, "ok"), name: state})
    assert "This service is <strong>not ready</strong>" in page
    assert f'<li class="{state}">{name}: {state}</li>' in page


def test_whatever_is_filled_in_is_escaped() -> None:
    hostile = """"'><script>alert(1)</script>&amp;"""
    template = Template('<p class="$database">$version $checked_at $readiness</p>')
    page = landing_page(template, version=hostile, checked_at=hostile, states={"database": hostile})  # type: ignore[dict-item]
    text = page.data.decode()
    assert text.count("&quot;&#x27;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;") == 3
    assert Elements(text).found == [("p", {"class": hostile})]


def test_pages_hold_no_script_and_no_style_of_their_own() -> None:
    for page in both_pages():
        elements = Elements(page)
        assert elements.inline == ""
        assert not [name for _, given in elements.found for name in given if name == "style" or name.startswith("on")]
        assert "style" not in {tag for tag, _ in elements.found}


def test_everything_that_pages_refer_to_is_served_here() -> None:
    routes = {"/", "/docs", "/api/openapi.yaml", "/api/healthz", "/api/readyz", "/.well-known/jwks.json"}
    known = routes | {f"/docs/{name}" for name in PAGES.assets}
    for page in both_pages():
        attributes = [given for _, given in Elements(page).found]
        named = {given[key] for given in attributes for key in ("src", "href") if key in given}
        assert named <= known, named - known
        assert {"/docs/pages.css", "/docs/icon.svg"} <= named


def test_our_own_files_name_no_address_elsewhere() -> None:
    files = [PAGES.explorer, *(PAGES.assets[name] for name in OWN)]
    for text in (PAGES.landing_page.template, *(file.data.decode() for file in files)):
        without_namespace = text.replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"[a-z]+://|[\"'(]//", without_namespace)


def test_the_explorer_comes_with_its_licence() -> None:
    licence = PAGES.assets["swagger-ui-bundle.js.LICENSE.txt"]
    assert b"Apache License" in licence.data
    assert licence.content_type.startswith("text/plain")


@pytest.mark.parametrize(
    ("accept_encoding", "compressed"),
    [
        ("gzip", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("br,GZIP", True),
        ("gzip; q=0.2", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("*", False),
        ("xgzip", False),
    ],
)
def test_a_file_is_compressed_for_those_who_take_it(accept_encoding: str, compressed: bool) -> None:
    file = WebFile("text/plain", b"text " * 100)
    data, headers = file.answer(accept_encoding)
    assert (("content-encoding", "gzip") in headers) is compressed
    assert (gzip.decompress(data) if compressed else data) == file.data
    assert ("vary", "accept-encoding") in headers
    assert ("cache-control", "no-store") in headers
