"""A running ``embedq flower``, and a headless browser that looks at it."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple, Self

from flower.app import Flower
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from tests.support.programs import needs

PASSWORD = "a-password-of-tests"
WIDTH, HEIGHT = 1280, 760
"""Pixels of a page."""
_TEXTS = "return [...document.querySelectorAll(arguments[0])].map(each => each.innerText)"
_CLICK = """
const found = [...document.querySelectorAll(arguments[0])].find(
    each => each.closest('tr').innerText.includes(arguments[1]));
if (found) found.click();
return Boolean(found);
"""


def authorization(user: str = "embedq", password: str = PASSWORD) -> str:
    """The header of basic authentication."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def one_thread() -> None:
    """A change of the process: Flower has one thread for all that it asks Redis."""
    Flower.max_workers = 1


class Answer(NamedTuple):
    """What Flower answered."""

    status: int
    body: str
    headers: Message


class Monitor:
    """``embedq flower`` on a free port of 127.0.0.1: a context manager."""

    def __init__(
        self,
        environment: Mapping[str, str],
        arguments: Sequence[str] = (),
        password: str | None = PASSWORD,
        change: str = "",
    ) -> None:
        given = {} if password is None else {"EMBEDQ_FLOWER_PASSWORD": password}
        outside = {name: value for name, value in os.environ.items() if not name.startswith("EMBEDQ_")}
        self._environment = {**outside, **environment, **given, "PYTHONUNBUFFERED": "1"}
        embedq = ["tests.support.changed", change] if change else ["embedq.cli"]
        self._command = [sys.executable, "-m", *embedq, "flower", "--port", "0", *arguments]
        self.url = ""
        self.said = ""
        """What it printed, at the end."""
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        found = re.search(r"http://\S+", first)
        assert found, first + self.stop()
        self.url = found[0]
        return self

    def __exit__(self, *_: object) -> None:
        said = self.said = self.stop()
        assert self.process is not None
        assert self.process.returncode == 0, said
        assert "Traceback" not in said, said

    def stop(self) -> str:
        """SIGTERM; what it printed since its first line."""
        assert self.process is not None
        self.process.terminate()
        said, _ = self.process.communicate(timeout=20)
        return said

    def ask(self, path: str, method: str = "GET", header: str | None = None, **headers: str) -> Answer:
        """One request; ``header`` is that of the authorization."""
        if header is not None:
            headers["Authorization"] = header
        body = b"" if method in ("POST", "PUT", "PATCH") else None
        request = urllib.request.Request(self.url + path, body, headers, method=method)  # noqa: S310  # http
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  # http
                return Answer(answer.status, answer.read().decode(), answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read().decode(), error.headers)

    def page(self, path: str) -> str:
        """A page as its user gets it."""
        answer = self.ask(path, header=authorization())
        assert answer.status == 200, answer
        return answer.body


class Browser:
    """Chromium, logged in to one Flower."""

    def __init__(self, driver: Any, url: str, folder: Path) -> None:
        self.driver = driver
        self._url = url
        self._folder = folder

    def open(self, path: str) -> None:
        """Go to a page."""
        self.driver.get(self._url + path)

    def texts(self, selector: str) -> list[str]:
        """What the elements that a CSS selector finds say, at one moment: tables load themselves anew."""
        said = self.driver.execute_script(_TEXTS, selector)
        return [" ".join(each.split()) for each in said]

    def click(self, selector: str, text: str = "") -> bool:
        """Click the first element that a CSS selector finds in a row with ``text``; whether there is one."""
        return bool(self.driver.execute_script(_CLICK, selector, text))

    def picture(self, name: str) -> Path:
        """Keep the page as it is seen, as a PNG."""
        path = self._folder / f"{name}.png"
        self.driver.save_screenshot(str(path))
        return path


@contextmanager
def browser(monitor: Monitor, folder: Path) -> Iterator[Browser]:
    """Chromium without a screen; its pictures go into ``folder``. Skips where it is not installed."""
    options = ChromeOptions()
    options.binary_location = needs("chromium")
    for argument in (
        "--headless=new",
        f"--window-size={WIDTH},{HEIGHT}",
        "--disable-gpu",
        "--hide-scrollbars",
    ):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # chromium has none for root
    options.add_argument("--disable-dev-shm-usage")  # small in containers
    driver = Chrome(options, Service(needs("chromedriver")))
    try:
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False,
        })  # fmt: skip
        driver.execute_cdp_cmd("Network.enable", {})
        headers = {"headers": {"Authorization": authorization()}}
        driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", headers)
        yield Browser(driver, monitor.url, folder)
    finally:
        driver.quit()
