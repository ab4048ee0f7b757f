"""Texts of settings for people to see: what is secret in an address is not shown."""

import re
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

MASK: Final = "***"
_SECRET_PARAMETER: Final = re.compile(r"pass|secret|token|key|auth|cred|sign", re.IGNORECASE)
_PARAMETER: Final = re.compile(r"([^=&]*)=([^&]*)")


def masked(text: str) -> str:
    """The text, without what is secret if it is a URL: a password, or a parameter that is called like one.

    A URL that cannot be taken apart for sure is masked as a whole.
    """
    if "://" not in text:
        return text
    try:
        parts = urlsplit(text)
    except ValueError:
        return MASK
    if "@" in text.replace(parts.netloc, "", 1):
        # A password with `/`, `?` or `#` that is not escaped: its beginning would pass for the host.
        return MASK
    query = f"?{_PARAMETER.sub(_parameter, parts.query)}" if parts.query else ""
    fragment = f"#{MASK}" if parts.fragment else ""
    return f"{text.partition('://')[0]}://{_netloc(parts)}{parts.path}{query}{fragment}"


def masked_path(path: Path) -> str:
    """The path for people: without its secret if it is an address that was taken for one, and of UTF-8 alone."""
    text = str(path).encode("utf-8", "backslashreplace").decode()
    # As a path, an address has lost one of its slashes.
    as_address = re.sub(r"^([a-z+]*):/+", r"\1://", text)
    return masked(as_address) if holds_secret(as_address) else text


def holds_secret(text: str) -> bool:
    """Whether the text is a URL with something secret in it."""
    return masked(text) != text


def _netloc(parts: SplitResult) -> str:
    who, at, host = parts.netloc.rpartition("@")
    if not at:
        return host
    user, colon, _ = who.partition(":")
    if colon:
        return f"{user}:{MASK}@{host}"
    # Who calls over HTTP with a name and no password has a token for a name.
    return f"{user if parts.scheme.startswith('postgres') else MASK}@{host}"


def _parameter(found: re.Match[str]) -> str:
    name, value = found.groups()
    return f"{name}={MASK if value and _SECRET_PARAMETER.search(name) else value}"
