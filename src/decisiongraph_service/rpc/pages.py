"""The pages for people and the files they need, as browsers get them.

The edge refuses browsers everything (envoy/http_status.lua); what a page may do more is said here, page by page.
"""

import gzip
import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Template
from typing import Final

from decisiongraph_service.queries.readiness import State

HTML: Final = "text/html; charset=utf-8"
_FRAMED_BY_NOBODY: Final = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
LANDING_PAGE_POLICY: Final = f"default-src 'none'; style-src 'self'; img-src 'self'; {_FRAMED_BY_NOBODY}"
# Swagger UI draws its icons from `data:` addresses.
EXPLORER_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    f"{_FRAMED_BY_NOBODY}"
)

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class WebFile:
    """A document, page, script, style sheet or picture."""

    content_type: str
    data: bytes
    cache_control: str = "no-store"
    security_policy: str | None = None
    """`content-security-policy`; None: the edge's, which lets nothing be loaded or run."""
    gzipped: bytes = field(init=False, repr=False)
    """`data` compressed, for those who take it. Compressed once, so that no call costs the time for it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "gzipped", gzip.compress(self.data, mtime=0))

    def answer(self, accept_encoding: str) -> tuple[bytes, Headers]:
        """The body for a browser that takes these encodings, and the headers that go with it."""
        headers = [("cache-control", self.cache_control), ("vary", "accept-encoding")]
        if self.security_policy is not None:
            headers.append(("content-security-policy", self.security_policy))
        if not _takes_gzip(accept_encoding):
            return self.data, tuple(headers)
        return self.gzipped, (*headers, ("content-encoding", "gzip"))


@dataclass(frozen=True, slots=True)
class Pages:
    """Everything that is served for people."""

    landing_page: Template
    explorer: WebFile
    assets: Mapping[str, WebFile]
    """The files that the pages need, by name."""


def landing_page(template: Template, *, version: str, checked_at: str, states: Mapping[str, State]) -> WebFile:
    """The landing page. Whatever is filled in is escaped.

    Raises:
        KeyError: the template has a place that nothing is filled into.
    """
    ready = all(state in ("ok", "elsewhere") for state in states.values())
    values = {
        "version": version,
        "checked_at": checked_at,
        "readiness": "ready" if ready else "not ready",
        "readiness_state": "ok" if ready else "failing",
        **states,
    }
    page = template.substitute({name: html.escape(value) for name, value in values.items()})
    return WebFile(HTML, page.encode(), security_policy=LANDING_PAGE_POLICY)


def _takes_gzip(accept_encoding: str) -> bool:
    """Whether `accept-encoding` names gzip, and does not rule it out by `q=0`."""
    for choice in accept_encoding.lower().replace(" ", "").split(","):
        coding, _, quality = choice.partition(";q=")
        if coding == "gzip":
            return quality == "" or quality.strip("0.") != ""
    return False
