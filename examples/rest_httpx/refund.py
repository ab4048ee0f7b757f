"""Records a decision over REST with httpx, as a program in production does, and reads it back.

    make run                                                # in another terminal
    .venv/bin/python examples/rest_httpx/refund.py [NUMBER]

NUMBER is that of the refund; left out, a new one. The same number again records nothing twice: every event has an
idempotency key that is made of it. So a program that broke off in the middle just begins from the start.

Another service than that of `make run`: set DG_REST=https://..., and DG_API_KEY (a key, exchanged for tokens) or
DG_TOKEN (a token) of an account with the roles reader and writer. Needs only httpx (`pip install httpx`).
"""

import json
import logging
import os
import random
import sys
import time
import urllib.parse
from collections.abc import Generator, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

CALL_TIMEOUT = httpx.Timeout(10, connect=3)
"""Bounds of one attempt: seconds for the connection, and for each sign of life afterwards."""
WATCH_TIMEOUT = httpx.Timeout(10, connect=3, read=30)
"""A watch that is silent for so long counts as dead; the service speaks every 5 s."""
PATIENCE_SECONDS = 60
"""How long attempts may fail one after another before the last failure is raised."""
WORTH_TRYING_AGAIN = {"RATE_LIMITED", "STORAGE_UNAVAILABLE", "DEADLINE_EXCEEDED", "PROJECTION_OUT_OF_DATE"}

log = logging.getLogger(__name__)


class Refused(Exception):
    """The service refused a call. Programs decide by `reason`; the text is for people and says what to change."""

    def __init__(self, response: httpx.Response) -> None:
        try:
            status = json.loads(response.read())
            details = {detail["@type"].rsplit(".", 1)[-1]: detail for detail in status["details"]}
            message, info = status["message"], details["ErrorInfo"]
        except (ValueError, LookupError, TypeError):  # not the service answered, but something in front of it
            message, details = f"HTTP {response.status_code}: {response.text[:200]}", {}
            info = {"reason": "STORAGE_UNAVAILABLE" if response.status_code in (502, 503, 504) else "UNKNOWN"}
        super().__init__(message)
        self.reason: str = info["reason"]
        self.metadata: Mapping[str, str] = info.get("metadata", {})
        self.violations: list[dict[str, str]] = details.get("BadRequest", {}).get("field_violations", [])
        self.request_id = response.headers.get("x-request-id", "unknown")
        seconds = response.headers.get("retry-after", "")
        self.retry_after = float(seconds) if seconds.isdecimal() else None


class Patience:
    """Decides after each failure whether to try again, and when."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Something went well."""
        self._pause = 0.5
        self._give_up_at = time.monotonic() + PATIENCE_SECONDS

    def wait_after(self, error: Refused | httpx.TransportError) -> None:
        """Wait as long as the service asks for, else longer each time; raises when that is of no use, or too long."""
        wait = self._pause
        if isinstance(error, Refused):
            if error.reason not in WORTH_TRYING_AGAIN:
                raise error
            wait = error.retry_after or wait
        wait *= random.uniform(1, 1.5)  # who was refused together does not come back together
        if time.monotonic() + wait > self._give_up_at:
            raise error
        log.warning("%s; trying again in %.1f s", error, wait)
        time.sleep(wait)
        self._pause = min(2 * self._pause, 10)


class ApiKey(httpx.Auth):
    """Exchanges an API key for tokens: before one expires, and when one is refused."""

    def __init__(self, rest: str, api_key: str) -> None:
        self._exchange = httpx.Request("POST", f"{rest}/api/v1/auth/token", json={"api_key": api_key})
        self._token = ""
        self._renew_at = 0.0

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Called by httpx for each request."""
        if time.time() >= self._renew_at:
            yield from self._renew()
        request.headers["authorization"] = f"Bearer {self._token}"
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED:
            yield from self._renew()
            request.headers["authorization"] = f"Bearer {self._token}"
            yield request

    def _renew(self) -> Generator[httpx.Request, httpx.Response, None]:
        response = yield self._exchange
        if not response.is_success:
            raise Refused(response)
        issued = json.loads(response.read())
        self._token = issued["token"]
        self._renew_at = datetime.fromisoformat(issued["expires_at"]).timestamp() - 60


class Token(httpx.Auth):
    """Sends a token as it is."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Called by httpx for each request."""
        request.headers["authorization"] = f"Bearer {self._token}"
        yield request


