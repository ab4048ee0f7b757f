"""What the contract lets the service say to requests that it does not take: its table of reasons."""

import re
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc

from tests.calling import Answer

_CONTRACT: Final = Path(__file__).resolve().parents[2] / "docs/reference/HTTP_API_CONTRACT.md"
_ROW: Final = re.compile(r"^\| `(\w+)` \| `(\w+)` \| (\w+|\W) \| ([\d, ]+) \|", re.MULTILINE)
# Nothing that a caller sends is a reason for these.
_NEVER: Final = ("INTERNAL", "UNIMPLEMENTED", "RATE_LIMITED")


class Allowed(NamedTuple):
    """A row of the table."""

    category: str
    code: int | None
    """Of gRPC; None if the gateway alone says it."""
    http: tuple[int, ...]


def _number(name: str) -> int | None:
    return None if not name.isidentifier() else int(getattr(grpc.StatusCode, name).value[0])


TABLE: Final = {
    reason: Allowed(category, _number(code), tuple(int(one) for one in http.split(",")))
    for reason, category, code, http in _ROW.findall(_CONTRACT.read_text())
}
REASONS: Final = {reason: allowed for reason, allowed in TABLE.items() if reason not in _NEVER}
# By the gateway, for bodies and headers that are too large.
_FURTHER_HTTP: Final = {"INVALID_ARGUMENT": (413, 431)}


def faults(answer: Answer) -> list[str]:
    """What in an answer is not as the contract says; nothing for a success."""
    if answer.ok:
        return []
    allowed = REASONS.get(answer.reason)
    if allowed is None:
        return [f"no refusal of the contract: {answer.http_status} {answer.body}"]
    found: list[str] = []
    if allowed.code is not None and answer.code != allowed.code:
        found.append(f"code {answer.code}")
    if answer.category != allowed.category:
        found.append(f"category {answer.category}")
    if answer.detail("ErrorInfo").get("domain") != "decisiongraph":
        found.append("domain")
    if answer.http_status not in (None, *allowed.http, *_FURTHER_HTTP.get(answer.reason, ())):
        found.append(f"HTTP {answer.http_status}")
    if not answer.detail("RequestInfo").get("request_id"):
        found.append("no request id")
    if not answer.body.get("message"):
        found.append("no message")
    return [f"{', '.join(found)}: {answer.body}"] if found else []


def told(body: Any) -> str:
    """A request for people who look for what was wrong with it."""
    return repr(body)[:2_000]


assert len(REASONS) > 12, "the table was not found"
