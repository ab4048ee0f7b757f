"""The pages for people as people see them: in a browser, which holds them to their own content security policy."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import yaml
from tests import browser as browsers
from tests.appending import started
from tests.browser import Browser
from tests.calling import Service, Tenant

from decisiongraph_service.runtime.assets import asset

_GET_TRACE = "#operations-QueryService-GetTrace"


@pytest.fixture(scope="module")
def shared_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    yield from browsers.start(tmp_path_factory.mktemp("chromium"))


@pytest.fixture
def browser(shared_browser: Browser, service: Service) -> Iterator[Browser]:
    """A browser that must have no reason to complain, and must not leave the service."""
    shared_browser.emulate(width=1280, dark=False)
    shared_browser.forget()
    yield shared_browser
    assert shared_browser.complaints() == []
    assert browsers.elsewhere(shared_browser.requests(), service.rest) == []


@pytest.fixture
def trace(service: Service, tenant: Tenant) -> str:
    """A trace that is there to be read."""
    event = started()
    headers = {"authorization": f"Bearer {tenant.tokens['writer']}"}
    httpx.post(f"{service.rest}/api/v1/events", json=event, headers=headers).raise_for_status()
    return str(event["trace_id"])


def authorize(browser: Browser, token: str) -> None:
    browser.click(".scheme-container .btn.authorize")
    browser.fill(".auth-container input", token)
    browser.click(".auth-btn-wrapper .authorize")
    browser.click(".auth-btn-wrapper .btn-done")


def unfold(browser: Browser, operation: str) -> None:
    browser.click(f"{operation} .opblock-summary-control")
    browser.find(f"{operation} .opblock-body")


def answer(browser: Browser, operation: str) -> tuple[str, Any]:
    """Status and JSON of the answer that the explorer shows."""
    shown = f"{operation} .live-responses-table .response"
    body = browser.find(f"{shown} .highlight-code code").get_attribute("textContent")
    return browser.find(f"{shown} .response-col_status").text.split()[0], json.loads(body or "")


def test_the_explorer_shows_every_operation(browser: Browser, service: Service) -> None:
    browser.open(f"{service.rest}/docs")
    browser.find(".opblock")
    document = yaml.safe_load(asset("generated/openapi.yaml").read_text())
    operations = [one for methods in document["paths"].values() for one in methods.values()]
    shown = {element.get_attribute("id") for element in browser.find_all(".opblock")}
    assert shown == {f"operations-{one['tags'][0]}-{one['operationId']}" for one in operations}


def test_a_call_is_tried_with_a_token(browser: Browser, service: Service, tenant: Tenant, trace: str) -> None:
    browser.open(f"{service.rest}/docs")
    authorize(browser, tenant.tokens["reader"])
    unfold(browser, _GET_TRACE)
    browser.click(f"{_GET_TRACE} .try-out__btn")
    browser.fill(f"{_GET_TRACE} tr[data-param-name=trace_id] input", trace)
    browser.click(f"{_GET_TRACE} .execute")
    status, body = answer(browser, _GET_TRACE)
    assert (status, body["summary"]["trace_id"]) == ("200", trace)
    asked = f"{service.rest}/api/v1/traces/{quote(trace)}"
    assert asked in browser.requests(), "with the example's tenant, filters or pages it would be another question"


def test_a_token_is_forgotten_with_the_page(browser: Browser, service: Service, tenant: Tenant) -> None:
    browser.open(f"{service.rest}/docs")
    authorize(browser, tenant.tokens["reader"])
    browser.find(".btn.authorize.locked")
    assert browser.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    browser.open(f"{service.rest}/docs")
    browser.find(".btn.authorize.unlocked")


def test_what_never_ends_is_not_offered(browser: Browser, service: Service) -> None:
    browser.open(f"{service.rest}/docs")
    watch = "#operations-QueryService-WatchEvents"
    unfold(browser, watch)
    unfold(browser, _GET_TRACE)
    browser.find(f"{_GET_TRACE} .try-out__btn")
    assert browser.find_all(f"{watch} .try-out__btn") == []


def test_the_landing_page_shows_that_the_service_is_ready(browser: Browser, service: Service) -> None:
    browser.open(f"{service.rest}/")
    assert browser.find(".status.ok").text.strip() == "This service is ready."
    assert [item.text for item in browser.find_all(".checks .ok")] == [
        "database: ok",
        "migrations: ok",
        "projector: ok",
    ]
    green = browser.evaluate("getComputedStyle(document.querySelector('.checks .ok'), '::before').color")
    assert green == "rgb(26, 127, 75)", "the style sheet is at work"
    browser.click("a[href='/docs']")
    browser.find(".opblock")
    browser.click("nav a")
    browser.find(".status.ok")


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_fits_a_phone_and_the_dark(browser: Browser, service: Service, path: str) -> None:
    browser.emulate(width=390, dark=False)
    browser.open(f"{service.rest}{path}")
    browser.find("main" if path == "/" else ".opblock")
    if path == "/docs":
        unfold(browser, _GET_TRACE)
    assert browser.evaluate("document.documentElement.scrollWidth") == 390, "nothing sticks out"
    for dark, ground in ((False, "rgb(255, 255, 255)"), (True, "rgb(28, 32, 34)")):
        browser.emulate(width=390, dark=dark)
        assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == ground
        if path == "/docs":
            assert browser.evaluate("document.documentElement.classList.contains('dark-mode')") is dark


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_runs_and_asks_for_nothing_that_was_put_into_it(
    shared_browser: Browser, service: Service, path: str
) -> None:
    shared_browser.forget()
    shared_browser.open(f"{service.rest}{path}")
    shared_browser.evaluate(
        "new Promise(done => { const script = document.createElement('script');"
        " script.textContent = 'window.injected = true'; document.body.append(script); done() })"
    )
    assert shared_browser.evaluate("window.injected === undefined") is True
    assert "inline script" in " ".join(shared_browser.complaints())
    other = service.rest.replace("127.0.0.1", "127.0.0.2")
    assert "Failed to fetch" in shared_browser.evaluate(f"fetch('{other}/api/healthz', {{mode: 'no-cors'}})")
    assert "Content Security Policy" in " ".join(shared_browser.complaints())
