"""A headless Chromium that knows no host but this machine, and keeps a record of what it asked for."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service as Driver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

_CHROMIUM: Final = ("chromium", "chromium-browser", "google-chrome")
_DRIVER: Final = ("chromedriver",)
_WAIT_SECONDS: Final = 60
_ARGUMENTS: Final = (
    "--headless=new",
    "--no-sandbox",  # there is none for root, as whom CI runs
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1280,1000",
)


class Browser:
    """A Chromium and what a person does with it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self._requests: list[str] = []
        self._complaints: list[str] = []

    def forget(self) -> None:
        """Begin the record of requests and complaints anew, on an empty page."""
        self.driver.get("about:blank")
        self.requests().clear()
        self.complaints().clear()

    def open(self, address: str) -> None:
        """Go there."""
        self.driver.get(address)

    def find(self, selector: str) -> WebElement:
        """The element, once it is there to be seen."""
        waiting = WebDriverWait(self.driver, _WAIT_SECONDS)
        return waiting.until(lambda _: self._displayed(selector) or False, f"nothing to be seen at {selector}")

    def find_all(self, selector: str) -> list[WebElement]:
        """All such elements that are there now."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> None:
        """Click on it, wherever on the page it is: the explorer moves things while it unfolds them."""
        self.driver.execute_script("arguments[0].click()", self.find(selector))

    def fill(self, selector: str, text: str) -> None:
        """Replace what a field holds."""
        # As a person would, and leave it: the explorer does not see what a script changes, nor at once what is typed.
        self.find(selector).send_keys(Keys.CONTROL, "a", Keys.NULL, text, Keys.TAB)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript in the page; of a promise, what it comes to."""
        return self.driver.execute_async_script(
            f"const done = arguments[0]; Promise.resolve({expression}).then(done, error => done(String(error)))"
        )

    def emulate(self, *, width: int, dark: bool) -> None:
        """A screen of that width, whose owner likes it dark or light."""
        screen = {"width": width, "height": 850, "deviceScaleFactor": 1, "mobile": width < 600}
        scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
        # The page hears of it at its next frame.
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def requests(self) -> list[str]:
        """The addresses that were asked for."""
        entries = [json.loads(message)["message"] for message in self._log("performance")]
        sent = [entry["params"] for entry in entries if entry["method"] == "Network.requestWillBeSent"]
        self._requests += [params["request"]["url"] for params in sent]
        return self._requests

    def complaints(self) -> list[str]:
        """What the browser reported: errors, warnings, refusals by a page's policy."""
        self._complaints += self._log("browser")
        return self._complaints

    def _log(self, kind: str) -> list[str]:
        entries: list[dict[str, Any]] = self.driver.get_log(kind)  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries]

    def _displayed(self, selector: str) -> WebElement | None:
        return next((element for element in self.find_all(selector) if element.is_displayed()), None)


def elsewhere(requests: list[str], origin: str) -> list[str]:
    """Those requests that left the page's origin; what a page holds in itself (`data:`) leaves nothing."""
    return [url for url in requests if urlsplit(url).scheme != "data" and not url.startswith(f"{origin}/")]


def start(profile: Path) -> Iterator[Browser]:
    """A browser with a fresh profile; skips the test where no Chromium is installed."""
    chromium, driver = (next(filter(None, map(shutil.which, names)), None) for names in (_CHROMIUM, _DRIVER))
    if chromium is None or driver is None:
        pytest.skip("needs Chromium and its driver; on Debian and Ubuntu: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (*_ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Driver(driver))
    try:
        yield Browser(started)
    finally:
        started.quit()
