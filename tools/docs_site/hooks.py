"""What mkdocs calls while it builds the site: adds the pages that are made from code, and adapts links."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.docs_site import command_page, contract_pages, error_page, links, settings_page  # noqa: E402

BESIDE: Final = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Documents of the repository's root that have a page, by their path."""


_FOREIGN: Final = re.compile(
    r"""<(script|link|img|iframe|source|video|audio)\b[^>]*\b(src|href)=["']?(https?:)?//[^>]*>"""
)
_SHALLOW: Final = re.compile(r" {1,3}([*-]|\d+\.) ")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand in no file of `docs/`."""
    for uri, content in made_pages():
        files.append(File.generated(config, uri, content=content))
    for path, uri in BESIDE.items():
        files.append(File.generated(config, uri, content=(ROOT / path).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Give a page the links that the site needs."""
    if shallow := next(filter(_SHALLOW.match, links.prose(markdown)), None):
        raise PluginError(f"{page.file.src_uri}: indent what is in a list by four blanks, or it leaves it: {shallow!r}")
    try:
        return links.for_site(
            markdown, source=_source(page.file.src_uri), page=page.file.src_uri, repository=_repository()
        )
    except links.LinkError as error:
        raise PluginError(str(error)) from error


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse a page that makes a browser fetch something from another host."""
    if found := _FOREIGN.search(output):
        raise PluginError(
            f"{page.file.src_uri} fetches from another host: {found[0]}; keep what it needs in docs/assets"
        )
    return output


def made_pages() -> Iterator[tuple[str, str]]:
    """Place and Markdown of every page that is made from code."""
    for name, content in contract_pages.ContractPages(ROOT).pages():
        yield f"api/reference/{name}", content
    yield f"api/reference/{error_page.PAGE}", error_page.render()
    yield f"operations/{settings_page.PAGE}", settings_page.render()
    yield f"operations/{command_page.PAGE}", command_page.render()


def _source(uri: str) -> str:
    """The path in the repository of the document behind a page."""
    return next((path for path, page in BESIDE.items() if page == uri), f"docs/{uri}")


def _repository() -> links.Repository:
    documents = {
        f"docs/{path.relative_to(ROOT / 'docs')}": str(path.relative_to(ROOT / "docs")) for path in _documents()
    }
    documents |= BESIDE | {"README.md": "index.md"}
    texts = {page: (ROOT / path).read_text() for path, page in documents.items() if path != "README.md"}
    return links.Repository(documents, texts, lambda path: (ROOT / path).exists())


def _documents() -> list[Path]:
    return sorted((ROOT / "docs").rglob("*.md"))
