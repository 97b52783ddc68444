"""A real Chromium for the tests of this room, and a page that reports every complaint the browser makes."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from waiting import eventually

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator[Browser]:
    path = os.environ.get("BRIGHTRUN_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        if path is None and not os.path.exists(playwright.chromium.executable_path):  # noqa: PTH110
            pytest.fail(
                "The browser tests need Chromium: `apt install chromium`, or `playwright install chromium`, or set "
                "BRIGHTRUN_TEST_CHROMIUM to its path."
            )
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """One page in a context of its own; `complaints` is the console's errors, CSP refusals and uncaught exceptions."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)


@contextmanager
def visit(
    browser: Browser, url: str, *, theme: str | None = None, width: int = 1440, **options: Any
) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": width, "height": 900}, base_url=url, **options)
    if theme:
        context.add_cookies([{"name": "brightrun_theme", "value": theme, "url": url}])
    page = context.new_page()
    page.set_default_timeout(15_000)
    made = Visit(page, url)
    page.on("console", lambda message: made.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: made.complaints.append(str(error)))
    try:
        yield made
    finally:
        context.close()


def wait_until(page: Page, expression: str, *, within: float = 30.0) -> None:
    """Wait until a JavaScript expression is true. `wait_for_function` evals in the page, which our CSP refuses."""
    eventually(expression, lambda: page.evaluate(expression), within=within)