class DecisionGraph:
    """A client of the REST API. Its calls raise Refused, or httpx.TransportError when the service cannot be reached."""

    def __init__(self, rest: str, *, reader: httpx.Auth, writer: httpx.Auth) -> None:
        self._http = httpx.Client(base_url=rest, timeout=CALL_TIMEOUT)
        self._reader = reader
        self._writer = writer

    def append(self, event: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """Append an event. Gives it as the log holds it, and whether it was there already."""
        answer = self._call("POST", "/api/v1/events", auth=self._writer, json=event)
        return answer["event"], answer["reused"]

    def trace(self, trace_id: str, *, min_log_seq: int) -> dict[str, Any]:
        """A trace, in an answer that includes at least that log position."""
        path = "/api/v1/traces/" + urllib.parse.quote(trace_id, safe="")
        return self._call("GET", path, auth=self._reader, params={"min_log_seq": min_log_seq})

    def events(self, **filters: str | int) -> Iterator[dict[str, Any]]:
        """All events that match, in the order of the log, page by page."""
        page_token: str | None = ""
        while page_token is not None:
            params = {**filters, "page_token": page_token}
            page = self._call("GET", "/api/v1/events", auth=self._reader, params=params)
            yield from page["events"]
            page_token = page.get("next_page_token")

    def watch(self, since_log_seq: int, **filters: str) -> Iterator[dict[str, Any]]:
        """The events after a log position and then new ones, without end, each once, whatever breaks meanwhile.

        Keep the `log_seq` of an event together with what you made of it, and begin there after a restart.
        """
        patience = Patience()
        while True:
            try:
                for message in self._watch_once({**filters, "since_log_seq": since_log_seq}):
                    patience.renew()
                    if "event" in message:
                        since_log_seq = int(message["event"]["log_seq"])
                        yield message["event"]
                    else:
                        since_log_seq = int(message["heartbeat"]["head_log_seq"])
                raise httpx.ReadError("the service ended the watch")
            except (Refused, httpx.TransportError) as error:
                patience.wait_after(error)

    def _watch_once(self, params: Mapping[str, str | int]) -> Iterator[dict[str, Any]]:
        path = "/api/v1/events:watch"
        with self._http.stream("GET", path, auth=self._reader, params=params, timeout=WATCH_TIMEOUT) as response:
            if not response.is_success:
                raise Refused(response)
            for line in response.iter_lines():
                yield json.loads(line)

    def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """Try until there is an answer.

        When none came, an event may be stored all the same; it is sent again with the same idempotency key, and so is
        never stored twice.
        """
        patience = Patience()
        while True:
            try:
                response = self._http.request(method, path, **request)
                if not response.is_success:
                    raise Refused(response)
                return dict(response.json())
            except (Refused, httpx.TransportError) as error:
                patience.wait_after(error)


def connect() -> DecisionGraph:
    """The service that the environment names, or that of `make run`."""
    rest, api_key, token = (os.environ.get(name) for name in ("DG_REST", "DG_API_KEY", "DG_TOKEN"))
    tokens = dict.fromkeys(("reader", "writer"), token) if token else {}
    if not rest:
        try:
            running = json.loads((Path(__file__).parents[2] / ".run" / "service.json").read_text())
        except FileNotFoundError:
            sys.exit("no service: start one with `make run`, or set DG_REST, and DG_API_KEY or DG_TOKEN")
        rest, tokens = running["rest"], tokens or running["tokens"]
    if api_key:
        exchanged = ApiKey(rest, api_key)
        return DecisionGraph(rest, reader=exchanged, writer=exchanged)
    if not tokens:
        sys.exit("DG_REST is set, so set DG_API_KEY or DG_TOKEN too")
    return DecisionGraph(rest, reader=Token(tokens["reader"]), writer=Token(tokens["writer"]))


def decision(number: str) -> list[dict[str, Any]]:
    """The events of a refund over the limit."""
    trace_id = f"refund-{number}"
    bot = {"actor_type": "agent", "actor_id": "refund-bot"}
    huber = {"actor_type": "person", "actor_id": "m.huber"}
    policy = {"policy_id": "refund_limit", "policy_version": "2026-02"}
    order = {"entity_type": "order", "entity_id": f"A-{number}", "system": "shop"}

    started = {
        "workflow": "refund",
        "title": "Refund of 240 EUR for a damaged espresso machine",
        "primary_entity": order,
    }
    evaluated = {
        "policy": policy,
        "inputs": [],
        "decision": "require_exception",
        "violations": [{"code": "amount_over_limit", "message": "240.00 EUR is over the limit of 200.00 EUR"}],
    }
    requested = {
        "exception_id": f"exc-{number}",
        "policy": policy,
        "reason": "Damage is proven, customer since 2019",
    }
    approved = {
        "approval_id": f"apr-{number}",
        "subject": {"subject_type": "exception", "subject_id": f"exc-{number}"},
        "approver": huber,
        "decision": "approved",
        "reason": "Photo is clear",
    }
    proposed = {
        "action_id": f"act-{number}",
        "action_type": "refund",
        "target_entity": order,
        "target_system": "payments",
        "changes": [{"path": "refunded", "old_value": None, "new_value": {"type": "decimal", "value": "240.00"}}],
    }
    committed = {"action_id": f"act-{number}", "status": "success", "external_reference": f"pay-{number}"}
    finished = {"outcome": "success", "summary": "Refunded in full"}

    def event(key: str, actor: Mapping[str, str], event_type: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "trace_id": trace_id,
            "event_type": event_type,
            "occurred_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "source": {"producer_id": "refund-agent", "system": "support"},
            "actor": actor,
            "idempotency_key": f"{trace_id}/{key}",
            "payload": payload,
        }

    return [
        event("start", bot, "TraceStarted", started),
        event("policy", bot, "PolicyEvaluated", evaluated),
        event("exception", bot, "ExceptionRequested", requested),
        event("approval", huber, "ApprovalRecorded", approved),
        event("proposal", bot, "ActionProposed", proposed),
        event("payment", bot, "ActionCommitted", committed),
        event("end", bot, "TraceFinished", finished),
    ]


def main(number: str) -> None:
    """Record the decision and read it back."""
    service = connect()
    events = decision(number)
    trace_id = events[0]["trace_id"]

    print(f"append {trace_id}, event by event, as an agent does while it decides")
    appended = [service.append(event) for event in events]
    positions = [int(stored["log_seq"]) for stored, _ in appended]
    reused = sum(was_there for _, was_there in appended)
    print(f"  stored {len(appended) - reused}, reused {reused}")

    trace = service.trace(trace_id, min_log_seq=positions[-1])
    print(f"read it: {trace['summary']['title']}: {trace['summary']['outcome']}")

    print("list its events, three a page")
    for stored in service.events(trace_id=trace_id, page_size=3):
        print(f"  {stored['log_seq']} {stored['event_type']} by {stored['actor']['actor_id']}")

    print(f"follow the log from position {positions[0]} to {positions[-1]}")
    for stored in service.watch(positions[0] - 1, trace_id=trace_id):
        print(f"  {stored['log_seq']} {stored['event_type']}")
        if int(stored["log_seq"]) == positions[-1]:
            break

    print("append to it once more")
    try:
        service.append({**events[1], "idempotency_key": f"{trace_id}/afterthought"})
    except Refused as refused:
        if refused.reason != "TRACE_FINISHED":
            raise
        print(f"  refused, as it is finished: {refused.reason}")


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else str(int(time.time())))
    except Refused as refused:
        for violation in refused.violations:
            print(f"  {violation['field']}: {violation['description']}", file=sys.stderr)
        sys.exit(f"{refused.reason}: {refused} (request id {refused.request_id})")
    except httpx.TransportError as error:
        sys.exit(f"the service cannot be reached: {error}; run this again with the same number")
